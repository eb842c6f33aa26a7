"""Mixes of traffic: the phases of a deployment, the tokens of their calls, and the share of all tokens in each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

from ...common.counts import DIGITS, count
from ...common.errors import UserError
from ...common.names import UnknownName, unknown
from ...kernels.problem import Mode

PhaseName = Literal["decode", "prefill", "train"]
MODES: Final[dict[PhaseName, Mode]] = {"decode": "forward", "prefill": "forward", "train": "train"}
FORM: Final = "decode:64=0.9,prefill:8192=0.1"
ROUNDING: Final = 1e-4
"""Distance of the sum of shares from 1 that rounding to four digits explains."""


class InvalidTraffic(UserError, ValueError):
    """A text that is no mix of traffic; the message names it, the part that is wrong, and the remedy."""


@dataclass(frozen=True, kw_only=True)
class TrafficPhase:
    """Calls of ``tokens`` tokens each, in which a ``share`` of all tokens is.

    Decode and prefill are forwards and differ in nothing but the name; a call of train is a training step.
    """

    name: PhaseName
    tokens: int
    share: float

    @property
    def mode(self) -> Mode:
        """The mode of the problem."""
        return MODES[self.name]

    def __str__(self) -> str:
        return f"{self.name}:{self.tokens}"


def parse_traffic(text: str) -> tuple[TrafficPhase, ...]:
    """Read phases with commas between them, each as ``PHASE:TOKENS=SHARE``; of a single one the share may be left out.

    Shares are of tokens and add up to 1: a rounding error is divided among them, anything else is refused.

    Raises:
        InvalidTraffic: naming the part that is wrong.
        UnknownName: for a phase that does not exist, with the nearest names.
    """
    parts = [part.strip() for part in text.split(",")]
    found = [_phase(text, part, alone=len(parts) == 1) for part in parts]
    names = [str(phase) for phase in found]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidTraffic(f"--traffic {text}: {doubled[0]} is there twice: add its shares up to one")
    total = math.fsum(phase.share for phase in found)
    if abs(total - 1) > ROUNDING:
        mended = ",".join(f"{phase}={phase.share / total:.6g}" for phase in found)
        raise InvalidTraffic(f"--traffic {text}: the shares add up to {total:g}, not to 1: give {mended}")
    return tuple(TrafficPhase(name=one.name, tokens=one.tokens, share=one.share / total) for one in found)


def _phase(text: str, part: str, *, alone: bool) -> TrafficPhase:
    where = f"--traffic {text}"
    call, equals, share = (piece.strip() for piece in part.partition("="))
    name, colon, tokens = (piece.strip() for piece in call.partition(":"))
    if not colon or not (equals or alone):
        raise InvalidTraffic(f"{where}: {part!r} is no PHASE:TOKENS=SHARE: give {FORM}")
    known = next((one for one in get_args(PhaseName) if one == name.casefold()), None)
    if known is None:
        raise _unknown_phase(where, name)
    size = count(tokens)
    if size is None:
        raise InvalidTraffic(
            f"{where}: {tokens!r} is no number of tokens: give a positive integer of at most {DIGITS} digits, as in "
            f"{FORM}"
        )
    return TrafficPhase(name=known, tokens=size, share=_share(where, share) if equals else 1.0)


def _share(where: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1 + ROUNDING:
        raise InvalidTraffic(f"{where}: {text!r} is no share: give a number above 0 and at most 1, as in {FORM}")
    return share


def _unknown_phase(where: str, name: str) -> UnknownName:
    return UnknownName(f"{where}: {unknown('phase', name, get_args(PhaseName))}")
