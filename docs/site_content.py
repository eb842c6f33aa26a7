"""Content of the documentation site beside docs/: the tree of the package, its API pages, and the recorded report."""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
ROOT_PAGES: Final = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages in the root of the repository, and their names on the site."""

REPORT: Final = "report.html"
REPORT_NAME: Final = "the page of all recorded numbers"
"""The report of the committed records, which exists on the site alone, and the words that are linked to it there."""

OTHER_FILE: Final = re.compile(r"(?<!!)\[([^]]+)\]\((?![a-z]+://)[^)#]+\.(?!md\b)\w+\)")
"""A link to a file of the repository that is no page, such as one of records."""


def packages() -> dict[str, str]:
    """Return the folder of every package below `moebench`, as pyproject.toml maps them."""
    mapped: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    return {package: folder for package, folder in mapped.items() if "." in package}


def link_package(tree: Path) -> None:
    """Make the folders of the repository the package `moebench` in a folder."""
    (tree / "moebench").mkdir()
    for folder in {folder.partition("/")[0] for folder in packages().values()}:
        (tree / "moebench" / folder).symlink_to(ROOT / folder)


def api_pages() -> dict[str, str]:
    """Return the text of the API page of each package, by the name of its file."""
    pages = {}
    for package, folder in packages().items():
        modules = [path.stem for path in sorted((ROOT / folder).glob("*.py")) if path.name != "__init__.py"]
        parts = [
            f"## `{name}`\n\n::: {package}.{name}\n    options:\n      show_root_heading: false\n" for name in modules
        ]
        pages[f"api/{package}.md"] = "\n".join([f"# {package}\n", *parts])
    return pages


def api_navigation() -> list[dict[str, list[dict[str, str]]]]:
    """Return the API pages by top folder, each under its name, as mkdocs wants them."""
    sections: dict[str, list[dict[str, str]]] = defaultdict(list)
    for package in packages():
        sections[package.split(".")[1]].append({package.partition(".")[2]: f"api/{package}.md"})
    return [{folder: pages} for folder, pages in sections.items()]


def recorded_report() -> str:
    """Return the HTML report of all records in results/recorded, with the predictions beside them."""
    from moebench.reports.report import Report  # noqa: PLC0415 - the hooks have shown where the package is
    from moebench.results.record.prediction import holds_predictions, read  # noqa: PLC0415
    from moebench.results.record.store import load_all  # noqa: PLC0415

    paths = sorted((ROOT / "results/recorded").glob("*.jsonl"))
    predicted = [path for path in paths if holds_predictions(path)]
    loaded = load_all(path for path in paths if path not in predicted)
    predictions = [one for path in predicted for one in read(path)]
    with tempfile.TemporaryDirectory() as folder:
        return Report(loaded.records, loaded.problems, predictions).write(Path(folder, REPORT)).read_text()


def on_site(markdown: str) -> str:
    """Point links of a page of the repository to their places on the site, unlink other files, link the report."""
    for source, name in ROOT_PAGES.items():
        markdown = re.sub(rf"\]\((\.\./)?{re.escape(source)}", f"]({name}", markdown)
    markdown = OTHER_FILE.sub(r"\1", markdown.replace("](docs/", "]("))
    return markdown.replace(REPORT_NAME, f"[{REPORT_NAME}]({REPORT})")
