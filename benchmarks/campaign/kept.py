"""Outcomes of a campaign in a file, so that it goes on where it was stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Outcome = dict[str, Any]


class Kept:
    """Outcomes in a file of JSON lines; those of this campaign's ``settings``, by number."""

    def __init__(self, path: Path, settings: Outcome) -> None:
        self.path, self.settings = path, settings
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]  # the last one may have been cut short
        if whole != lines:
            path.write_text("".join(whole), encoding="utf-8")
        entries = [json.loads(line) for line in whole]
        self.known = {each["number"]: each for each in entries if settings.items() <= each.items()}

    def add(self, outcome: Outcome) -> None:
        self.known[outcome["number"]] = outcome
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**self.settings, **outcome}, ensure_ascii=False) + "\n")

    def complete(self, what: str, wanted: Iterable[int], one: Callable[[int], Outcome]) -> list[Outcome]:
        """Do what is left of the numbers ``wanted``; return all outcomes in order."""
        numbers = list(wanted)
        for place, number in enumerate(numbers):
            if number in self.known:
                continue
            outcome = one(number)
            self.add(outcome)
            bad = sum(not each["passed"] for each in self.known.values())
            if not outcome["passed"] or place % 20 == 19 or number == numbers[-1]:
                verdict = "" if outcome["passed"] else f"; number {number} is not as promised"
                said = f"{what}: {place + 1} of {len(numbers)}, {bad} not as promised{verdict}"
                print(said, file=sys.stderr, flush=True)
        return [self.known[number] for number in numbers]
