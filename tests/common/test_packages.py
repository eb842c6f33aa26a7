"""A package that is missing, or broken in any way, gives one sentence and disables only what needs it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from exhaustive import all_but

from moebench.common.packages import Release, Unusable, installed_version, is_installed, use
from moebench.kernels.cuda import nvrtc as cuda
from moebench.kernels.hardware import device_names

BREAKS = {
    "ImportError": "raise ImportError('libnvrtc.so.13: cannot open shared object file')",
    "RuntimeError": "raise RuntimeError('compiled for another numpy\\nsecond line')",
    "OSError": "raise OSError('libcudart.so.12: file too short')",
    "AttributeError": "import os; os.no_such_name",
    "SystemExit": "raise SystemExit('no GPU, good bye')",
    "Panic": "class Panic(BaseException): pass\nraise Panic('an extension in Rust gave up')",
    "UserWarning": "import warnings; warnings.warn('soon to go'); raise TypeError('after a warning')",
}

EXTRAS = ("cupy", "transformers", "ray", "pyarrow")


@pytest.fixture(params=BREAKS)
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Make a folder of all optional packages, which all fail in one way; pynvml is left out, as torch imports it."""
    for name in (*EXTRAS, "triton"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(BREAKS[request.param])
    return tmp_path


def test_a_missing_package_is_distinguished_from_a_broken_one() -> None:
    with pytest.raises(Unusable, match=r"^no_such_package is not installed; get it$"):
        use("no_such_package", partial(importlib.import_module, "no_such_package"), remedy="get it")
    assert not is_installed("no_such_package")

    def lacks() -> object:
        return importlib.import_module("another_package_it_needs")

    said = r"^json is installed and cannot be imported \(ModuleNotFoundError: No module named 'another.*'\); get it$"
    with pytest.raises(Unusable, match=said):
        use("json", lacks, remedy="get it")
    assert is_installed("json")


def test_what_a_package_prints_does_not_get_between_the_lines_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    use("json", partial(print, "hello"), remedy="")
    assert capsys.readouterr() == ("", "hello\n")


def test_a_release_is_told_beside_what_is_installed() -> None:
    said = Release("torch", "1.0", "torch/x.py").beside_installed()
    assert said == f"torch 1.0 (torch/x.py), {installed_version('torch')} is installed"
    assert Release("no-such-package", "1.0", "x.py").beside_installed() == "no-such-package 1.0 (x.py), none installed"


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"Name: halved\n"], ids=str)
def test_a_package_that_is_installed_in_part_has_no_version(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halved-1.0.dist-info").mkdir()
    if content is not None:
        (tmp_path / "halved-1.0.dist-info/METADATA").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_version("halved") is None


def test_what_stands_in_the_place_of_a_package_is_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stand_in", SimpleNamespace(__spec__=None))
    assert is_installed("stand_in")


def test_warnings_of_an_import_are_not_ours() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert use("json", lambda: warnings.warn("soon to go", stacklevel=1), remedy="") is None


def python(code: str, folder: Path) -> Any:
    """Return what a new process prints as JSON when it finds the packages of ``folder`` first."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


ALL_KERNELS = """
import json, torch
from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem.models import model
problem = model("Mixtral-8x7B").problem(T=8).scaled(64)
print(json.dumps({name: KERNELS.load(name).supports(problem, torch.device("cpu")) for name in KERNELS.names()}))
"""


@pytest.mark.parametrize("broken", all_but(["ImportError"], BREAKS), indirect=True)
def test_a_broken_package_costs_its_kernels_a_sentence_and_the_others_nothing(broken: Path) -> None:
    reasons = python(ALL_KERNELS, broken)
    assert reasons["scatter"] is reasons["grouped"] is None
    for name, package in {"transformers_eager": "transformers", "triton_scatter": "triton"}.items():
        assert reasons[name].startswith(f"{package} is installed and cannot be imported (")
        assert "pip install" in reasons[name]
        assert "\n" not in reasons[name]


@pytest.mark.parametrize("broken", all_but(["SystemExit"], BREAKS), indirect=True)
def test_the_doctor_says_what_is_broken_and_tells_device_rates_and_the_other_extras(broken: Path) -> None:
    code = "import sys; from moebench.cli.main import main; sys.argv = ['moebench', 'doctor', '--json']; main()"
    found = python(code, broken)
    for package in EXTRAS:
        assert found["extras"][package].startswith(f"{package} is installed and cannot be imported (")
    assert found["extras"]["pynvml"] == "installed" or "pip install" in found["extras"]["pynvml"]
    assert found["kernels"]["scatter"] == "usable"
    assert "cannot be imported" in found["kernels"]["triton_scatter"]
    assert found["environment"]["device"]
    assert found["measured"]["float32"]["matmul_tflop_per_s"] > 0
    assert min(found["measured"]["memory"][rate] for rate in ("copy_gb_per_s", "read_gb_per_s")) > 0
    assert all(set(one) == {"found", "remedy"} for one in found["how_quiet"].values())


class FakeCupy:
    """The part of CuPy that is used before a launch; ``fails`` is the error of its compiler, or None."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.__version__ = "14.2.0"
        self.fails = fails
        self.compiled: list[str] = []
        self.cuda = SimpleNamespace(Device=lambda _: self)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def RawModule(self, *, code: str, options: tuple[str, ...]) -> Any:
        def compile_it() -> None:
            if self.fails:
                raise self.fails
            self.compiled.append(code)

        return SimpleNamespace(compile=compile_it)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Yield a function that installs a CuPy on a machine with an H100."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))

    def put(cupy: FakeCupy | None) -> None:
        cuda.refusal.cache_clear()
        cuda._module.cache_clear()
        monkeypatch.setitem(sys.modules, "cupy", cupy)

    yield put
    cuda.refusal.cache_clear()
    cuda._module.cache_clear()


GPU = torch.device("cuda", 0)


def test_cupy_that_works_orders_the_routes(hopper: Any) -> None:
    cupy = FakeCupy()
    hopper(cupy)
    assert cuda.ordering(GPU) == ("14.2.0", "CUDA")
    assert len(cupy.compiled) == 2
    assert cuda.ordering(torch.device("cpu")) == (None, "torch")


@pytest.mark.parametrize("error", [RuntimeError("CuPy failed to load libnvrtc.so.13"), OSError("no driver")], ids=str)
def test_cupy_whose_compiler_does_not_work_is_done_without(hopper: Any, error: Exception) -> None:
    """The import succeeds, and without this check its first kernel would fail every Triton layer."""
    hopper(FakeCupy(fails=error))
    version, words = cuda.ordering(GPU)
    assert version is None
    assert words.startswith("torch: cupy is installed and cannot be imported (")
    assert str(error) in words


def test_cupy_that_is_missing_is_done_without(hopper: Any) -> None:
    hopper(None)
    assert cuda.ordering(GPU) == (
        None,
        "torch: cupy is not installed; pip install 'moebench[gpu]', built for this CUDA",
    )


def test_an_old_gpu_is_done_without(hopper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hopper(FakeCupy())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    assert "the device has 7.5" in cuda.ordering(GPU)[1]


def test_a_driver_that_cannot_be_asked_in_any_way_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    device_names._nvidia_driver.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace())
    assert device_names.driver(GPU) is None
    device_names._nvidia_driver.cache_clear()
