"""Traces are read strictly: whatever a file holds, its fault is said by file, value and remedy, and nothing runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import tempfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from moebench.kernels.problem.traces import trace_reader
from moebench.kernels.problem.traces.trace_format import InvalidTrace, LayerDescription, LayerRoutes
from moebench.kernels.problem.traces.trace_reader import content_of, describe, read_layer
from moebench.kernels.problem.traces.trace_writer import write_ids, write_trace

Members = dict[str, bytes | None]

IDS = [[3, 0], [1, 2], [0, -1], [5, 4], [2, 5]]
GATES: list[list[float]] = [[0.5, 0.25], [1, 0], [1, 7], [0.75, 0.125], [0, 0]]


def npy(array: ArrayLike) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(array), allow_pickle=True)
    return content.getvalue()


def ids_of(path: Path) -> NDArray[np.int32]:
    return read_layer(content_of(path), path).ids_TK


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "layer.npy"
    write_ids(path, IDS)
    return path


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "<i4", ">i4", "int64", "uint64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_integers_of_any_kind_are_read_as_int32(dtype: str, order: Any, tmp_path: Path) -> None:
    path = tmp_path / "ids"
    np.save(path, np.array([[3, 0], [1, 2], [100, 4]], dtype=dtype, order=order))
    ids = ids_of(path.with_suffix(".npy"))
    assert ids.dtype == np.int32
    assert ids.tolist() == [[3, 0], [1, 2], [100, 4]]


def test_what_was_written_is_read_under_any_name(tmp_path: Path) -> None:
    for name in ("layer.npy", "layer", "a #b.c"):
        write_ids(tmp_path / name, torch.tensor(IDS))
        assert ids_of(tmp_path / name).tolist() == IDS


BAD: dict[str, tuple[ArrayLike, str]] = {
    "flat": ([1, 2], r"shape \(2,\) of int64: give integers of shape \(tokens, K\)"),
    "deep": ([[[1]]], r"shape \(1, 1, 1\)"),
    "a number": (3, r"shape \(\)"),
    "floats": ([[1.0]], "of float64: give integers"),
    "bools": ([[True]], "of bool: give integers"),
    "words": ([["a"]], "of <U1: give integers"),
    "no tokens": (np.zeros((0, 2), np.int32), r"shape \(0, 2\): give at least one token"),
    "no choices": (np.zeros((2, 0), np.int32), r"shape \(2, 0\): give at least one token and one expert"),
    "too high": ([[1], [2**31]], "ids from 1 to 2147483648: give ids that fit int32"),
    "too low": ([[-(2**31) - 1]], "ids from -2147483649 .*: give ids that fit int32"),
    "twice": ([[0, 1, 2], [3, 1, 3]], "chooses expert 3 twice for token 1: give each expert once"),
}


@pytest.mark.parametrize(("ids", "words"), BAD.values(), ids=BAD)
def test_what_is_no_trace_is_refused_by_file_and_value_when_read_and_when_written(
    ids: ArrayLike, words: str, tmp_path: Path
) -> None:
    path, other = tmp_path / "bad.npy", tmp_path / "other.npy"
    path.write_bytes(npy(ids))
    with pytest.raises(InvalidTrace, match=words) as caught:
        ids_of(path)
    assert str(caught.value).startswith(f"trace {path} ")
    with pytest.raises(InvalidTrace, match=words):
        write_ids(other, ids)
    assert not other.exists()


def test_a_token_may_be_without_several_of_its_routes(tmp_path: Path) -> None:
    write_ids(tmp_path / "dropped.npy", [[-1, -1, 2], [-1, -5, -1]])
    assert ids_of(tmp_path / "dropped.npy").tolist() == [[-1, -1, 2], [-1, -5, -1]]


DAMAGED = {
    "nothing": b"",
    "text": b"3 0\n1 2\n",
    "pickle": pickle.dumps(np.array(IDS)),
    "objects": npy(np.array([[None]])),
    "cut short": npy(IDS)[:-1],
    "no header": npy(IDS)[:40],
    "header that is no Python": npy(IDS).replace(b"{'descr'", b"{'descr("),
    "shape beyond memory": npy(IDS).replace(b"(5, 2), }         ", b"(999999999999, 2)}"),
    "shape beyond integers": npy(IDS).replace(b"(5, 2), }                  ", b"(99999999999999999999, 2)} "),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_any_other_file_is_refused_by_its_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.npy"
    path.write_bytes(content)
    with pytest.raises(
        InvalidTrace, match=r"is not a \.npy file of numbers .*: write it with .* numpy\.save"
    ) as caught:
        ids_of(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "absent.npy", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InvalidTrace, match=f"trace {path}: {reason}.*: give a file of `moebench trace record`"):
            content_of(path)


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_what_might_never_end_is_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if not path.exists():
        os.mkfifo(path)
    with pytest.raises(InvalidTrace, match=f"trace {path} is a pipe or a device: give a file"):
        content_of(path)


def test_a_file_too_large_is_refused_before_it_is_read(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_reader, "MOST_BYTES", 100)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(InvalidTrace, match=r"layer\.npy has \d+ bytes: record fewer tokens, for at most 100"):
        content_of(recorded)


def valid() -> dict[str, bytes]:
    """Return the members of a valid trace of two layers."""
    layers = [
        LayerRoutes(
            layer=LayerDescription(name=name, experts=6, steps=(2, 3)),
            ids_TK=np.array(IDS, np.int32),
            gates_TK=np.array(GATES, np.float32) if name == "a.1" else None,
        )
        for name in ("a.0", "a.1")
    ]
    with zipfile.ZipFile(io.BytesIO(written(layers))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(layers: list[LayerRoutes]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_trace(Path(folder) / "t.npz", layers)
        return (Path(folder) / "t.npz").read_bytes()


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def about(**changes: Any) -> Members:
    """Return a description with other values, as the member it is; a value of None leaves out its key."""
    members = valid()
    said = json.loads(members["about.npy"][128:])
    said = {key: value for key, value in {**said, **changes}.items() if value is not None}
    return {"about.npy": npy(np.frombuffer(json.dumps(said).encode(), np.uint8))}


def layer(**changes: Any) -> Members:
    """Return a description whose second layer has other values."""
    first = {"name": "a.0", "experts": 6, "steps": [2, 3]}
    return about(layers=[first, {**first, "name": "a.1", **changes}])


def test_what_is_valid_is_read() -> None:
    content = packed(valid())
    found = describe(content, "t.npz")
    assert [(one.name, one.experts, one.steps) for one in found.layers] == [("a.0", 6, (2, 3)), ("a.1", 6, (2, 3))]
    read = read_layer(content, "t.npz", "1")
    assert read.ids_TK.tolist() == IDS
    assert read.gates_TK is not None
    assert read.gates_TK.tolist() == [[0.5, 0.25], [1, 0], [1, 0], [0.75, 0.125], [0, 0]]
    assert read_layer(content, "t.npz", "a.0").gates_TK is None
    assert read_layer(packed(valid(), zipfile.ZIP_STORED), "t.npz", "1").ids_TK.tolist() == IDS


BAD_MEMBERS: dict[str, tuple[Members, str]] = {
    "no description": ({"about.npy": None}, r"is no trace: it has no about\.npy"),
    "another npz": ({"about.npy": None, "0.ids.npy": None, "1.ids.npy": None, "x.npy": npy([1])}, "is no trace"),
    "no ids": ({"1.ids.npy": None}, r"has no 1\.ids\.npy, the ids of layer a\.1"),
    "more arrays": ({"2.ids.npy": npy(IDS)}, r"has '2\.ids\.npy', which is of no layer"),
    "a program": ({"setup.py": b"raise SystemExit"}, r"has 'setup\.py', which is of no layer"),
    "no JSON": ({"about.npy": npy(np.frombuffer(b"{", np.uint8))}, r"has an about\.npy that is no JSON"),
    "deep JSON": ({"about.npy": npy(np.frombuffer(b"[" * 100_000, np.uint8))}, r"has an about\.npy that is no JSON"),
    "words as floats": ({"about.npy": npy([1.5])}, r"has an about\.npy that is no JSON"),
    "words as objects": ({"about.npy": npy(np.array([None]))}, "Python objects, which are never loaded"),
    "another format": (about(format="x"), "names another format"),
    "a list": ({"about.npy": npy(np.frombuffer(b"[]", np.uint8))}, "names another format"),
    "a newer version": (about(version=2), "has version 2 of the format, and this moebench reads 1: update moebench"),
    "no model": (about(model=None), r"with something missing or of another type \('model'\)"),
    "a model that is a number": (about(model=3), "'3' is no str"),
    "a version that is a number": (about(versions={"torch": 2}), "'2' is no str"),
    "a model that commands a terminal": (about(model="\x1b[2J"), "printable characters"),
    "a long model": (about(model="x" * 1001), "give up to 1000 printable"),
    "no layers": (about(layers=[]), "has 0 layers: give 1 to 4096"),
    "layers of numbers": (about(layers=[1]), "'1' is no dict"),
    "experts of words": (layer(experts="6"), "'6' is no int"),
    "true experts": (layer(experts=True), "'True' is no int"),
    "0 experts": (layer(experts=0), r"has 0 experts in layer a\.1: give 1 to"),
    "huge experts": (layer(experts=10**40), r"experts in layer a\.1: give 1 to"),
    "two of a name": (layer(name="a.0"), r"has two layers named a\.0"),
    "a name with a folder": (layer(name="../a"), "letters, digits, dots"),
    "a negative step": (layer(steps=[7, -2]), r"has a step of -2 tokens in layer a\.1"),
    "other steps": (layer(steps=[2, 2]), r"in layer a\.1 has 5 tokens, and its steps 4"),
    "fewer experts": (layer(experts=5), r"in layer a\.1 has expert 5 of 5: give ids below 5"),
    "ids of floats": ({"1.ids.npy": npy(np.array(IDS, float))}, r"in layer a\.1 has shape \(5, 2\) of float64"),
    "flat ids": ({"1.ids.npy": npy([1, 2, 3, 4, 5])}, r"in layer a\.1 has shape \(5,\) of int64"),
    "the same id twice": ({"1.ids.npy": npy([[0, 0]] * 5)}, r"in layer a\.1 chooses expert 0 twice for token 0"),
    "ids of objects": (
        {"1.ids.npy": npy(np.array([[None]]))},
        r"in layer a\.1 has a 1\.ids\.npy that is no array .*Python objects, which are never loaded\): write it",
    ),
    "ids that are no array": ({"1.ids.npy": b"3 0"}, r"in layer a\.1 .*magic.*: write it with"),
    "ids cut short": ({"1.ids.npy": npy(IDS)[:-1]}, "declares 80 bytes, and 79 follow"),
    "ids with more": ({"1.ids.npy": npy(IDS) + b"x"}, "declares 80 bytes, and 81 follow"),
    "ids beyond memory": (
        {"1.ids.npy": npy(IDS).replace(b"(5, 2), }         ", b"(999999999999, 2)}")},
        "declares 15,999,999,999,984 bytes, and 80 follow",
    ),
    "gates of integers": ({"1.gates.npy": npy(IDS)}, r"in layer a\.1 has gates of shape \(5, 2\) of int64"),
    "gates of another shape": ({"1.gates.npy": npy(np.zeros((4, 2)))}, r"has gates of shape \(4, 2\) of float64"),
    "NaN": (
        {"1.gates.npy": npy([[0.0, 0.0], [0.0, np.nan], *GATES[2:]])},
        r"in layer a\.1 has nan as gate weight of expert 2 for token 1: give finite weights, or no gates",
    ),
    "infinite": ({"1.gates.npy": npy([[-np.inf, 0], *GATES[1:]])}, "has -inf as gate weight of expert 3 for token 0"),
    "beyond float32": ({"1.gates.npy": npy([[1e300, 0], *GATES[1:]])}, r"has 1e\+300 as gate weight of expert 3"),
}


@pytest.mark.parametrize(("changes", "words"), BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_what_is_wrong_within_is_said_with_the_file(changes: Members, words: str) -> None:
    members = {name: data for name, data in {**valid(), **changes}.items() if data is not None}
    with pytest.raises(InvalidTrace, match=words) as caught:
        read_layer(packed(members), "folder/t.npz", "a.1")
    assert str(caught.value).startswith("trace folder/t.npz ")


def test_gates_of_routes_that_are_absent_may_be_anything() -> None:
    gates = npy([*GATES[:2], [1, np.nan], *GATES[3:]])
    read = read_layer(packed({**valid(), "1.gates.npy": gates}), "t.npz", "1")
    assert read.gates_TK is not None
    assert read.gates_TK[2].tolist() == [1, 0]


def test_what_would_unpack_to_more_than_memory_is_refused_before_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = packed({**valid(), "1.ids.npy": b"0" * 10_000_000})
    assert len(bomb) < 20_000
    monkeypatch.setattr(trace_reader, "MOST_BYTES", 1_000_000)
    with pytest.raises(InvalidTrace, match=r"declares 10,000,\d+ bytes for layer a\.1: record fewer tokens"):
        read_layer(bomb, "t.npz", "a.0")
    monkeypatch.setattr(trace_reader, "MOST_ABOUT", 100)
    with pytest.raises(InvalidTrace, match=r"describes itself in \d+ bytes"):
        describe(packed(valid()), "t.npz")


def test_a_size_that_is_a_lie_unpacks_no_more_than_it_says() -> None:
    """Declare 90 bytes of a member of a hundred million: change the directory at the end of the zip."""
    content = bytearray(packed({**valid(), "1.ids.npy": b"0" * 100_000_000}))
    entry = content.rindex(b"1.ids.npy")
    content[entry - 46 + 24 : entry - 46 + 28] = (90).to_bytes(4, "little")
    tracemalloc.start()
    with pytest.raises(InvalidTrace, match="is damaged"):
        read_layer(bytes(content), "t.npz", "a.1")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_cut_short_is_damaged(share: float) -> None:
    with pytest.raises(InvalidTrace, match=r"t\.npz is damaged .*moebench trace record"):
        describe(WHOLE[: int(share * len(WHOLE))], "t.npz")


def test_ways_of_packing_that_no_trace_has_are_refused() -> None:
    with pytest.raises(InvalidTrace, match="packed or encrypted"):
        describe(packed(valid(), zipfile.ZIP_LZMA), "t.npz")
    encrypted = bytearray(packed(valid()))
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InvalidTrace, match="packed or encrypted"):
        describe(bytes(encrypted), "t.npz")


@given(data=st.data())
def test_no_damage_ends_in_another_error_or_in_other_routes(data: st.DataObject) -> None:
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), data.draw(st.integers(0, len(content)))]))]
    with suppress(InvalidTrace):
        assert read_layer(bytes(content), "t.npz", "a.1").ids_TK.tolist() == IDS


WHOLE = packed(valid())
