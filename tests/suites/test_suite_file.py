"""Suites of one's own: what a TOML file means, and that what is wrong in one is named with its line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from moebench.common.files import NotUtf8
from moebench.kernels.problem.traces.trace_writer import write_ids
from moebench.suites.layer import Asked, Layer
from moebench.suites.plan import plan, tasks
from moebench.suites.suite_file import SuiteFileError, read

TEXT = """\
question = "Which dispatch is fastest for our layer?"
axis = "tokens T"

[small]
baseline = "loop"
competitors = { groups = ["dropless"], leave_out = { gshard_einsum = "its one-hot tensors grow with T" } }

[[small.places]]
series = "ours"
problem = { D = 64, F = 128, E = 8, K = 2, T = [1, 16] }

[[small.places]]
series = "Qwen3"
x = 4
model = "Qwen3-30B-A3B"
problem = { width = 64, T = 4, mode = "train", capacity_factor = 1.5 }
config = { tile = 64 }
competitors.groups = [
    "dropping",
    "peers",
]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.suite.toml"
    path.write_text(TEXT)
    return path


def test_a_file_is_a_suite(file: Path) -> None:
    first, second, third = tasks(str(file), "small", "cpu")
    assert (first.point.suite, first.point.series, first.point.x, second.point.x) == ("mine", "ours", 1, 16)
    assert (first.problem.D, first.problem.T, second.problem.T) == (64, 1, 16)
    assert {"loop", "scatter"} <= {who.kernel for who in first.competitors}
    assert "gshard_einsum" not in {who.kernel for who in first.competitors}
    assert (third.point.model, third.problem.D, third.problem.K, third.problem.mode) == (
        "Qwen3-30B-A3B",
        64,
        8,
        "train",
    )
    assert {who.kernel for who in third.competitors} >= {"padded", "transformers_eager"}
    assert all(who.config == {"tile": 64} for who in third.competitors)
    suite = read(file)
    assert suite.small is suite.full
    assert suite.reduced is None


def test_a_file_may_ask_for_a_comparison_of_bits(file: Path) -> None:
    assert {task.asks for task in tasks(str(file), "small", "cpu")} == {()}
    file.write_text(TEXT.replace('baseline = "loop"', 'baseline = "loop"\nasks = ["invariance"]'))
    assert {task.asks for task in tasks(str(file), "small", "cpu")} == {("invariance",)}


def test_a_file_can_be_asked_of_another_layer(file: Path) -> None:
    layer = Layer.of("OLMoE-1B-7B", T=1, width=128)
    asked = Asked(layers=(layer,), fields={"dtype": ("bfloat16",)})
    found = plan([str(file)], size="small", device_type="cpu", asked=asked, configs="default").tasks
    assert {(task.problem.D, task.problem.E, task.problem.dtype) for task in found} == {(128, 64, "bfloat16")}
    assert [(task.point.series, task.problem.T) for task in found] == [("ours", 1), ("ours", 16), ("Qwen3", 4)]


def test_a_file_can_be_about_a_model_with_its_block(file: Path) -> None:
    file.write_text(
        TEXT.replace('model = "Qwen3-30B-A3B"', 'model = "Kimi-K3"').replace(
            "width = 64", 'block = "model", width = 64'
        )
    )
    *_, problem = [place.problem for place in read(file).small.places]
    assert (problem.D, problem.block, problem.core.D) == (56, "latent:width=28,shared=48", 28)


def test_paths_in_a_file_are_beside_it(file: Path) -> None:
    write_ids(file.with_name("routes.npy"), [[0, 1], [2, 3]])
    config = {
        "model_type": "mixtral",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 1,
        "hidden_act": "silu",
    }
    file.with_name("config.json").write_text(json.dumps(config))
    text = TEXT.replace('model = "Qwen3-30B-A3B"', 'model = "config.json"')
    file.write_text(text.replace("width = 64, ", 'load = "trace:routes.npy", '))
    problem = tasks(str(file), "small", "cpu")[-1].problem
    assert (problem.D, problem.F, problem.E, problem.K) == (32, 48, 4, 2)
    assert problem.load.startswith(f"trace:{file.with_name('routes.npy')}#")


