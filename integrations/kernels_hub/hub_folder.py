"""`python -m moebench.integrations.kernels_hub.hub_folder FOLDER [TABLE ...]`: the folder for the kernels hub.

It has the layout of a kernel repository as kernels 0.17 reads it: ``build/torch-cuda`` and ``build/torch-cpu`` are what
a client loads, ``torch-ext`` and ``build.toml`` what kernel-builder builds them from, ``benchmarks`` what the command
``kernels benchmark`` runs, ``README.md`` the card. Tables are files of `moebench tune`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final

from ...common.errors import UserError
from ...common.files import write_new_folder
from ...kernels.tuned.lookup import read
from ...kernels.tuned.tuned_table import InvalidTable
from .module_closure import closure

ROOT: Final = Path(__file__).parents[2]
NAME: Final = "moebench"
VERSION: Final = 0  # the hub's word for what may still change
BACKENDS: Final = ("cuda", "cpu")
KERNELS: Final = ("triton_scatter", "grouped")
"""Kernels that the layer runs, on a GPU and on a CPU."""
STARTS: Final = (
    "integrations/kernels_hub/hub_layers.py",
    "kernels/triton/expert_mlp.py",  # imported when a layer is built
    "kernels/problem/routers/softmax_topk.py",  # imported by its name
)
STAND_INS: Final = {
    "kernels/cuda/nvrtc.py": "no_nvrtc",
    "kernels/cuda/route_sorting.py": "no_route_sorting",
    "kernels/problem/draw_routes.py": "given_routes",
    "kernels/problem/load.py": "uniform_load",
    "kernels/problem/routers/softmax_topk.py": "given_router",
    "kernels/problem/trace.py": "load_label",
    "kernels/question.py": "unasked_question",
}
"""Modules that need more than torch and Triton, or that only measurements need, and what takes their place."""
INIT: Final = '''"""Experts of Mixture-of-Experts layers by the kernels of moebench."""

from . import layers

__all__ = ["layers"]
'''
LAYERS: Final = '''"""Layers of this kernel."""

from .integrations.kernels_hub.hub_layers import MoebenchExperts

__all__ = ["MoebenchExperts"]
'''
OLDER: Final = '''"""The same kernel for clients that look for it in a folder of its name."""

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("{id}", Path(__file__).parents[1] / "__init__.py")
_kernel = sys.modules.get("{id}")
if _kernel is None:
    _kernel = sys.modules["{id}"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_kernel)
layers = _kernel.layers
__all__ = ["layers"]
'''
BUILD: Final = f"""[general]
name = "{NAME}"
version = {VERSION}
edition = 5
license = "Apache-2.0"
backends = ["cuda", "cpu"]

[torch-noarch]
pyext = ["py", "json"]
"""
CARD: Final = """---
library_name: kernels
license: apache-2.0
tags: [kernels]
---

# moebench: experts of Mixture-of-Experts layers

`MoebenchExperts` takes over the forward of experts modules of transformers 5 with gated SiLU, without biases: Mixtral,
Qwen3-MoE, OLMoE and others of their layout. It needs Python 3.11, torch and, on a GPU, Triton. Built from moebench
{version}.

```python
from kernels import Mode, LocalLayerRepository, kernelize, replace_kernel_forward_from_hub, use_kernel_mapping
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

replace_kernel_forward_from_hub(Qwen3MoeExperts, "MoebenchExperts")
layer = LocalLayerRepository(repo_path=FOLDER, layer_name="MoebenchExperts")
with use_kernel_mapping({{"MoebenchExperts": {{"cuda": layer, "cpu": layer}}}}):
    model = kernelize(model, mode=Mode.TRAINING)
```

