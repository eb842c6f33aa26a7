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
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tables as invented
import torch
from torch import Tensor, nn
from transformers import DeepseekV4Config, MixtralConfig
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4Experts
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from moebench.integrations.kernels_hub.hub_folder import KERNELS, ROOT, STAND_INS, main, write_hub_folder
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
    write_hub_folder(found / "hub", [found / "grouped.json"])
    return found / "hub"


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
    [
        ({"act_fn": nn.GELU()}, "has the activation GELU"),
        ({"has_bias": True}, "has has_bias = True"),
        ({"is_transposed": True}, "has is_transposed = True"),
        ({"has_gate": False}, "has has_gate = False"),
        ({"is_concatenated": False}, "has is_concatenated = False"),
    ],
    ids=["activation", "bias", "transposed", "without gate", "interleaved"],
)
def test_experts_that_compute_something_else_are_refused(kernel: ModuleType, said: dict[str, Any], words: str) -> None:
    inputs = drawn()
    module = SimpleNamespace(**vars(experts_of(inputs)), **said)
    with pytest.raises(ValueError, match=words):
        kernel.layers.MoebenchExperts.forward(module, inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)


def test_experts_that_clamp_before_their_activation_are_refused(kernel: ModuleType) -> None:
    """Experts of DeepSeek-V4 name SiLU as their activation, and clamp what goes into it."""
    inputs = drawn()
    config = DeepseekV4Config(hidden_size=32, moe_intermediate_size=48, n_routed_experts=4)
    clamped, plain = (
        DeepseekV4Experts(config),
        MixtralExperts(MixtralConfig(hidden_size=32, intermediate_size=48, num_local_experts=4)),
    )
    for module in (clamped, plain):
        module.load_state_dict({"gate_up_proj": inputs.weights.w_up_EUD, "down_proj": inputs.weights.w_down_EDF})
    call = inputs.x_TD, inputs.routing.ids_TK.long(), inputs.routing.gates_TK
    with pytest.raises(ValueError, match="DeepseekV4Experts has an activation of its own"):
        kernel.layers.MoebenchExperts.forward(clamped, *call)
    y_TD = kernel.layers.MoebenchExperts.forward(plain, *call)
    assert close(y_TD.detach(), oracle(PROBLEM, inputs).y_TD)


@pytest.mark.usefixtures("kernel")
def test_the_layer_runs_the_kernels_that_tables_may_be_of() -> None:
    experts = sys.modules[f"{NAME}.integrations.kernels_hub.hub_experts"]
    assert {experts.triton_scatter.kernel.name, experts.grouped.kernel.name} == set(KERNELS)


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: FOLDER"),
        (["full"], "full is no empty folder: give the name of a new one"),
        (["full/mine.md"], "is no empty folder"),
        (["link"], "link is no empty folder"),
        (["full/mine.md/hub"], "give the name of a folder that can be written"),
        (["hub", "full/mine.md"], "mine.md: it is not JSON"),
        (["hub", "no.json"], "no.json: it is not a file; give files of tuned tables, or none"),
        (["hub", "other.json"], "other.json is of the kernel padded: the layer runs triton_scatter and grouped"),
        (["hub", "grouped.json", "twice/grouped.json"], "another table has the name grouped.json too: rename one"),
        (["hub", "skewed.json"], "skewed.json has no entry for the load uniform"),
    ],
)
def test_what_cannot_be_made_is_one_sentence_and_changes_nothing(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("full", "twice", "empty"):
        Path(name).mkdir()
    Path("link").symlink_to("empty")
    Path("full/mine.md").write_text("mine")
    entry = invented.entry(invented.bucket(4, [3.0, 2.0, None], chosen=1), shape=PROBLEM.replace(T=0))
    for name, kernel, loads in (
        ("grouped", "grouped", ("uniform",)),
        ("twice/grouped", "grouped", ("uniform",)),
        ("other", "padded", ("uniform",)),
        ("skewed", "grouped", ("zipf:1.2",)),
    ):
        Path(f"{name}.json").write_text(invented.table(replace(entry, loads=loads), kernel=kernel).text())
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["hub_folder", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert Path("full/mine.md").read_text() == "mine"
