"""The files in which vLLM and SGLang keep the tiles of their fused MoE kernel: names, bodies, reading, writing.

Both look a file up by its exact name, made of the shape and the device. The body is a JSON object from batch sizes M
(tokens) to tiles, and a batch takes the tiles of the nearest M, the first in the file when two are as near. vLLM looks
in the folder of ``VLLM_TUNED_CONFIG_FOLDER`` before its own, takes ``triton_version`` out of the body and makes an int
of every other key; SGLang looks in ``configs/triton_X_Y_Z`` of the folder of ``SGLANG_MOE_CONFIG_DIR`` and makes an int
of every key. Tiles go to the kernel as they are: an unknown word among them is an argument that it does not have.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ...common.errors import UserError
from ...kernels.implementations._vllm_tiles import BLOCKS, KNOBS

Tiles = Mapping[str, int | bool]
Pairs = list[tuple[str, object]]

ABOUT = ".about.json"
"""What a file that says where another came from ends with, in place of .json; no engine looks for such a name."""

LARGEST_FILE = 1 << 20
LARGEST_NUMBER = 1 << 31
NEEDED = KNOBS[:4]  # Triton has defaults for warps and stages
BESIDE = {
    "SPLIT_K": "vLLM sets it to 1",
    "waves_per_eu": "AMD",
    "matrix_instr_nonkdim": "AMD",
    "kpack": "AMD",
    "USE_TMA": "SGLang's down projection",
}
"""Words that the kernels take beside the knobs, and of whom they are."""

_NAME = re.compile(
    r"E=(?P<E>\d{1,9}),N=(?P<N>\d{1,9}),device_name=(?P<device>[\w.()+@-]+?)"
    r"(?:,dtype=(?P<dtype>\w+?))?"
    r"(?:,block_shape=\[(?P<bn>\d{1,6}),(?P<space> ?)(?P<bk>\d{1,6})\])?"
    r"(?P<channel>,per_channel_quant=True)?(?P<down>_down)?\.json",
    re.ASCII,
)


class ServingError(UserError, ValueError):
    """A name or a file that is not as the engines have them; the message names it and the remedy."""


class Engine(StrEnum):
    """Whose file it is."""

    vllm = "vllm"
    sglang = "sglang"

    @property
    def label(self) -> str:
        """As it writes itself."""
        return {"vllm": "vLLM", "sglang": "SGLang"}[self]


class Severity(StrEnum):
    """``error``: it cannot work as it stands. ``warning``: it works, worse than meant. ``note``: good to know."""

    error = "error"
    warning = "warning"
    note = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong with a file, or with its tiles for batch size M, and what to do."""

    severity: Severity
    kind: str
    file: str
    M: int | None = None
    sentence: str
    remedy: str

    def __str__(self) -> str:
        where = self.file if self.M is None else f"{self.file}, M = {self.M}"
        return f"{where}: {self.sentence}; {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class Name:
    """What a file's name says: local experts ``E``, width ``N`` of one expert's shard, the device with _ for spaces.

    ``dtype`` is None for 16-bit floats. ``block_shape``: weights are scaled by blocks of so many columns and terms;
    ``per_channel``: by row, which only SGLang says. ``down``: SGLang's tiles of the down projection.

    Raises:
        ServingError: for a device or dtype that no file name can hold.
    """

    E: int
    N: int
    device: str
    dtype: str | None = None
    block_shape: tuple[int, int] | None = None
    per_channel: bool = False
    down: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.()+@-]+", self.device, re.ASCII):
            raise ServingError(f"device {self.device!r}: give letters, digits and _.()+@- only")
        if self.dtype is not None and not re.fullmatch(r"\w+", self.dtype, re.ASCII):
            raise ServingError(f"dtype {self.dtype!r}: give letters, digits and _ only")

    @staticmethod
    def parse(file: str) -> Name:
        """The fields of a file name of either engine.

        Raises:
            ServingError: when it is no such name.
        """
        found = _NAME.fullmatch(file)
        if not found:
            raise ServingError(f"{file!r} is no name of tuned tiles: E=…,N=…,device_name=….json is one")
        return Name(
            E=int(found["E"]),
            N=int(found["N"]),
            device=found["device"],
            dtype=found["dtype"],
            block_shape=(int(found["bn"]), int(found["bk"])) if found["bn"] else None,
            per_channel=bool(found["channel"]),
            down=bool(found["down"]),
        )

    def file(self, engine: Engine) -> str:
        """The name under which an engine looks for it; SGLang prints the block shape with a space.

        Raises:
            ServingError: when vLLM has no name for it.
        """
        if engine is Engine.vllm and (self.down or self.per_channel):
            raise ServingError("vLLM has no files of the down projection, nor by channel: write them for SGLang")
        dtype = f",dtype={self.dtype}" if self.dtype else ""
        gap = " " if engine is Engine.sglang else ""
        block = f",block_shape=[{self.block_shape[0]},{gap}{self.block_shape[1]}]" if self.block_shape else ""
        channel = ",per_channel_quant=True" if self.per_channel else ""
        down = "_down" if self.down else ""
        device = device_word(self.device, engine)
        return f"E={self.E},N={self.N},device_name={device}{dtype}{block}{channel}{down}.json"


def device_word(device: str, engine: Engine) -> str:
    """A device's name as a file name has it; vLLM calls every H200 the same."""
    word = re.sub(r"[\s/]+", "_", device)
    return "NVIDIA_H200" if engine is Engine.vllm and "H200" in word.split("_") else word