Tuned tables: {tables}. For other devices and shapes the default configuration is used. Has a backward; does not
support `torch.compile`.
"""
BENCHMARK: Final = '''"""Workloads for `kernels benchmark`: decode and prefill, against a loop over experts."""

from types import SimpleNamespace

import torch
from kernels.benchmark import Benchmark


class ExpertsBenchmark(Benchmark):
    seed = 0

    def _draw(self, tokens, width=512, hidden=256, experts=32, chosen=4):
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        self.experts = SimpleNamespace(
            gate_up_proj=torch.randn(experts, 2 * hidden, width, device=self.device, dtype=dtype) * width**-0.5,
            down_proj=torch.randn(experts, width, hidden, device=self.device, dtype=dtype) * hidden**-0.5,
        )
        self.x = torch.randn(tokens, width, device=self.device, dtype=dtype)
        weights = torch.rand(tokens, experts, device=self.device).softmax(-1)
        self.gates, self.ids = weights.topk(chosen)

    def _run(self):
        with torch.no_grad():
            self.out = self.kernel.layers.MoebenchExperts.forward(self.experts, self.x, self.ids, self.gates)

    def _reference(self):
        out = torch.zeros_like(self.x)
        for expert, (up, down) in enumerate(zip(self.experts.gate_up_proj, self.experts.down_proj)):
            token, place = (self.ids == expert).nonzero(as_tuple=True)
            gate, value = (self.x[token] @ up.T).chunk(2, dim=-1)
            rows = (torch.nn.functional.silu(gate) * value) @ down.T
            out.index_add_(0, token, (rows * self.gates[token, place, None]).to(out.dtype))
        return out

    def setup_decode(self):
        self._draw(16)

    def benchmark_decode(self):
        self._run()

    def verify_decode(self):
        return self._reference()

    def setup_prefill(self):
        self._draw(1024)

    def benchmark_prefill(self):
        self._run()

    def verify_prefill(self):
        return self._reference()
'''


def write_hub_folder(folder: Path, tables: Sequence[Path] = ()) -> None:
    """Write the folder, which is new or empty, in one step.

    Raises:
        UserError: when a table cannot be read or serves no layer of the folder, and as `write_new_folder`.
    """
    sources = package_sources(tables)
    files = {f"torch-ext/{NAME}/{name}": content for name, content in sources.items()}
    digest = hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()
    for backend in BACKENDS:
        identifier = f"_{NAME}_{backend}_{digest[:7]}"
        variant = {**sources, f"{NAME}/__init__.py": OLDER.format(id=identifier)}
        about = _metadata(identifier, backend, variant)
        variant["metadata.json"] = json.dumps(about, indent=2) + "\n"
        files |= {f"build/torch-{backend}/{name}": content for name, content in variant.items()}
    names = ", ".join(path.name for path in tables) or "none"
    files["build.toml"] = BUILD
    files["benchmarks/benchmark_experts.py"] = BENCHMARK
    files["README.md"] = CARD.format(version=metadata.version("moebench"), tables=names)
    write_new_folder(folder, files)


def package_sources(tables: Sequence[Path] = ()) -> dict[str, str]:
    """Return the files of the kernel's Python package by their names in it."""
    replaced = {name: f"integrations/kernels_hub/stand_ins/{file}.py" for name, file in STAND_INS.items()}
    files = closure(ROOT, STARTS, replaced)
    sources = {name: file.read_text(encoding="utf-8") for name, file in sorted(files.items())}
    shipped: dict[str, str] = {}
    for path in tables:
        name = f"tables/{path.stem}.json"
        if name in shipped:
            raise UserError(f"{path}: another table has the name {path.name} too: rename one of them")
        shipped[name] = _for_given_routes(path)
    return {**sources, **shipped, "__init__.py": INIT, "layers.py": LAYERS}


def _for_given_routes(path: Path) -> str:
    """Return the content of a tuned table whose entries are for routes of any router, under a uniform load."""
    try:
        table = read(path)
    except InvalidTable as error:
        raise UserError(f"{path}: {error}; give files of tuned tables, or none") from error
    if table.kernel not in KERNELS:
        raise UserError(f"{path} is of the kernel {table.kernel}: the layer runs {' and '.join(KERNELS)}; leave it out")
    entries = [
        replace(entry, shape=entry.shape.replace(router="softmax_topk"))
        for entry in table.entries
        if entry.loads == ("uniform",)
    ]
    if not entries:
        raise UserError(f"{path} has no entry for the load uniform: tune with it, or leave the table out")
    return replace(table, entries=tuple(entries)).text()


def _metadata(identifier: str, backend: str, files: Mapping[str, str]) -> dict[str, object]:
    """Return what a client reads first (docs/source/kernel-requirements.md of huggingface/kernels)."""
    sums = {name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in files.items()}
    return {
        "name": NAME,
        "id": identifier,
        "version": VERSION,
        "license": "Apache-2.0",
        "python-depends": [],
        "backend": {"type": backend},
        "digest": {"algorithm": "sha256", "files": dict(sorted(sums.items()))},
    }


def main() -> None:
    """Write the folder that the arguments name, and say where it is; exit code 2 says that it could not be written."""
    parser = argparse.ArgumentParser(prog="python -m moebench.integrations.kernels_hub.hub_folder")
    parser.description = "Write a folder for the Hugging Face kernels hub."
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    parser.add_argument("tables", type=Path, metavar="TABLE", nargs="*", help="tuned tables to put into it")
    given = parser.parse_args()
    try:
        write_hub_folder(given.folder, given.tables)
    except UserError as error:
        sys.stderr.write(f"moebench: {error}\n")
        sys.exit(2)
    sys.stdout.write(f"{given.folder}: load it with kernels.LocalLayerRepository, or upload it with kernel-builder\n")


if __name__ == "__main__":
    main()
