"""The campaign of kills and interrupts: what is stopped in the middle, gone on with, and judged by the die itself."""
