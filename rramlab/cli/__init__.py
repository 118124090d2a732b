"""The command line. Commands import what they need when they run, so that ``--help`` is quick."""


def main() -> None:
    """Entry point of the command ``rramlab``."""
    try:
        from rramlab.cli.process import run
    except KeyboardInterrupt:  # so early that nobody looks after it yet
        import os

        os._exit(4)
    run()
