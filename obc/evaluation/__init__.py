"""Evaluation: detections, metrics, matching, and a look into a head's output."""
