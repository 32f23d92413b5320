"""Where a broker is, and who we are there: URLs, credentials files, invitations."""
