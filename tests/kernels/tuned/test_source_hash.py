"""A kernel's hash changes with what the kernel is made of, and with nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from faulty_kernels import FAULTY

from moebench.common.names import UnknownName
from moebench.kernels import kernel as package_module
from moebench.kernels.catalog import KERNELS
from moebench.kernels.tuned.source_hash import Sources, hash_of, reached, source_hash

ROOT = Path(package_module.__file__).parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__")))


def of(root: Path, name: str) -> str:
    return hash_of(root / "implementations" / f"{name}.py", root)


REACHED = {
    "scatter": ["implementations/scatter.py", "problem/routing.py", "problem/shard.py"],  # the last through tensors.py
    "triton_scatter": [
        "implementations/_triton.py",
        "triton/expert_mlp.py",  # imported when a layer is built
        "triton/grouped_gemm.py",
        "triton/__init__.py",
        "cuda/route_sorting.cu",
    ],
}
NOT_REACHED = {
    "scatter": [
        "implementations/loop.py",
        "implementations/_triton.py",
        "tuned/select.py",
        "tuned/lookup.py",
        "triton/rows.py",
        "cuda/route_sorting.cu",
        "cost_model/cpu.py",
    ],
    "triton_scatter": [
        "triton/block_products.py",
        "compiler/compile.py",
        "cost_model/gpu_launches.py",  # imported by steps
    ],
}


def edit(path: Path) -> None:
    with path.open("a") as opened:
        opened.write("// edited\n" if path.suffix == ".cu" else "edited = True\n")


@pytest.mark.parametrize(("kernel", "file"), [(kernel, file) for kernel, files in REACHED.items() for file in files])
def test_editing_a_file_changes_the_hash_of_what_reaches_it(copy: Path, kernel: str, file: str) -> None:
    edit(copy / file)
    assert of(copy, kernel) != source_hash(kernel)


@pytest.mark.parametrize("kernel", NOT_REACHED)
def test_editing_what_a_kernel_does_not_reach_changes_no_hash(copy: Path, kernel: str) -> None:
    for file in NOT_REACHED[kernel]:
        edit(copy / file)
    assert of(copy, kernel) == source_hash(kernel)


@pytest.mark.parametrize(
    "change",
    [
        ('    family = "scatter"\n', '    family = "scatter"  # a remark\n'),
        ('    family = "scatter"\n', '\n    # A remark.\n    family = "scatter"\n'),
        (
            '    """Products of one tile of at most ``tile`` rows of one expert at a time."""\n',
            '    """Products,\n    of all."""\n',
        ),
        ("        counts = rows_of_experts(routing)\n", "        counts = (1,)\n"),  # in steps
    ],
)
def test_what_is_not_run_does_not_count(copy: Path, change: tuple[str, str]) -> None:
    before, path = source_hash("scatter"), copy / "implementations" / "scatter.py"
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change))
    assert of(copy, "scatter") == before


def test_a_function_or_method_that_is_called_steps_counts_unless_it_is_a_kernels_model(copy: Path) -> None:
    """Helpers of that name, in the kernel's file and in files that it imports, are part of the kernel."""
    helper = "\n\nclass Plan:\n    def steps(self) -> int:\n        return {}\n\n\ndef steps() -> int:\n    return {}\n"
    for file in ("implementations/scatter.py", "problem/routing.py"):
        path, hashes = copy / file, []
        text = path.read_text()
        for numbers in ((1, 1), (2, 1), (1, 2)):
            path.write_text(text + helper.format(*numbers))
            hashes.append(of(copy, "scatter"))
        assert len(set(hashes)) == 3


def test_the_model_of_a_kernel_does_not_count_where_its_class_derives_from_another_kernels(copy: Path) -> None:
    path = copy / "implementations" / "triton_scatter.py"
    text = path.read_text()
    hashes = []
    for number in (1, 2):
        model = f"\n\nclass Modelled(TritonScatter):\n    def steps(self) -> int:\n        return {number}\n"
        path.write_text(text + model)
        hashes.append(of(copy, "triton_scatter"))
    assert hashes[0] == hashes[1]


def test_a_hash_in_a_text_is_no_comment(copy: Path) -> None:
    path = copy / "implementations" / "scatter.py"
    before = source_hash("scatter")
    path.write_text(path.read_text().replace('family = "scatter"', 'family = "scatter # 2"'))
    assert of(copy, "scatter") != before


def test_the_place_of_the_package_does_not_matter(copy: Path) -> None:
    sources = Sources()
    for name in KERNELS.names():
        assert hash_of(copy / "implementations" / f"{name}.py", copy, sources) == source_hash(name)


def test_every_kernel_has_a_hash_of_its_own() -> None:
    hashes = [source_hash(name) for name in KERNELS.names()]
    assert all(re.fullmatch("[0-9a-f]{12}", one) for one in hashes)
    assert len(set(hashes)) == len(hashes)


def test_a_moved_file_is_another(copy: Path) -> None:
    """File names count: the same content under another name is another kernel."""
    one = copy / "implementations" / "loop.py"
    assert hash_of(one, copy) != hash_of(one.rename(one.with_name("other.py")), copy)


def test_every_way_of_importing_is_followed(tmp_path: Path) -> None:
    files = {
        "__init__.py": "",
        "a.py": "from . import b\nfrom .c import x\nimport json\nfrom pathlib import Path\n",
        "b.py": "def f():\n    from .d.e import y\n",
        "c.py": "from .a import z\n",  # a circle
        "d/__init__.py": "from .. import g\n",
        "d/e.py": "from ...outside import h\n",
        "f.py": "",
        "g.py": "",
        "../outside.py": "",
    }
    root = tmp_path / "root"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = {path.relative_to(root).as_posix() for path in reached(root / "a.py", root)}
    assert found == {"__init__.py", "a.py", "b.py", "c.py", "d/__init__.py", "d/e.py", "g.py"}


def test_a_block_around_a_kernel_is_a_part_of_what_it_is_made_of(copy: Path) -> None:
    """Editing it changes the hash with it, and not that of the kernel alone or of another block."""
    names = ("", "shared:width=8", "latent")
    assert len({source_hash("loop", name) for name in names}) == len(names)
    assert source_hash("loop", "shared:width=8") == source_hash("loop", "shared")
    file, block = copy / "implementations" / "loop.py", copy / "blocks" / "shared.py"
    before = hash_of(file, copy), hash_of(file, copy, also=[block])
    edit(copy / "blocks" / "_mlp.py")
    assert hash_of(file, copy) == before[0]
    assert hash_of(file, copy, also=[block]) != before[1]


def test_a_kernel_from_elsewhere_has_the_hash_of_its_own_file() -> None:
    found = {(type(kernel).__module__, source_hash(name)) for name, kernel in FAULTY.items()}
    assert len(found) == len(dict(found)) == len({one for _, one in found})
    assert all(re.fullmatch("[0-9a-f]{12}", one) for _, one in found)


def test_an_unknown_name_is_said_to_be_one() -> None:
    with pytest.raises(UnknownName, match="did you mean scatter"):
        source_hash("scater")
