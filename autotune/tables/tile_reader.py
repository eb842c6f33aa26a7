"""Reader of the files of tuned tiles. It trusts nothing: a file may come from anywhere."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ...kernels.triton.vllm_tiles import BLOCKS, KNOBS
from .serving_file import Finding, ServingError, ServingFile, Severity, TileFileName, Tiles

LARGEST_FILE = 1 << 20
LARGEST_NUMBER = 1 << 31
NEEDED = KNOBS[:4]  # Triton has defaults for warps and stages
BESIDE = {
    "SPLIT_K": "vLLM sets it to 1",
    "waves_per_eu": "AMD",
    "matrix_instr_nonkdim": "AMD",
    "kpack": "AMD",
    "USE_TMA": "SGLang's down projection",
    "num_ctas": "Triton",
    "grf_mode": "Intel, as text",
}
"""Arguments that the engines' kernels take beside the knobs, and where they are from."""


def read_tiles(
    path: Path, file: str, *, version_key: str | None, stray: str
) -> tuple[ServingFile | None, list[Finding]]:
    """Read a file and return it with what is wrong with it; None where nothing can be read.

    ``file`` is what findings call it. ``version_key`` is the key that may hold a Triton version; ``stray`` is the
    remedy for any other key that is no batch size. Nothing in the file is executed or used as a path.
    """

    def error(sentence: str, remedy: str) -> tuple[None, list[Finding]]:
        finding = Finding(severity=Severity.error, kind="unreadable", file=file, sentence=sentence, remedy=remedy)
        return None, [finding]

    try:
        name = TileFileName.parse(path.name)
    except ServingError as problem:
        return error(str(problem), "rename it")
    try:
        body = read_pairs(path)
    except Unreadable as problem:
        return error(str(problem), problem.remedy)
    configs, triton, findings = _Body(file, version_key, stray).read(body)
    if not configs:
        findings.append(
            Finding(severity=Severity.error, kind="unreadable", file=file, sentence="has no tiles", remedy="tune anew")
        )
    return ServingFile(name=name, configs=configs, triton=triton), findings


class Unreadable(ValueError):
    """A file without a JSON object that an engine could read; it says why, and ``remedy`` what to do."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.remedy = remedy


class Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs, so that a key that is in it twice is seen."""


def read_pairs(path: Path) -> Pairs:
    """Return the JSON object in a file.

    Raises:
        Unreadable: for a file that cannot be read, is too long, or holds no JSON object in UTF-8.
    """
    try:
        content = _content(path)
    except OSError as problem:
        raise Unreadable(f"cannot be read ({problem.strerror})", "give a file that can be read") from problem
    if len(content) > LARGEST_FILE:
        raise Unreadable(f"is longer than {LARGEST_FILE} bytes", "give a file of tuned tiles")
    # Engines open a file as UTF-8 text. Python's JSON takes bytes in other encodings too.
    if (encoding := json.detect_encoding(content)) != "utf-8":
        named = "UTF-8 with a byte order mark" if encoding == "utf-8-sig" else encoding.upper()
        raise Unreadable(f"is {named}, which no engine reads", "save it as UTF-8 without a byte order mark")
    try:
        body = json.loads(content.decode(), object_pairs_hook=Pairs, parse_constant=_no_number)
    except (ValueError, RecursionError) as problem:
        raise Unreadable(f"is no JSON ({problem})", "write it anew") from problem
    if not isinstance(body, Pairs):
        raise Unreadable("holds no JSON object", "write one anew")
    return body


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError(errno.EINVAL, "no regular file")
    with path.open("rb") as source:
        return source.read(LARGEST_FILE + 1)


def _no_number(constant: str) -> object:
    raise ValueError(f"{constant} is no number in JSON")


@dataclass(frozen=True)
class _Body:
    file: str
    version_key: str | None
    stray: str

    def read(self, body: Pairs) -> tuple[dict[int, Tiles], str | None, list[Finding]]:
        configs: dict[int, Tiles] = {}
        triton: str | None = None
        findings: list[Finding] = []
        for key, value in body:
            if key == self.version_key:
                triton = value if isinstance(value, str) else None
                continue
            M = _batch(key)
            if M is None:
                findings.append(self._stray(key))
                continue
            tiles, wrong = self._tiles(M, value)
            findings += wrong
            if M in configs:
                findings.append(self._twice(M, equal=tiles == configs[M]))
            if tiles is not None:
                configs[M] = tiles
        return configs, triton, findings

    def _stray(self, key: str) -> Finding:
        sentence = f"the key {_short(key)!r} is no batch size, and the engine makes an int of it"
        return Finding(severity=Severity.error, kind="key", file=self.file, sentence=sentence, remedy=self.stray)

    def _twice(self, M: int, *, equal: bool) -> Finding:
        return Finding(
            severity=Severity.warning if equal else Severity.error,
            kind="duplicate",
            file=self.file,
            M=M,
            sentence="is in the file twice" if equal else "is in the file twice, with other tiles",
            remedy="keep one" if equal else "keep one: engines take the last",
        )

    def _tiles(self, M: int, value: object) -> tuple[Tiles | None, list[Finding]]:
        base = Finding(severity=Severity.error, kind="tiles", file=self.file, M=M, sentence="", remedy="tune it anew")
        if not isinstance(value, Pairs):
            return None, [replace(base, sentence="has no object of tiles")]
        tiles: dict[str, int | bool | str] = {}
        findings: list[Finding] = []
        for word, number in value:
            text = word == "grf_mode" and isinstance(number, str)
            if not text and (not isinstance(number, int) or not 0 <= number < LARGEST_NUMBER):
                findings.append(replace(base, sentence=f"{_short(word)} = {_short(number)} is no count"))
            elif word in tiles:
                findings.append(replace(base, kind="duplicate", sentence=f"{_short(word)} is in its tiles twice"))
            else:
                tiles[word] = cast(int | str, number)
        findings = findings or [replace(base, sentence=fault) for fault in _faults(tiles)]
        strange = [
            replace(
                base,
                severity=Severity.warning,
                sentence=f"{_short(word)} is no known argument of the kernel",
                remedy="take it out, unless your engine's kernel has it",
            )
            for word in sorted(tiles.keys() - {*KNOBS, *BESIDE})
        ]
        return (None if findings else tiles), findings + strange


def _faults(tiles: Tiles) -> Iterator[str]:
    for word in NEEDED:
        if not tiles.get(word):
            yield f"has no {word}, without which the kernel cannot start"
    for word in (*BLOCKS, "num_warps"):
        number = int(tiles.get(word, 1))
        if number & (number - 1):
            yield f"{word} = {number} is no power of two, which Triton wants"


def _batch(key: str) -> int | None:
    """Return the batch size that the engines' int() makes of a key, None where it makes none."""
    try:
        M = int(key) if len(key) <= len(str(LARGEST_NUMBER)) else -1
    except ValueError:
        return None
    return M if 0 <= M < LARGEST_NUMBER else None


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:40]}…"
