"""The campaign of flipped bits: benches of which one file is damaged, and what a user is then told."""
