"""A trace is read strictly, identified by its content, and gives the recorded routes in their order."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from moebench.kernels.problem import InvalidProblem, Problem, trace
from moebench.kernels.problem.load import Load
from moebench.kernels.problem.trace import InvalidTrace, Trace, digest, load_of, read, write

IDS = [[3, 0], [1, 2], [0, -1], [5, 4], [2, 5]]


def npy(array: ArrayLike) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(array), allow_pickle=True)
    return content.getvalue()


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "layer.npy"
    write(path, IDS)
    return path


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "<i4", ">i4", "int64", "uint64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_integers_of_any_kind_are_read_as_int32(dtype: str, order: Any, tmp_path: Path) -> None:
    path = tmp_path / "ids"
    np.save(path, np.array([[3, 0], [1, 2], [100, 4]], dtype=dtype, order=order))
    ids = read(path.with_suffix(".npy"))
    assert ids.dtype == np.int32
    assert ids.tolist() == [[3, 0], [1, 2], [100, 4]]


def test_what_was_written_is_read_under_any_name(tmp_path: Path) -> None:
    for name in ("layer.npy", "layer", "a #b.c"):
        write(tmp_path / name, torch.tensor(IDS))
        assert read(tmp_path / name).tolist() == IDS


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
        read(path)
    assert str(caught.value).startswith(f"trace {path} ")
    with pytest.raises(InvalidTrace, match=words):
        write(other, ids)
    assert not other.exists()


def test_a_token_may_be_without_several_of_its_routes(tmp_path: Path) -> None:
    write(tmp_path / "dropped.npy", [[-1, -1, 2], [-1, -5, -1]])
    assert read(tmp_path / "dropped.npy").tolist() == [[-1, -1, 2], [-1, -5, -1]]


DAMAGED = {
    "nothing": b"",
    "text": b"3 0\n1 2\n",
    "pickle": pickle.dumps(np.array(IDS)),
    "objects": npy(np.array([[None]])),
    "zip": b"PK\x03\x04",
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
    with pytest.raises(InvalidTrace, match=r"is not a \.npy file of numbers .*: write it with numpy\.save") as caught:
        load_of(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "absent.npy", "No such file"), (tmp_path, "Is a directory")):
        for refused in (read, digest, load_of):
            with pytest.raises(InvalidTrace, match=f"trace {path}: {reason}.*: give a .npy file"):
                refused(path)


def test_a_file_too_large_is_refused_before_it_is_read(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MOST_BYTES", 100)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(InvalidTrace, match=r"layer\.npy has \d+ bytes: record fewer tokens, for at most 100"):
        load_of(recorded)


def test_digest_is_of_the_content_and_as_other_tools_print_it(recorded: Path, tmp_path: Path) -> None:
    assert digest(recorded) == hashlib.sha256(recorded.read_bytes()).hexdigest()[:8]
    write(tmp_path / "copy.npy", IDS)
    write(tmp_path / "other.npy", IDS[::-1])
    assert digest(tmp_path / "copy.npy") == digest(recorded) != digest(tmp_path / "other.npy")


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
    write(recorded, [[0, 1], *IDS[1:]])
    changed = Problem(T=4, D=1, F=1, E=6, K=2, load=load_of(recorded))
    assert problem.key != changed.key


def test_a_file_changed_since_it_was_named_is_refused_with_both_digests(recorded: Path) -> None:
    before = load_of(recorded)
    write(recorded, IDS[::-1])
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
    return [named.window(tokens, np.random.default_rng(seed)) for seed in range(100)]


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
    named.window(5, np.random.default_rng(0))[:] = 7
    assert named.ids().tolist() == IDS
    with pytest.raises(ValueError, match="read-only"):
        named.ids()[0, 0] = 7


@pytest.mark.parametrize("name", ["mixtral", "olmoe", "qwen3_moe"])
def test_ids_are_collected_from_a_model_as_the_docstring_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers: Any = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
    experts = {"num_local_experts": 6, "num_experts": 6, "num_experts_per_tok": 2}
    widths = {"head_dim": 4, "intermediate_size": 8, "moe_intermediate_size": 8, "vocab_size": 11, "pad_token_id": 0}
    config = transformers.AutoConfig.for_model(name, **sizes, **experts, **widths, mlp_only_layers=[])
    model = transformers.AutoModelForCausalLM.from_config(config)
    recipe = re.search(r"::\n\n(.*?)\n\n    \S", str(write.__doc__), re.DOTALL)
    assert recipe is not None
    monkeypatch.chdir(tmp_path)
    inputs = {"model": model, "input_ids": torch.randint(11, (3, 5)), "torch": torch, "write": write}
    exec(re.sub(r"^ {8}", "", recipe[1], flags=re.MULTILINE), inputs)  # noqa: S102  # the docstring's own lines
    ids = read("layer7.npy")
    assert ids.shape == (15, 2)
    assert Load.parse(Problem(T=15, D=1, F=1, E=6, K=2, load=load_of("layer7.npy")).load).trace is not None
