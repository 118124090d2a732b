"""The sections of ``benchmarks/twin.py``: each promises, measures on simulated dies, and draws one figure."""
