"""What outlives a session: the ledger of a die's life, the folder of a run, provenance."""

LEDGER = "ledger.db"  # in the folder of a die
CONTACT_KEY = (
    "contact_passed_at"  # of the fact in it that says when, and on which board, the die's lines were found good
)
