"""The campaign of kills in process: a forming run that is killed at any moment, and what is left of it."""
