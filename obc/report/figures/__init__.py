"""Figures as svg, png, pdf and csv."""
