"""The site builds without a warning, fetches nothing, and leaves out no key and no command."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from mkdocs.commands.build import build
from mkdocs.config import load_config
from omegaconf import DictConfig, OmegaConf
from playwright.sync_api import Browser, expect

import tlunet
from tlunet.cli import app

ROOT = Path(__file__).parents[2]
FETCHING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Built as CI builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
        yield folder


class Fetched(HTMLParser):
    """The addresses that a browser asks for by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name == FETCHING.get(tag)]


def test_a_browser_asks_for_nothing_outside(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = Fetched()
        fetched.feed(page.read_text(encoding="utf-8"))
        assert fetched.found
        for address in fetched.found:
            assert not re.match(r"(https?:)?//", address), f"{page.name}: {address}"
            if page.name != "404.html":  # whose addresses begin at the site's root
                assert (page.parent / address.partition("?")[0]).exists(), f"{page.name}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text())


def test_the_search_works_from_disk(site: Path, chromium: Browser) -> None:
    tab = chromium.new_page()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((site / "studies" / "neu_seg.html").as_uri())
    field = tab.locator(".md-search__input")
    field.click()
    for word, page in {
        "install": "Installation",
        "Windows": "Installation",
        "interrupted": "Interruption and recovery",
        "resume": "Interruption and recovery",
        "troubleshoot": "Troubleshooting",
        "freeze": "Troubleshooting",
        "protocol": "Glossary",
    }.items():
        field.clear()
        field.press_sequentially(word)
        expect(tab.locator(".md-search-result__list h1", has_text=page).first).to_be_visible()
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}


def test_every_key_is_explained(site: Path) -> None:
    page = (site / "configuration.html").read_text(encoding="utf-8")
    config = OmegaConf.load(ROOT / "conf/config.yaml")
    assert isinstance(config, DictConfig)
    keys = [str(k) for k in config if k not in ("defaults", "hydra")]
    names = [f"{k}.{n}" for k in keys if isinstance(config[k], DictConfig) for n in config[k]]
    names += [k for k in keys if not isinstance(config[k], DictConfig)]
    for name in names:
        row = re.search(rf"<td><code>{re.escape(name)}</code></td>(.*?)</tr>", page, re.S)
        assert row, name
        _, _, allowed = re.findall(r"<td>(.*?)</td>", row[1], re.S)
        assert allowed, f"{name}: no rule says what is allowed"
    for file in (ROOT / "conf").glob("*/**/*.yaml"):
        assert f">{file.stem}</label>" in page, file


def test_every_command_is_there(site: Path) -> None:
    page = (site / "commands.html").read_text(encoding="utf-8")
    found = list(_verbs(typer.main.get_command(app), "tlunet"))
    assert "tlunet data check" in found
    for verb in found:
        assert f"<code>{verb}</code>" in page
    assert "masks/&lt;image&gt;.png" in page  # no tag


def test_every_exported_name_is_there(site: Path) -> None:
    page = (site / "reference.html").read_text(encoding="utf-8")
    for name in tlunet.__all__:
        assert f'id="{getattr(tlunet, name).__module__}.{name}"' in page
    assert ":class:" not in page


def _verbs(command: object, name: str) -> Iterator[str]:
    yield name
    for verb, below in getattr(command, "commands", {}).items():
        yield from _verbs(below, f"{name} {verb}")


def test_pages_that_lie_elsewhere_have_their_tables_and_pictures(site: Path) -> None:
    page = (site / "studies/tlunet_paper.html").read_text(encoding="utf-8")
    assert "<table" in page
    assert "<!-- scores" not in page
    assert 'src="../experiments/tlunet_paper/synthetic/figures/figure_4.png"' in page
    assert (site / "experiments/tlunet_paper/synthetic/figures/figure_4.png").exists()
    assert "<code>conf/hydra/launcher</code>" in (site / "clusters.html").read_text()
