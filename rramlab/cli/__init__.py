"""The command line. Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command ``rramlab``."""
    from rramlab.cli.app import app

    app()
