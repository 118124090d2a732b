"""The emulated bench: one loop that serves the board on TCP and a terminal, and source-measure units on TCP."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rramlab.base.errors import Refused, UsageError
from rramlab.drivers.wire import messages
from rramlab.drivers.wire.frames import Decoder, Frame, Kind, encode
from rramlab.drivers.wire.token import Door
from rramlab.sim.controller import SimulatedController
from rramlab.sim.emulator.faults import STALL_S, WireFaults
from rramlab.sim.emulator.firmware import Firmware
from rramlab.sim.emulator.streams import Channel, SocketStream, Stream, TerminalStream
from rramlab.sim.smus.instrument import EmulatedSmu

_TURN_S = 0.05  # at most between two looks at the dead man's switch and at what is due
_BUSY_S = 0.001  # while something waits for its time, or for room on a line


@dataclass
class _Client:
    """One open link, what takes what comes over it, and frames that came and wait to be executed."""

    channel: Channel
    take: Callable[[bytes], None]
    waiting: deque[Frame | None] = field(default_factory=deque)
    door: Door | None = None  # of a link over which a token must be shown first
    events: int = selectors.EVENT_READ


def address_of(host: str) -> tuple[socket.AddressFamily, str]:
    """Return the numeric address that ``host`` means, where several the first; nothing means every one of this computer.

    Raises:
        OSError: there is no such host.
    """
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:
        raise OSError(str(error)) from error
    family, *_, at = found[0]
    return family, str(at[0])


def admitted(host: str, guarded: bool) -> tuple[socket.AddressFamily, str]:
    """Return the address to listen on. ``guarded``: a token, or the network, keeps out who has no business there.

    Raises:
        Refused: others could reach it and nothing keeps them out. OSError: there is no such host.
    """
    family, at = address_of(host)
    if not guarded and not is_loopback(at):
        raise Refused(
            f"{host or at} can be reached from other computers, and whoever reaches it could drive the bench: nothing is "
            "served. Name a token that its hosts know, too (--token-file, --token-env; for the board alone), or say that "
            "nobody else is on the network (--isolated-network)"
        )
    return family, at


def is_loopback(at: str) -> bool:
    """Return whether only this computer can reach a numeric address."""
    return ipaddress.ip_address(at.partition("%")[0]).is_loopback


def _knocks(frame: Frame | None) -> bool:
    return frame is not None and frame.opcode in (messages.Opcode.CHALLENGE, messages.Opcode.PROVE)


class Server:
    """Serves until :meth:`stop`. Everything happens in :meth:`turn`, in one thread, as in a small firmware.

    ``pace``: real seconds that a simulated second of pulses takes. ``bytes_per_s``: speed of the board's links, 0 for none.
    ``token``: what a host must know to speak to the board over TCP. ``isolated``: a person says that nobody but the hosts of
    this bench is on the network. Without either only this computer is listened to.
    """

    def __init__(
        self,
        controller: SimulatedController,
        faults: WireFaults | None = None,
        pace: float = 0.0,
        bytes_per_s: float = 0.0,
        token: bytes | None = None,
        isolated: bool = False,
    ) -> None:
        self._token, self._isolated = token, isolated
        self.faults = faults or WireFaults()
        self.firmware = Firmware(controller, self.turn, pace)
        self._bytes_per_s = bytes_per_s
        self._chance = random.Random(self.faults.seed)
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._clients: list[_Client] = []
        self._stopped = False
        self._pending = False  # something waits for its time, or for room on a line

    # what is served ---------------------------------------------------------------------------------------------------

    def listen(self, host: str, port: int) -> tuple[str, int]:
        """Serve the board on TCP; return the address, with the port that was free where 0 was asked for.

        Raises:
            Refused: others could reach it, and neither a token nor the network keeps them out. UsageError: no such address, or
            the port is taken.
        """
        return self._listen(host, port, lambda stream: self._board(stream, self._token), self._token is not None)

    def listen_smu(self, smu: EmulatedSmu, host: str, port: int) -> tuple[str, int]:
        """Serve a source-measure unit on TCP, where no token is possible; as :meth:`listen` otherwise."""
        return self._listen(host, port, lambda stream: self._smu(smu, stream), False)

    def terminal(self) -> str:
        """Serve the board on a pseudo-terminal; return its path."""
        stream = TerminalStream()
        self._board(stream)
        return stream.path

    def _listen(self, host: str, port: int, connected: Callable[[Stream], None], guarded: bool) -> tuple[str, int]:
        try:
            family, at = admitted(host, guarded or self._isolated)
            listener = socket.create_server((at, port), family=family)
        except OSError as error:
            raise UsageError(f"cannot listen on {host}:{port} ({error}). Choose another port, or 0 for any") from error
        listener.setblocking(False)
        self._listeners.append(listener)

        def accept() -> None:
            with contextlib.suppress(BlockingIOError):
                connected(SocketStream(listener.accept()[0]))

        self._selector.register(listener, selectors.EVENT_READ, accept)
        address = listener.getsockname()
        return address[0], address[1]

    def _board(self, stream: Stream, token: bytes | None = None) -> None:
        channel = Channel(stream, self.faults, random.Random(self._chance.random()), self._bytes_per_s)
        decoder = Decoder()

        def take(data: bytes) -> None:
            client.waiting += decoder.feed(data)
            self._execute(client)

        client = self._add(channel, take)
        client.door = None if token is None else Door(token)

    def _execute(self, client: _Client) -> None:
        """Execute what waits. A frame that takes its time calls :meth:`turn`, which goes on with those after it."""
        while client.waiting and not client.channel.gone:
            frame = client.waiting.popleft()
            if self._befall(client.channel):
                continue
            if client.door is not None and (not client.door.is_open or _knocks(frame)):
                self._at_the_door(client, client.door, frame)
            else:
                self.firmware.receive(frame, client.channel.send)

    @staticmethod
    def _at_the_door(client: _Client, door: Door, frame: Frame | None) -> None:
        """Answer what comes before the token was shown. The firmware does not hear of it: it is no sign of life."""
        if frame is None:
            client.channel.send(encode(Frame(Kind.NAK, 0, 0)))
        elif frame.kind == Kind.REQUEST:
            found = door.answer(frame.opcode, frame.payload)
            kind, payload = (
                (Kind.REPLY, found) if isinstance(found, bytes) else (Kind.ERROR, messages.pack_error(*found))
            )
            client.channel.send(encode(Frame(kind, frame.opcode, frame.sequence, payload)))
            client.channel.gone |= door.shut

    def _smu(self, smu: EmulatedSmu, stream: Stream) -> None:
        channel = Channel(stream, self.faults, self._chance, framed=False)
        smu.close()  # what an earlier connection left half said

        def take(data: bytes) -> None:
            answer = smu.feed(data)
            if answer and smu.faults.late_s:
                channel.after(smu.faults.late_s, answer)
            elif answer:
                channel.send(answer)

        self._add(channel, take)

    def _add(self, channel: Channel, take: Callable[[bytes], None]) -> _Client:
        client = _Client(channel, take)
        self._clients.append(client)
        self._selector.register(channel.stream, selectors.EVENT_READ, lambda: self._serve(client))
        return client

    def _befall(self, channel: Channel) -> bool:
        """Let an event befall the board with a frame; return whether the frame is lost to it."""
        match channel.event():
            case None:
                return False
            case "stall":
                time.sleep(STALL_S)
                return False
            case "disconnect":
                channel.gone = isinstance(channel.stream, SocketStream)
            case event:
                self.firmware.reboot(forget=event == "amnesia")
        return True

    # the loop ---------------------------------------------------------------------------------------------------------

    def turn(self, wait_s: float) -> None:
        """Take in what has come within ``wait_s``, answer it, look after what is due. May be called while it is called."""
        for client in self._clients:
            if client.waiting:
                self._execute(client)
                break  # the others next time: the list may have changed
        for key, _ in self._selector.select(min(wait_s, _BUSY_S) if self._pending else wait_s):
            key.data()
        self._pending = False
        for client in self._clients:
            channel = client.channel
            if channel.pending:
                for data in channel.due():
                    client.take(data)
                self._pending |= channel.pending and not channel.blocked
            self._listen_for_room(client)
            if channel.gone:
                self._drop(client)
                break  # the others next time: the list has changed

    def _listen_for_room(self, client: _Client) -> None:
        """Wake up when a link that was full takes bytes again."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.channel.blocked else 0)
        if events != client.events and not client.channel.gone:
            client.events = events
            self._selector.modify(client.channel.stream, events, lambda: self._serve(client))

    def serve(self) -> None:
        """Serve until :meth:`stop` is called, from a signal or another thread."""
        while not self._stopped:
            self.turn(_TURN_S)
            self.firmware.watch()

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        """Switch off: safe state, links closed."""
        self.firmware.controller.close()
        for client in list(self._clients):
            self._drop(client)
        for listener in self._listeners:
            self._selector.unregister(listener)
            listener.close()
        self._selector.close()

    def _serve(self, client: _Client) -> None:
        for data in client.channel.take():
            client.take(data)
            if client.channel.gone:
                break

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client.channel.stream)
            client.channel.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
