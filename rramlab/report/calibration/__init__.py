"""The calibration report: what was measured of a board and its dies, how well, and whether it holds."""
