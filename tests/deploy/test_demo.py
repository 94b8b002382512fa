"""Test the page in a real browser: drop an image and see the results of both networks."""

import errno
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from deploy.networks import CLASSES, SIZE, THRESHOLD
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tlunet.cli.opening import titles_of
from tlunet.deploy.demo.comparison import table
from tlunet.deploy.demo.samples import Example, examples
from tlunet.deploy.predict import Predictor
from tlunet.deploy.stream import Prediction
from tlunet.runs.data import open_data

Line = Callable[..., int]

# Gradio 6.31 with pandas 3 uses deprecated options.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*future.no_silent_downcasting"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    rng = np.random.default_rng(0)
    predictor = Predictor.load(run)
    networks = {"first": predictor, "<i>second</i>": predictor}
    examples = {
        f"{k}.jpg": Example(
            rng.integers(0, 256, shape, dtype=np.uint8), rng.random((len(CLASSES), *shape)) < 0.5
        )
        for k, shape in enumerate([SIZE, (40, 160)])
    }
    from tlunet.deploy.demo.demo import served  # here: Gradio takes seconds to import

    with served(networks, examples, common="<i>both</i>") as where:
        yield where


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """The page; teardown checks that no other machine was contacted."""
    assert address.startswith("http://127.0.0.1:")
    asked: list[str] = []
    tab = chromium.new_page(viewport={"width": 1400, "height": 1100})
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(address)
    yield tab
    tab.close()
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_a_dropped_image_is_looked_at_by_both(page: Page, images: Path, tmp_path: Path) -> None:
    from tlunet.deploy.demo import demo

    page.locator("#image input[type=file]").set_input_files(images / "b.jpg")
    for k in (0, 1):
        expect(page.locator(f"#found-{k} img")).to_be_visible(timeout=20_000)
    rows = page.locator("#table tr")
    expect(rows).to_have_count(1 + len(CLASSES))
    assert rows.nth(0).inner_text().split("\t") == ["class", "first", "<i>second</i>"]
    for row, name in zip(rows.all()[1:], CLASSES, strict=True):
        first, *cells = row.inner_text().split("\t")
        assert first.strip() == name
        assert re.match(r"\d+% (yes|no)\n.*(region|no pixels)", cells[0].strip())
    expect(page.locator("#truth")).to_be_hidden()
    for text in ("<i>both</i>", "<i>second</i>"):
        expect(page.get_by_text(text).first).to_be_visible()
    names = [b.get_attribute("aria-label") or "" for b in page.locator("button").all()]
    assert "Fullscreen" in " ".join(names)
    assert not [name for name in names if "share" in name.lower()]
    assert not list(Path(demo.__file__).parent.glob("*.pyi"))  # Gradio writes such files
    page.screenshot(path=tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as file:
        assert len(file.convert("RGB").getcolors(1 << 24) or []) > 100


def test_a_test_image_has_its_truth_and_dice_and_strips_are_stacked(page: Page) -> None:
    thumbnails = page.locator(".gallery-item, .gallery button, table.gallery td")
    tops = {}
    for k in (0, 1):
        thumbnails.nth(k).click()
        expect(page.locator("#truth img")).to_be_visible(timeout=20_000)
        expect(page.get_by_text(re.compile("first: Dice 0"))).to_be_visible()
        expect(page.locator("#table tr")).to_have_count(2 + len(CLASSES))
        page.wait_for_timeout(500)
        boxes = [page.locator(name).bounding_box() for name in ("#truth", "#found-0", "#found-1")]
        tops[k] = [box["y"] for box in boxes if box]
    assert len({*tops[0]}) == 1
    assert tops[1] == sorted({*tops[1]})


def test_the_threshold_changes_what_is_found(page: Page) -> None:
    page.locator(".gallery-item, .gallery button, table.gallery td").first.click()
    found = page.locator("#table table")
    expect(found).to_contain_text("Dice, classes pooled", timeout=20_000)
    assert found.inner_text().count(" yes") == 6
    number = page.locator("#threshold input[type=number]")
    assert float(number.input_value()) == THRESHOLD
    number.fill("0.95")
    number.press("Enter")
    fewer = "() => document.querySelector('#table table').innerText.split(' yes').length === 5"
    page.wait_for_function(fewer, timeout=20_000)


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


def test_no_free_port_is_said_without_a_number(
    run: Path, tlunet: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_free(*_: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(socket.socket, "bind", none_free)
    assert tlunet("demo", run, "--no-browser") == 2
    err = capsys.readouterr().err
    assert err.endswith("Cannot assign requested address; choose a free port: --port NUMBER\n")
    assert "None" not in err


def test_runs_are_named_by_what_differs(tmp_path: Path) -> None:
    def made(name: str, **meta: object) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "meta.json").write_text(json.dumps(meta))
        return tmp_path / name

    common = {"encoder": "resnet", "frac": 0.5, "seed": 0}
    a, b = made("a", **common, init="random"), made("b", **common, init="imagenet")
    again, bare = made("c", **common, init="random"), made("d")
    assert titles_of([a, b]) == (["random", "ImageNet"], "ResNet · 50% of the data · seed 0")
    assert titles_of([a]) == (["a"], "ResNet · random · 50% of the data · seed 0")
    assert titles_of([a, again]) == (["a", "c"], "ResNet · random · 50% of the data · seed 0")
    assert titles_of([a, bare]) == (["a", "d"], "")


def test_the_table_has_the_dice_of_the_image() -> None:
    image = np.zeros((2, 4), np.uint8)
    bits = np.array([[1, 1, 0, 0], [0, 0, 0, 2]], np.uint8)
    one = Prediction(
        Path("a"), np.array([0.9, 0.2], np.float32), np.array([1, 0], bool), bits, image
    )
    truth = np.zeros((2, 2, 4), bool)
    truth[0, 0, 1:3] = True
    html = table({"<x>": one}, ["p&q", "r"], truth)
    assert "<th>&lt;x&gt;</th>" in html
    assert "p&amp;q" in html
    assert "<b>90% yes</b><br>25.00% of the image, 1 region" in html
    assert "20% no<br>12.50% of the image, 1 region" in html
    assert "<b>0.400</b>" in html  # 2·1 / (3 + 2)
    assert "Dice" not in table({"x": one}, ["p", "r"])


def test_examples_are_at_their_own_size(whole_run: Path) -> None:
    data = open_data(whole_run)
    found = examples(data, 4)
    assert len(found) == 4
    index = data.pack.index.set_index("image_id")
    for name, one in found.items():
        assert one.image.shape[:2] == (index.loc[name, "height"], index.loc[name, "width"])
        assert one.truth.shape == (4, *one.image.shape[:2])
        row = index.index.get_loc(name)
        assert one.truth.any((1, 2)).tolist() == data.pack.labels[row].tolist()


def test_without_gradio(
    run: Path, tlunet: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tlunet.machine.versions.find_spec", lambda name: None)
    assert tlunet("demo", run) == 2
    assert capsys.readouterr().err == (
        "tlunet demo: gradio is not installed; pip install '.[demo]'\n"
    )
