"""Traces: recorded loads, with the experts that a real router chose for each token.

A trace is a .npy file of integers (tokens, K), one row a token in the order the tokens came, first choices first;
negative ids mean no route. Tokens of one text choose similar experts, which no popularity of experts can imitate.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import UserError

PREFIX = "trace:"
DIGITS = 8
MOST_BYTES = 1 << 29  # 134 million int32 ids, which every worker can hold in memory


class InvalidTrace(UserError, ValueError):
    """An error for a file that is no trace, or another one than was named; the message has the file and the remedy."""


@dataclass(frozen=True)
class Trace:
    """A file and the digest of its content. The file is read when its ids are needed."""

    path: str
    digest: str

    @staticmethod
    def parse(spec: str) -> Trace:
        """Read ``trace:FILE#DIGEST``.

        Raises:
            InvalidTrace: naming the text, and how to make a valid one.
        """
        found = re.fullmatch(rf"{PREFIX}(.+)#([0-9a-f]{{{DIGITS}}})", spec, re.DOTALL)
        if found is None:
            raise InvalidTrace(
                f"load = {spec!r}: give {PREFIX}FILE#DIGEST, as kernels.problem.trace.load_of(FILE) makes it"
            )
        return Trace(*found.groups())

    def __str__(self) -> str:
        return f"{PREFIX}{self.path}#{self.digest}"

    def ids(self) -> NDArray[np.int32]:
        """Return the ids as `read` does, from a file whose content has the digest.

        Raises:
            InvalidTrace: as `read`, and when the file has changed.
        """
        return _unchanged(self.path, self.digest)

    def check(self, *, experts: int, chosen: int) -> None:
        """Raise InvalidTrace unless every token chooses ``chosen`` experts, all below ``experts``."""
        ids = self.ids()
        if ids.shape[1] != chosen:
            raise InvalidTrace(
                f"load = '{self}' chooses {ids.shape[1]} experts per token, not K = {chosen}: give that K"
            )
        last = int(ids.max())
        if last >= experts:
            raise InvalidTrace(f"load = '{self}' chooses expert {last}, of E = {experts}: give E >= {last + 1}")

    def window(self, tokens: int, rng: np.random.Generator) -> NDArray[np.int32]:
        """Return consecutive rows (tokens, K) of the trace from a random start; a shorter trace is repeated."""
        ids = self.ids()
        recorded = len(ids)
        starts = recorded - tokens + 1 if tokens <= recorded else recorded
        rows: NDArray[np.int64] = (rng.integers(starts) + np.arange(tokens)) % recorded
        return ids[rows]


def label(load: str) -> str:
    """Return a load as keys and tables show it: for a trace the file's name and digest without its folder."""
    return PREFIX + load.rpartition("/")[2] if load.startswith(f"{PREFIX}/") else load


def read(path: str | Path) -> NDArray[np.int32]:
    """Read the ids of a trace, int32 (tokens, K), as they were recorded.

    Raises:
        InvalidTrace: when the file is missing, too large or no .npy file of integers (tokens, K); when it has no ids,
            an id that does not fit int32, or the same id twice for a token.
    """
    return _ids(_content(path), path)


def write(path: str | Path, ids: ArrayLike) -> None:
    """Record ids (tokens, K) as a trace.

    The routers of transformers return logits, weights and ids; a forward hook on one of them collects the ids::

        rows = []
        router = model.model.layers[7].mlp.gate
        hook = router.register_forward_hook(lambda router, inputs, output: rows.append(output[2].cpu()))
        model(input_ids)
        hook.remove()
        write("layer7.npy", torch.cat(rows))

    Where a router returns logits only, the ids are ``output.topk(K).indices``. Hook one layer only: every layer chooses
    other experts.

    Raises:
        InvalidTrace: for ids that `read` would refuse; no file is written.
        OSError: when the file cannot be written.
    """
    content = io.BytesIO()
    np.save(content, _checked(np.asarray(ids), path), allow_pickle=False)
    Path(path).write_bytes(content.getvalue())


def digest(path: str | Path) -> str:
    """Return the first 8 hexadecimal digits of the SHA-256 of the file.

    Raises:
        InvalidTrace: when the file cannot be read.
    """
    return _digest(_content(path))


def load_of(path: str | Path) -> str:
    """Return the text for `Problem.load`: ``trace:FILE#DIGEST``, with an absolute path for workers anywhere.

    Raises:
        InvalidTrace: as `read`.
    """
    content = _content(path)
    _ids(content, path)
    return str(Trace(path=str(Path(path).resolve()), digest=_digest(content)))


def with_digest(load: str, folder: Path | None = None) -> str:
    """Return a load as problems have it: ``trace:FILE`` as `load_of` does, others as they are.

    A path that is not absolute is taken from a folder, by default the one that the process works in.

    Raises:
        InvalidTrace: as `read`.
    """
    if not load.startswith(PREFIX) or "#" in load:
        return load
    return load_of((folder or Path()) / load.removeprefix(PREFIX))


@lru_cache(maxsize=4)  # every new problem checks its trace
def _unchanged(path: str, expected: str) -> NDArray[np.int32]:
    content = _content(path)
    found = _digest(content)
    if found != expected:
        raise InvalidTrace(
            f"trace {path} has changed: its digest is {found}, not {expected}: give {PREFIX}{path}#{found}"
        )
    ids = _ids(content, path)
    ids.flags.writeable = False
    return ids


def _content(path: str | Path) -> bytes:
    try:
        size = Path(path).stat().st_size
        if size > MOST_BYTES:
            raise InvalidTrace(f"trace {path} has {size:,} bytes: record fewer tokens, for at most {MOST_BYTES:,}")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error  # as of a path with a NUL
        raise InvalidTrace(f"trace {path}: {reason}: give a .npy file of expert ids (tokens, K)") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _ids(content: bytes, path: str | Path) -> NDArray[np.int32]:
    try:
        ids = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # a damaged header fails in any part of numpy's parser
        raise InvalidTrace(f"trace {path} is not a .npy file of numbers ({error}): write it with numpy.save") from error
    return _checked(ids, path)


def _checked(ids: NDArray[np.generic], path: str | Path) -> NDArray[np.int32]:
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise InvalidTrace(f"trace {path} has shape {ids.shape} of {ids.dtype}: give integers of shape (tokens, K)")
    if ids.size == 0:
        raise InvalidTrace(f"trace {path} has shape {ids.shape}: give at least one token and one expert")
    bounds = np.iinfo(np.int32)
    least, largest = int(ids.min()), int(ids.max())
    if least < bounds.min or largest > bounds.max:
        raise InvalidTrace(f"trace {path} has ids from {least} to {largest}: give ids that fit int32")
    checked = np.ascontiguousarray(ids, dtype=np.int32)
    ordered = np.sort(checked, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        token, place = (int(first) for first in np.argwhere(twice)[0])
        raise InvalidTrace(
            f"trace {path} chooses expert {ordered[token, place]} twice for token {token}: give each expert once"
        )
    return checked
