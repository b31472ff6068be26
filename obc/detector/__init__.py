"""The detector around the head: the MMDetection model of a run, other box heads, precision."""
