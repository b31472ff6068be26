"""Errors, atomic files and typed YAML; imports nothing of this package."""
