"""A headless Chromium of the system, once for all tests, and pages that are watched while a test uses them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moebench.reports.report import Report
from moebench.results.record import Record, Status

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Make = Callable[..., Record]
Open = Callable[..., "Page"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EVIL = (
    "<script>window.hit=1</script>\"'><img src=x onerror=window.hit=2></script><!--<svg onload=window.hit=3>"
    "&lt;b&gt; {{ 7*7 }} ]]> \u2028\u202e\u0000\u001b[31m"
)
"""A name that would do something if anything took it for more than text."""

WATCH = (
    "document.addEventListener('securitypolicyviolation', (event) => (window.refused ??= []).push(event.blockedURI))"
)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Let one worker run all of these tests, because each has to start a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("Playwright is not installed: pip install playwright")
    executable = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"no browser is installed, none of {', '.join(BROWSERS)}: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # it may be missing

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def evil(make: Make) -> list[Record]:
    """Records whose every text is `EVIL`."""
    names = {"suite": EVIL, "question": EVIL, "axis": EVIL, "series": EVIL, "baseline": EVIL}
    problem = {"dtype": EVIL, "load": EVIL}
    failed = make("b", x=EVIL, problem=problem, status=Status.crashed, reason=EVIL, **names)
    return [*(make(f"{EVIL}{n}", x=float(n), problem=problem, config={EVIL: n}, **names) for n in range(1, 4)), failed]


@pytest.fixture(scope="session")
def written(sweep: list[Record], evil: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a long page, with hostile records at its end."""
    return Report([*sweep, *evil], [EVIL]).write(tmp_path_factory.mktemp("browser") / "report.html")


@pytest.fixture(scope="session")
def short(suites: dict[str, list[Record]], evil: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a page that has one of everything."""
    records = [*suites["capacity"], *suites["parallel"][:14], *evil]
    return Report(records, [EVIL]).write(tmp_path_factory.mktemp("short") / "report.html")


@pytest.fixture
def opened(browser: Browser, written: Path) -> Iterator[Open]:
    """Open the page, in a window of its own; afterwards nothing may have gone wrong in it or left it."""
    contexts, wrong, pages = [], [], []

    def open_page(path: Path = written, *, fragment: str = "", width: int = 1440, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        pages.append(page)
        page.set_default_timeout(5000)
        page.add_init_script(WATCH)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.route(lambda url: not url.startswith(path.as_uri()), lambda route: wrong.append(route.request.url))
        page.on("request", lambda request: None if request.url.startswith(path.as_uri()) else wrong.append(request.url))
        page.goto(path.as_uri() + fragment)
        return page

    yield open_page
    for page in pages:
        if page.evaluate("true"):
            assert page.evaluate("window.refused ?? []") == [], "what the policy of the page refused"
            assert page.evaluate("window.hit ?? 0") == 0, "a name was executed"
    for context in contexts:
        context.close()
    assert wrong == []
