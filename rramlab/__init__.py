"""Control a resistive-memory macro, accept its random conductances, and learn which of them to keep.

``open_bench`` is the way in for Python; the command line is ``rramlab``. Importing this package imports
nothing heavy: names are resolved when first used.
"""

from __future__ import annotations

TYPE_CHECKING = (
    False  # as in typing, which is not imported: Ctrl-C while it is would end the command line in a traceback
)
if TYPE_CHECKING:
    from rramlab.engine.session import open_bench as open_bench

__version__ = "0.2.0.dev0"
__all__ = ["__version__", "open_bench"]


def __getattr__(name: str) -> object:
    if name == "open_bench":
        from rramlab.engine.session import open_bench

        return open_bench
    raise AttributeError(f"module 'rramlab' has no attribute {name!r}")
