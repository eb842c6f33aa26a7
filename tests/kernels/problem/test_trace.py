"""A trace is named by file, layer and content, and gives the recorded routes in their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.load import Load
from moebench.kernels.problem.trace import Trace, label, load_of, with_digest
from moebench.kernels.problem.traces.trace_format import InvalidTrace, LayerDescription, LayerRoutes
from moebench.kernels.problem.traces.trace_reader import content_of, digest_of
from moebench.kernels.problem.traces.trace_writer import write_ids, write_trace

IDS = [[3, 0], [1, 2], [0, -1], [5, 4], [2, 5]]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "layer.npy"
    write_ids(path, IDS)
    return path


def one(name: str, ids: list[list[int]] = IDS, experts: int = 6) -> LayerRoutes:
    layer = LayerDescription(name=name, experts=experts, steps=(len(ids),))
    return LayerRoutes(layer=layer, ids_TK=np.array(ids, np.int32))


def digest(path: Path) -> str:
    return digest_of(content_of(path))


def test_word_is_absolute_and_read_back(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word = load_of(recorded)
    assert word == f"trace:{recorded.resolve()}#{digest(recorded)}"
    monkeypatch.chdir(recorded.parent)
    assert load_of("layer.npy") == load_of("./layer.npy") == word
    assert Load.parse(word) == Load("trace", trace=Trace(str(recorded.resolve()), digest(recorded)))


@given(path=st.text(min_size=1), content=st.integers(0, 16**8 - 1))
def test_every_path_comes_back_from_its_word(path: str, content: int) -> None:
    written = Trace(path, f"{content:08x}")
    assert Trace.parse(str(written)) == written


@pytest.mark.parametrize(
    "spec",
    [
        f"trace:{rest}"
        for rest in ("", "a.npy", "#01234567", "a#", "a#0123456", "a#012345678", "a#0123456G", "a#ABCDEF01")
    ],
)
def test_word_without_a_digest_is_refused_with_the_way_to_get_it(spec: str) -> None:
    with pytest.raises(InvalidProblem, match=r"give trace:FILE#DIGEST, as .*load_of\(FILE\) makes it") as caught:
        Problem(T=1, D=1, F=1, E=8, K=2, load=spec)
    assert str(caught.value).startswith(f"load = {spec!r}")


def test_problems_with_a_trace_are_distinguished_by_its_content(recorded: Path) -> None:
    problem = Problem(T=4, D=1, F=1, E=6, K=2, load=load_of(recorded))
    write_ids(recorded, [[0, 1], *IDS[1:]])
    changed = Problem(T=4, D=1, F=1, E=6, K=2, load=load_of(recorded))
    assert problem.key != changed.key


def test_a_file_changed_since_it_was_named_is_refused_with_both_digests(recorded: Path) -> None:
    before = load_of(recorded)
    write_ids(recorded, IDS[::-1])
    with pytest.raises(InvalidProblem, match="has changed") as caught:
        Problem(T=4, D=1, F=1, E=6, K=2, load=before)
    assert before.rpartition("#")[2] in str(caught.value)
    assert str(caught.value).endswith(load_of(recorded))


def test_a_problem_goes_on_with_the_content_it_was_made_with(recorded: Path) -> None:
    problem = Problem(T=5, D=1, F=1, E=6, K=2, load=load_of(recorded))
    recorded.unlink()
    assert Load.parse(problem.replace(T=3).load).trace is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"K": 1}, ["chooses 2 experts", "K = 1"]),
        ({"K": 3}, ["chooses 2 experts", "K = 3"]),
        ({"E": 5}, ["expert 5", "E = 5", "give E >= 6"]),
    ],
    ids=str,
)
def test_a_trace_of_another_layer_is_refused_by_both_numbers(
    changes: dict[str, object], words: list[str], recorded: Path
) -> None:
    problem = Problem(T=4, D=1, F=1, E=6, K=2, load=load_of(recorded))
    with pytest.raises(InvalidProblem) as caught:
        problem.replace(**changes)
    assert str(caught.value).startswith(f"load = '{problem.load}'")
    assert all(word in str(caught.value) for word in words)


def windows(tokens: int, path: Path) -> list[NDArray[np.int32]]:
    named = Trace.parse(load_of(path))
    found = [named.window(tokens, np.random.default_rng(seed)) for seed in range(100)]
    assert all(gates is None for _, gates in found)
    return [ids for ids, _ in found]


@pytest.mark.parametrize("tokens", range(6))
def test_window_is_a_part_of_the_trace_and_every_part_comes_up(tokens: int, recorded: Path) -> None:
    parts = [IDS[start : start + tokens] for start in range(6 - tokens)]
    found = [window.tolist() for window in windows(tokens, recorded)]
    assert all(window in parts for window in found)
    assert all(part in found for part in parts)


@pytest.mark.parametrize("tokens", [6, 13])
def test_a_shorter_trace_is_repeated_from_any_start(tokens: int, recorded: Path) -> None:
    parts = [(IDS * 4)[start : start + tokens] for start in range(5)]
    found = [window.tolist() for window in windows(tokens, recorded)]
    assert all(window in parts for window in found)
    assert all(part in found for part in parts)


def test_a_window_can_be_changed_without_changing_the_trace(recorded: Path) -> None:
    named = Trace.parse(load_of(recorded))
    named.window(5, np.random.default_rng(0))[0][:] = 7
    assert named.routes().ids_TK.tolist() == IDS
    with pytest.raises(ValueError, match="read-only"):
        named.routes().ids_TK[0, 0] = 7


def test_gates_stay_with_their_ids_in_every_window(tmp_path: Path) -> None:
    gates = np.arange(10, dtype=np.float32).reshape(5, 2)
    layer = LayerRoutes(layer=one("a").layer, ids_TK=np.array(IDS, np.int32), gates_TK=gates)
    write_trace(tmp_path / "t.npz", [layer])
    named = Trace.parse(load_of(tmp_path / "t.npz"))
    for seed in range(20):
        ids_TK, gates_TK = named.window(7, np.random.default_rng(seed))
        assert gates_TK is not None
        start = gates[:, 0].tolist().index(gates_TK[0, 0])
        assert ids_TK.tolist() == (IDS * 3)[start : start + 7]
        assert gates_TK[:, 1].tolist() == [(1, 3, 0, 7, 9)[(start + t) % 5] for t in range(7)]


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    path = tmp_path / "model.npz"
    names = ("encoder.block.1.mlp", "encoder.block.3.mlp", "decoder.block.1.mlp", "final")
    write_trace(path, [one(name, IDS[place:]) for place, name in enumerate(names)])
    return path


@pytest.mark.parametrize(
    ("layer", "word", "tokens"),
    [
        ("3", "3", 4),
        ("encoder.block.3.mlp", "3", 4),
        ("decoder.block.1.mlp", "decoder.block.1.mlp", 3),
        ("final", "final", 2),
    ],
)
def test_a_layer_is_found_by_its_name_or_its_number_and_named_the_shortest_way(
    layer: str, word: str, tokens: int, layers: Path
) -> None:
    load = with_digest(f"trace:{layers},layer={layer}")
    assert load == f"trace:{layers},layer={word}#{digest(layers)}"
    assert with_digest(f"trace:{layers.name},layer={layer}", layers.parent) == with_digest(load) == load
    assert label(load) == f"trace:model.npz,layer={word}#{digest(layers)}"
    parsed = Load.parse(Problem(T=1, D=1, F=1, E=6, K=2, load=load).load).trace
    assert parsed is not None
    assert len(parsed.routes().ids_TK) == tokens
    assert str(parsed) == load


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("", "has 4 layers: say which, layer=L with L one of encoder.block.1.mlp, 3, decoder.block.1.mlp, final$"),
        (",layer=1", "has 2 layers with the number 1: give one of encoder.block.1.mlp, decoder.block.1.mlp$"),
        (",layer=2", "has no layer '2': give one of encoder.block.1.mlp, 3, decoder.block.1.mlp, final$"),
        (",layer=", "model.npz,layer=: No such file"),
    ],
)
def test_a_layer_that_there_is_not_is_answered_with_those_there_are(layer: str, words: str, layers: Path) -> None:
    with pytest.raises(InvalidTrace, match=words):
        with_digest(f"trace:{layers}{layer}")


def test_the_only_layer_has_one_name_however_it_is_asked_for(recorded: Path, tmp_path: Path) -> None:
    write_trace(tmp_path / "t.npz", [one("h.7.moe")])
    asked = (load_of(tmp_path / "t.npz", layer) for layer in ("", "7", "h.7.moe"))
    assert set(asked) == {f"trace:{tmp_path / 't.npz'}#{digest(tmp_path / 't.npz')}"}
    with pytest.raises(InvalidTrace, match="has one layer, without a name, and no layer '7': leave out layer="):
        load_of(recorded, "7")
    with pytest.raises(InvalidTrace, match=r"has one layer, h\.7\.moe, and no layer '8': leave out layer="):
        load_of(tmp_path / "t.npz", "8")


@pytest.mark.parametrize("name", ["a#1.npy", "a#.npy", "run,2.npy", "two words.npy", "a#01234567.npy"])
def test_a_file_is_found_under_any_name_that_does_not_end_with_a_layer_or_a_digest(name: str, tmp_path: Path) -> None:
    write_ids(tmp_path / name, IDS)
    load = with_digest(f"trace:{name}", tmp_path)
    assert load == f"trace:{tmp_path / name}#{digest(tmp_path / name)}"
    assert with_digest(load) == load


def test_a_name_that_ends_with_a_layer_is_said_to_be_the_fault(tmp_path: Path) -> None:
    write_ids(tmp_path / "run,layer=2", IDS)
    with pytest.raises(InvalidTrace, match="name of a file that ends with ,layer=2 is read as a layer: rename it"):
        with_digest("trace:run,layer=2", tmp_path)


def test_a_path_from_the_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_ids(tmp_path / "t.npy", IDS)
    assert with_digest("trace:~/t.npy") == load_of(tmp_path / "t.npy")
    with pytest.raises(InvalidTrace, match=r"~nobody-of-this-name/t\.npy: No such file"):
        with_digest("trace:~nobody-of-this-name/t.npy")


def test_a_trace_that_says_how_many_experts_there_were_is_of_no_other_number(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.npz", [one("a", experts=8)])
    problem = Problem(T=1, D=1, F=1, E=8, K=2, load=load_of(tmp_path / "t.npz"))
    for E in (7, 9):
        with pytest.raises(InvalidProblem, match=f"is of 8 experts, not of E = {E}: give E = 8"):
            problem.replace(E=E)
