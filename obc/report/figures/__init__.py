"""Figures as svg, png and csv."""
