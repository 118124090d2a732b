"""Damaged and random frames on an emulated board: none may be executed, and it must be back within two good frames."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import argparse
import json
import platform
import random
import time
from collections import Counter
from dataclasses import replace

import numpy as np

from rramlab.drivers.bench import describe_bench
from rramlab.drivers.wire import operations
from rramlab.drivers.wire.frames import Decoder, Frame, Kind, encode
from rramlab.drivers.wire.messages import Opcode
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.routes import RoutedCell
from rramlab.sim.backend import simulated_board
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.emulator.firmware import Firmware
from rramlab.sim.models import DieModel

GEOMETRY = Geometry(8, 8)
ORIGINALS = 64


class Fuzzer:
    """A board, real frames that would change its die, and what can be made of them."""

    def __init__(self, seed):
        description = describe_bench()
        table = replace(description.board, geometry=GEOMETRY, columns_per_adc=4, lines_at_once=4)
        die = SimulatedDie(GEOMETRY, DieModel.preset("published"), 1)
        self.controller = SimulatedController(die, simulated_board(description.file, table))
        self.firmware = Firmware(self.controller, lambda seconds: None)
        self.chance = random.Random(seed)
        self.decoder = Decoder()
        self.answers = Counter()  # by kind; of good frames, by sequence number
        self.sequence = 1 << 20  # of good frames: above those of the damaged ones
        self.originals = list(self._originals(table))
        # What a piece of a stream must not be: a whole good frame is no damage.
        self.whole = {frame[:-1] for frame in self.originals}
        self.kinds = [self.flipped, self.truncated, self.joined, self.spliced, self.shifted, self.noise]

    def _originals(self, table):
        """Yield valid pulses and routes: whichever of them came through whole would be executed."""
        nonce = self.controller.hello().boot_nonce
        for number in range(1, ORIGINALS + 1):
            bits = np.array([self.chance.random() < 0.5 for _ in range(GEOMETRY.cells)]).reshape(GEOMETRY.shape)
            pulse = operations.PulseRequest(
                nonce, number, "electroform", table.dac_code(3.75), table.dac_code(1.6), 1000, 4, CellSelection(bits)
            )
            route = operations.RouteRequest(nonce, number, RoutedCell(number % 8, number // 8 % 8), 0)
            if number % 8:
                yield encode(Frame(Kind.REQUEST, Opcode.PULSE, number, operations.pack_pulse(pulse)))
            else:
                yield encode(Frame(Kind.REQUEST, Opcode.ROUTE, number, operations.pack_route(route)))

    # damage: each returns bytes with or without a zero at their end --------------------------------------------------

    def flipped(self):
        """One to eight bits are wrong."""
        data = bytearray(self.chance.choice(self.originals))
        for place in self.chance.sample(range(8 * len(data)), self.chance.choice([1, 1, 1, 2, 3, 8])):
            data[place // 8] ^= 1 << place % 8
        return bytes(data)

    def truncated(self):
        """The beginning, the end or both are missing."""
        data = self.chance.choice(self.originals)
        start, stop = sorted(self.chance.choices(range(len(data) + 1), k=2))
        return data[self.chance.choice([0, start]) : self.chance.choice([stop, len(data)])]

    def joined(self):
        """Two or three frames without the zeros between them."""
        return b"".join(self.chance.choice(self.originals)[:-1] for _ in range(self.chance.choice([2, 2, 3]))) + b"\0"

    def spliced(self):
        """The beginning of one, the end of another."""
        one, other = self.chance.sample(self.originals, 2)
        cut = self.chance.randrange(1, len(one) - 1)
        end = cut if self.chance.random() < 0.5 else self.chance.randrange(1, len(other) - 1)
        return one[:cut] + other[end:]

    def shifted(self):
        """Bytes are put in, taken out or doubled somewhere."""
        data = self.chance.choice(self.originals)
        place, count = self.chance.randrange(len(data)), self.chance.randrange(1, 5)
        change = self.chance.randrange(3)
        if change == 0:
            return data[:place] + self.chance.randbytes(count) + data[place:]
        return data[:place] + data[place + count :] if change == 1 else data[: place + count] + data[place:]

    def noise(self):
        """Random bytes; now and then more of them without a zero than any frame may have."""
        if self.chance.random() < 1e-3:
            return self.chance.randbytes(70_000).replace(b"\0", b"\1") + self.chance.choice([b"", b"\0"])
        return self.chance.randbytes(self.chance.randrange(1, 120)) + self.chance.choice([b"", b"\0"])

    # ------------------------------------------------------------------------------------------------------------------

    def damaged(self, held):
        """Return a kind and its bytes; never a whole good frame, nor what completes ``held``, which came before, to one."""
        while True:
            kind = self.chance.choice(self.kinds)
            data = kind()
            if not self.whole.intersection((held + data).split(b"\0")):
                return kind.__name__, data

    def feed(self, data):
        for frame in self.decoder.feed(data):
            self.firmware.receive(frame, self._answered)

    def _answered(self, data):
        for frame in Decoder().feed(data):
            self.answers[frame.kind] += 1
            self.answers[-frame.sequence] += frame.kind == Kind.REPLY  # never more than one

    def good(self):
        """Send one good frame; return whether it was answered."""
        self.sequence += 1
        self.feed(encode(Frame(Kind.REQUEST, Opcode.HEARTBEAT, self.sequence)))
        return self.answers.pop(-self.sequence, 0) == 1


def fuzz(frames, seed):
    """Feed ``frames`` damaged or random frames in bursts, good frames between them; return the figures."""
    fuzzer = Fuzzer(seed)
    state = fuzzer.controller.die.state
    before = state.conductance_S.copy(), state.clock_ns
    kinds, lost = Counter(), 0
    good = worst = done = 0
    begun = time.perf_counter()
    while done < frames:
        held = b""
        for _ in range(min(fuzzer.chance.choice([1, 1, 1, 4, 16]), frames - done)):
            kind, data = fuzzer.damaged(held)
            kinds[kind] += 1
            done += 1
            held = (held + data).rpartition(b"\0")[2]
            fuzzer.feed(data)
        tries = 1
        while not fuzzer.good():
            tries += 1
            assert tries <= 2, f"not back after two good frames; seed {seed}, {done} frames"
        good += tries
        lost += tries - 1
        worst = max(worst, tries)
    seconds = time.perf_counter() - begun
    heard = good - lost
    assert fuzzer.firmware.frames == heard, f"{fuzzer.firmware.frames - heard} damaged frames were taken for good ones"
    assert not state.pulses.any(), f"{int(state.pulses.sum())} pulses were executed"
    assert np.array_equal(state.conductance_S, before[0])
    assert state.clock_ns == before[1]
    assert fuzzer.controller.load is None
    for number in range(1, ORIGINALS + 1):
        assert fuzzer.controller.history(number).name == "NEVER"
    return {
        "frames": done,
        "kinds": dict(sorted(kinds.items())),
        "executed": int(state.pulses.sum()),
        "taken_for_good": fuzzer.firmware.frames - heard,
        "counted_as_damaged": fuzzer.firmware.damaged,
        "refused_with_nak": fuzzer.answers[Kind.NAK],
        "good_frames": good,
        "good_frames_lost_to_what_came_before": lost,
        "good_frames_until_back_at_most": worst,
        "seconds": round(seconds, 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    options = parser.parse_args()
    document = {"benchmark": "fuzz", "seed": options.seed, **fuzz(options.frames, options.seed)}
    document |= {"python": platform.python_version(), "machine": platform.machine()}
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        for key, value in document.items():
            print(f"{key:40} {value}")