@dataclass(frozen=True, kw_only=True)
class ServingFile:
    """One file: its name, and tiles by batch size in the order of the file; ``triton`` is the version it names."""

    name: Name
    configs: Mapping[int, Tiles]
    triton: str | None = None

    def nearest(self, M: int) -> int:
        """The batch size whose tiles a batch of ``M`` tokens takes."""
        return min(self.configs, key=lambda known: abs(known - M))

    def body(self, engine: Engine) -> str:
        """The text of the file; only vLLM's may name a Triton version."""
        head: dict[str, object] = {"triton_version": self.triton} if engine is Engine.vllm and self.triton else {}
        return json.dumps(head | {str(M): dict(self.configs[M]) for M in sorted(self.configs)}, indent=4) + "\n"


def read(path: Path, engine: Engine, file: str | None = None) -> tuple[ServingFile | None, list[Finding]]:
    """A file and what is wrong with it by itself; no file where nothing can be made of it.

    ``file`` is what findings call it, by default its name. Nothing in it is executed or used as a path.
    """
    file = file or path.name

    def error(sentence: str, remedy: str) -> tuple[None, list[Finding]]:
        finding = Finding(severity=Severity.error, kind="unreadable", file=file, sentence=sentence, remedy=remedy)
        return None, [finding]

    try:
        name = Name.parse(path.name)
        with path.open("rb") as source:
            content = source.read(LARGEST_FILE + 1)
    except ServingError as problem:
        return error(str(problem), "rename it")
    except OSError as problem:
        return error(f"cannot be read ({problem.strerror})", "give a file that can be read")
    if len(content) > LARGEST_FILE:
        return error(f"is longer than {LARGEST_FILE} bytes", "give a file of tuned tiles")
    try:
        body = json.loads(content, object_pairs_hook=_Pairs, parse_constant=_no_number)
    except (ValueError, RecursionError) as problem:
        return error(f"is no JSON ({problem})", "write it anew")
    if not isinstance(body, _Pairs):
        return error("holds no JSON object", "write an object from batch sizes to tiles")
    configs, triton, findings = _Body(file, engine).read(body)
    if not configs:
        findings.append(
            Finding(severity=Severity.error, kind="unreadable", file=file, sentence="has no tiles", remedy="tune anew")
        )
    return ServingFile(name=name, configs=configs, triton=triton), findings


def load(path: Path, engine: Engine) -> ServingFile:
    """A file without errors in it.

    Raises:
        ServingError: with the first error.
    """
    found, findings = read(path, engine, str(path))
    errors = [finding for finding in findings if finding.severity is Severity.error]
    if errors or found is None:
        raise ServingError(str(errors[0]))
    return found


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file whole or not at all.

    Raises:
        OSError: when it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=folder, prefix=".", suffix=".draft")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)
        return Path(draft).replace(folder / name)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


class _Pairs(Pairs):
    """A JSON object as it stands, with what is in it twice."""


def _no_number(constant: str) -> object:
    raise ValueError(f"{constant} is no number in JSON")


@dataclass(frozen=True)
class _Body:
    file: str
    engine: Engine

    def read(self, body: _Pairs) -> tuple[dict[int, Tiles], str | None, list[Finding]]:
        configs: dict[int, Tiles] = {}
        triton: str | None = None
        findings: list[Finding] = []
        for key, value in body:
            if key == "triton_version" and self.engine is Engine.vllm:
                triton = value if isinstance(value, str) else None
                continue
            M = _batch(key)
            if M is None:
                findings.append(self._stray(key))
                continue
            tiles, wrong = self._tiles(M, value)
            findings += wrong
            if M in configs:
                same = tiles == configs[M]
                findings.append(
                    Finding(
                        severity=Severity.warning if same else Severity.error,
                        kind="duplicate",
                        file=self.file,
                        M=M,
                        sentence="stands there twice" if same else "stands there twice, with other tiles",
                        remedy="keep one" if same else "keep one: engines take the last",
                    )
                )
            if tiles is not None:
                configs[M] = tiles
        return configs, triton, findings

    def _stray(self, key: str) -> Finding:
        shown = key if len(key) <= 40 else f"{key[:40]}…"
        return Finding(
            severity=Severity.error,
            kind="key",
            file=self.file,
            sentence=f"the key {shown!r} is no batch size, and {self.engine.label} makes an int of it",
            remedy="take it out" if key != "triton_version" else "take it out: SGLang's folder says the version",
        )

    def _tiles(self, M: int, value: object) -> tuple[Tiles | None, list[Finding]]:
        base = Finding(severity=Severity.error, kind="tiles", file=self.file, M=M, sentence="", remedy="tune it anew")
        if not isinstance(value, _Pairs):
            return None, [replace(base, sentence="has no object of tiles")]
        tiles: dict[str, int | bool] = {}
        findings: list[Finding] = []
        for word, number in value:
            if not isinstance(number, int) or not 0 <= number < LARGEST_NUMBER:
                findings.append(replace(base, sentence=f"{_short(word)} = {_short(number)} is no count"))
            elif word in tiles:
                findings.append(replace(base, kind="duplicate", sentence=f"{_short(word)} stands there twice"))
            else:
                tiles[word] = number
        findings = findings or [replace(base, sentence=fault) for fault in _faults(tiles)]
        strange = [
            replace(
                base,
                severity=Severity.warning,
                sentence=f"{_short(word)} is no argument of the kernel that is known here",
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
        number = tiles.get(word, 1)
        if number & (number - 1):
            yield f"{word} = {number} is no power of two, which Triton wants"


def _batch(key: str) -> int | None:
    """The batch size that a key is, as the engines' int() reads it, in reason."""
    try:
        M = int(key) if len(key) <= len(str(LARGEST_NUMBER)) else -1
    except ValueError:
        return None
    return M if 0 <= M < LARGEST_NUMBER else None


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:40]}…"


def severest(findings: Iterable[Finding]) -> Severity | None:
    """The worst there is, None where there is nothing."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in Severity if severity in found), None)
