"""One flip: a bit of a file of a prepared bench is turned over, a user asks, and what is answered is compared."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from flipping.kinds import KINDS, Kind
from flipping.questions import WRITING, Answer, Question, ask
from flipping.scenes import PREPARE, Scene, lay
from rramlab.base.host import STATE

_CONTEXT = multiprocessing.get_context("forkserver")
_SILENCE_S = 120.0
VERDICTS = ("refused", "said", "harmless")
FAILURES = {
    "silent": "believed in silence",
    "unnamed": "refused, and the file is not named",
    "defect": "an exception that is no error of rramlab's own",
    "crashed": "the process died, or hung",
}
_WORST = ("defect", "silent", "unnamed", "refused", "said", "harmless")


def prepare(kept: Path, root: Path) -> None:
    """Make the benches that are not there yet; each is made at the place where it is damaged later."""
    for name in PREPARE:
        if not (kept / name).exists():
            lay(name, kept / name, root / name)


class Bank:
    """The prepared benches, each at its place, and what is answered where nothing is damaged."""

    def __init__(self, kept: Path, root: Path) -> None:
        self._kept, self._root = kept, root
        self._scenes: dict[str, Scene] = {}
        self._whole: dict[str, dict[str, tuple[int, int]]] = {}
        self._kinds: list[Kind] = []
        self._usual: dict[tuple[str, Question, str], Answer] = {}

    def scene(self, name: str) -> Scene:
        if name not in self._scenes:
            self._scenes[name] = lay(name, self._kept / name, self._root / name)
        os.environ[STATE] = str(self._scenes[name].folder / "state")
        return self._scenes[name]

    def kinds(self) -> list[Kind]:
        """Return the kinds of which there are files."""
        if not self._kinds:
            self._kinds = [kind for kind in KINDS if kind.files(self.scene(kind.scene))]
        return self._kinds

    def usual(self, question: Question, scene: Scene, target: Path) -> Answer:
        """Return the answer where nothing is damaged: what two questions in turn agree on."""
        about = target.relative_to(scene.folder).parts
        about = "/".join(about[:4]) if "runs" in about else "/".join(about)
        key = scene.name, question, about
        if key not in self._usual:
            answers = []
            for _ in range(2):
                self.restore(scene)
                answers.append(ask(question, scene, target))
            self.restore(scene)
            first, second = answers
            if first.refused or first.defect:
                raise RuntimeError(f"{question.__name__} of the whole {about}: {first.refused or first.defect}")
            first.parts = {name: each for name, each in first.parts.items() if second.parts.get(name) == each}
            assert first.parts, f"{question.__name__} of {about} answers nothing that two questions agree on"
            self._usual[key] = first
        return self._usual[key]

    def restore(self, scene: Scene) -> None:
        """Bring the scene back to what it was."""
        kept, there = str(self._kept / scene.name), str(scene.folder)
        if scene.name not in self._whole:
            self._whole[scene.name] = dict(_files(kept))
        whole, found = self._whole[scene.name], dict(_files(there))
        for name, about in whole.items():
            # What is written through a map of memory need not change a file's time.
            if found.get(name) != about or name.startswith(_MAPPED):
                os.makedirs(os.path.dirname(there + name), exist_ok=True)  # noqa: PTH103, PTH120  # thousands of times
                shutil.copy2(kept + name, there + name)
        for name in found.keys() - whole.keys():
            os.unlink(there + name)  # noqa: PTH108


_MAPPED = ("/bench/data/dies/", "/state/")


def _files(folder: str):
    """Yield name below ``folder``, size and time of each file."""
    stack = [folder]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                else:
                    about = entry.stat(follow_symlinks=False)
                    yield entry.path[len(folder) :], (about.st_size, about.st_mtime_ns)


def drawn(number: int, seed: int, bank: Bank, kinds: Sequence[Kind] = ()) -> tuple[Kind, Scene, Path, int, int]:
    """Return which bit of which file is turned over: kind, scene, file, byte and bit. ``kinds``: of these alone."""
    chance = random.Random(f"{seed}/{number}")
    kinds = kinds or bank.kinds()
    (kind,) = chance.choices(kinds, [kind.share for kind in kinds])
    scene = bank.scene(kind.scene)
    target = chance.choice(kind.files(scene))
    return kind, scene, target, chance.randrange(target.stat().st_size), chance.randrange(8)


def one(number: int, seed: int, bank: Bank, kinds: Sequence[Kind] = ()) -> dict:
    """Flip a bit, ask, compare, and put it back; return the outcome as a JSON object."""
    begun = time.process_time()
    kind, scene, target, place, bit = drawn(number, seed, bank, kinds)
    questions = (*kind.questions, *kind.beside)
    usual = [bank.usual(question, scene, target) for question in questions]
    begun_flip = time.process_time()
    findings = []
    _flip(target, place, bit)
    for question, expected in zip(questions, usual, strict=True):
        answer = ask(question, scene, target)
        findings.append({"question": question.__name__, **judge(answer, expected, target, kind.also)})
        if question in WRITING:
            bank.restore(scene)
            _flip(target, place, bit)
    bank.restore(scene)
    own = len(kind.questions)
    verdict = min((each["verdict"] for each in findings[:own]), key=_WORST.index)
    beside = [f"{each['question']}: {each['verdict']}" for each in findings[own:]]
    return {
        "number": number,
        "passed": verdict in VERDICTS,
        "kind": kind.name,
        "file": str(target.relative_to(scene.folder)),
        "byte": place,
        "bit": bit,
        "verdict": verdict,
        # Of what is harmless nothing more need be known.
        "findings": [each for each in findings[:own] if each["verdict"] != "harmless"],
        **({"beside": beside} if beside else {}),
        "seconds": round(time.process_time() - begun_flip, 4),
        "prepared": round(begun_flip - begun, 4),
    }


def _flip(target: Path, place: int, bit: int) -> None:
    with target.open("r+b") as file:
        file.seek(place)
        (was,) = file.read(1)
        file.seek(place)
        file.write(bytes([was ^ 1 << bit]))


def judge(answer: Answer, usual: Answer, target: Path, also: tuple[str, ...] = ()) -> dict:
    """Compare an answer with that of a file that is whole; ``also``: what else an error may call the file."""
    if answer.defect:
        return {"verdict": "defect", "words": answer.defect[-600:]}
    if answer.refused:
        named = names(answer.refused, target, also)
        return {"verdict": "refused" if named else "unnamed", "words": answer.refused[:600]}
    said = [words for words in answer.words if words not in usual.words and names(words, target, also)]
    differs = sorted(name for name in usual.parts if answer.parts.get(name) != usual.parts[name])
    differs += sorted(answer.parts.keys() - usual.parts.keys())
    if said:
        return {"verdict": "said", "words": said[0][:600], "differs": differs[:5]}
    return {"verdict": "silent", "differs": differs[:5]} if differs else {"verdict": "harmless"}


def names(words: str, target: Path, also: tuple[str, ...]) -> bool:
    """Return whether words name a file: by its name, or the folder that is a run's, a training's or a deployment's."""
    folders = [
        each for each in target.parts[:-1] if len(each) > 20 or each in ("trained", "trained-adapted", "deployed")
    ]
    return any(name in words for name in (target.name, target.stem, *folders, *also))


