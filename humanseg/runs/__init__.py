"""A run's folder: its lock, its summary, where it is found, what it records."""
