"""Folder for the kernels hub: it imports nothing but torch and Triton, its layer is pure, and computes the oracle's."""

from __future__ import annotations

import base64
import builtins
import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tables as invented
import torch
from torch import Tensor, nn

from moebench.common.errors import UserError
from moebench.integrations.kernels_hub.hub_folder import ROOT, STAND_INS, write_hub_folder
from moebench.integrations.kernels_hub.module_closure import ALLOWED, ImpureModule, closure
from moebench.kernels.hardware.device_names import device_name
from moebench.kernels.oracle import oracle
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights

CPU = torch.device("cpu")
NAME = "_kernel_of_a_random_name"
PROBLEM = Problem(T=7, D=32, F=48, E=4, K=2, mode="train", router="softmax_topk").replace(dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one table: a batch of 4 and one of 64 tokens."""
    found = tmp_path_factory.mktemp("hub")
    shape = PROBLEM.replace(T=0, router="switch", K=1)
    buckets = [invented.bucket(4, [3.0, 2.0, None], chosen=1), invented.bucket(64, [2.0, 3.0, None], chosen=0)]
    table = invented.table(invented.entry(*buckets, shape=shape), kernel="grouped")
    (found / "grouped.json").write_text(table.text())
    write_hub_folder(found, [found / "grouped.json"])
    return found


@pytest.fixture(scope="module")
def kernel(folder: Path) -> Iterator[ModuleType]:
    """Import the folder as the hub's client does, under a name of its own, where only torch and Triton are found."""
    spec = importlib.util.spec_from_file_location(NAME, folder / "build/torch-cpu/__init__.py")
    assert spec is not None
    assert spec.loader is not None
    real, module = builtins.__import__, importlib.util.module_from_spec(spec)

    def only_allowed(name: str, globals: Any = None, *rest: Any) -> Any:  # noqa: A002  # the name that it has
        if globals and str(globals.get("__name__")).startswith(NAME) and not rest[-1]:
            assert name.partition(".")[0] in ALLOWED, name
        return real(name, globals, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, NAME, module)
        patch.setattr(builtins, "__import__", only_allowed)
        spec.loader.exec_module(module)
        yield module
    for name in [name for name in sys.modules if name.startswith(NAME)]:
        del sys.modules[name]


def experts_of(inputs: Inputs) -> Any:
    return SimpleNamespace(gate_up_proj=inputs.weights.w_up_EUD, down_proj=inputs.weights.w_down_EDF)


def drawn(problem: Problem = PROBLEM) -> Inputs:
    return draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)


def close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found.double() - wanted).norm() <= 1e-5 * wanted.norm())


@pytest.mark.parametrize("on_gpu", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["torch", "triton"])
@pytest.mark.usefixtures("kernel")
def test_outputs_and_gradients_are_those_of_the_oracle(on_gpu: bool) -> None:
    """The kernel for GPUs runs in Triton's interpreter."""
    inputs = drawn()
    wanted = oracle(PROBLEM, inputs)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.differentiable().items()}
    run = sys.modules[f"{NAME}.integrations.kernels_hub.hub_experts"].apply_kernel
    arguments = leaves["x"], inputs.routing.ids_TK.long(), leaves["gates"], leaves["w_up"], leaves["w_down"]
    y_TD = run(*arguments, on_gpu=on_gpu)
    assert close(y_TD.detach(), wanted.y_TD)
    y_TD.backward(inputs.dy_TD)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert close(leaf.grad, wanted.gradients[name]), name


def test_the_layer_takes_over_a_module_and_skips_ids_that_name_no_expert(kernel: ModuleType) -> None:
    inputs = drawn(PROBLEM.replace(mode="forward"))
    ids, gates = inputs.routing.ids_TK.long(), inputs.routing.gates_TK
    padded = torch.cat([ids, torch.full((len(ids), 1), PROBLEM.E)], dim=1), torch.cat([gates, gates[:, :1]], dim=1)
    forward = kernel.layers.MoebenchExperts.forward
    y_TD = forward(experts_of(inputs), inputs.x_TD, *padded)
    assert close(y_TD, oracle(PROBLEM.replace(mode="forward"), inputs).y_TD)


def test_the_layer_is_pure(kernel: ModuleType) -> None:
    layer = kernel.layers.MoebenchExperts
    assert issubclass(layer, nn.Module)
    assert layer.__init__ is nn.Module.__init__
    members = {name for name, _ in inspect.getmembers(layer)} - {name for name, _ in inspect.getmembers(nn.Module)}
    assert members == {"has_backward", "can_torch_compile"}
    signature = list(inspect.signature(layer.forward).parameters)
    assert signature == ["self", "hidden_states", "top_k_index", "top_k_weights"]
    assert kernel.__all__ == ["layers"]


@pytest.mark.parametrize(
    ("said", "words"),
    [({"act_fn": nn.GELU()}, "has the activation GELU"), ({"has_bias": True}, "has has_bias = True")],
    ids=["activation", "bias"],
)
def test_experts_that_compute_something_else_are_refused(kernel: ModuleType, said: dict[str, Any], words: str) -> None:
    inputs = drawn()
    module = SimpleNamespace(**vars(experts_of(inputs)), **said)
    with pytest.raises(ValueError, match=words):
        kernel.layers.MoebenchExperts.forward(module, inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)


@pytest.mark.parametrize(("tokens", "chosen"), [(1, 1), (15, 1), (17, 0), (1000, 0)])
@pytest.mark.usefixtures("kernel")
def test_a_shipped_table_gives_the_nearest_batch_by_ratio(tokens: int, chosen: int) -> None:
    """The table was tuned for another router, which decides nothing where routes are given."""
    shipped = sys.modules[f"{NAME}.integrations.kernels_hub.shipped_tables"]
    (table,) = shipped.tables(Path(str(shipped.__file__)).parents[2] / "tables")
    problem = table.entries[0].shape.replace(T=tokens)
    found = shipped.tuned_config(problem, "grouped", table.environment["device"])
    assert found == table.entries[0].configs[chosen]
    assert shipped.tuned_config(problem, "grouped", "another device") is None
    assert shipped.tuned_config(problem.replace(F=64), "grouped", device_name(CPU)) is None


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_the_metadata_names_every_file_with_its_digest(folder: Path, backend: str) -> None:
    variant = folder / "build" / f"torch-{backend}"
    about = json.loads((variant / "metadata.json").read_text())
    assert about["backend"] == {"type": backend}
    assert about["id"].isidentifier()
    files = {path.relative_to(variant).as_posix(): path for path in variant.rglob("*.*") if path.is_file()}
    del files["metadata.json"]
    digests = {
        name: hashlib.sha256(path.read_bytes()).digest() for name, path in files.items() if "pycache" not in name
    }
    assert about["digest"]["files"] == {name: base64.b64encode(digest).decode() for name, digest in digests.items()}


def test_every_stand_in_stands_in_for_a_module() -> None:
    assert [name for name in STAND_INS if not (ROOT / name).is_file()] == []
    files = {path.stem for path in (ROOT / "integrations/kernels_hub/stand_ins").glob("*.py")}
    assert files - {"__init__"} == set(STAND_INS.values())


def test_a_module_that_needs_more_is_named() -> None:
    with pytest.raises(ImpureModule, match=r"kernels/.*\.py imports numpy, which a kernel of the hub may not"):
        closure(ROOT, ["kernels/problem/problem.py"], {})


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(UserError, match=r"no\.json: "):
        write_hub_folder(tmp_path / "hub", [tmp_path / "no.json"])
