"""Workloads as traces: stored routes come back as they were, routers choose as written, and damage is one sentence."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from records import record

from moebench.common.errors import UserError
from moebench.integrations.flashinfer_trace.dataset_reader import moe_workloads
from moebench.integrations.flashinfer_trace.dataset_writer import dataset_of
from moebench.integrations.flashinfer_trace.tensor_file import (
    LONGEST_HEADER,
    InvalidTensorFile,
    read_tensor,
    tensor_file,
)
from moebench.integrations.flashinfer_trace.workload_routes import NoRoutes, imported
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import check_seed, draw_routes
from moebench.kernels.problem.trace import load_of
from moebench.kernels.problem.traces.trace_writer import write_trace

CPU = torch.device("cpu")
SMALL = Problem(T=13, D=16, F=8, E=4, K=2)
Edit = Callable[[Path], object]


def exported(folder: Path, *problems: Problem) -> Path:
    made = [record(one.T, problem={**vars(one)}, key=one.key, kernel="loop") for one in problems]
    dataset_of(made).write(folder)
    return folder


@pytest.mark.parametrize(
    "problem",
    [
        SMALL,
        SMALL.replace(load="zipf:1.5", router="sigmoid_topk:scale=2.5", seed=3),
        SMALL.replace(gated=False, activation="relu2", bias=True, dtype="bfloat16"),
        SMALL.replace(router="expert_choice", E=6),
        SMALL.replace(activation="swiglu_oai", dtype="float8_e4m3fn", K=1),
    ],
    ids=lambda problem: problem.key,
)
def test_what_is_exported_comes_back(problem: Problem, tmp_path: Path) -> None:
    """The problem is the same but for its load, and under that load it has the very routes."""
    (workload,) = moe_workloads(exported(tmp_path / "set", problem))
    found = imported(workload)
    write_trace(tmp_path / "a.npz", [found.routes])
    again = found.problem.replace(load=load_of(tmp_path / "a.npz"))
    was, now = (draw_routes(one, seed=seed, device=CPU) for one, seed in ((problem, check_seed(problem)), (again, 9)))
    assert torch.equal(was.ids_TK, now.ids_TK)
    present_TK = was.ids_TK >= 0
    assert torch.equal(was.gates_TK[present_TK], now.gates_TK[present_TK])
    for name in ("T", "D", "F", "E", "gated", "activation", "dtype", "bias"):
        assert getattr(again, name) == getattr(problem, name), name
    assert was.chosen == again.K


# Routers of definitions with logits.

SIZES = {"num_experts": 16, "num_local_experts": 4, "hidden_size": 128, "intermediate_size": 128, "gemm1_out_size": 256}
SHAPES = {
    "routing_logits": (["seq_len", "num_experts"], "float32"),
    "routing_bias": (["num_experts"], "bfloat16"),
    "hidden_states": (["seq_len", "hidden_size"], "float8_e4m3fn"),
    "gemm1_weights": (["num_local_experts", "gemm1_out_size", "hidden_size"], "float8_e4m3fn"),
    "gemm1_weights_scale": (["num_local_experts"], "float32"),
    "gemm2_weights": (["num_local_experts", "hidden_size", "intermediate_size"], "float8_e4m3fn"),
    "local_expert_offset": (None, "int32"),
    "routed_scaling_factor": (None, "float32"),
}
DEEPSEEK = "moe_fp8_block_scale_ds_routing_topk3_ng4_kg2_e4_h128_i128"


def with_logits(folder: Path, name: str, logits: Any, bias: Any, *, offset: int = 4, scale: float = 2.5) -> Path:
    """Write a dataset with the axes, inputs and names of FlashInfer's MoE definitions (docs/op-types/moe.mdx)."""
    (folder / "definitions/moe").mkdir(parents=True)
    (folder / "workloads/moe").mkdir(parents=True)
    axes = {axis: {"type": "const", "value": size} for axis, size in SIZES.items()} | {"seq_len": {"type": "var"}}
    inputs = {key: {"shape": shape, "dtype": dtype} for key, (shape, dtype) in SHAPES.items()}
    definition = {"name": name, "op_type": "moe", "axes": axes, "inputs": inputs}
    (folder / f"definitions/moe/{name}.json").write_text(json.dumps(definition))
    (folder / "a.safetensors").write_bytes(tensor_file({"logits": logits, "bias": bias}))
    stored = {"type": "safetensors", "path": "./a.safetensors"}
    described: dict[str, dict[str, Any]] = {
        "routing_logits": stored | {"tensor_key": "logits"},
        "routing_bias": stored | {"tensor_key": "bias"},
        "local_expert_offset": {"type": "scalar", "value": offset},
        "routed_scaling_factor": {"type": "scalar", "value": scale},
    }
    workload = {
        "uuid": "b8f4f012-a32e",
        "axes": {"seq_len": len(logits)},
        "inputs": {key: described.get(key, {"type": "random"}) for key in SHAPES},
    }
    line = json.dumps({"definition": name, "workload": workload, "solution": None, "evaluation": None})
    (folder / f"workloads/moe/{name}.jsonl").write_text(f"{line}\n")
    return folder


