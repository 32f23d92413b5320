"""Other farms' programming interfaces, on a farm of icebus."""