@pytest.mark.parametrize(
    ("right", "wrong", "line", "message"),
    [
        ("[1, 16]", "[1, -16]", 10, "small.places[0].problem: T = -16: give an integer of at least 0"),
        ("[1, 16]", "[0, 16]", 10, "small.places[0].problem: T = 0: give at least one token"),
        ("[1, 16]", "[]", 10, "T = []: give at least one value"),
        ("K = 2", "K = [2, 3]", 10, "K and T are lists: give one of them"),
        ("K = 2", "K = 20", 10, "K = 20 experts per token, but only E = 8 experts: give K <= E"),
        ("K = 2, ", "", 10, "problem has no K: give it, or a model"),
        ("D = 64", 'D = "wide"', 10, "D = 'wide': give an integer of at least 1"),
        ("D = 64", 'load = "trace:no.npy", D = 64', 10, "no.npy: No such file or directory: give"),
        ("baseline", "base", 5, "small: no field is named 'base': did you mean baseline"),
        ('"loop"', '"lop"', 5, "small: no kernel is named 'lop': did you mean loop"),
        ('"dropless"', '"droples"', 6, "small.competitors.groups: groups[0] = 'droples': give 'dropless', 'dropping'"),
        ("gshard_einsum", "gshard", 6, "no kernel is named 'gshard': did you mean gshard_einsum"),
        ('series = "ours"', 'serie = "ours"', 9, "small.places[0]: no field is named 'serie': did you mean series?"),
        ('series = "ours"\n', "", 8, "small.places[0]: series is missing: give it; the fields are series, x"),
        ('series = "ours"', 'series = "ours"\nx = 3', 10, "x = 3.0: leave it out, as each value of T is one"),
        ("x = 4\n", "", 12, "small.places[1]: x is missing: give the place on the axis, or a list"),
        ("x = 4", "x = []", 14, "small.places[1]: x = []: give a number or text"),
        ("Qwen3-30B-A3B", "Qwen3-30", 15, "no model is named 'Qwen3-30': did you mean Qwen3-30B-A3B"),
        ("width = 64", "width = 0", 16, "width = 0: give a positive integer"),
        ("width = 64", "width = 3", 16, "too narrow"),
        ("width = 64", "width = true", 16, "width = True: give a positive integer"),
        ("width = 64", "width = 4096", 16, "Qwen3-30B-A3B has D = 2048 already: give at most that, or leave it out"),
        ("width = 64", "D = 64", 16, "D = 64: 2048 in Qwen3-30B-A3B: leave out one of the two"),
        ("x = 4", "x = nan", 14, "small.places[1]: x = nan: give a finite number or text"),
        ("x = 4", 'x = ""', 14, "small.places[1]: x = '': give a number or text"),
        ('series = "ours"', 'series = ""', 9, "small.places[0]: series = '': give some text"),
        ("D = 64", "D = 9999999999999999999", 10, "D is larger than any there is: give an integer of at most"),
        ("config = { tile = 64 }", "config = 3", 17, "small.places[1]: config = 3: give a table"),
        ("tile = 64", "tile = [1]", 17, "small.places[1].config: tile = [1]: give one number, text, true or false"),
        ("tile = 64", "tile = { of = 1 }", 17, "tile = {'of': 1}: give one number, text, true or false"),
        ("tile = 64", "tile = nan", 17, "tile = nan: give one number, text, true or false"),
        ("mode =", "mod =", 16, "small.places[1].problem: no field is named 'mod': did you mean mode"),
        ("1.5", "nan", 16, "capacity_factor = nan: give a positive number"),
        ("1.5", "0", 16, "capacity_factor = 0: give a positive number"),
        (
            'baseline = "loop"',
            'baseline = "loop"\nasks = ["bits"]',
            6,
            "small.asks: asks[0] = 'bits': give 'invariance'",
        ),
        ('"peers"', '"pears"', 20, "groups[1] = 'pears': give"),
        ("[small]", "[smal]", 4, "no field is named 'smal': did you mean small?"),
        ('axis = "tokens T"', "axis = 3", 2, "axis = 3: give text"),
        ('axis = "tokens T"\n', "", 1, "axis is missing: give it; the fields are question, axis, small"),
        ("question = ", "question ", 1, "expected '=' after a key in a key/value pair: write it as TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(right: str, wrong: str, line: int, message: str, file: Path) -> None:
    assert right in TEXT
    file.write_text(TEXT.replace(right, wrong, 1))
    with pytest.raises(SuiteFileError, match=re.escape(message)) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_suite_is_refused(file: Path) -> None:
    with pytest.raises(SuiteFileError, match=r"none\.toml: No such file or directory: give"):
        read(file.with_name("none.toml"))
    with pytest.raises(SuiteFileError, match="tokens is the name of a suite of moebench: rename the file"):
        tasks(str(file.with_name("tokens.toml")), "small", "cpu")
    file.write_text('question = "?"\naxis = "T"\n')
    with pytest.raises(SuiteFileError, match=r":1: the file has neither small nor full: give"):
        read(file)
    for value in ("[" * 5000, "1" * 5000):
        file.write_text(f"question = {value}")
        with pytest.raises(SuiteFileError, match="a value is too long or too deep: give a shorter one"):
            read(file)
    with pytest.raises(SuiteFileError, match="before the first dot: rename the file"):
        tasks(str(file.with_name(".toml")), "small", "cpu")


def test_text_of_another_encoding_is_named(file: Path) -> None:
    file.write_text(TEXT, encoding="utf-16")
    with pytest.raises(NotUtf8, match="save it as UTF-8"):
        read(file)
    file.write_text(TEXT, encoding="utf-8-sig")
    assert read(file).axis == "tokens T"