def plain_choice(word: str, logits: list[float], bias: list[float], scale: float) -> dict[int, float]:
    """Return the experts of a token with their weights, as FlashInfer's references say it, token by token."""
    if word == "ds":
        score = [1 / (1 + np.exp(-z)) for z in logits]
        by = [s + b for s, b in zip(score, bias, strict=True)]
        groups = sorted(range(4), key=lambda g: -sum(sorted(by[4 * g : 4 * g + 4])[-2:]))[:2]
        chosen = sorted((e for g in groups for e in range(4 * g, 4 * g + 4)), key=lambda e: -by[e])[:3]
        return {e: scale * score[e] / sum(score[c] for c in chosen) for e in chosen}
    z = np.array(logits) + np.array(bias)
    chosen = [int(e) for e in np.argsort(-z)[: 1 if word == "llama4" else 3]]
    if word == "llama4":
        return {e: scale / (1 + float(np.exp(-z[e]))) for e in chosen}
    share = np.exp(z - z.max())
    whole = share.sum() if word == "default" else sum(share[e] for e in chosen)
    return {e: float(scale * share[e] / whole) for e in chosen}


@pytest.mark.parametrize("word", ["ds", "default", "renormalize", "renormalize_naive", "llama4"])
def test_the_router_of_a_definition_chooses_from_its_logits(word: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits, bias = rng.normal(size=(50, 16)).astype("f4"), (rng.normal(size=16) / 8).astype("f4")
    groups = "_ng4_kg2" if word == "ds" else ""
    name = f"moe_fp8_block_scale_{word}_routing_topk3{groups}_e4_h128_i128"
    (workload,) = moe_workloads(with_logits(tmp_path / "set", name, logits, bias))
    found = imported(workload)
    assert (found.problem.E, found.problem.D, found.problem.F, found.problem.gated) == (4, 128, 128, True)
    assert found.problem.dtype == "float8_e4m3fn"
    assert "absent here; its weights have scales of blocks" in found.note
    for token in range(50):
        expected = plain_choice(word, logits[token].tolist(), bias.tolist(), 2.5)
        here = {e - 4: weight for e, weight in expected.items() if 4 <= e < 8}
        ids, gates = found.routes.ids_TK[token], found.routes.gates_TK[token]  # type: ignore[index]  # it has gates
        assert {int(e) for e in ids if e >= 0} == set(here)
        for e, gate in zip(ids.tolist(), gates.tolist(), strict=True):
            assert gate == pytest.approx(here.get(e, 0.0), rel=1e-5)


def test_a_problem_of_sol_execbench_is_read(tmp_path: Path) -> None:
    """Workloads of such a problem are lines beside definition.json (NVIDIA/SOL-ExecBench, commit 8d2237d, docs/)."""
    whole, alone = exported(tmp_path / "set", SMALL), tmp_path / "alone"
    alone.mkdir()
    (definition,) = whole.glob("definitions/moe/*.json")
    (workloads,) = whole.glob("workloads/moe/*.jsonl")
    (alone / "definition.json").write_text(definition.read_text())
    line = json.loads(workloads.read_text())["workload"]
    (blob,) = whole.rglob("*.safetensors")
    (alone / line["inputs"]["topk_ids"]["path"]).parent.mkdir(parents=True)
    (alone / line["inputs"]["topk_ids"]["path"]).write_bytes(blob.read_bytes())
    (alone / "workload.jsonl").write_text(json.dumps(line))
    routes = [imported(one).routes for folder in (whole, alone) for one in moe_workloads(folder)]
    assert np.array_equal(routes[0].ids_TK, routes[1].ids_TK)


# Folders that are no datasets, or hostile.


WORKLOAD = "workloads/moe/*.jsonl"
DEFINITION = "definitions/moe/*.json"


def edited(pattern: str, change: Callable[[Any], None]) -> Edit:
    """Return an edit of the JSON in the file of this pattern."""

    def edit(folder: Path) -> None:
        (path,) = folder.glob(pattern)
        made = json.loads(path.read_text())
        change(made)
        path.write_text(json.dumps(made))

    return edit


def replaced(pattern: str, content: bytes) -> Edit:
    def edit(folder: Path) -> None:
        (path,) = folder.glob(pattern)
        path.write_bytes(content)

    return edit


def header(entry: dict[str, Any], data: bytes = b"\0" * 104) -> bytes:
    text = json.dumps({"topk_ids": entry, "topk_weights": entry}).encode()
    return len(text).to_bytes(8, "little") + text + data


def ids(**given: Any) -> Edit:
    return edited(WORKLOAD, lambda made: made["workload"]["inputs"]["topk_ids"].update(given))


def link(folder: Path) -> None:
    (blob,) = folder.rglob("*.safetensors")
    (folder.parent / "secret").write_bytes(blob.read_bytes())
    blob.unlink()
    blob.symlink_to(folder.parent / "secret")


def pipe(folder: Path) -> None:
    (blob,) = folder.rglob("*.safetensors")
    blob.unlink()
    os.mkfifo(blob)


HOSTILE: dict[str, tuple[Edit, str]] = {
    "no definitions": (lambda folder: (folder / "definitions").rename(folder / "x"), "has neither definitions"),
    "no workloads": (lambda folder: (folder / "workloads").rename(folder / "x"), "has no workload of moe_"),
    "no tensors": (lambda folder: next(folder.rglob("*.safetensors")).unlink(), "No such file"),
    "not JSON": (replaced(DEFINITION, b"{"), "is no JSON"),
    "an array": (replaced(DEFINITION, b"[]"), "is no object of JSON"),
    "deep JSON": (replaced(DEFINITION, b"[" * 200_000), "is no JSON"),
    "no text": (replaced(DEFINITION, b"\xff\xfe\xff"), "UTF-16"),
    "a pointer of LFS": (replaced(WORKLOAD, b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    "another kind": (edited(DEFINITION, lambda made: made.update(op_type="gemm")), "none of op_type moe"),
    "no axes": (edited(DEFINITION, lambda made: made.pop("axes")), "has no axes"),
    "a negative size": (
        edited(DEFINITION, lambda made: made["axes"]["hidden_size"].update(value=-1)),
        "is -1: give a size",
    ),
    "a huge size": (edited(DEFINITION, lambda made: made["axes"]["hidden_size"].update(value=10**40)), "give a size"),
    "no experts": (edited(DEFINITION, lambda made: made["axes"]["num_experts"].update(value=0)), "give one or more"),
    "no weights": (edited(DEFINITION, lambda made: made["inputs"].pop("gemm1_weights")), "no input gemm1_weights"),
    "odd weights": (
        edited(DEFINITION, lambda made: made["inputs"]["gemm1_weights"].update(dtype="float4_e2m1")),
        "has weights of 'float4_e2m1'",
    ),
    "odd rows": (edited(DEFINITION, lambda made: made["axes"]["gemm1_out_size"].update(value=9)), "has 9 rows"),
    "no shape": (edited(DEFINITION, lambda made: made["inputs"].update(topk_ids=3)), "without shape or dtype"),
    "an axis without a size": (
        edited(DEFINITION, lambda made: made["axes"].pop("top_k")),
        "has no size of the axis 'top_k'",
    ),
    "more tokens": (edited(WORKLOAD, lambda made: made["workload"]["axes"].update(num_tokens=14)), "of shape (13, 2)"),
    "no uuid": (edited(WORKLOAD, lambda made: made["workload"].pop("uuid")), "no workload with a uuid"),
    "no input": (edited(WORKLOAD, lambda made: made["workload"]["inputs"].update(topk_ids=None)), "does not describe"),
    "no path": (ids(path=3), "names no file and tensor"),
    "an absolute path": (ids(path="/etc/passwd"), "which is not in"),
    "a path upwards": (ids(path="../../../etc/passwd"), "which is not in"),
    "a path with a NUL": (ids(path="a\0b"), "names no file"),
    "a link outwards": (link, "which is not in"),
    "a pipe": (pipe, "is no file"),
    "no such tensor": (ids(tensor_key="other"), "has no tensor 'other'"),
    "a short file": (replaced("blob/**/*.safetensors", b"abc"), "its header has"),
    "an absurd header": (replaced("blob/**/*.safetensors", (2**63).to_bytes(8, "little") + b"{}"), "its header has"),
    "a header that is no JSON": (replaced("blob/**/*.safetensors", (4).to_bytes(8, "little") + b"abcd"), "is no JSON"),
    "a header that is deep": (
        replaced("blob/**/*.safetensors", (2**20).to_bytes(8, "little") + b"[" * 2**20),
        "is no JSON",
    ),
    "an absurd shape": (
        replaced("blob/**/*.safetensors", header({"dtype": "I32", "shape": [2**62, 2**62], "data_offsets": [0, 104]})),
        "has a shape of",
    ),
    "bytes behind the end": (
        replaced(
            "blob/**/*.safetensors", header({"dtype": "I32", "shape": [13, 2], "data_offsets": [10**9, 10**9 + 104]})
        ),
        "behind the end",
    ),
    "no place": (
        replaced("blob/**/*.safetensors", header({"dtype": "I32", "shape": [13, 2], "data_offsets": [0]})),
        "no shape or no place",
    ),
    "objects": (
        replaced("blob/**/*.safetensors", header({"dtype": "O", "shape": [13, 2], "data_offsets": [0, 104]})),
        "of dtype 'O'",
    ),
    "ids that are no integers": (
        replaced("blob/**/*.safetensors", header({"dtype": "F32", "shape": [13, 2], "data_offsets": [0, 104]})),
        "give integers (tokens, K)",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_damaged_or_hostile_folder_is_one_sentence(case: str, tmp_path: Path) -> None:
    edit, said = HOSTILE[case]
    folder = exported(tmp_path / "set", SMALL)
    edit(folder)
    with pytest.raises(UserError) as caught:
        [imported(one) for one in moe_workloads(folder)]
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


def test_routes_that_are_drawn_at_random_are_none(tmp_path: Path) -> None:
    folder = exported(tmp_path / "set", SMALL)
    edited(WORKLOAD, lambda made: made["workload"]["inputs"].update(topk_ids={"type": "random"}))(folder)
    with pytest.raises(NoRoutes, match="topk_ids is random, not stored: it has no real routes"):
        [imported(one) for one in moe_workloads(folder)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (DEEPSEEK.replace("_ds_", "_own_"), "does not name a router that is known here"),
        (DEEPSEEK.replace("_topk3", ""), "does not tell its number topk"),
        (DEEPSEEK.replace("_kg2", "_kg5"), "has 4 groups, of which 5 are taken"),
        (DEEPSEEK.replace("_ng4", "_ng0"), "has 0 groups"),
        (DEEPSEEK.replace("_topk3", "_topk17"), "chooses 17 experts"),
    ],
)
def test_a_router_that_is_not_known_is_named(name: str, said: str, tmp_path: Path) -> None:
    folder = with_logits(tmp_path / "set", name, np.zeros((3, 16), "f4"), np.zeros(16, "f4"))
    with pytest.raises(UserError, match=said):
        [imported(one) for one in moe_workloads(folder)]


def test_logits_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    logits = np.zeros((3, 16), "f4")
    logits[1, 2] = np.nan
    folder = with_logits(tmp_path / "set", DEEPSEEK, logits, np.zeros(16, "f4"))
    with pytest.raises(UserError, match="the logit of token 1 for expert 2 is NaN"):
        [imported(one) for one in moe_workloads(folder)]


# Safetensors.


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.lists(st.integers(0, 4), max_size=3), st.sampled_from(["i4", "f4"])),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=25, deadline=None)
def test_tensors_are_read_as_they_were_written(shapes: dict[str, tuple[list[int], str]]) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(-9, 9, shape).astype(dtype) for name, (shape, dtype) in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(tensor_file(arrays))
        for name, array in arrays.items():
            found = read_tensor(path, name)
            assert found.dtype == array.dtype
            assert np.array_equal(found, array)


def test_files_are_those_of_safetensors(tmp_path: Path) -> None:
    """The package, where it is installed, reads what is written here, and writes what is read here."""
    numpy = pytest.importorskip("safetensors.numpy")
    torch_files = pytest.importorskip("safetensors.torch")
    arrays = {"a": np.arange(6, dtype="i4").reshape(2, 3), "b": np.ones(3, "f4")}
    (tmp_path / "ours").write_bytes(tensor_file(arrays))
    found = numpy.load_file(tmp_path / "ours")
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    theirs = {"x": torch.randn(4, 3).bfloat16(), "y": torch.arange(4), "z": torch.randn(2).half()}
    torch_files.save_file(theirs, tmp_path / "theirs", metadata={"format": "pt"})
    for name, tensor in theirs.items():
        assert torch.equal(torch.tensor(read_tensor(tmp_path / "theirs", name)).to(tensor.dtype), tensor)


def test_a_long_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.write((LONGEST_HEADER + 1).to_bytes(8, "little"))
        file.truncate(LONGEST_HEADER + 100)
    with pytest.raises(InvalidTensorFile, match="its header has 16,777,217 bytes"):
        read_tensor(path, "a")


@pytest.mark.parametrize(
    ("shape", "offsets", "said"),
    [
        ([5], [0, 24], "has a shape of 20 bytes, and 24 bytes"),
        ([7], [0, 24], "has a shape of 28 bytes, and 24 bytes"),
        ([6], [8, 32], "ends behind the end of the file"),
        ([-6], [0, 24], "has no shape or no place"),
        ([6], [24, 0], "has a shape of 24 bytes, and -24 bytes"),
        ([True, 6], [0, 24], "has no shape or no place"),
    ],
    ids=str,
)
def test_a_place_that_is_none_is_one_sentence(shape: list[int], offsets: list[int], said: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    header = json.dumps({"a": {"dtype": "I32", "shape": shape, "data_offsets": offsets}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))
    with pytest.raises(InvalidTensorFile, match=f"damaged: 'a' {said}"):
        read_tensor(path, "a")


def test_numbers_begin_at_a_multiple_of_eight_bytes() -> None:
    for name in ("a", "ab", "abc"):
        content = tensor_file({name: np.arange(3, dtype="i4")})
        assert int.from_bytes(content[:8], "little") % 8 == 0
