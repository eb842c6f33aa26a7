"""Traces as loads: the text that names a layer of a file, and the recorded routes of a window of its tokens.

Tokens of one text choose similar experts, which no popularity of experts can imitate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .traces.trace_format import InvalidTrace, LayerRoutes
from .traces.trace_reader import DIGITS, content_of, describe, digest_of, read_layer

PREFIX = "trace:"
LAYER = ",layer="
DIGEST = re.compile(rf"#[0-9a-f]{{{DIGITS}}}\Z")


@dataclass(frozen=True)
class Trace:
    """A file, the digest of its content, and the layer, '' for the only one. It is read when its routes are needed."""

    path: str
    digest: str
    layer: str = ""

    @staticmethod
    def parse(spec: str) -> Trace:
        """Read ``trace:FILE#DIGEST`` or ``trace:FILE,layer=L#DIGEST``.

        Raises:
            InvalidTrace: naming the text, and how to make a valid one.
        """
        found = re.fullmatch(rf"{PREFIX}(.+)#([0-9a-f]{{{DIGITS}}})", spec, re.DOTALL)
        if found is None:
            raise InvalidTrace(
                f"load = {spec!r}: give {PREFIX}FILE#DIGEST, as kernels.problem.trace.load_of(FILE) makes it"
            )
        path, layer = _parted(found[1])
        return Trace(path, found[2], layer)

    def __str__(self) -> str:
        return f"{PREFIX}{self.path}{LAYER if self.layer else ''}{self.layer}#{self.digest}"

    def routes(self) -> LayerRoutes:
        """Return the recorded routes, from a file whose content has the digest.

        Raises:
            InvalidTrace: as `read_layer`, and when the file has changed.
        """
        return _unchanged(self)

    def check(self, *, experts: int, chosen: int) -> None:
        """Raise InvalidTrace unless a layer of so many experts, of which a token chooses so many, was recorded."""
        routes = self.routes()
        ids_TK, recorded = routes.ids_TK, routes.layer.experts
        if ids_TK.shape[1] != chosen:
            raise InvalidTrace(
                f"load = '{self}' chooses {ids_TK.shape[1]} experts per token, not K = {chosen}: give that K"
            )
        if recorded is not None and recorded != experts:
            raise InvalidTrace(f"load = '{self}' is of {recorded} experts, not of E = {experts}: give E = {recorded}")
        last = int(ids_TK.max())
        if last >= experts:
            raise InvalidTrace(f"load = '{self}' chooses expert {last}, of E = {experts}: give E >= {last + 1}")

    def window(self, tokens: int, rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """Return ids and gate weights of consecutive tokens from a random start, both (tokens, K).

        A shorter trace is repeated. The weights are None where none were recorded.
        """
        routes = self.routes()
        rows = window(tokens, of=len(routes.ids_TK), rng=rng)
        return routes.ids_TK[rows], None if routes.gates_TK is None else routes.gates_TK[rows]


def window(tokens: int, *, of: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the places of consecutive tokens among those recorded, from a random start; fewer are repeated."""
    starts = of - tokens + 1 if tokens <= of else of
    places: NDArray[np.int64] = (rng.integers(starts) + np.arange(tokens)) % of
    return places


def label(load: str) -> str:
    """Return a load as keys and tables show it: for a trace the file's name, layer and digest without its folder."""
    return PREFIX + load.rpartition("/")[2] if load.startswith(f"{PREFIX}/") else load


def load_of(path: str | Path, layer: str = "") -> str:
    """Return the text for `Problem.load`, ``trace:FILE,layer=L#DIGEST``, with an absolute path for workers anywhere.

    The layer is a name or a number as `TraceDescription.find` takes it; it is left out if it is the only one.

    Raises:
        InvalidTrace: as `read_layer`.
    """
    content = content_of(path)
    about = describe(content, path)
    found = read_layer(content, path, layer).layer
    return str(Trace(str(Path(path).resolve()), digest_of(content), about.word(about.layers.index(found))))


def with_digest(load: str, folder: Path | None = None) -> str:
    """Return a load as problems have it: ``trace:FILE`` and ``trace:FILE,layer=L`` as `load_of` does, others as is.

    A path that is not absolute is taken from a folder, by default the one that the process works in; ~ is the home.

    Raises:
        InvalidTrace: as `load_of`.
    """
    if not load.startswith(PREFIX) or DIGEST.search(load):
        return load
    text = load.removeprefix(PREFIX)
    path, layer = _parted(text)
    file = _from(folder, path)
    if layer and _from(folder, text).is_file() and not file.exists():
        raise InvalidTrace(
            f"trace {text}: the name of a file that ends with {LAYER}{layer} is read as a layer: rename it"
        )
    return load_of(file, layer)


def _from(folder: Path | None, path: str) -> Path:
    try:
        return (folder or Path()) / Path(path).expanduser()
    except RuntimeError:  # of a user without a home
        return (folder or Path()) / path


def _parted(text: str) -> tuple[str, str]:
    """Return a file and a layer; the name of a file cannot end with a layer."""
    found = re.fullmatch(rf"(.+){LAYER}([A-Za-z0-9_.\-]+)", text, re.DOTALL)
    return (found[1], found[2]) if found else (text, "")


@lru_cache(maxsize=4)  # every new problem checks its trace
def _unchanged(trace: Trace) -> LayerRoutes:
    content = content_of(trace.path)
    found = digest_of(content)
    if found != trace.digest:
        now = Trace(trace.path, found, trace.layer)
        raise InvalidTrace(f"trace {trace.path} has changed: its digest is {found}, not {trace.digest}: give {now}")
    routes = read_layer(content, trace.path, trace.layer)
    for array in (routes.ids_TK, routes.gates_TK):
        if array is not None:
            array.flags.writeable = False
    return routes
