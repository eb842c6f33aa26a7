"""Format of a trace: routes that a real model chose, of one layer or several, and what is known of their origin.

A trace is a .npz file, a zip of arrays that numpy reads without pickle:

- ``about.npy``: JSON in UTF-8 as bytes, uint8. It has ``format`` and ``version`` of the file, ``model`` and ``text``
  for people, ``versions`` of the programs that made it, and ``layers``, each with its ``name``, the number of its
  ``experts``, and ``steps``, the tokens of each forward in turn.
- ``N.ids.npy``: expert ids of layer N of that list, int16 or int32 (tokens, K), one row a token in the order the tokens
  came, first choices first, −1 for no route.
- ``N.gates.npy``: gate weights, float16 or float32 (tokens, K), for layers that have them.

An array of ids alone, a .npy file of integers (tokens, K), is a trace of one layer that says nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ....common.errors import UserError

FORMAT = "moebench trace"
VERSION = 1
ABOUT = "about.npy"
MOST_BYTES = 1 << 29  # of a file, and of a layer's arrays: 134 million int32 ids, which every worker can hold in memory
MOST_LAYERS = 4096
LONGEST = 1000  # characters of a text for people
NAME = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


class InvalidTrace(UserError, ValueError):
    """An error for a file that is no trace, or another one than was named; the message has the file and the remedy."""


@dataclass(frozen=True, kw_only=True)
class LayerDescription:
    """A layer of a trace without its arrays.

    ``experts`` is None where the file does not say how many there are. ``steps`` has the tokens of each forward.
    """

    name: str
    experts: int | None
    steps: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all steps."""
        return sum(self.steps)

    @property
    def number(self) -> str:
        """The layer's number in its model: the first part of its name that is a number, or nothing."""
        found = NUMBER.search(self.name)
        return found[1] if found else ""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerRoutes:
    """The recorded routes of one layer: ids int32 (tokens, K), −1 for no route, and gate weights float32 or None."""

    layer: LayerDescription
    ids_TK: NDArray[np.int32]
    gates_TK: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class TraceDescription:
    """A trace without its arrays: its layers in the order of the model, and its origin in words for people."""

    layers: tuple[LayerDescription, ...]
    model: str = ""
    text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def find(self, layer: str) -> int:
        """Return the place of the layer with this name or number; without either it is the only one.

        Raises:
            ValueError: when there is no such layer, or several; the message goes on after the name of the file.
        """
        if not layer:
            if len(self.layers) == 1:
                return 0
            raise ValueError(f"has {len(self.layers)} layers: say which, layer=L with L one of {self.choices()}")
        by_name = [place for place, one in enumerate(self.layers) if one.name == layer]
        found = by_name or [place for place, one in enumerate(self.layers) if one.number and one.number == layer]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(self.layers[place].name for place in found)
            raise ValueError(f"has {len(found)} layers with the number {layer}: give one of {names}")
        if not any(one.name for one in self.layers):
            raise ValueError(f"has one layer, without a name, and no layer {layer!r}: leave out layer=")
        if len(self.layers) == 1:
            raise ValueError(f"has one layer, {self.layers[0].name}, and no layer {layer!r}: leave out layer=")
        raise ValueError(f"has no layer {layer!r}: give one of {self.choices()}")

    def word(self, place: int) -> str:
        """Return the shortest text by which `find` finds a layer: nothing, its number or its name."""
        one = self.layers[place]
        if len(self.layers) == 1:
            return ""
        same = sum(one.number in (other.number, other.name) for other in self.layers)
        return one.number if one.number and same == 1 else one.name

    def choices(self) -> str:
        """Return the words of the layers as a list for a message."""
        words = [self.word(place) for place in range(len(self.layers))]
        return ", ".join(words if len(words) <= 12 else [*words[:8], "…", words[-1]])


