"""What masked layers share: their weights are cell pairs of a die, and their parameters are scores.

Shapes follow the die: ``scores``, ``conductance`` and masks are [inputs, outputs], inputs in torch unfold
order (channel, kernel row, kernel column). A layer computes on the host or, when ``multiply`` is set, sends
its codes to whatever multiplies there (the macro): both give the same result up to float32 rounding if that
product is exact. A layer that trains with ``multiply`` set takes the value of its output from there and the gradient from the
host's weights: the chip in the loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypedDict, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rramlab.base.errors import InvalidValue, RramlabError, UsageError
from rramlab.base.names import one_of
from rramlab.base.numbers import real, shown, whole
from rramlab.macro.masks import Granularity
from rramlab.nn.popup import Bools, NoNumbers, Strengths, kept_count, largest_there, pop_up, settled
from rramlab.nn.quantise import UnsignedQuantiser
from rramlab.nn.units import Assignment, Edges, Lines, Rows, Units, assigned, regrouped

_MOST = 1 << 24  # lines of a layer
HysteresisRule = Literal["dead-band", "consecutive"]
# Codes uint8[batch, inputs] and mask bool[inputs, outputs] -> siemens × code, float32[batch, outputs].
Multiply = Callable[[npt.NDArray[np.uint8], Bools], npt.NDArray[np.float32]]
# What a pass multiplies, and with what: on the host, on the chip; None where neither is asked for.
Taken = tuple[Tensor | None, Tensor | None]
Now = tuple[Tensor | None, Tensor | None]


class Masking(TypedDict, total=False):
    """What every kind of masked layer can be told about its mask and its codes; see :class:`MaskedLayer`."""

    kept: float
    bits: int
    granularity: Granularity
    phases: int | None
    assignment: Assignment
    hysteresis_rule: HysteresisRule
    rectify: bool


class Undescribed(UserWarning):
    """A state that was loaded does not say what masking it is of: version 0.1.0 wrote none."""


class MaskedLayer(nn.Module):
    """``inputs`` × ``outputs`` pairs, a fraction ``kept`` of which carry weight.

    Attributes:
        bits: of the codes of an activation, 1 to 8.
        rectify: the layer does the ReLU of its input itself, see ``UnsignedQuantiser``; cheaper than a ReLU before it.
        granularity: what is kept or pruned together (design, section 8): ``edge``, ``phase`` or ``line``.
        phases: of granularity ``phase``: how many sets of outputs there are, each with one set of rows. A layer that
            is split over tiles has the same sets in each, and so at most as many phases a tile.
        assignment: which outputs share a phase, see ``nn.units.assigned``; ``phase`` (buffer int64[outputs]) says it.
        scores: parameter [inputs, outputs]; of the units (see ``nn.units``), the ``kept`` of largest |score| stay.
        conductance: buffer [inputs, outputs], siemens, G⁺ − G⁻; set by ``load_weights``.
        scale: buffer, 1/siemens: makes the root mean square of kept weights √(2 / (fan-in · kept)), so that a
            layer behind a ReLU passes on the mean square of its input (He et al. 2015, with the fan-in that
            is kept, as Ramanujan et al. 2020 do). Set by the first ``load_weights`` and then kept: reading a
            die again does not change what the network's numbers mean.
        fan_in: how many weights an output sums, the pruned ones included.
        kept_weights: buffer, how many weights stay; with hysteresis, about so many.
        hysteresis: relative width of the band about the threshold in which a score changes nothing. By the rule
            ``dead-band`` a weight is there what it was since it last switched; by ``consecutive`` (the published way, as
            assumed here) it is what the bare threshold said in the last step, so most flips come a step later.
        last_mask, last_choice: buffers, the mask of the last training step; by the rule ``consecutive`` also what the bare
            threshold said then.
        switches: buffer int64[3], training steps so far (``selections``), and how many weights were switched on
            (``set_count``) and off (``reset_count``) in them after the first: each a pulse, were the mask kept by set and
            reset.
        keep_all: ignore the scores and use every weight: the unpruned random network.
        learns: what the scores are: of the ``topology``, or, in the conventional way, the ``weights`` themselves,
            dimensionless; no die gives any then, and none is pruned. See ``nn.conventional``.
        read_noise: relative σ of a read of a cell: while training on the host each batch sees fresh Gaussian noise, of a
            weight whose cells conduct G⁺ and G⁻ that of both, read_noise · √(G⁺² + G⁻²).
        evaluation_noise: the same in evaluation on the host.
        bias: None, or a parameter of one value a feature or channel, added digitally; ``convert`` sets it.
        multiply: None, or what multiplies codes uint8[batch, inputs] with the kept of the weights, bool[inputs, outputs]:
            -> siemens × code, float32[batch, outputs].
        origin: where the weights come from, name -> text (die, calibration record, time of the read …), or empty; part of
            the ``state_dict``. A state of other dies is refused.
        masking: what the numbers of a ``state_dict`` mean: kind of layer, kept fraction, bits, granularity …; part of it. The
            state of another masking is refused, with ``strict`` or without.
        called: the layer's name in its network, for errors; noted wherever the masked layers of a network are looked up.
    """

    kind: ClassVar[str] = "masked"
    conductance: Tensor
    scale: Tensor
    kept_weights: Tensor
    hysteresis_width: Tensor
    last_mask: Tensor
    last_choice: Tensor
    switches: Tensor
    phase: Tensor | None
    loudness_S: Tensor | None
    bias: nn.Parameter | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kept: float = 0.5,
        bits: int = 4,
        granularity: Granularity = "edge",
        phases: int | None = None,
        assignment: Assignment = "contiguous",
        hysteresis_rule: HysteresisRule = "dead-band",
        rectify: bool = False,
    ) -> None:
        super().__init__()
        inputs = whole(inputs, "the number of inputs", 1, _MOST)
        outputs = whole(outputs, "the number of outputs", 1, _MOST)
        kept = real(kept, "the kept fraction", 0.0, 1.0, above=True)
        one_of(granularity, "granularity", get_args(Granularity))
        one_of(assignment, "assignment", get_args(Assignment))
        one_of(hysteresis_rule, "hysteresis rule", get_args(HysteresisRule))
        phases = phases if phases is None else whole(phases, "the number of phases", 0)
        if (granularity == "phase") != (phases is not None) or (phases is not None and phases < 1):
            raise UsageError(
                f"granularity {granularity!r} with phases {shown(phases)}: 'phase' needs a number of at least 1, the others "
                "none"
            )
        self.kept = kept
        self.bits = bits
        self.granularity: Granularity = granularity
        self.phases = phases if phases is None else min(phases, outputs)
        self.assignment: Assignment = assignment
        self.hysteresis_rule: HysteresisRule = hysteresis_rule
        self.fan_in: float = inputs
        self.keep_all = False
        self.learns: Literal["topology", "weights"] = "topology"
        self.read_noise = 0.0
        self.evaluation_noise = 0.0
        self.multiply: Multiply | None = None
        self.origin: dict[str, str] = {}
        self.quantiser = UnsignedQuantiser(bits, rectify)
        bound = inputs**-0.5  # assumed; 3 times wider scores learn more slowly
        self.scores = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))
        self.register_parameter("bias", None)
        self.register_buffer("conductance", torch.zeros(inputs, outputs))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("kept_weights", torch.tensor(kept_count(inputs * outputs, kept)))
        self.register_buffer("hysteresis_width", torch.zeros((), dtype=torch.float64))
        for name in ("last_mask", "last_choice"):
            self.register_buffer(name, torch.zeros(inputs, outputs, dtype=torch.bool))
        self.register_buffer("switches", torch.zeros(3, dtype=torch.int64))
        start = None if self.phases is None else torch.from_numpy(assigned(outputs, self.phases, assignment))
        self.register_buffer("phase", start)
        self._units: Units | None = None
        self._unpruned: Tensor | None = None  # made when first needed
        # √(G⁺² + G⁻²) over what a weight is, where that is not nearly the weight itself: where both cells of pairs conduct.
        self.register_buffer("loudness_S", None, persistent=False)

    @property
    def called(self) -> str:
        return self.quantiser.layer

    @called.setter
    def called(self, name: str) -> None:
        self.quantiser.layer = f"layer {name!r}"

    @property
    def masking(self) -> dict[str, Any]:
        """What the numbers of the layer's state mean, in plain values."""
        return {
            "kind": self.kind,
            "inputs": self.shape[0],
            "outputs": self.shape[1],
            "kept": float(self.kept),
            "bits": int(self.bits),
            "granularity": self.granularity,
            "phases": self.phases,
            "assignment": self.assignment,
            "hysteresis_rule": self.hysteresis_rule,
            "rectify": self.quantiser.rectify,
            "learns": self.learns,
            "keep_all": self.keep_all,
            "exact": self.quantiser.exact,
            **self.window(),
        }

    def window(self) -> dict[str, Any]:
        """What a convolution has besides, in plain values."""
        return {}

    @property
    def shape(self) -> tuple[int, int]:
        """(inputs, outputs)."""
        inputs, outputs = self.scores.shape
        return inputs, outputs

    @property
    def selections(self) -> int:
        return int(self.switches[0])

    @property
    def set_count(self) -> int:
        return int(self.switches[1])

    @property
    def reset_count(self) -> int:
        return int(self.switches[2])

    @property
    def hysteresis(self) -> float:
        return float(self.hysteresis_width)

    @hysteresis.setter
    def hysteresis(self, width: float) -> None:
        what = "hysteresis, a fraction of the threshold,"
        if real(width, what, 0.0) >= 1.0:
            raise InvalidValue(f"{what} is {width}, expected one below 1")
        self.hysteresis_width.fill_(width)

    @property
    def units(self) -> Units:
        """What is kept or pruned together."""
        if self._units is None:
            match self.granularity:
                case "edge":
                    self._units = Edges()
                case "line":
                    self._units = Lines(*self.shape)
                case "phase":
                    assert self.phase is not None
                    assert self.phases is not None
                    self._units = Rows(self.phase.cpu().numpy(), self.phases)
        return self._units

    def regroup(self) -> None:
        """Put outputs whose scores are alike in one phase, where the assignment is ``learned``; else do nothing."""
        if self.assignment != "learned" or self.phase is None or self.phases is None:
            return
        units, scores = self.units, self._scores()
        # What a weight is worth to its unit, with which it may no longer share the sign.
        worth = scores * units.direction(units.scores(scores))
        found = regrouped(worth, self.phase.cpu().numpy(), self.phases)
        with torch.no_grad():
            self.scores.copy_(torch.from_numpy(worth))
            self.phase.copy_(torch.from_numpy(found))
        self._units = None

    def fix(self, kept: Bools) -> None:
        """Let just ``kept`` stay, bool[inputs, outputs], whatever was learned and in whatever granularity."""
        with torch.no_grad():
            self.scores.copy_(torch.from_numpy(kept))
            self.kept_weights.fill_(int(np.count_nonzero(kept)))
        self.granularity, self.hysteresis, self._units = "edge", 0.0, None

    def mask(self) -> Tensor:
        """Return the weights that stay, bool[inputs, outputs]."""
        if self.keep_all or self.learns == "weights":
            return torch.ones_like(self.scores, dtype=torch.bool)
        return self._tensor(self._select(self.units.scores(self._scores()))[0])

    def _select(self, unit_scores: Strengths) -> tuple[Bools, Bools]:
        """Return the mask that the scores of the units choose now, and what it would be without hysteresis."""
        units, strength, width = self.units, np.abs(unit_scores), self.hysteresis
        try:
            chosen, threshold = units.choose(strength, int(self.kept_weights))
        except NoNumbers as error:
            raise NoNumbers(f"{self.called}: {error}") from None
        choice = units.expand(chosen)
        if width == 0.0 or self.selections == 0:
            return choice, choice
        last = self.last_mask if self.hysteresis_rule == "dead-band" else self.last_choice
        before = units.gather(last.cpu().numpy())
        return units.expand(settled(chosen, strength, threshold, before, width)), choice

    def _popped_up(self) -> Tensor:
        """Return the kept weights, dimensionless, with a gradient for the scores."""
        if self.granularity == "edge" and self.scores.device.type != "cpu" and self.hysteresis == 0.0:
            return self._popped_up_there()
        unit_scores = self.units.scores(self._scores())
        selected, choice = self._select(unit_scores)
        mask = self._tensor(selected)
        if self._learning:
            self._remember(mask, selected, choice)
        direction = None if self.granularity == "edge" else self._tensor(self.units.direction(unit_scores))
        return pop_up(self.scores, self.unpruned, mask, direction)

    def _popped_up_there(self) -> Tensor:
        """Do the same without sending scores and mask through the host, which on a graphics processor takes most of a step."""
        try:
            mask = largest_there(self.scores.detach().abs(), int(self.kept_weights))
        except NoNumbers as error:
            raise NoNumbers(f"{self.called}: {error}") from None
        if self._learning:
            began, before = (self.switches[0] > 0).long(), self.last_mask
            on, off = (mask & ~before).sum(), (before & ~mask).sum()
            self.switches += torch.stack([torch.ones_like(on), on * began, off * began])
            self._buffers["last_mask"] = mask
        return pop_up(self.scores, self.unpruned, mask)

    def _remember(self, mask: Tensor, selected: Bools, choice: Bools) -> None:
        """Count what this training step switches, and keep what the next one is compared with."""
        counts = self.switches.cpu().numpy()  # on the CPU this is the buffer itself: cheaper than arithmetic of tensors
        if counts[0]:
            before = self.last_mask.cpu().numpy()
            switched_on = np.count_nonzero(selected > before)
            counts[1] += switched_on
            counts[2] += switched_on + np.count_nonzero(before) - np.count_nonzero(selected)
        counts[0] += 1
        if self.switches.device.type != "cpu":
            self.switches.copy_(torch.from_numpy(counts))
        self._buffers["last_mask"] = mask  # as an attribute it would be checked again, which takes longer than counting
        if self.hysteresis_rule == "consecutive":
            self.last_choice = self._tensor(choice).clone()

    def relative_strength(self) -> tuple[Strengths, npt.NDArray[np.int64]]:
        """Return |score| of the units as multiples of what they have at the start, and of how many weights they are."""
        sizes = self.units.sizes
        strength = np.abs(self.units.scores(self._scores()))
        return strength * np.sqrt(self.shape[0] * sizes, dtype=np.float32), sizes

    def _scores(self) -> Strengths:
        return np.asarray(self.scores.detach().cpu().numpy())

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.scores.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any, **options: Any) -> None:
        if prefix:
            self.called = prefix.removesuffix(".")
        self._require_alike(state_dict, prefix)  # before anything is taken
        super()._load_from_state_dict(state_dict, prefix, *more, **options)
        self._units = self._unpruned = None

    def set_conductance(
        self, conductance_S: npt.NDArray[np.float32], loudness_S: npt.NDArray[np.float32] | None = None
    ) -> None:
        """Take G⁺ − G⁻ of the layer's pairs, float32[inputs, outputs] in siemens.

        ``loudness_S``: √(G⁺² + G⁻²) of them, which read noise goes with; None: as if one cell of each pair conducted.

        Raises:
            UsageError: another shape, values that are not finite, or no weight at all.
        """
        found = np.asarray(conductance_S)
        if found.shape != self.shape:
            raise UsageError(f"found weights of shape {found.shape}, expected {self.shape} (inputs, outputs)")
        if not np.isfinite(found).all():
            count = int(np.count_nonzero(~np.isfinite(found)))
            raise UsageError(
                f"{count} of {found.size} weights are not finite; read every cell of the layer's pairs first"
            )
        rms_S = float(np.sqrt(np.mean(np.square(found, dtype=np.float64))))
        if rms_S == 0.0:
            raise UsageError("all weights are zero; form the cells of the layer's pairs first")
        with torch.no_grad():
            self.conductance.copy_(torch.from_numpy(found.astype(np.float32)))
            if not self.loaded:
                self.scale.fill_((2.0 / (self.fan_in * self.kept)) ** 0.5 / rms_S)
        self._unpruned = self.loudness_S = None
        if loudness_S is not None and not np.isfinite(loudness_S).all():
            raise UsageError(
                "the loudness of weights is not finite where the weights are; read every cell of the layer's pairs"
            )
        if loudness_S is not None and not np.allclose(loudness_S, np.abs(found), rtol=0.01, atol=0.02 * rms_S):
            self.loudness_S = torch.from_numpy(loudness_S.astype(np.float32)).to(self.conductance.device)

    @property
    def loaded(self) -> bool:
        """Whether the layer has weights."""
        return self.learns == "weights" or float(self.scale) != 0.0

    def weights(self) -> Tensor:
        """Return the dimensionless weights of this pass, [inputs, outputs]: masked, scaled, noisy if asked.

        Raises:
            UsageError: no weights were loaded.
        """
        return self.read(self.selected())

    def selected(self) -> Tensor:
        """Return the weights of this pass without noise: in training, one step of the mask's history.

        Raises:
            UsageError: no weights were loaded.
        """
        if self.learns == "weights":
            return self.scores
        self._require_weights()
        return self.unpruned if self.keep_all else self._popped_up()

    def _require_weights(self) -> None:
        if not self.loaded:
            raise UsageError("the layer has no weights yet: load_weights(model, ...) first")

    @property
    def unpruned(self) -> Tensor:
        """Every weight, dimensionless, [inputs, outputs]."""
        cached, now = self._unpruned, self.conductance
        if cached is None or (cached.device, cached.dtype) != (now.device, now.dtype):
            cached = self._unpruned = now * self.scale
        return cached

    def read(self, weights: Tensor) -> Tensor:
        """Return ``weights`` with fresh read noise, if there is any."""
        noise = self.read_noise if self.training else self.evaluation_noise
        if not noise:
            return weights
        fresh = torch.randn_like(weights).mul_(noise)
        if self.loudness_S is None:
            return weights * fresh.add_(1.0)
        return weights + fresh.mul_(self.loudness_S).mul_(self.scale).mul_(weights.detach() != 0)

    @property
    def _learning(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def taken(self, x: Tensor) -> Taken:
        """Return the activations ``x`` as this pass takes them: rounded if the host multiplies, as codes if the chip does.

        What is refused is so before anything is counted.

        Raises:
            RefusedInput: ``x`` can be no codes. UsageError: no weights were loaded.
        """
        self._require_weights()
        host = self.multiply is None or self._learning
        return self.quantiser(x) if host else None, None if self.multiply is None else self.quantiser.codes(x)

    def now(self) -> Now:
        """Return what this pass multiplies with: the selected weights if the host does, the mask if ``multiply`` does.

        Both while it learns with the chip in the loop: see ``nn.measured.joined``.

        Raises:
            UsageError: no weights were loaded.
        """
        if self.multiply is None:
            return self.selected(), None
        self._require_weights()
        if self._learning:
            weights = self.selected()
            return weights, self.mask() if self.keep_all else self.last_mask
        return None, self.mask()

    def get_extra_state(self) -> dict[str, Any]:
        return {**self.origin, "masking": self.masking}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the origin of loaded weights; what masking they are of was compared before."""
        self.origin = {name: value for name, value in state.items() if name != "masking"}

    def _require_alike(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Refuse a state that means something else here than where it was learned.

        Raises:
            UsageError: it is of another die than the layer's weights, or of another masking. RramlabError: it holds values that
                are no numbers.
        """
        known: Mapping[str, Any] | None = state_dict.get(f"{prefix}_extra_state")
        if known is not None:
            self._require_own_die(known)
            if "masking" in known:
                self._require_own_masking(known["masking"])
            else:
                warnings.warn(
                    "the state that is loaded does not say what masking it is of (version 0.1.0 wrote none): whether kept "
                    "fraction, bits, granularity and kinds of layers are those that it was learned with was not checked",
                    Undescribed,
                    stacklevel=2,
                )
        for name in ("scores", "conductance", "scale", "bias"):
            value = state_dict.get(f"{prefix}{name}")
            if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
                raise RramlabError(
                    f"{self.called}: the state holds {name} that are no numbers; it is of a training that diverged or of a "
                    "damaged file. Take another one"
                )

    def _require_own_die(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that was learned on another die than the layer's weights are of.

        Raises:
            UsageError: it was.
        """
        die, found = self.origin.get("die"), state.get("die")
        if die is not None and found is not None and die != found:
            raise UsageError(
                f"the state is of die {found!r}, the layer has the weights of die {die!r}: a mask suits only the die that it "
                "was learned on. Use that die, or let it learn on, on this one (rramlab adapt)"
            )

    def _require_own_masking(self, found: Mapping[str, Any]) -> None:
        """Refuse a state of another masking: all its keys would match, and something else would be computed.

        Raises:
            UsageError: it is of another one.
        """
        mine = self.masking
        names = [name for name in {**mine, **found} if name in found and found[name] != mine.get(name)]
        if names:
            differences = ", ".join(f"{name} {found[name]!r}, here {mine.get(name)!r}" for name in names)
            raise UsageError(
                f"{self.called}: the state was learned with {differences}: here its numbers would mean something else. Load it "
                "into a model that is made alike; to go on with what was learned under another masking: rramlab adapt"
            )

    def __getstate__(self) -> dict[str, Any]:
        """A copied layer computes on the host: the instrument behind ``multiply`` is not copied."""
        return {**self.__dict__, "multiply": None}

    def extra_repr(self) -> str:
        inputs, outputs = self.shape
        phases = "" if self.phases is None else f", phases={self.phases}"
        return f"inputs={inputs}, outputs={outputs}, kept={self.kept}, granularity={self.granularity}{phases}"
