"""``python -m rramlab``."""

import os
import sys

if sys.path and not sys.flags.safe_path and os.path.realpath(sys.path[0]) == os.path.realpath(os.getcwd()):  # noqa: PTH109
    del sys.path[0]  # Python put it there: the folder worked in is data, and no module comes out of it

from rramlab.cli import main

if __name__ == "__main__":
    main()
