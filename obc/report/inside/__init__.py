"""Figures of what trained heads output."""
