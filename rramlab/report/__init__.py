"""Figures of dies and runs."""
