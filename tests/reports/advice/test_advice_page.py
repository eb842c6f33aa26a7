"""The page of an advice: whole without scripts and network, and safe whatever the advice says."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from invented_advice import EVIL, advice, invented

from moebench.reports.advice.advice_page import as_html, as_markdown, write_page
from moebench.reports.advice.advice_words import phase_answer
from moebench.results.record.advice import Advice
from moebench.results.record.store import StoreError


class Tags(HTMLParser):
    """Tags of a page, each with its attributes, and the text outside of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_policy_lets_in_the_one_style_and_nothing_else() -> None:
    page = as_html(advice())
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    found = Tags(page).tags
    policies = [attributes for tag, attributes in found if attributes.get("http-equiv")]
    (policy,) = (one["content"] or "" for one in policies)
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert "script-src" not in policy
    assert not [tag for tag, _ in found if tag in ("script", "link", "img", "iframe", "object")]
    assert not [attributes for _, attributes in found if {"style", "src", "href", "onload"} & set(attributes)]


def test_page_and_markdown_say_what_the_terminal_says() -> None:
    one = advice()
    for page in (Tags(as_html(one)).text, as_markdown(one)):
        for said in ("use grouped (certain)", "use loop (tied with grouped)", "measured on 2026-03-01", "MXFP4"):
            assert said in page, said
        assert page.count("grouped") > 3
        assert "one dispatch for all phases: grouped, which takes" in page


def test_times_are_drawn_to_scale_with_their_intervals() -> None:
    bars = [attributes for tag, attributes in Tags(as_html(advice())).tags if tag in ("rect", "path")]
    widths = [float(one["width"] or 0) for one in bars if "width" in one]
    assert widths == [45.45, 90.91, 89.13, 90.91]  # 1 and 2 ms up to 2.2 ms, 50 and 51 ms up to 56.1 ms
    assert [one["d"] for one in bars if "d" in one][:2] == ["M40.91 5H50.00", "M81.82 5H100.00"]


def test_a_phase_without_a_dispatch_says_why() -> None:
    one = invented(
        phases=[advice().phases[0].model_copy(update={"options": [], "margin": None, "reason": "too large"})]
    )
    assert "there is nothing to advise: too large" in phase_answer(one.phases[0])
    for page in (Tags(as_html(one)).text, as_markdown(one)):
        assert "too large" in page
        assert "the mix has no total" in page


@pytest.mark.parametrize("field", ["layer", "device", "command", "notes"])
def test_text_of_anywhere_is_text_on_a_page(field: str) -> None:
    one = invented(**{field: [EVIL] if field == "notes" else EVIL})
    parsed = Tags(as_html(one))
    assert "<script>alert(1)</script>" in parsed.text
    assert not [tag for tag, _ in parsed.tags if tag in ("script", "img")]
    lines = as_markdown(one).splitlines()
    inside = "\n".join(lines[: lines.index("```bash")] if "```bash" in lines else lines)
    assert "<script>" not in inside
    assert "\x1b" not in as_html(one) + as_markdown(one)


def test_kernels_and_configurations_of_anywhere_are_text_on_a_page() -> None:
    option = advice().phases[0].options[0].model_copy(update={"kernel": EVIL, "config": {EVIL: EVIL}, "basis": EVIL})
    phase = advice().phases[0].model_copy(update={"options": [option], "left_out": [EVIL]})
    one = invented(phases=[phase])
    assert not [tag for tag, _ in Tags(as_html(one)).tags if tag in ("script", "img")]
    assert "<script>" not in as_markdown(one)


def test_a_page_is_of_the_kind_that_its_name_says(tmp_path: Path) -> None:
    write_page(advice(), tmp_path / "a.html")
    write_page(advice(), tmp_path / "a.md")
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "a.md").read_text().startswith("# a layer on a CPU")
    with pytest.raises(StoreError, match="give an --output that can be written"):
        write_page(advice(), Path("/proc/none/a.html"))


def test_an_advice_is_read_again_as_it_was_written() -> None:
    one = advice()
    assert Advice.model_validate_json(one.model_dump_json(exclude_none=True)) == one
