"""Procedures that measure what a board and a die are, their analysis, and the records that come of them."""
