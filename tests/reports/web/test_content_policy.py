"""The policy of a page allows the style and the script that it has, by their hashes, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

from moebench.reports.report import Report
from moebench.reports.web import content_policy
from moebench.results.record import Record

FOLDER = Path(content_policy.__file__).parents[1] / "templates"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_hashes_are_those_of_what_the_page_has(make: Callable[..., Record], tmp_path: Path) -> None:
    html = Report([make()]).write(tmp_path / "r.html").read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    style, script = (
        re.search(r"<style>(.*?)</style>", html, re.DOTALL),
        re.search(r"<script>(.*?)</script>", html, re.DOTALL),
    )
    assert policy
    assert style
    assert script
    assert dict(part.split(" ", 1) for part in unescape(policy[1]).split("; ")) == {
        "default-src": "'none'",
        "script-src": _hash(script[1]),
        "style-src": _hash(style[1]),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_a_page_without_a_script_allows_none() -> None:
    assert "script-src" not in content_policy.policy("a {}")


def test_every_file_of_styles_and_scripts_is_in_the_page() -> None:
    for folder, names, suffix in (
        ("styles", content_policy.STYLES, ".css"),
        ("scripts", content_policy.SCRIPTS, ".js"),
        ("vendor", content_policy.LIBRARIES, ".js"),
    ):
        assert sorted(names) == sorted(path.stem for path in (FOLDER / folder).glob(f"*{suffix}"))
        text = content_policy.script() if suffix == ".js" else content_policy.stylesheet()
        for name in names:
            assert (FOLDER / folder / f"{name}{suffix}").read_text(encoding="utf-8").strip() in text


def test_a_library_has_its_licence_and_origin() -> None:
    readme = (FOLDER / "vendor" / "README.md").read_text(encoding="utf-8")
    assert all(f"{name}.js" in readme for name in content_policy.LIBRARIES)
    assert "Permission is hereby granted" in content_policy.script()


def test_nothing_in_a_script_ends_it_or_reaches_out() -> None:
    own = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "scripts").glob("*.js"))
    assert "</script" not in content_policy.script().lower()
    assert not re.search(r"innerHTML|document\.write|\beval\b|fetch\(|XMLHttpRequest|import\(", own)
