"""Which sources a kernel is made of, as one short hash: what was measured of other sources is not true of these."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .catalog import KERNELS

DIGITS = 12  # enough to tell apart what one package was and is
_ROOT = Path(__file__).parent


@cache
def source_hash(kernel_name: str) -> str:
    """The first 12 hex digits of sha256 over the files that a kernel is made of, by name and content.

    These are its own file, the modules of this package that it imports, directly or through others, and the CUDA
    sources beside them. Of a kernel from outside the package it is its own file; "" where there is none.

    Raises:
        UnknownName: for a name that is no kernel's.
    """
    if kernel_name in KERNELS.names():
        return hash_of(_ROOT / "implementations" / f"{kernel_name}.py", _ROOT)
    file = sys.modules[type(KERNELS.load(kernel_name)).__module__].__file__
    return _digest([Path(file)], Path(file).parent) if file else ""


def hash_of(file: Path, root: Path) -> str:
    """The hash of a file of the package that lies in the folder ``root``, with all it reaches there."""
    modules = reached(file, root)
    cuda = {source for module in modules for source in module.parent.glob("*.cu")}
    return _digest(sorted(modules | cuda), root)


def reached(file: Path, root: Path) -> set[Path]:
    """The file and every module under ``root`` that it imports, at any depth, inside functions too."""
    found: set[Path] = set()
    left = [file]
    while left:
        module = left.pop()
        if module not in found:
            found.add(module)
            left += [path for path in _imported(module) if path.is_relative_to(root)]
    return found


def _imported(module: Path) -> Iterator[Path]:
    """Files of what a module imports relatively, and of the packages that are run on the way."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = module.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        named = [base, *(base / alias.name for alias in node.names)]
        for path in [*named, base.parent]:
            yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())


def _digest(files: list[Path], root: Path) -> str:
    total = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()[:DIGITS]
