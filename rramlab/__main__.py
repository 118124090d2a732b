"""``python -m rramlab``."""

from rramlab.cli import main

main()