class Worker:
    """A process that flips bits: damaged files may kill whoever reads them."""

    def __init__(self, kept: Path, root: Path, seed: int) -> None:
        self._arguments = kept, root, seed
        self._process = self._pipe = None

    def one(self, number: int) -> dict:
        if self._process is None:
            prepare(*self._arguments[:2])
            self._pipe, theirs = _CONTEXT.Pipe()
            self._process = _CONTEXT.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
            self._process.start()
            theirs.close()
        self._pipe.send(number)
        about: dict = {}
        try:
            while self._pipe.poll(_SILENCE_S):
                told = self._pipe.recv()
                if told[0] == "done":
                    return told[1]
                if told[0] == "failed":
                    self.end()
                    raise RuntimeError(told[1])
                about = told[1]
        except (EOFError, OSError):
            pass
        self.end()
        return {"number": number, "passed": False, "verdict": "crashed", "findings": [], "seconds": 0.0, **about}

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(pipe, kept, root, seed):
    import traceback

    bank = Bank(kept, root)
    for name in PREPARE:
        bank.restore(bank.scene(name))
    while True:
        number = pipe.recv()
        try:
            kind, scene, target, place, bit = drawn(number, seed, bank)
            about = {"kind": kind.name, "file": str(target.relative_to(scene.folder)), "byte": place, "bit": bit}
            pipe.send(("begun", about))
            pipe.send(("done", one(number, seed, bank)))
        except Exception:  # noqa: BLE001  # the campaign's own defect: told whole
            pipe.send(("failed", traceback.format_exc()))
