"""What was measured of a board and of a die, as files that people can read, and what follows from it for a session."""
