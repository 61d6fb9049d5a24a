"""Tests of the documentation site: it builds without warnings, every link resolves, and Chromium shows it as a reader needs it."""

import functools
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from dialgate import __version__
from tests.support.chromium import running_chromium
from tests.support.paths import ROOT

in_module_loop = pytest.mark.asyncio(loop_scope="module")


LARGE = "reference/http-api"  # written in make torture only
WIDE = ("index", "reference/settings", LARGE, "reference/errors", "reference/metrics", "reference/countries/it")  # fmt: skip
OPENED = (*WIDE, "how-to/rotate-keys")
PARTIAL = "WARNING: search index couldn't be loaded, but not all documents will be built: the index will be incomplete.\n"


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read all pages and resolve their links. A warning, such as a broken link, is an error.

    Only the pages that tests open are written, because writing takes two fifths of the time. `make docs` writes all.
    """
    folder = tmp_path_factory.mktemp("site")
    assert _build(folder, "dummy") == ""
    is_large = any(LARGE in item.name for item in request.session.items)
    files = [f"docs/{name}.md" for name in OPENED if name != LARGE or is_large]
    assert _build(folder, "html", *files) == PARTIAL
    return folder


# Without garbage collection, which takes a quarter of the time and frees little, and without curly quotes, which take a sixth.
SPHINX = "import gc, sys; gc.disable(); from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"
OPTIONS = ("-q", "--no-color", "-W", "--keep-going", "-D", "smartquotes=0", "-c", "docs")


def _build(folder: Path, builder: str, *files: str) -> str:
    """Return the warnings."""
    build = subprocess.run(
        [sys.executable, "-c", SPHINX, *OPTIONS, "-b", builder, ".", str(folder), *files],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return build.stderr


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write nothing: a request is no event of the test."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the site: a browser reads no excerpts from files."""
    handler = functools.partial(_Silent, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def phone() -> AsyncIterator[Page]:
    """Open a page that is as narrow as a phone."""
    async with running_chromium() as browser:
        yield await browser.new_page(viewport={"width": 390, "height": 844})


def test_a_page_names_the_version_and_the_date(site: Path) -> None:
    page = (site / "docs/how-to/rotate-keys.html").read_text("utf-8")
    assert f"dialgate {__version__}</title>" in page
    (date,) = re.findall(r"Last updated on (\d{4}-\d\d-\d\d)", page)
    assert abs((datetime.fromisoformat(date).replace(tzinfo=UTC) - datetime.now(UTC)).days) <= 1


def test_llms_txt_lists_every_page_in_a_menu_as_markdown(site: Path) -> None:
    listed = re.findall(r"^- \[.+\]\((\S+)\): \S", (site / "llms.txt").read_text("utf-8"), re.MULTILINE)
    sources = {name.removeprefix("_sources/").removesuffix(".txt") for name in listed}
    assert [name for name in sources if not (ROOT / name).is_file()] == []
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*/*.md")} - sources == set()
    assert {str(path.relative_to(site)) for path in site.glob("_sources/docs/*/*.txt")} <= {*listed}


@in_module_loop
async def test_each_reader_finds_three_links_and_a_picture(address: str, phone: Page) -> None:
    await phone.goto(f"{address}/docs/index.html")
    cards = phone.locator("#start-here > section:has(img)")
    assert await cards.count() == 5
    for card in await cards.all():
        assert await card.locator("li a").count() == 3
        assert await card.locator("img").evaluate(
            "picture => picture.decode().then(() => picture.naturalWidth)"
        )


@in_module_loop
async def test_a_code_block_has_a_copy_button(address: str, phone: Page) -> None:
    await phone.goto(f"{address}/docs/how-to/rotate-keys.html")
    await expect(phone.locator("button.copybtn")).to_have_count(
        await phone.locator("div.highlight pre").count()
    )


@in_module_loop
async def test_search_shows_excerpts(address: str, phone: Page) -> None:
    await phone.goto(f"{address}/search.html?q=abandoned")
    await expect(phone.locator("ul.search li p.context").first).to_contain_text(
        re.compile("abandon", re.IGNORECASE)
    )


@in_module_loop
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.torture if name == LARGE else ()) for name in WIDE],
)
async def test_a_phone_shows_every_column_of_a_table(address: str, phone: Page, name: str) -> None:
    await phone.goto(f"{address}/docs/{name}.html")
    assert await phone.evaluate("document.documentElement.scrollWidth") == 390
    tables = phone.locator("table.docutils")
    assert await tables.count() > 0
    cut = "tables => tables.filter(table => table.scrollWidth > table.parentElement.clientWidth).map(table => table.innerText.slice(0, 200))"
    assert await tables.evaluate_all(cut) == []
