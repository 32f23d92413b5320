"""What `icebus doctor` looks at: each check takes facts and gives a finding with its remedy."""
