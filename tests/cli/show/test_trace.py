"""`moebench trace` records what a model's routers chose, and shows it at any width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from moebench.cli.main import app
from moebench.kernels.module.route_recorder import find_routers, recording
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.texts.hashed_words import token_ids
from moebench.kernels.problem.texts.novel import novel_ids
from moebench.kernels.problem.trace import load_of
from moebench.kernels.problem.traces.trace_format import LayerDescription, LayerRoutes
from moebench.kernels.problem.traces.trace_reader import content_of, describe, read_layer
from moebench.kernels.problem.traces.trace_writer import write_ids, write_trace

TEXT = "It is a truth universally acknowledged, that a single man must be in want of a wife. " * 3


def moebench(*words: object, columns: int | None = None) -> Any:
    env = {"COLUMNS": str(columns) if columns else ""}
    return CliRunner(env=env).invoke(app, [str(word) for word in ("trace", *words)])


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


@pytest.fixture
def saved(tmp_path: Path, request: pytest.FixtureRequest, transformers: Any) -> Path:
    from tiny_moe_models import tiny_model  # noqa: PLC0415  # it wants transformers

    transformers.utils.logging.disable_progress_bar()
    tiny_model(request.param).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("saved", ["mixtral", "switch_transformers", "llama4", "deepseek_v3"], indirect=True)
def test_what_a_saved_model_chooses_is_recorded_step_by_step(saved: Path, tmp_path: Path, transformers: Any) -> None:
    text, trace = tmp_path / "a.txt", tmp_path / "a.npz"
    text.write_text(TEXT)
    answer = moebench("record", "--model", saved, "--text", text, "--context", 20, "-o", trace, "--device", "cpu")
    assert answer.exit_code == 0, answer.output
    assert "hashed words modulo 64: the model's folder has no tokenizer" in answer.stderr

    model = transformers.AutoModel.from_pretrained(saved).eval()
    ids = torch.from_numpy(token_ids(TEXT) % 64)
    routers = find_routers(model)
    for step in ids.split(20):
        more = {"decoder_input_ids": step[None]} if model.config.is_encoder_decoder else {}
        with torch.no_grad(), recording(routers):
            model(input_ids=step[None], use_cache=False, **more)
    content = content_of(trace)
    about = describe(content, trace)
    assert (about.model, about.text, sorted(about.versions)) == (
        str(saved), "a.txt", ["moebench", "torch", "transformers"]
    )  # fmt: skip
    assert [one.name for one in about.layers] == [one.name for one in routers]
    for router in routers:
        found, expected = read_layer(content, trace, router.name), router.routes()
        assert found.layer == expected.layer
        assert found.layer.steps == (20, 20, len(ids) - 40)
        np.testing.assert_array_equal(found.ids_TK, expected.ids_TK)
        assert found.gates_TK is not None
        assert expected.gates_TK is not None
        np.testing.assert_array_equal(found.gates_TK, np.where(expected.ids_TK < 0, 0, expected.gates_TK))


@pytest.mark.parametrize("saved", ["mixtral"], indirect=True)
def test_layers_and_tokens_are_those_asked_for_and_become_a_load(saved: Path, tmp_path: Path) -> None:
    trace = tmp_path / "a.npz"
    answer = moebench("record", "-m", saved, "--layers", "1", "-T", 50, "-o", trace, "--device", "cpu")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout == f"trace: {trace}, 50 tokens in 1 layer: layers.1.mlp.experts\n"
    about = describe(content_of(trace), trace)
    assert about.text == "Jane Austen, Persuasion"
    assert [(one.name, one.experts, one.steps) for one in about.layers] == [("layers.1.mlp.experts", 8, (50,))]
    routing = draw_routes(
        Problem(T=50, D=1, F=1, E=8, K=2, load=load_of(trace, "1")), seed=0, device=torch.device("cpu")
    )
    recorded = read_layer(content_of(trace), trace)
    np.testing.assert_array_equal(routing.ids_TK, recorded.ids_TK)
    np.testing.assert_array_equal(routing.gates_TK, recorded.gates_TK)
    assert len(novel_ids()) > 50


@pytest.mark.parametrize("saved", ["mixtral"], indirect=True)
def test_tokens_are_those_of_the_model_s_own_tokenizer_where_it_has_one(
    saved: Path, tmp_path: Path, transformers: Any
) -> None:
    tokenizers: Any = pytest.importorskip("tokenizers")
    words = {word: place for place, word in enumerate(["[UNK]", "a", "man", "of", "wife"])}
    unknown = {"unk_token": "[UNK]"}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, **unknown))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **unknown).save_pretrained(saved)
    text, trace = tmp_path / "a.txt", tmp_path / "a.npz"
    text.write_text("a man of a wife")
    answer = moebench("record", "-m", saved, "--text", text, "-o", trace, "--device", "cpu")
    assert answer.exit_code == 0, answer.output
    assert "tokenized by its own tokenizer" in answer.stderr
    ids = read_layer(content_of(trace), trace, "0").ids_TK
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "{folder}/empty"), "empty: ValueError, Unrecognized model in"),
        (("--model", "{folder}/json"), "json: "),
        (("--model", "{folder}/model", "--text", "{folder}/none.txt"), "none.txt: No such file or directory: give"),
        (("--model", "{folder}/model", "--text", "{folder}/blank.txt"), "the text has no tokens: give a text"),
        (("--model", "{folder}/model", "--text", "{folder}/binary.txt"), "is no text in UTF-8"),
        (("--model", "{folder}/model", "--layers", "9"), "--layers 9: the model has no such layer with experts"),
        (("--model", "{folder}/model", "--layers", ","), "--layers ',': give a name"),
        (("--model", "{folder}/pickled"), "pickled: "),
        (("--model", "{folder}/model", "-o", "{folder}/blank.txt/t.npz"), "blank.txt, which is no folder: give"),
    ],
)
@pytest.mark.parametrize("saved", ["mixtral"], indirect=True)
def test_what_cannot_be_recorded_is_said_in_one_sentence(words: tuple[str, ...], said: str, saved: Path) -> None:
    folder = saved.parent
    for name in ("empty", "json", "pickled"):
        (folder / name).mkdir()
    (folder / "json" / "config.json").write_text("{")
    (folder / "pickled" / "config.json").write_text((saved / "config.json").read_text())
    torch.save({}, folder / "pickled" / "pytorch_model.bin")
    (folder / "blank.txt").write_text(" \n")
    (folder / "binary.txt").write_bytes(b"\x80abc")
    given = [word.replace("{folder}", str(folder)) for word in words]
    answer = moebench("record", "-o", folder / "t.npz", *given, "--device", "cpu")
    assert answer.exit_code == 2, answer.output
    assert said in answer.stderr
    assert len([line for line in answer.stderr.splitlines() if not line.startswith(("tokenized", "recorded"))]) == 1
    assert not (folder / "t.npz").exists()


def test_a_name_that_is_not_here_and_cannot_be_fetched_is_one_sentence(
    transformers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub to load the files. Check your connection.")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", offline)
    answer = moebench("record", "-m", "some/model", "-o", tmp_path / "t.npz", "--device", "cpu")
    assert answer.exit_code == 2
    assert answer.stderr == (
        "moebench: --model some/model: OSError, We couldn't connect to the hub to load the files: give a folder with a "
        "config.json and safetensors, or a name of the hub where that can be reached\n"
    )


@pytest.mark.parametrize("saved", ["mixtral"], indirect=True)
def test_python_files_of_a_model_are_not_executed(saved: Path, tmp_path: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    answer = moebench("record", "-m", saved, "-o", tmp_path / "t.npz", "--device", "cpu")
    assert answer.exit_code == 2
    assert not (tmp_path / "executed").exists()


def trace_of(path: Path, *, layers: int = 3, E: int = 40, gates: bool = True) -> Path:
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, E)
    made = []
    for layer in range(layers):
        ids = np.stack([rng.choice(E - 1, 2, replace=False, p=weights / weights.sum()) for _ in range(600)])
        ids[:100, 1] = -1
        about = LayerDescription(name=f"layers.{layer}.mlp", experts=E, steps=(400, 200))
        weighed = rng.random((600, 2)).astype(np.float32) if gates else None
        made.append(LayerRoutes(layer=about, ids_TK=ids.astype(np.int32), gates_TK=weighed))
    write_trace(path, made, model="some model", text="a.txt", versions={"torch": "2"})
    return path


@pytest.mark.parametrize("columns", [40, 60, 120])
@pytest.mark.parametrize("layer", [(), ("--layer", 1)])
def test_drawing_fits_the_terminal_and_uses_its_width(columns: int, layer: tuple[object, ...], tmp_path: Path) -> None:
    answer = moebench("show", trace_of(tmp_path / "t.npz"), *layer, columns=columns)
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    drawn = [line for line in lines if set(line) & set("▁▂▃▄▅▆▇█░▒▓") and "  " in line]
    widths = {len(line) for line in drawn}
    assert max(widths) == columns
    assert len(drawn) == (32 if layer else 3)
    assert all(len(line) <= columns for line in lines if str(tmp_path) not in line)


def test_experts_are_drawn_from_the_fullest_down_and_shaded_by_their_load(tmp_path: Path) -> None:
    ids = np.array([[0, 1]] * 50 + [[0, 2]] * 50, np.int32)
    layer = LayerDescription(name="a.0", experts=4, steps=(100,))
    write_trace(tmp_path / "t.npz", [LayerRoutes(layer=layer, ids_TK=ids)])
    answer = moebench("show", tmp_path / "t.npz", columns=63)
    drawn = [line for line in answer.stdout.splitlines() if line[:1].isdigit() and "  " in line and "%" not in line]
    maps = {
        line.split("  ")[0]: line.partition("  ")[2] for line in drawn if set("▓█░▒ ") >= set(line.partition("  ")[2])
    }
    assert list(maps) == ["0", "1", "2", "3"]
    half = len(maps["0"]) // 2
    assert set(maps["0"]) == {"▓"}  # 2 of 4 experts each time: twice the mean
    assert maps["1"] == "▓" * half + " " * (len(maps["1"]) - half)
    assert maps["2"] == " " * half + "▓" * (len(maps["2"]) - half)
    assert maps["3"].strip() == ""


def test_json_has_every_layer_with_its_statistics(tmp_path: Path) -> None:
    path = trace_of(tmp_path / "t.npz", gates=False)
    shown = json.loads(moebench("show", path, "--json").stdout)
    assert (shown["model"], shown["text"], shown["versions"]) == ("some model", "a.txt", {"torch": "2"})
    assert [one["name"] for one in shown["layers"]] == ["layers.0.mlp", "layers.1.mlp", "layers.2.mlp"]
    one = shown["layers"][1]
    ids = read_layer(content_of(path), path, "1").ids_TK
    counts = np.bincount(ids[ids >= 0], minlength=40)
    assert one["rows"] == counts.tolist()
    assert np.array(one["rows_over_time"]).sum(0).tolist() == counts.tolist()
    assert one["max_over_mean"] == pytest.approx(counts.max() / counts.mean())
    assert (one["experts"], one["chosen"], one["tokens"]) == (40, 2, 600)
    assert (one["absent"], one["dead"], one["gates"], one["steps"]) == (
        100,
        int((counts == 0).sum()),
        False,
        [400, 200],
    )
    assert 0.3 < one["gini"] < 0.9
    (alone,) = json.loads(moebench("show", path, "--json", "--layer", "1").stdout)["layers"]
    assert alone == one


def test_ids_alone_are_shown_too(tmp_path: Path) -> None:
    write_ids(tmp_path / "t.npy", [[0, 3], [1, 3], [3, -1]])
    answer = moebench("show", tmp_path / "t.npy", columns=80)
    assert answer.exit_code == 0, answer.output
    (layer,) = json.loads(moebench("show", tmp_path / "t.npy", "--json").stdout)["layers"]
    assert (layer["experts"], layer["rows"], layer["absent"], layer["name"]) == (4, [1, 1, 0, 3], 1, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [(("none.npz",), "none.npz: No such file"), (("t.npz", "--layer", 7), "has no layer '7': give one of 0, 1, 2")],
)
def test_what_is_not_there_is_said(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_of(tmp_path / "t.npz")
    monkeypatch.chdir(tmp_path)
    answer = moebench("show", *words)
    assert answer.exit_code == 2
    assert said in answer.stderr
