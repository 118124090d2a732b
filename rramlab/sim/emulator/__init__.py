"""The emulated bench: simulated board and die, and source-measure units, on real sockets and terminals."""
