"""Hash of the source files that a kernel is made of: a measurement holds for equal sources only."""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from ..catalog import KERNELS

DIGITS = 12  # enough to tell apart all versions of one package
KERNEL, MODEL = "Kernel", "steps"  # the class and its method that models the time of a call, and is never timed itself
_ROOT = Path(__file__).parents[1]


@cache
def source_hash(kernel_name: str, block: str = "") -> str:
    """Return the first 12 hex digits of sha256 over the files that a kernel is made of, by name and code.

    These are its own file, the modules of this package that it imports, directly or through others, and the CUDA
    sources beside them. Comments, docstrings and the static model (`Kernel.steps` and what only it imports) are left
    out. With the text of a ``block``, the files of that block are among them. A kernel from outside the package has the
    hash of its own file. The hash is "" for a file that is missing or not valid Python.

    Raises:
        UnknownName: when no kernel has that name.
    """
    if kernel_name in KERNELS.names():
        try:
            of_block = (_ROOT / "blocks" / f"{block.partition(':')[0]}.py", _ROOT / "block_kernel.py") if block else ()
            return hash_of(_ROOT / "implementations" / f"{kernel_name}.py", _ROOT, _SOURCES, also=of_block)
        except SyntaxError:
            return ""
    file = sys.modules[type(KERNELS.load(kernel_name)).__module__].__file__
    return _digest([Path(file)], Path(file).parent, Sources()) if file else ""


class Sources:
    """Source files, each of which is parsed once: kernels share most of theirs."""

    def __init__(self) -> None:
        self._imported: dict[Path, list[Path]] = {}
        self._digests: dict[Path, str] = {}

    def imported(self, file: Path) -> list[Path]:
        """Return the files of what a module imports relatively."""
        if file not in self._imported:
            self._imported[file] = list(_imported(file))
        return self._imported[file]

    def digest(self, file: Path) -> str:
        """Return the hash of the code of one file."""
        if file not in self._digests:
            self._digests[file] = hashlib.sha256(_code(file).encode()).hexdigest()
        return self._digests[file]


_SOURCES: Final = Sources()


def hash_of(file: Path, root: Path, sources: Sources | None = None, *, also: Iterable[Path] = ()) -> str:
    """Return the hash of a file and of all files under ``root`` that it reaches, or that others do, ``also``."""
    sources = sources or Sources()
    modules = reached(file, root, sources).union(*(reached(one, root, sources) for one in also))
    cuda = {source for module in modules for source in module.parent.glob("*.cu")}
    return _digest(sorted(modules | cuda), root, sources)


def reached(file: Path, root: Path, sources: Sources | None = None) -> set[Path]:
    """Return the file and every module under ``root`` that it imports, at any depth, inside functions too."""
    sources = sources or Sources()
    found: set[Path] = set()
    left = [file]
    while left:
        module = left.pop()
        if module not in found:
            found.add(module)
            left += [path for path in sources.imported(module) if path.is_relative_to(root)]
    return found


def _imported(module: Path) -> Iterator[Path]:
    """Yield the files of what a module imports relatively, and of the packages that are imported on the way."""
    tree = ast.parse(module.read_bytes())
    for node in _walk(tree, _models(tree, module)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = module.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        named = [base, *(base / alias.name for alias in node.names)]
        for path in [*named, base.parent]:
            yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())


def _digest(files: list[Path], root: Path, sources: Sources) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(root).as_posix()} {sources.digest(file)}\n".encode())
    return total.hexdigest()[:DIGITS]


def _walk(node: ast.AST, left_out: set[ast.AST]) -> Iterator[ast.AST]:
    """Yield a node and all nodes below it, without those left out."""
    yield node
    for child in ast.iter_child_nodes(node):
        if child not in left_out:
            yield from _walk(child, left_out)


def _models(tree: ast.Module, file: Path) -> set[ast.AST]:
    """Return the static models in a file: the method `steps` of each class that derives from `Kernel`."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    methods = [(node, method) for node in classes for method in node.body if isinstance(method, ast.FunctionDef)]
    return {method for node, method in methods if method.name == MODEL and _is_kernel(node.name, tree, file)}


def _is_kernel(name: str, tree: ast.Module, file: Path) -> bool:
    """Return whether a name in a file is `Kernel` or a class that derives from it, directly or through other files."""
    if name == KERNEL:
        return True
    for index, node in enumerate(tree.body):
        if isinstance(node, ast.ClassDef) and node.name == name:
            above = ast.Module(tree.body[:index], [])  # where its bases are defined or imported
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            return any(_is_kernel(base, above, file) for base in bases)
        if isinstance(node, ast.ImportFrom) and node.level and name in (alias.name for alias in node.names):
            source = file.parents[node.level - 1].joinpath(*(node.module or "").split(".")).with_suffix(".py")
            return source.is_file() and _is_kernel(name, ast.parse(source.read_bytes()), source)
    return False


def _code(file: Path) -> str:
    """Return the text of a source without comments, docstrings and static models, alike in all versions of Python."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    tree = ast.parse(text)
    models = _models(tree, file)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and (node in models or _is_docstring(node)):
            for row in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[row] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _is_docstring(node: ast.AST) -> bool:
    """Return whether a node is a string that is a statement by itself, which nothing reads when the code runs."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
