"""The life of a die: every pulse that each of its cells ever had, as rows that are only added."""

from rramlab.runs.ledger.errors import LOG
from rramlab.runs.ledger.events import Entry, Outcome
from rramlab.runs.ledger.looking import view_ledger
from rramlab.runs.ledger.view import LedgerView, Moment
from rramlab.runs.ledger.writer import MEMORY, Ledger, LedgerNote

__all__ = ["LOG", "MEMORY", "Entry", "Ledger", "LedgerNote", "LedgerView", "Moment", "Outcome", "view_ledger"]
