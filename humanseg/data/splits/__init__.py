"""Which samples train, validate and test, and how often a pass has each."""
