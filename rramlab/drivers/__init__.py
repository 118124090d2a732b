"""Executes ``drivers/`` and ``bench.yaml``: what the board is, how a controller is spoken to, what is on the table."""
