"""Links of the documentation lead somewhere, and its code blocks have a known language."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_scripts import generate
from pages import LANGUAGES, PAGES, ROOT, blocks

LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES_WITH_LINKS = [*PAGES, ROOT / "CHANGELOG.md"]


def anchors(page: Path) -> set[str]:
    return {generate.heading_anchor(title) for _, title in generate.headings(page.read_text())}


@pytest.mark.parametrize("page", PAGES_WITH_LINKS, ids=lambda page: page.name)
def test_relative_links_and_anchors_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in LINK.findall(text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, which does not exist"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}, and {target.name} has no such heading"


def test_every_page_of_the_documentation_is_on_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}\n" in navigation, f"mkdocs.yml does not list {page.name}"


def test_code_blocks_name_a_language_that_the_tests_know() -> None:
    assert {str(block): block.language for block in blocks() if block.language not in LANGUAGES} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_code_is_merely_indented(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"\n\n    \S", text), f"{page.name} has an indented block, whose commands no test would see"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100
