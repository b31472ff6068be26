"""Errors, atomic files and typed YAML; imports nothing else of `obc`."""
