"""Who signed the commits of a revision, and whether they may change what they changed."""
