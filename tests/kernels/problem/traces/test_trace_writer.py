"""Written traces are read back exactly, take the smallest types, and are one file or none."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.problem.traces import trace_writer
from moebench.kernels.problem.traces.trace_format import InvalidTrace, LayerDescription, LayerRoutes
from moebench.kernels.problem.traces.trace_reader import content_of, describe, read_layer
from moebench.kernels.problem.traces.trace_writer import write_trace


def drawn(name: str, *, experts: int, T: int, K: int, dtype: type | None, seed: int) -> LayerRoutes:
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.choice(experts, K, replace=False) for _ in range(T)]).astype(np.int32)
    ids[rng.random((T, K)) < 0.2] = -1
    gates = None if dtype is None else np.where(ids < 0, 0, rng.random((T, K))).astype(dtype).astype(np.float32)
    cut = int(rng.integers(T + 1))
    layer = LayerDescription(name=name, experts=experts, steps=(cut, T - cut))
    return LayerRoutes(layer=layer, ids_TK=ids, gates_TK=gates)


@given(
    layers=st.lists(
        st.tuples(st.integers(4, 40_000), st.integers(1, 9), st.integers(1, 4))
        .map(lambda sizes: dict(zip(("experts", "T", "K"), sizes, strict=True)))
        .flatmap(
            lambda sizes: st.fixed_dictionaries(
                {**{name: st.just(size) for name, size in sizes.items()}}
                | {"dtype": st.sampled_from([None, np.float16, np.float32]), "seed": st.integers(0, 9)}
            )
        ),
        min_size=1,
        max_size=3,
    ),
    model=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)
def test_what_was_written_is_read(
    layers: list[dict[str, int]], model: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.npz"
    given = [drawn(f"layers.{place}", **sizes) for place, sizes in enumerate(layers)]  # type: ignore[arg-type]
    write_trace(path, given, model=model, text="a.txt", versions={"torch": "2"})
    content = content_of(path)
    about = describe(content, path)
    assert (about.model, about.text, about.versions) == (model, "a.txt", {"torch": "2"})
    assert [one.layer for one in given] == list(about.layers)
    for one in given:
        read = read_layer(content, path, one.layer.name)
        assert read.layer == one.layer
        np.testing.assert_array_equal(read.ids_TK, one.ids_TK)
        assert (read.gates_TK is None) == (one.gates_TK is None)
        if one.gates_TK is not None:
            np.testing.assert_array_equal(read.gates_TK, one.gates_TK)


def test_types_are_the_smallest_that_lose_nothing_and_numpy_reads_them(tmp_path: Path) -> None:
    layers = [
        drawn("small", experts=8, T=64, K=2, dtype=np.float16, seed=0),
        drawn("large", experts=40_000, T=64, K=2, dtype=np.float32, seed=0),
    ]
    write_trace(tmp_path / "t.npz", layers)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as arrays:
        found = {name: arrays[name].dtype.name for name in arrays.files}
    assert found == {
        "about": "uint8", "0.ids": "int16", "0.gates": "float16", "1.ids": "int32", "1.gates": "float32"
    }  # fmt: skip


def test_equal_routes_make_equal_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [drawn("a", experts=8, T=64, K=2, dtype=np.float32, seed=0)]
    write_trace(tmp_path / "one.npz", layers)
    monkeypatch.setattr("time.localtime", lambda *_: pytest.fail("the time is in the file"))
    write_trace(tmp_path / "two.npz", layers)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_ids_of_a_skewed_layer_take_less_than_two_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.geometric(0.2, (20_000, 1)), 64).astype(np.int32) - 1
    layer = LayerDescription(name="a", experts=64, steps=(20_000,))
    write_trace(tmp_path / "t.npz", [LayerRoutes(layer=layer, ids_TK=ids)])
    assert (tmp_path / "t.npz").stat().st_size < 20_000


def test_what_the_reader_would_refuse_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = drawn("a", experts=8, T=4, K=2, dtype=np.float32, seed=0)
    bad = LayerRoutes(layer=good.layer, ids_TK=good.ids_TK + 8)
    other = LayerRoutes(layer=LayerDescription(name="b", experts=8, steps=(5,)), ids_TK=good.ids_TK)
    nan = LayerRoutes(layer=good.layer, ids_TK=np.abs(good.ids_TK[:, :1]), gates_TK=np.full((4, 1), np.nan, np.float32))
    for layers, words in (
        ([], "has 0 layers"),
        ([good, good], "two layers named a"),
        ([bad], "in layer a has expert"),
        ([good, other], "in layer b has 4 tokens, and its steps 5"),
        ([nan], "has nan as gate weight"),
    ):
        with pytest.raises(InvalidTrace, match=words) as caught:
            write_trace(tmp_path / "t.npz", layers)
        assert str(caught.value).startswith(f"trace {tmp_path / 't.npz'} ")
    monkeypatch.setattr(trace_writer, "MOST_BYTES", 100)
    with pytest.raises(InvalidTrace, match="record fewer tokens or layers, for at most 100"):
        write_trace(tmp_path / "t.npz", [good])
    assert list(tmp_path.iterdir()) == []


def test_members_are_those_of_the_layers_in_their_order(tmp_path: Path) -> None:
    gates = (np.float16, None, np.float16)
    layers = [drawn(f"l{n}", experts=8, T=4, K=2, dtype=dtype, seed=n) for n, dtype in enumerate(gates)]
    write_trace(tmp_path / "t.npz", layers)
    with zipfile.ZipFile(tmp_path / "t.npz") as archive:
        assert archive.namelist() == [
            "about.npy", "0.ids.npy", "0.gates.npy", "1.ids.npy", "2.ids.npy", "2.gates.npy"
        ]  # fmt: skip
