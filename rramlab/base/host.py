"""What this computer's user keeps outside every bench folder: witnesses of ledgers, and who works with which board."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_state_path

STATE = "RRAMLAB_STATE"  # the environment variable that names another folder


def state_folder() -> Path:
    """Return the folder, which may not exist yet: the user's state folder, or what ``RRAMLAB_STATE`` names."""
    named = os.environ.get(STATE)
    return Path(named) if named else user_state_path("rramlab", appauthor=False)
