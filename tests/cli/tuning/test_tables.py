"""`moebench tables`: its output, its files and its exit codes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from records import ENVIRONMENT, TIMING, record
from tables import bucket, entry, environment, table
from typer.testing import CliRunner, Result

from moebench.cli.tuning.tables import app
from moebench.kernels.problem import Problem
from moebench.kernels.triton.vllm_tiles import KNOBS, OWN_CHOICE
from moebench.kernels.tuned.table_reader import parse_table
from moebench.results.record import Point

TILES = dict(zip(KNOBS, (16, 64, 128, 1, 4, 3), strict=True))
STEM = "E=64,N=1024,device_name=NVIDIA_H200"


def moebench_tables(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the one table of a tuned folder: vLLM's own choice for 16 tokens, tiles for 64."""
    monkeypatch.setenv("MOEBENCH_TUNED", str(tmp_path / "tuned"))
    made = table(
        entry(
            bucket(16, [2.0, 3.0]),
            bucket(64, [3.0, 2.0]),
            shape=Problem(T=0, D=2048, F=1024, E=64, K=8, dtype="bfloat16"),
            configs=(OWN_CHOICE, TILES),
        ),
        kernel="vllm_fused_moe",
        source="0123",
        environment=environment(device="NVIDIA H200", driver="580.1", torch="2.9.0", triton="3.5.1"),
    )
    path = tmp_path / "tuned" / "table.json"
    path.parent.mkdir()
    path.write_text(made.text())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a file of vLLM without an error."""
    (tmp_path / f"{STEM}.json").write_text(json.dumps({"triton_version": "3.5.1", "16": TILES, "64": TILES}))
    return tmp_path


def test_show_says_what_is_covered_and_why_it_is_stale(kept: Path) -> None:
    answer = moebench_tables("show")
    assert answer.exit_code == 0
    assert "vllm_fused_moe on NVIDIA H200, driver 580.1, torch 2.9.0, triton 3.5.1" in answer.stdout
    assert (
        "E=64 K=8 bfloat16 forward, load uniform: T = 16, 64 (2 to 8 rows per expert), 1 tuned, 1 with" in answer.stdout
    )
    assert "stale: source: 0123 / " in answer.stdout
    (shown,) = json.loads(moebench_tables("show", kept, "--json").stdout)
    assert shown["kernel"] == "vllm_fused_moe"
    assert any(reason.startswith("device: NVIDIA H200 / ") for reason in shown["stale"])


def test_show_without_tables_says_how_to_make_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEBENCH_TUNED", str(tmp_path))
    answer = moebench_tables("show")
    assert (answer.exit_code, answer.stdout) == (0, "there are no tuned tables: `moebench tune` makes some\n")


def test_show_of_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    answer = moebench_tables("show", tmp_path / "x.json")
    assert answer.exit_code == 2
    assert "give a table that `moebench tables build` made" in answer.stderr


def test_build_derives_tables_that_show_and_export_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is measured twice beside tiles that are twice as fast."""
    monkeypatch.setenv("MOEBENCH_TUNED", str(tmp_path / "made"))
    problem = Problem(T=64, D=2048, F=1024, E=64, K=8, dtype="bfloat16")
    point = Point(
        suite="tune", question="?", axis="tokens T", series="", x=64, baseline="vllm_fused_moe", stage="final", batch=1
    )
    there = ENVIRONMENT.model_copy(update={"device": "NVIDIA H200", "device_type": "cuda", "triton": "3.5.1"})
    measured = [
        record(
            point=point,
            key=problem.key,
            problem=asdict(problem),
            kernel="vllm_fused_moe",
            config=config,
            environment=there,
            timing=TIMING.model_copy(update={"samples_ns": [speed * (1 + i / 1e4) for i in range(15)]}),
        )
        for config, speed in ((OWN_CHOICE, 200.0), (TILES, 100.0), (OWN_CHOICE, 200.0))
    ]
    (tmp_path / "tune.jsonl").write_text("".join(f"{one.model_dump_json()}\n" for one in measured))
    answer = moebench_tables("build", tmp_path / "tune.jsonl")
    assert answer.exit_code == 0, answer.output
    assert Path(answer.stdout.strip()).parent == tmp_path / "made"
    assert "T = 64 (8 to 8 rows per expert), 1 tuned, 0 with" in moebench_tables("show").stdout
    assert moebench_tables("export", "--for", "vllm", "-o", tmp_path / "out").exit_code == 0
    assert json.loads((tmp_path / "out" / f"{STEM}.json").read_text())["64"] == TILES


