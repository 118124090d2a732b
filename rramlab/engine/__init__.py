"""Sessions that execute plans: the one way in to anything that energises a line."""
