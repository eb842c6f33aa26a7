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


def template(name: str) -> str:
    """Return a file of ``templates``: what the folder has beside the package. Braces are filled in."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


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
        variant = {**sources, f"{NAME}/__init__.py": template("older.py.txt").format(id=identifier)}
        about = _metadata(identifier, backend, variant)
        variant["metadata.json"] = json.dumps(about, indent=2) + "\n"
        files |= {f"build/torch-{backend}/{name}": content for name, content in variant.items()}
    names = ", ".join(path.name for path in tables) or "none"
    files["build.toml"] = template("build.toml").format(name=NAME, version=VERSION)
    files["benchmarks/benchmark_experts.py"] = template("benchmark_experts.py.txt")
    files["README.md"] = template("README.md").format(version=metadata.version("moebench"), tables=names)
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
    return {**sources, **shipped, "__init__.py": template("init.py.txt"), "layers.py": template("layers.py.txt")}


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
