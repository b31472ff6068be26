"""A run on disk: its folder, status, lock, records, versions."""
