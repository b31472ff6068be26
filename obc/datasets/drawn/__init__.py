"""The embedded data set: scenes that the project draws."""