def check_description(about: TraceDescription) -> None:
    """Check what a trace says of itself.

    Raises:
        ValueError: naming what is wrong and the remedy; the message goes on after the name of the file.
    """
    if not 1 <= len(about.layers) <= MOST_LAYERS:
        raise ValueError(f"has {len(about.layers)} layers: give 1 to {MOST_LAYERS}")
    seen: set[str] = set()
    for one in about.layers:
        if not NAME.fullmatch(one.name):
            raise ValueError(f"has a layer named {one.name!r:.250}: give up to 200 letters, digits, dots, _ and -")
        if one.name in seen:
            raise ValueError(f"has two layers named {one.name}: give each layer its own name")
        seen.add(one.name)
        bounds = np.iinfo(np.int32)
        if one.experts is None or not 1 <= one.experts <= bounds.max:
            raise ValueError(f"has {one.experts} experts in layer {one.name}: give 1 to {bounds.max}")
        if any(tokens < 0 for tokens in one.steps):
            raise ValueError(f"has a step of {min(one.steps)} tokens in layer {one.name}: give 0 or more")
    words = {"model": about.model, "text": about.text, **about.versions}
    for name, text in [(name, text) for pair in words.items() for name, text in (("a name", pair[0]), pair)]:
        if len(text) > LONGEST or not text.isprintable():
            raise ValueError(f"has {text[:60]!r} as {name[:60]!r}: give up to {LONGEST} printable characters")


def checked_ids(ids: NDArray[np.generic], experts: int | None) -> NDArray[np.int32]:
    """Return recorded ids as int32 (tokens, K).

    Raises:
        ValueError: naming what is wrong and the remedy; the message goes on after the name of the file.
    """
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(f"has shape {ids.shape} of {ids.dtype}: give integers of shape (tokens, K)")
    if ids.size == 0:
        raise ValueError(f"has shape {ids.shape}: give at least one token and one expert")
    bounds = np.iinfo(np.int32)
    least, largest = int(ids.min()), int(ids.max())
    if least < bounds.min or largest > bounds.max:
        raise ValueError(f"has ids from {least} to {largest}: give ids that fit int32")
    if experts is not None and largest >= experts:
        raise ValueError(f"has expert {largest} of {experts}: give ids below {experts}, or −1 for no route")
    checked = np.ascontiguousarray(ids, dtype=np.int32)
    ordered = np.sort(checked, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        token, place = (int(first) for first in np.argwhere(twice)[0])
        raise ValueError(f"chooses expert {ordered[token, place]} twice for token {token}: give each expert once")
    return checked


def check_steps(ids_TK: NDArray[np.int32], layer: LayerDescription) -> None:
    """Raise ValueError unless a layer has the ids of as many tokens as its steps."""
    if len(ids_TK) != layer.tokens:
        raise ValueError(f"has {len(ids_TK):,} tokens, and its steps {layer.tokens:,}: give ids for every token")


def checked_gates(gates: NDArray[np.generic], ids_TK: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return recorded gate weights as float32 (tokens, K), 0 where there is no route.

    Raises:
        ValueError: naming what is wrong and the remedy; the message goes on after the name of the file.
    """
    if gates.shape != ids_TK.shape or gates.dtype.kind != "f":
        raise ValueError(
            f"has gates of shape {gates.shape} of {gates.dtype}: give floating numbers of the ids' shape {ids_TK.shape}"
        )
    present_TK = ids_TK >= 0
    with np.errstate(over="ignore"):
        checked_TK: NDArray[np.float32] = np.where(present_TK, gates, 0).astype(np.float32)
    wrong_TK = ~np.isfinite(checked_TK)
    if wrong_TK.any():
        token, place = (int(first) for first in np.argwhere(wrong_TK)[0])
        raise ValueError(
            f"has {gates[token, place]} as gate weight of expert {ids_TK[token, place]} for token {token}: "
            "give finite weights, or no gates"
        )
    return checked_TK
