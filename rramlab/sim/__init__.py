"""The simulated bench: same wire, same limits, same hidden truth as a real one. Only ``cli`` may import it."""
