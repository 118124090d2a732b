"""The wire to a macro controller: frames, messages, and the client that speaks them (docs/wire.md)."""
