"""What outlives a session: the ledger of a die's life, the folder of a run, provenance."""
