"""The token that a board on a network may ask for: both ends prove that they know it, and neither says it (docs/wire.md)."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Literal

from rramlab.base.errors import InstrumentError, UsageError
from rramlab.drivers.wire.exchange import BoardError, Exchange
from rramlab.drivers.wire.layout import Malformed
from rramlab.drivers.wire.messages import Code, Opcode

LEAST = 16  # bytes of a token
CHALLENGE = 16  # random bytes from each end
MAKE_ONE = 'python -c "import secrets; print(secrets.token_hex(32))"'
Side = Literal["host", "board"]


def token_of(file: Path | str | None, variable: str | None, flags: bool = False) -> bytes | None:
    """Return the token that a file or an environment variable holds, without the space around it; None where neither is named.

    ``flags``: it was named by options, and not by keys of bench.yaml.

    Raises:
        UsageError: both are named, there is nothing, or it is too short.
    """
    by_file, by_variable = ("--token-file", "--token-env") if flags else ("token_file", "token_env")
    if file is None and variable is None:
        return None
    if file is not None and variable is not None:
        raise UsageError(f"a token is named twice: with {by_file} and with {by_variable}; name it once")
    if file is not None:
        where = f"the file {file}, named by {by_file},"
        try:
            found = Path(file).read_bytes().strip()
        except OSError as error:
            raise UsageError(
                f"{where} cannot be read ({error.strerror or error}); nothing was opened. Make a token with: {MAKE_ONE}"
            ) from None
    else:
        where = f"the environment variable {variable}, named by {by_variable},"
        found = os.environ.get(variable or "", "").strip().encode()
    if len(found) < LEAST:
        raise UsageError(
            f"{where} holds {f'a token of {len(found)} bytes' if found else 'no token'}, expected at least {LEAST} bytes that "
            f"nobody can guess; nothing was opened. Make one with: {MAKE_ONE}"
        )
    return found


def proof(token: bytes, side: Side, of_host: bytes, of_board: bytes) -> bytes:
    """Return what shows that one end knows the token: no other challenge, and not the other end, gives the same."""
    return hmac.digest(token, b"rramlab " + side.encode() + of_host + of_board, hashlib.sha256)


def prove(exchange: Exchange, token: bytes) -> None:
    """Show the board that this host knows the token, and have it show the same.

    Raises:
        InstrumentError: it asks for none, refuses this one, or does not know it: nothing else was sent to it.
    """
    name = exchange.link.name
    of_host = secrets.token_bytes(CHALLENGE)
    try:
        of_board = exchange.ask(Opcode.CHALLENGE, of_host)
        if len(of_board) != CHALLENGE:
            raise Malformed(f"a challenge of {len(of_board)} bytes, expected {CHALLENGE}")
        answer = exchange.ask(Opcode.PROVE, proof(token, "host", of_host, of_board))
    except BoardError as error:
        if error.code == Code.UNKNOWN_OPCODE:
            raise InstrumentError(
                f"bench.yaml names a token for {name}, and the board there asks for none: it may be another board. Nothing "
                "else was sent to it. Check the address; start the board with the token, or take the token out of bench.yaml"
            ) from error
        if error.code == Code.LOCKED:
            raise InstrumentError(
                f"the board at {name} does not accept the token that bench.yaml names; nothing else was sent to it. Both sides "
                "need the same token: compare the files"
            ) from error
        raise
    except Malformed as error:
        raise InstrumentError(
            f"the board at {name} answered CHALLENGE with what cannot be understood: {error}"
        ) from error
    if not hmac.compare_digest(answer, proof(token, "board", of_host, of_board)):
        raise InstrumentError(
            f"what answers at {name} did not show that it knows the token: it is another board, or somebody in between. "
            "Nothing else was sent to it. Check the address and the network"
        )


class Door:
    """A board's end of it, on one link: shut until the host has shown that it knows the token.

    ``shut``: no more is taken on this link.
    """

    _MOST_WRONG = 3

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._of_board = secrets.token_bytes(CHALLENGE)  # one a link: a question that comes twice has the same answer
        self._of_host = b""
        self._wrong = 0
        self.is_open = False

    @property
    def shut(self) -> bool:
        return self._wrong >= self._MOST_WRONG

    def answer(self, opcode: int, payload: bytes) -> bytes | tuple[Code, str]:
        """Return the payload of the answer to a CHALLENGE or PROVE, or why anything is refused."""
        if opcode == Opcode.CHALLENGE:
            if len(payload) != CHALLENGE:
                return Code.BAD_PAYLOAD, f"a challenge of {len(payload)} bytes, expected {CHALLENGE}"
            self._of_host = payload
            return self._of_board
        if opcode == Opcode.PROVE:
            if self._of_host and hmac.compare_digest(
                payload, proof(self._token, "host", self._of_host, self._of_board)
            ):
                self.is_open = True
                return proof(self._token, "board", self._of_host, self._of_board)
            self._wrong += 1
            return Code.LOCKED, "that is no proof of the token of this board"
        return (
            Code.LOCKED,
            "this board asks for a token: name it in the host's bench.yaml, under controller: token_file or token_env",
        )
