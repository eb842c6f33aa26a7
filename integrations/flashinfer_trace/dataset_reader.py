"""Reader of a dataset: its MoE definitions and their workloads, from a folder that may come from anywhere.

It reads the layout of `TraceSet` (flashinfer-ai/flashinfer-bench, commit 40e6ca7,
`flashinfer_bench/data/trace_set.py`), and that of a problem of SOL-ExecBench (NVIDIA/SOL-ExecBench, commit 8d2237d,
`docs/definition.md` and `docs/workload.md`): `definition.json` beside `workload.jsonl`, each line a workload alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...common.errors import UserError
from ...common.files import read_text
from .tensor_file import POINTER

MOST_FILES: Final = 10_000
REMEDY: Final = "give a dataset of FlashInfer-Trace, or a problem of SOL-ExecBench"
Object = Mapping[str, Any]


class InvalidDataset(UserError, ValueError):
    """A folder that is no dataset, or a damaged one; the message names the file and the remedy."""


@dataclass(frozen=True)
class MoeDefinition:
    """A definition of a MoE layer: its name, the sizes of its constant axes, and shape and dtype of each input."""

    name: str
    sizes: Mapping[str, int]
    inputs: Mapping[str, tuple[tuple[str, ...] | None, str]]
    where: Path


@dataclass(frozen=True)
class MoeWorkload:
    """A workload of a definition: the sizes of its variable axes and the description of each input.

    ``root`` is the folder from which the paths of its files count.
    """

    definition: MoeDefinition
    uuid: str
    sizes: Mapping[str, int]
    inputs: Mapping[str, Object]
    root: Path
    where: str

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an input.

        Raises:
            InvalidDataset: when the size of an axis is not given.
        """
        axes, sizes = self.definition.inputs[name][0] or (), {**self.sizes, **self.definition.sizes}
        if missing := [axis for axis in axes if axis not in sizes]:
            raise InvalidDataset(f"{self.where} has no size of the axis {missing[0]!r:.60}: {REMEDY}")
        return tuple(sizes[axis] for axis in axes)

    def file(self, path: str) -> Path:
        """Return a file of the dataset.

        Raises:
            InvalidDataset: when the path leads out of its folder.
        """
        try:
            found = (self.root / path).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise InvalidDataset(f"{self.where} names no file by {path!r:.80}: {REMEDY}") from error
        if not found.is_relative_to(self.root.resolve()):
            raise InvalidDataset(f"{self.where} names {path!r:.80}, which is not in {self.root}: {REMEDY}")
        return found


def moe_workloads(folder: Path) -> list[MoeWorkload]:
    """Return the workloads of every MoE definition in a folder, in the order of their files' names.

    Raises:
        InvalidDataset: when the folder is no dataset, a file of it is none, or there is no MoE layer in it.
    """
    try:
        if not folder.is_dir():
            raise InvalidDataset(f"{folder} is no folder: {REMEDY}")
        alone = folder / "definition.json"
        if alone.is_file():
            definitions, files = [alone], [folder / "workload.jsonl"]
        else:
            definitions = _files(folder / "definitions", "*.json")
            files = _files(folder / "workloads", "*.jsonl")
    except OSError as error:
        raise InvalidDataset(f"{folder}: {error.strerror}: {REMEDY}") from error
    if not definitions:
        raise InvalidDataset(f"{folder} has neither definitions/*.json nor a definition.json: {REMEDY}")
    known: dict[str, MoeDefinition] = {}
    for path in definitions:
        made = _object(_text(path), str(path))
        if _is_moe(made):
            one = _definition(made, path)
            known[one.name] = one
    if not known:
        raise InvalidDataset(f"{folder} has {len(definitions)} definitions, none of op_type moe: {REMEDY}")
    only = next(iter(known)) if alone.is_file() else None
    found = [one for path in files for one in _workloads(path, known, only, folder)]
    if not found:
        raise InvalidDataset(f"{folder} has no workload of {', '.join(sorted(known))!s:.200}: {REMEDY}")
    return found


def _files(folder: Path, pattern: str) -> list[Path]:
    found = []
    for path in folder.rglob(pattern):
        found.append(path)
        if len(found) > MOST_FILES:
            raise InvalidDataset(f"{folder} has more than {MOST_FILES} files: give the folder of fewer definitions")
    return sorted(found)


def _text(path: Path) -> str:
    try:
        if not path.is_file():  # reading a pipe might never end
            raise InvalidDataset(f"{path} is no file: {REMEDY}")
        text = read_text(path)
    except OSError as error:
        raise InvalidDataset(f"{path}: {error.strerror}: {REMEDY}") from error
    if text.startswith(POINTER.decode()):
        raise InvalidDataset(f"{path} is a pointer of Git LFS: fetch the file with `git lfs pull`")
    return text


def _object(text: str, where: str) -> Object:
    try:
        made = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDataset(f"{where} is no JSON ({error!s:.80}): {REMEDY}") from error
    if not isinstance(made, dict):
        raise InvalidDataset(f"{where} is no object of JSON: {REMEDY}")
    return made


def _is_moe(made: Object) -> bool:
    name = made.get("name")
    return made.get("op_type") == "moe" or (made.get("op_type") is None and str(name).startswith("moe"))


def _definition(made: Object, path: Path) -> MoeDefinition:
    where = str(path)
    axes = _mapping(made, "axes", where)
    sizes = {}
    for name, axis in axes.items():
        value = axis.get("value") if isinstance(axis, dict) else None
        if isinstance(axis, dict) and axis.get("type") == "const":
            sizes[name] = _size(value, f"the axis {name!r:.60} of {where}")
    inputs = {}
    for name, tensor in _mapping(made, "inputs", where).items():
        shape, dtype = (tensor.get("shape"), tensor.get("dtype")) if isinstance(tensor, dict) else (None, None)
        right = shape is None or (isinstance(shape, list) and all(isinstance(axis, str) for axis in shape))
        if not (isinstance(dtype, str) and right):
            raise InvalidDataset(f"{where} has an input {name!r:.60} without shape or dtype: {REMEDY}")
        inputs[name] = (None if shape is None else tuple(shape), dtype)
    called = made.get("name")
    if not isinstance(called, str) or not called:
        raise InvalidDataset(f"{where} has no name: {REMEDY}")
    return MoeDefinition(called, sizes, inputs, path)


def _workloads(path: Path, known: Mapping[str, MoeDefinition], only: str | None, root: Path) -> Iterator[MoeWorkload]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        made = _object(line, where)
        name, workload = made.get("definition", only), made.get("workload", made)
        if not isinstance(name, str) or name not in known:
            continue
        if not isinstance(workload, dict) or not isinstance(workload.get("uuid"), str):
            raise InvalidDataset(f"{where} has no workload with a uuid: {REMEDY}")
        sizes = {
            axis: _size(value, f"{axis!r:.60} of {where}") for axis, value in _mapping(workload, "axes", where).items()
        }
        inputs = _mapping(workload, "inputs", where)
        if wrong := [input_name for input_name, one in inputs.items() if not isinstance(one, dict)]:
            raise InvalidDataset(f"{where} does not describe its input {wrong[0]!r:.60}: {REMEDY}")
        yield MoeWorkload(known[name], workload["uuid"], sizes, inputs, root, where)


def _mapping(made: Object, name: str, where: str) -> dict[str, Any]:
    found = made.get(name)
    if not isinstance(found, dict):
        raise InvalidDataset(f"{where} has no {name}: {REMEDY}")
    return found


def _size(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise InvalidDataset(f"{what} is {value!s:.40}: give a size, a number below {2**31}")
    return value
