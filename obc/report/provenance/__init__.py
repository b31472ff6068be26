"""Provenance: the metrics files and trainings behind every number."""
