"""Test the page in a real browser: drop an image and see the results of both networks."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from deploy.networks import CLASSES, SIZE
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tlunet.deploy.predict import Predictor

Line = Callable[..., int]

# Gradio 6.31 with pandas 3 uses deprecated options.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*future.no_silent_downcasting"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is on the PATH: needs a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    examples = np.random.default_rng(0).integers(0, 256, (3, *SIZE), dtype=np.uint8)
    predictor = Predictor.load(run)
    networks = {"first": predictor, "<i>second</i>": predictor}
    from tlunet.deploy.demo import served  # here: Gradio takes seconds to import

    with served(networks, {f"{k}.jpg": image for k, image in enumerate(examples)}) as where:
        yield where


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page; teardown checks that no other machine was contacted."""
    assert address.startswith("http://127.0.0.1:")
    asked: list[str] = []
    tab = browser.new_page(viewport={"width": 1400, "height": 1100})
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(address)
    yield tab
    tab.close()
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_a_dropped_image_is_looked_at_by_both(page: Page, images: Path, tmp_path: Path) -> None:
    from tlunet.deploy import demo

    page.locator("#image input[type=file]").set_input_files(images / "b.jpg")
    for k in (0, 1):
        expect(page.locator(f"#found-{k} img")).to_be_visible(timeout=20_000)
        table = page.locator(f"#table-{k}")
        for text in (*demo.COLUMNS, *CLASSES):
            expect(table.get_by_text(text, exact=True).first).to_be_attached()
    expect(page.get_by_text("<i>second</i>", exact=True)).to_be_visible()
    names = [b.get_attribute("aria-label") or "" for b in page.locator("button").all()]
    assert "Fullscreen" in " ".join(names)
    assert not [name for name in names if "share" in name.lower()]
    assert not list(Path(demo.__file__).parent.glob("*.pyi"))  # Gradio writes such files
    page.screenshot(path=tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as file:
        assert len(file.convert("RGB").getcolors(1 << 24) or []) > 100


def test_an_example_is_one_click_away(page: Page) -> None:
    page.locator(".gallery-item, .gallery button, table.gallery td").first.click()
    expect(page.locator("#found-0 img")).to_be_visible(timeout=20_000)


def test_an_image_that_cannot_be_read_is_said_so(page: Page, images: Path) -> None:
    page.locator("#image input[type=file]").set_input_files(images / "broken.jpg")
    expect(page.get_by_text("cannot be read as an image")).to_be_visible(timeout=20_000)


def test_no_other_machine_can_ask(address: str) -> None:
    """The server listens on loopback only."""
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    listening = [
        line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]  # fmt: skip
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "nowhere: no such checkpoint"),
        (["RUN", "nowhere"], "nowhere: no such checkpoint"),
        (["RUN", "--device", "gpu"], "--device gpu"),
        (["RUN", "--tuned"], ": not tuned; before --tuned, run tlunet tune"),
    ],
)
def test_a_mistake_is_a_line_and_exit_code_2(
    args: list[str], message: str, run: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tlunet("demo", *(run if arg == "RUN" else arg for arg in args), "--no-browser") == 2
    assert message in capsys.readouterr().err


def test_a_port_that_is_taken(
    run: Path, address: str, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    port = address.rstrip("/").rsplit(":", 1)[1]
    assert tlunet("demo", run, "--no-browser", "--port", port) == 2
    assert f"--port {port}: port in use, choose another" in capsys.readouterr().err


def test_without_gradio(
    run: Path, tlunet: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tlunet.machine.versions.find_spec", lambda name: None)
    assert tlunet("demo", run) == 2
    assert capsys.readouterr().err == (
        "tlunet demo: gradio is not installed; pip install '.[demo]'\n"
    )
