"""Content of the site: every package has an API page in the navigation, and links lead to where pages are."""

from __future__ import annotations

from pathlib import Path

import site_content


def test_every_package_has_a_page_in_the_navigation() -> None:
    paths = {
        path
        for section in site_content.api_navigation()
        for pages in section.values()
        for page in pages
        for path in page.values()
    }
    assert paths == set(site_content.api_pages())
    assert "api/moebench.reports.plots.md" in paths


def test_the_package_is_linked_whole(tmp_path: Path) -> None:
    site_content.link_package(tmp_path)
    for package, folder in site_content.packages().items():
        linked = tmp_path / package.replace(".", "/")
        assert (linked / "__init__.py").samefile(site_content.ROOT / folder / "__init__.py")


def test_links_lead_to_the_places_on_the_site() -> None:
    text = site_content.on_site(
        "[a](../README.md#x) [b](docs/method.md) [c](results/one.jsonl) [d](https://x.org/y.js)"
    )
    assert text == "[a](index.md#x) [b](method.md) c [d](https://x.org/y.js)"
    assert f"]({site_content.REPORT})" in site_content.on_site(f"see {site_content.REPORT_NAME}")
    assert site_content.REPORT_NAME in (site_content.ROOT / "docs/reading_a_report.md").read_text()