def test_check_holds_a_table_against_its_records(tmp_path: Path) -> None:
    """The table of the recorded run passes as it is derived, and fails after an edit."""
    records = Path(__file__).parents[3] / "results" / "recorded" / "cpu-tuned.jsonl"
    (made,) = moebench_tables("build", records, "-o", tmp_path).stdout.split()
    assert moebench_tables("check", made, records).exit_code == 0
    text = Path(made).read_text()
    Path(made).write_text(text.replace('"verdict": "tuned"', '"verdict": "tie"', 1))
    answer = moebench_tables("check", made, records)
    assert answer.exit_code == 1
    assert "derive it again" in answer.stderr


def test_build_without_records_of_the_tuner_is_refused(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("")
    answer = moebench_tables("build", tmp_path / "records.jsonl", "-o", tmp_path / "made")
    assert answer.exit_code == 2
    assert "no table can be derived" in answer.stderr
    assert moebench_tables("build", tmp_path / "missing.jsonl").exit_code == 2


@pytest.mark.parametrize(
    ("form", "file", "variable"),
    [
        ("vllm", f"{STEM}.json", "VLLM_TUNED_CONFIG_FOLDER="),
        ("sglang", f"configs/triton_3_5_1/{STEM}.json", "SGLANG_MOE_CONFIG_DIR="),
    ],
)
@pytest.mark.usefixtures("kept")
def test_export_writes_and_says_how_to_use_it(form: str, file: str, variable: str, tmp_path: Path) -> None:
    answer = moebench_tables("export", "--for", form, "-o", tmp_path / "out")
    assert answer.exit_code == 0, answer.output
    assert str(tmp_path / "out" / file) in answer.stdout
    assert variable + str(tmp_path / "out") in answer.stdout
    assert "for T = 16" in answer.stderr
    body = json.loads((tmp_path / "out" / file).read_text())
    assert body["64"] == TILES
    assert moebench_tables("lint", tmp_path / "out", "--triton", "3.5.1").exit_code == 0


@pytest.mark.usefixtures("kept")
def test_export_tells_of_batches_that_would_not_run_what_is_best(tmp_path: Path) -> None:
    plain = moebench_tables("export", "--for", "vllm", "-o", tmp_path / "plain")
    assert "unless you export with --pin" in plain.stderr
    assert "batches of 1 to 63 tokens will take the tiles of T = 64" in plain.stderr
    answer = moebench_tables("export", "--for", "vllm", "--pin", "-o", tmp_path / "out")
    assert "T = 16 and batches far from any tuned T have vLLM's own tiles, by vLLM 0.33.0" in answer.stderr
    body = json.loads((tmp_path / "out" / f"{STEM}.json").read_text())
    assert (body["16"]["num_stages"], body["64"]) == (4, TILES)


def test_export_of_layers_that_one_name_cannot_tell_apart_asks_for_the_width(kept: Path, tmp_path: Path) -> None:
    made = parse_table(kept.read_text())
    (layer,) = made.entries
    wider = replace(layer, shape=layer.shape.replace(D=4096))
    kept.write_text(replace(made, entries=(layer, wider)).text())
    export = ("export", "--for", "vllm", "-o", tmp_path / "out")
    assert "or one --model-width" in moebench_tables(*export).stderr
    assert not (tmp_path / "out").exists()
    assert moebench_tables(*export, "--model-width", 1000).exit_code == 2
    assert moebench_tables(*export, "--model-width", 4096).exit_code == 0
    assert json.loads((tmp_path / "out" / f"{STEM}.about.json").read_text())["model_width"] == 4096


def test_export_refuses_other_kernels_with_the_way_out(kept: Path, tmp_path: Path) -> None:
    kept.write_text(kept.read_text().replace("vllm_fused_moe", "triton_scatter"))
    for arguments in ((), (kept,)):
        answer = moebench_tables("export", "--for", "vllm", *arguments, "-o", tmp_path / "out")
        assert answer.exit_code == 2
        assert "vllm_fused_moe" in answer.stderr
    assert "its epilogue" in answer.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("kept")
def test_export_to_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = moebench_tables("export", "--for", "vllm", "-o", tmp_path / "file" / "folder")
    assert answer.exit_code == 2
    assert "give a folder" in answer.stderr


@pytest.mark.usefixtures("kept")
def test_export_for_an_unknown_engine_is_answered_with_the_nearest(tmp_path: Path) -> None:
    for arguments in (("export", "--for", "vlm"), ("lint", tmp_path, "--engine", "vlm")):
        answer = moebench_tables(*arguments)
        assert answer.exit_code == 2
        assert "no engine is named 'vlm': did you mean vllm" in answer.stderr


def test_import_lists_tiles_and_what_a_search_could_start_from(folder: Path) -> None:
    answer = moebench_tables("import", folder)
    assert answer.exit_code == 0
    assert "vLLM: E = 64, N = 1024, NVIDIA_H200, 16-bit floats, Triton 3.5.1" in answer.stdout
    assert "2 of 2 are configurations of vllm_fused_moe" in answer.stdout
    (plain,) = json.loads(moebench_tables("import", folder / f"{STEM}.json", "--json").stdout)
    assert plain["candidates"] == {"16": TILES, "64": TILES}
    assert (plain["E"], plain["N"], plain["engine"]) == (64, 1024, "vllm")


def test_import_leaves_out_what_cannot_be_read_and_says_so(folder: Path) -> None:
    (folder / f"{STEM}_NVL.json").write_text("{")
    answer = moebench_tables("import", folder)
    assert answer.exit_code == 0
    assert f"{STEM}_NVL.json: is no JSON" in answer.stderr
    assert moebench_tables("import", folder / f"{STEM}_NVL.json").exit_code == 2
    assert moebench_tables("import", folder / "nothing.json").exit_code == 2


def test_lint_passes_with_warnings_and_fails_with_errors(folder: Path) -> None:
    answer = moebench_tables("lint", folder, "--triton", "3.6.0")
    assert answer.exit_code == 0
    assert f"warning: {STEM}.json: was tuned with Triton 3.5.1, 3.6.0 will run it; " in answer.stdout
    assert answer.stdout.splitlines()[-1].startswith("1 file: 0 errors, 1 warning, ")
    (folder / f"{STEM},dtype=float32.json").write_text(json.dumps({"1": TILES | {"BLOCK_SIZE_N": 1024}}))
    answer = moebench_tables("lint", folder, "--json")
    assert answer.exit_code == 1
    worst = json.loads(answer.stdout)["findings"][0]
    assert (worst["severity"], worst["kind"], worst["M"]) == ("error", "shared memory", 1)
    assert worst["remedy"] == "fewer stages or smaller tiles"


@pytest.mark.parametrize("triton", ["", "banana", "v3.6.0"])
def test_lint_for_a_triton_that_is_no_version_is_refused(triton: str, folder: Path) -> None:
    answer = moebench_tables("lint", folder, "--triton", triton)
    assert answer.exit_code == 2
    assert f"--triton {triton!r} is no version: give one such as 3.6.0" in answer.stderr.replace("\n", " ")


def test_lint_of_what_is_no_such_folder_is_refused(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "holds no file of tuned tiles"), (tmp_path / "nowhere", "is no folder")):
        answer = moebench_tables("lint", path)
        assert answer.exit_code == 2
        assert why in answer.stderr
