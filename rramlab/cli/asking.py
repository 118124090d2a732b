"""Questions to the person at the terminal: every command that has one asks it here."""

from __future__ import annotations

import sys

from rramlab.cli.streams import harmless

_TRIES = 3
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False}


def ask(question: str, as_json: bool = False) -> bool | None:
    """Ask a question that is answered by yes or no; None where nobody is there to answer, or nobody did.

    It goes to stderr and is asked only where stdin and stderr are terminals, so that it is seen, never waits for an answer
    that cannot come, and stays out of what a command prints. With ``--json`` a program has called, and nobody is asked.
    Whoever asks has a flag for each answer, too, and does without it what is safe.
    """
    if as_json or not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        return None
    for _ in range(_TRIES):
        sys.stderr.write(f"{harmless(question)} [y/n] ")
        sys.stderr.flush()
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError:
            continue
        except OSError:  # the terminal went away
            return None
        if not line:  # Ctrl-D
            sys.stderr.write("\n")
            return None
        if (answer := _ANSWERS.get(line.strip().lower())) is not None:
            return answer
    return None


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # there is none; it is closed
        return False
