"""Figures of the output of trained heads."""
