"""Checks of a FlashInfer-Trace dataset, written in own words from the published schema.

The source is flashinfer-ai/flashinfer-bench, commit 40e6ca7: `flashinfer_bench/data/definition.py`, `workload.py`,
`solution.py` and `trace.py` for objects, `trace_set.py` for the folder, `flashinfer_bench/bench/utils.py` for inputs.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "int32": "I32",
    "int64": "I64",
}
STATUSES = {
    "PASSED",
    "INCORRECT_SHAPE",
    "INCORRECT_NUMERICAL",
    "INCORRECT_DTYPE",
    "RUNTIME_ERROR",
    "COMPILE_ERROR",
    "TIMEOUT",
}
LANGUAGES = {"python", "triton", "cpp", "cuda", "tilelang"}


def check_dataset(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Check every file of a dataset, and that names lead somewhere; return its objects by kind."""
    definitions = {made["name"]: made for made in _objects(root / "definitions")}
    assert len(definitions) == len(list((root / "definitions").rglob("*.json"))), "two definitions share a name"
    for made in definitions.values():
        check_definition(made)
    solutions = list(_objects(root / "solutions"))
    assert len({made["name"] for made in solutions}) == len(solutions), "two solutions share a name"
    for made in solutions:
        check_solution(made)
        assert made["definition"] in definitions
    workloads, traces = list(_lines(root / "workloads")), list(_lines(root / "traces"))
    for made in (*workloads, *traces):
        check_workload(made["workload"], definitions[made["definition"]], root)
    for made in workloads:
        assert made.get("solution") is None
        assert made.get("evaluation") is None
    for made in traces:
        assert made["solution"] in {one["name"] for one in solutions if one["definition"] == made["definition"]}
        check_evaluation(made["evaluation"])
    return {"definitions": [*definitions.values()], "solutions": solutions, "workloads": workloads, "traces": traces}


def check_definition(made: dict[str, Any]) -> None:
    """A definition has named axes, tensors over them, a `run` function, and conditions that are expressions."""
    assert made["name"]
    assert made["op_type"]
    for name, axis in made["axes"].items():
        assert name
        assert axis["type"] in ("const", "var")
        assert axis["type"] == "var" or (type(axis["value"]) is int and axis["value"] >= 0)
    assert not set(made["inputs"]) & set(made["outputs"])
    for tensor in (*made["inputs"].values(), *made["outputs"].values()):
        assert tensor["dtype"] in DTYPES
        assert tensor["shape"] is None or set(tensor["shape"]) <= set(made["axes"])
    functions = [node for node in ast.parse(made["reference"]).body if isinstance(node, ast.FunctionDef)]
    (run,) = (node for node in functions if node.name == "run")
    assert [argument.arg for argument in run.args.args] == list(made["inputs"])
    for condition in made.get("constraints", []):
        ast.parse(condition, mode="eval")


def check_solution(made: dict[str, Any]) -> None:
    """A solution has sources with relative paths, of which one has the entry point."""
    assert made["author"]
    spec = made["spec"]
    assert spec["language"] in LANGUAGES
    assert spec["target_hardware"]
    assert all(spec["target_hardware"])
    assert all(spec["dependencies"])
    file, function = spec["entry_point"].split("::")
    sources = {source["path"]: source["content"] for source in made["sources"]}
    assert len(sources) == len(made["sources"])
    assert all(
        content and not Path(path).is_absolute() and ".." not in Path(path).parts for path, content in sources.items()
    )
    assert function in {node.name for node in ast.parse(sources[file]).body if isinstance(node, ast.FunctionDef)}


def check_workload(made: dict[str, Any], definition: dict[str, Any], root: Path) -> None:
    """A workload has a size for each variable axis, and inputs that are random, or stored as the definition says."""
    assert made["uuid"]
    assert set(made["axes"]) == {name for name, axis in definition["axes"].items() if axis["type"] == "var"}
    assert set(made["inputs"]) == set(definition["inputs"])
    sizes = {name: axis.get("value") for name, axis in definition["axes"].items()} | made["axes"]
    for name, given in made["inputs"].items():
        assert given["type"] in ("random", "safetensors", "scalar")
        if given["type"] == "safetensors":
            dtype, array = stored(root / given["path"], given["tensor_key"])
            assert list(array.shape) == [sizes[axis] for axis in definition["inputs"][name]["shape"]]
            assert dtype == DTYPES[definition["inputs"][name]["dtype"]]


def check_evaluation(made: dict[str, Any]) -> None:
    """An evaluation has errors where there is a result, and times where it passed."""
    assert made["status"] in STATUSES
    assert made["timestamp"]
    assert isinstance(made["log"], str)
    assert made["environment"]["hardware"]
    assert all(isinstance(version, str) for version in made["environment"]["libs"].values())
    assert ("correctness" in made) == (made["status"] in ("PASSED", "INCORRECT_NUMERICAL"))
    assert ("performance" in made) == (made["status"] == "PASSED")
    for name in ("max_relative_error", "max_absolute_error"):
        error = float(made.get("correctness", {}).get(name, 0.0))
        assert math.isnan(error) or error >= 0
    for time in made.get("performance", {}).values():
        assert time >= 0


def stored(path: Path, name: str) -> tuple[str, np.ndarray[Any, Any]]:
    """Return dtype and values of a tensor in a safetensors file (huggingface/safetensors, README.md, "Format")."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + length])[name]
    first, last = entry["data_offsets"]
    values = np.frombuffer(
        content[8 + length + first : 8 + length + last], {"I32": "<i4", "F32": "<f4"}[entry["dtype"]]
    )
    return entry["dtype"], values.reshape(entry["shape"])


def _objects(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.json")):
        yield json.loads(path.read_text())


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text().splitlines():
            yield json.loads(line)
