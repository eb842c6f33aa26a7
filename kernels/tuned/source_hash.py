"""Which sources a kernel is made of, as one short hash: what was measured of other sources is not true of these."""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeGuard

from ..catalog import KERNELS

DIGITS = 12  # enough to tell apart what one package was and is
MODEL = "steps"  # what a kernel says of its time is not what it is made of
_ROOT = Path(__file__).parents[1]


@cache
def source_hash(kernel_name: str) -> str:
    """The first 12 hex digits of sha256 over the files that a kernel is made of, by name and code.

    These are its own file, the modules of this package that it imports, directly or through others, and the CUDA
    sources beside them. Comments, docstrings and the static model (`Kernel.steps` and what only it imports) do not
    count. Of a kernel from outside the package it is its own file; "" where there is none, or one that is no Python.

    Raises:
        UnknownName: for a name that is no kernel's.
    """
    if kernel_name in KERNELS.names():
        try:
            return hash_of(_ROOT / "implementations" / f"{kernel_name}.py", _ROOT)
        except SyntaxError:
            return ""
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
    for node in _walk(ast.parse(module.read_bytes())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = module.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        named = [base, *(base / alias.name for alias in node.names)]
        for path in [*named, base.parent]:
            yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())


def _digest(files: list[Path], root: Path) -> str:
    total = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(_code(file).encode()).hexdigest()
        total.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()[:DIGITS]


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it but the static model."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not _of_the_model(child):
            yield from _walk(child)


def _of_the_model(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and node.name == MODEL


def _code(file: Path) -> str:
    """The text of a source as it is run: the same for every version of Python."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if _of_the_model(node) or _is_docstring(node):
            for row in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[row] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _is_docstring(node: ast.AST) -> TypeGuard[ast.Expr]:
    """A text that nobody reads when it is run."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
