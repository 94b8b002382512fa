"""The page in a real browser: what the reader sees, and that nothing is loaded."""

import base64
import io
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Locator, Page

from tlunet.data import rle
from tlunet.data.bits import resize_mask
from tlunet.data.colours import OUTCOME_COLOURS, red_green_blue
from tlunet.data.drawing import enlarged, outcomes, paint, zoom
from tlunet.report.document import html as report
from tlunet.report.document.document import (
    Alarm,
    Browser,
    Column,
    Document,
    Entry,
    Fact,
    Group,
    Picture,
    Sample,
    Section,
    Table,
    Text,
)

HOSTILE = "</script><script>window.hacked=1</script>"
EVIL_CLASS = "\"><img src=x onerror=window.hacked=1> \u2028 'x'"
CLASSES = ("pitted", "crazing", "scratches", EVIL_CLASS)
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7")
RANDOM, IMAGENET, FULL = "ResNet (random)", "ResNet (ImageNet)", "DenseNet (ImageNet)"


def masks(rng: np.random.Generator, size: tuple[int, int]) -> list[NDArray[np.bool_]]:
    """One mask per class: up to two ellipses, which may overlap those of other classes."""
    y, x = np.mgrid[: size[0], : size[1]]
    out = []
    for _ in CLASSES:
        mask = np.zeros(size, bool)
        for _ in range(rng.integers(0, 3)):
            cy, cx = rng.uniform(0, size[0]), rng.uniform(0, size[1])
            ry, rx = rng.uniform(4, 18), rng.uniform(4, 30)
            mask |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        out.append(mask)
    return out


def sample(k: int, size: tuple[int, int]) -> Sample:
    rng = np.random.default_rng(k)
    truth = masks(rng, size)
    steel = 110 + 30 * np.sin(np.arange(size[1]) / 23) + rng.normal(0, 12, size)
    steel[truth[0] | truth[2]] -= 45
    jpeg = io.BytesIO()
    Image.fromarray(steel.clip(0, 255).astype(np.uint8)).save(jpeg, "JPEG", quality=80)
    shifts = {RANDOM: 9, IMAGENET: 3, FULL: 5}
    predictions = {
        cell: tuple(rle.encode(np.roll(mask, by, axis=1)) for mask in truth)
        for cell, by in shifts.items()
    }
    scores: dict[str, float | None] = {
        RANDOM: float(rng.uniform(0, 0.8)),
        IMAGENET: float(rng.uniform(0.2, 1)),
        FULL: float(rng.uniform(0, 1)),
    }
    if k % 8 == 7:
        scores = dict.fromkeys(scores)
    name = HOSTILE if k == 0 else f"strip_{k:03}.jpg"
    runs = tuple(map(rle.encode, truth))
    return Sample(name, jpeg.getvalue(), size, runs, predictions, scores, size)


def picture(name: str, title: str, caption: str) -> Picture:
    with rc_context({"svg.hashsalt": "demo"}):
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.subplots()
        x = np.arange(1, 11)
        for k, cell in enumerate((RANDOM, IMAGENET, FULL)):
            y = 0.75 - 0.6 * np.exp(-x / (4 - k))
            axes.plot(x, y, label=cell)
            axes.fill_between(x, y - 0.05, y + 0.05, alpha=0.2)
        axes.set(xlabel="epoch", ylabel="validation Dice", ylim=(0, 1))
        axes.legend()
        svg = io.StringIO()
        figure.savefig(svg, format="svg")
    return Picture(name, title, caption, svg.getvalue())


def demo(size: tuple[int, int] = (64, 400)) -> Document:
    claims = Table(
        "The paper's claims",
        (
            Column("Claim"),
            Column("Paper", is_number=True, meaning="The number in Section III-D."),
            Column("Measured", is_number=True, meaning="Mean difference and its 95% interval."),
            Column("Direction", meaning="Supported if the interval excludes zero."),
            Column("Size", meaning="Supported if the interval includes the paper's number."),
        ),
        (
            (
                Entry("Transfer raises MLA, all labels"),
                Entry("+0.05", 0.05),
                Entry("+0.083 [+0.051, +0.116]", 0.083, "good"),
                Entry("supported", "supported", "good"),
                Entry("contradicted", "contradicted", "bad"),
            ),
            (
                Entry("Transfer raises MLA, half of the labels"),
                Entry("+0.08", 0.08),
                Entry("+0.021 [−0.014, +0.055]", 0.021),
                Entry("inconclusive", "inconclusive", "unsure"),
                Entry("supported", "supported", "good"),
            ),
            (
                Entry("DenseNet has the highest mean AUC"),
                Entry("–"),
                Entry("–"),
                Entry("not measured", None, "muted"),
                Entry("not measured", None, "muted"),
            ),
        ),
    )
    numbers = ("Dice", "IoU", "MLA", "AUC", "AP", "Dice pooled", "Dice Kaggle", "seconds")
    values = {"resnet random": 0.41, "resnet imagenet": 0.63, "densenet random": None}
    values |= {"densenet imagenet": 0.58, "densenet synthetic": 1.0}
    cells = Table(
        "Scores of every cell on the test set",
        (Column("Cell"), *(Column(name, is_number=True, meaning=name * 2) for name in numbers)),
        tuple(
            (Entry(cell), *(Entry(f"{v:.3f}" if v else "–", v) for _ in numbers))
            for cell, v in values.items()
        ),
        foot=((Entry("never finds a defect"), *(Entry("0.859", 0.859) for _ in numbers)),),
        notes=(
            "Dice: mean over images with a defect, classes pooled within the image.",
            "Dice Kaggle: mean over all image × class pairs, both empty = 1.",
        ),
    )
    browser = Browser(
        "Where does transfer help?",
        (("transfer, ResNet", RANDOM, IMAGENET), ("DenseNet − ResNet", IMAGENET, FULL)),
        CLASSES,
        COLOURS,
        tuple(sample(k, size) for k in range(25)),
        "Every test image of seed 0.",
    )
    return Document(
        "Synthetic strips: encoder × initialisation × labels",
        "8 cells, 3 seeds, 125 test images",
        (
            "Transfer from ImageNet raises Dice by +0.22 (95% interval +0.15 to +0.29) with all "
            "labels.",
            "With half of the labels it gains +0.31; whether the gain grows with fewer labels is "
            "inconclusive.",
        ),
        (
            Alarm("densenet-imagenet-0.5 never predicts class 2 (crazing) in any test image."),
            Alarm("2 of 24 cells failed: densenet-random-0.5-s1, densenet-random-0.5-s2."),
        ),
        (
            Section("Claims", (Text("Each claim has two verdicts."), claims)),
            Section(
                "Results",
                (
                    cells,
                    picture(
                        "figure_8",
                        "Validation Dice by epoch.",
                        "Mean of 3 seeds; the band is "
                        "the range. Higher from the first epoch with transfer.",
                    ),
                    Alarm("AUC is undefined for class 2: no image shows it."),
                ),
            ),
            Section("Test images", (browser,)),
            Section(
                "Configuration",
                (Text("Commit abc123."), picture("figure_9", "Folded.", "The same again.")),
                folded=True,
            ),
        ),
    )


@pytest.fixture(scope="module")
def document() -> Document:
    return demo()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, document: Document) -> Path:
    return write(tmp_path_factory.mktemp("page") / "strips.html", document)


def write(path: Path, document: Document) -> Path:
    path.write_text(report.render(document), encoding="utf-8")
    return path


@pytest.fixture
def visit(chromium: Chromium) -> Iterator[Callable[..., Page]]:
    """Open a file; finally check that nothing was requested and the console has no errors."""
    faults: list[str] = []
    pages: list[Page] = []

    def go(path: Path, width: int = 1280, scheme: str = "light", script: bool = True) -> Page:
        tab = chromium.new_page(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=script,
        )
        pages.append(tab)
        tab.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        own = path.as_uri()
        tab.on(
            "request",
            lambda r: (
                None
                if r.url.split("#")[0] == own or r.url.startswith(("data:", "blob:"))
                else faults.append(r.url)
            ),
        )
        tab.goto(own)
        return tab

    yield go
    for tab in pages:
        tab.close()
    assert faults == []


def names(tab: Page) -> list[str]:
    return tab.locator(".sample h4").all_text_contents()


def ranked(document: Document, first: str, second: str) -> list[str]:
    """Names of the images with a defect, largest gain first."""
    images = [i for i in browser_of(document).images if i.scores[first] is not None]
    images.sort(key=lambda image: image.scores[first] - image.scores[second])
    return [image.image_id for image in images]


def browser_of(document: Document) -> Browser:
    return document.sections[2].parts[0]


def test_all_that_the_document_says_is_on_the_page(
    visit: Callable[..., Page], file: Path, document: Document
) -> None:
    tab = visit(file)
    assert tab.locator("h1").text_content() == document.title == tab.title()
    assert tab.locator(".answer p").all_text_contents() == list(document.answer)
    assert tab.locator("h2").all_text_contents() == [s.title for s in document.sections]
    alarms = tab.locator(".alarms li").all_text_contents()
    assert alarms == [
        f"⚠ Warning {a.text}" for a in (*document.alarms, document.sections[1].parts[2])
    ]
    badge = tab.get_by_text("contradicted", exact=True)
    assert "✗" in badge.evaluate("e => getComputedStyle(e, '::before').content")
    assert tab.get_by_role("img", name="Validation Dice by epoch.").locator("svg").is_visible()
    cells = document.sections[1].parts[0]
    rows = tab.locator("table").nth(1).locator("tbody tr").all()
    assert [row.locator("th, td").all_text_contents() for row in rows] == [
        [entry.text for entry in row] for row in cells.rows
    ]
    levels = [
        int(h[1]) for h in tab.eval_on_selector_all("h1,h2,h3,h4", "a => a.map(e => e.tagName)")
    ]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_without_script_all_but_the_browser_is_readable(
    visit: Callable[..., Page], file: Path
) -> None:
    tab = visit(file, script=False)
    assert tab.get_by_text("needs JavaScript").is_visible()
    assert tab.get_by_role("cell", name="+0.083").is_visible()
    assert not tab.get_by_role("button").count()


def test_drawings_share_no_ids_and_refer_to_their_own(
    visit: Callable[..., Page], file: Path
) -> None:
    tab = visit(file)
    ids = tab.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    html = tab.content()
    assert set(re.findall(r'(?:url\(|href="|href=)#([\w-]+)', html)) <= set(ids)
    assert {"url(#p2-2", "url(#p4-2"} <= {link[:9] for link in re.findall(r"url\(#[\w-]+", html)}
    assert "<metadata" not in html


def test_tables_sort_both_ways_with_none_last_and_the_foot_in_place(
    visit: Callable[..., Page], file: Path
) -> None:
    tab = visit(file)
    table = tab.locator("table").nth(1)
    heading = table.locator("th", has=tab.get_by_role("button", name="IoU", exact=True))
    for direction, expected in (
        ("descending", ["1.000", "0.630", "0.580", "0.410", "–"]),
        ("ascending", ["0.410", "0.580", "0.630", "1.000", "–"]),
    ):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == direction
        assert table.locator("tbody td:nth-child(3)").all_text_contents() == expected
        assert table.locator("tr").last.locator("th").text_content() == "never finds a defect"
    claims = tab.locator("table").first
    for expected in (
        ["inconclusive", "supported", "not measured"],
        ["supported", "inconclusive", "not measured"],
    ):
        claims.get_by_role("button", name="Direction").click()
        assert claims.locator("tbody td:nth-child(4)").all_text_contents() == expected
    assert claims.locator("[aria-sort]").count() == 1


def test_browser_orders_turns_pages_and_changes_the_pair(
    visit: Callable[..., Page], file: Path, document: Document
) -> None:
    tab = visit(file)
    gains = ranked(document, RANDOM, IMAGENET)
    assert names(tab) == gains[:10]
    assert tab.locator(".where").first.text_content() == "page 1 of 3, 25 images"
    following = tab.get_by_role("button", name="Next").first
    following.click()
    assert names(tab) == gains[10:20]
    following.click()
    assert names(tab) == [*gains[20:], "strip_007.jpg", "strip_015.jpg", "strip_023.jpg"]
    assert "no defect" in tab.locator(".sample").last.text_content()
    assert following.is_disabled()
    tab.get_by_role("button", name="Previous").first.click()
    assert names(tab) == gains[10:20]

    tab.get_by_label("Order").select_option("loss")
    assert names(tab) == gains[::-1][:10]
    tab.get_by_label("Order").select_option("name")
    assert names(tab) == [HOSTILE, *(f"strip_{k:03}.jpg" for k in range(1, 10))]
    tab.get_by_label("Order").select_option("gain")
    tab.get_by_label("Compare").select_option("1")
    assert names(tab) == ranked(document, IMAGENET, FULL)[:10]
    top = next(i for i in browser_of(document).images if i.image_id == names(tab)[0])
    before, after = top.scores[IMAGENET], top.scores[FULL]
    assert tab.locator(".sample").first.locator("dd").all_text_contents() == [
        f"{before:.3f}",
        f"{after:.3f}",
        f"{after - before:+.3f}",
    ]


def layers(image: Sample, runs: tuple[str, ...]) -> NDArray[np.bool_]:
    """Masks (M, H, W) at the size at which the page paints them."""
    masks = np.stack([rle.decode(code, image.size) for code in runs])
    size = tuple(map(max, image.size, image.shown))
    masks = np.stack([resize_mask(mask, size) for mask in masks])
    return enlarged(masks, zoom(size[1]))


def canvases(row: Locator) -> list[NDArray[np.uint8]]:
    """Pixels (H, W, 4) of the masks in a row of pictures."""
    urls = [canvas.evaluate("c => c.toDataURL()") for canvas in row.locator("canvas").all()]
    files = [io.BytesIO(base64.b64decode(url.partition(",")[2])) for url in urls]
    return [np.asarray(Image.open(file)) for file in files]


@pytest.mark.parametrize("size", [(64, 400), (32, 64), (100, 1300)])
@pytest.mark.parametrize("stretched", [False, True])
def test_the_page_paints_the_pixels_of_the_package(
    visit: Callable[..., Page], tmp_path: Path, size: tuple[int, int], stretched: bool
) -> None:
    """Two implementations, one way to draw: `tlunet.data.drawing` and browser.js."""
    document = demo(size)
    shown = (size[0] // 2, 2 * size[1]) if stretched else size
    images = tuple(replace(i, shown=shown) for i in browser_of(document).images[:2])
    browser = replace(browser_of(document), images=images)
    sections = (Section("s", (browser,)),)
    tab = visit(write(tmp_path / "page.html", replace(document, sections=sections)))
    classes = [red_green_blue(colour) for colour in COLOURS]
    kinds = [red_green_blue(colour) for colour in OUTCOME_COLOURS]
    by_name = {image.image_id: image for image in images}
    for view in ("classes", "outcomes"):
        tab.get_by_label("Masks").select_option(view)
        for row in tab.locator(".sample").all():
            image = by_name[row.locator("h4").text_content()]
            truth = layers(image, image.truth)
            found = [layers(image, image.predictions[cell]) for cell in (RANDOM, IMAGENET)]
            expected = [paint(truth, classes)]
            if view == "classes":
                expected += [paint(one, classes) for one in found]
            else:
                expected += [paint(outcomes(truth, one), kinds) for one in found]
            painted = canvases(row)
            assert len(painted) == 3
            for ours, theirs in zip(painted, expected, strict=True):
                assert ours.shape == theirs.shape
                is_clear = theirs[..., 3] == 0
                assert np.array_equal(ours[..., 3], theirs[..., 3])
                # A canvas stores colours multiplied by their opacity.
                near = np.abs(ours.astype(int) - theirs)[~is_clear]
                assert near.max() <= 2
    legend = tab.get_by_role("list", name="Outcomes").locator("li").all_text_contents()
    assert legend == ["found", "missed", "false alarm"]


def test_masks_switch_off(visit: Callable[..., Page], file: Path) -> None:
    tab = visit(file)
    assert tab.locator(".sample canvas").count() == 30
    assert not tab.get_by_role("list", name="Outcomes").is_visible()
    tab.get_by_label("Masks").select_option("nothing")
    assert tab.locator(".sample canvas").count() == 0


def test_the_dialog_shows_all_views_and_turns(visit: Callable[..., Page], file: Path) -> None:
    tab = visit(file)
    shown = names(tab)
    tab.get_by_role("button", name=re.compile("^Enlarge .*, truth")).nth(8).click()
    dialog = tab.get_by_role("dialog")
    title = dialog.locator("#large-title")
    assert title.text_content() == shown[8]
    assert dialog.locator("figcaption").all_text_contents() == [
        "image", "truth", RANDOM, IMAGENET,
        f"{RANDOM}: found, missed, false alarm", f"{IMAGENET}: found, missed, false alarm",
    ]  # fmt: skip
    assert dialog.locator("canvas").count() == 5
    for key, expected in (("ArrowRight", shown[9]), ("ArrowLeft", shown[8])):
        tab.keyboard.press(key)
        assert title.text_content() == expected
    for _ in range(2):  # to the next page
        tab.keyboard.press("ArrowRight")
    assert tab.locator(".where").first.text_content() == "page 2 of 3, 25 images"
    assert names(tab)[0] == title.text_content()
    tab.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_arrow_keys_turn_pages(visit: Callable[..., Page], file: Path) -> None:
    tab = visit(file)
    tab.get_by_role("button", name="Next").first.focus()
    for key, page in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowRight", 3), ("ArrowLeft", 2)):
        tab.keyboard.press(key)
        assert tab.locator(".where").first.text_content() == f"page {page} of 3, 25 images"


def changed(document: Document) -> Document:
    """Three images: one whose second class is missed, one with a false alarm, one as it should."""
    browser = browser_of(document)
    none, some = "", "1 50"
    truths = {"missed": (none, some, none, none), "false": (some, none, none, none)}
    truths |= {"fine": (some, none, none, none), "clean": (none,) * 4}
    found = truths | {"missed": (none,) * 4, "false": (some, none, some, none)}
    images = []
    for base, name in zip(browser.images, truths, strict=False):
        predictions = dict.fromkeys((RANDOM, IMAGENET, FULL), truths[name])
        predictions[RANDOM] = found[name]
        scores = base.scores if name != "clean" else dict.fromkeys(base.scores)
        images.append(replace(base, image_id=name, truth=truths[name], predictions=predictions,
                              scores=scores))  # fmt: skip
    section = Section("s", (replace(browser, images=tuple(images)),))
    return replace(document, sections=(section,))


def test_images_by_class_and_by_what_went_wrong(
    visit: Callable[..., Page], tmp_path: Path, document: Document
) -> None:
    tab = visit(write(tmp_path / "page.html", changed(document)))
    tab.get_by_label("Order").select_option("name")
    choose, only = tab.locator("select.class"), tab.get_by_label("Only")
    assert only.locator("option").all_text_contents() == [
        "all images", f"missed by {RANDOM}", f"missed by {IMAGENET}",
        f"false alarm of {RANDOM}", f"false alarm of {IMAGENET}",
    ]  # fmt: skip
    for m, wrong, expected in (
        ("", "", ["clean", "false", "fine", "missed"]), ("0", "", ["false", "fine"]),
        ("none", "", ["clean"]), ("", "missed-1", ["missed"]), ("1", "missed-1", ["missed"]),
        ("0", "missed-1", []), ("", "missed-2", []), ("", "false-1", ["false"]),
        ("2", "false-1", ["false"]), ("0", "false-1", []),
    ):  # fmt: skip
        choose.select_option(m)
        only.select_option(wrong)
        assert names(tab) == expected, (m, wrong)
    assert tab.locator(".where").first.text_content() == "no such image"


def test_the_address_holds_the_state(
    visit: Callable[..., Page], file: Path, document: Document
) -> None:
    tab = visit(file)
    assert "#" not in tab.url
    tab.get_by_label("Compare").select_option("1")
    tab.get_by_label("Order").select_option("loss")
    tab.get_by_label("Masks").select_option("outcomes")
    tab.get_by_role("button", name="Next").first.click()
    assert tab.url.partition("#")[2] == "browser=1&pair=1&order=loss&view=outcomes&page=2"
    tab.get_by_role("button", name=re.compile("^Enlarge .*, truth")).first.click()
    assert "&image=" in tab.url
    address, title = tab.url, tab.locator("#large-title").text_content()
    other = visit(file)
    other.goto(address)
    assert other.get_by_role("dialog").is_visible()
    assert other.locator("#large-title").text_content() == title
    other.keyboard.press("Escape")
    assert names(other) == names(tab) == ranked(document, IMAGENET, FULL)[::-1][10:20]
    assert other.get_by_label("Masks").input_value() == "outcomes"
    bad = visit(file)
    bad.goto(file.as_uri() + "#browser=1&pair=9&page=99&image=nothing&order=<b>")
    assert len(names(bad)) == 5  # the last page
    assert bad.get_by_label("Order").input_value() == "gain"


def test_pictures_lie_by_their_proportions(
    visit: Callable[..., Page], file: Path, tmp_path: Path
) -> None:
    def tops(tab: Page) -> set[float]:
        figures = tab.locator(".sample").first.locator("figure").all()
        return {figure.bounding_box()["y"] for figure in figures}

    assert len(tops(visit(file))) == 4  # strips: one below the other
    squares = write(tmp_path / "squares.html", demo((64, 64)))
    assert len(tops(visit(squares))) == 1  # side by side
    assert len(tops(visit(squares, width=360))) == 2


@pytest.mark.parametrize("size", [(32, 64), (64, 128)])
def test_small_pictures_are_enlarged_and_crisp(
    visit: Callable[..., Page], tmp_path: Path, size: tuple[int, int]
) -> None:
    file = write(tmp_path / "small.html", demo(size))
    for width in (1280, 700, 360):
        tab = visit(file, width=width)
        boxes = [frame.bounding_box() for frame in tab.locator(".sample .frame").all()[:4]]
        for box in boxes:
            assert box["width"] >= 250
            assert box["width"] == pytest.approx(2 * box["height"], abs=1)
    image = tab.locator(".sample img").first
    assert image.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"
    # A mask is painted at a higher resolution than the image, so that its edge is thin.
    name = tab.locator(".sample h4").first.text_content()
    truth = next(i.truth for i in browser_of(demo(size)).images if i.image_id == name)
    mask = np.stack([rle.decode(code, size) for code in truth]).any(0)
    url = tab.locator(".sample canvas").first.evaluate("c => c.toDataURL()")
    painted = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
    times = 512 // size[1]
    is_rim = (painted[..., :3] == 0).all(-1)
    found = (painted[..., 3] > 0) & ~is_rim
    np.testing.assert_array_equal(found, mask.repeat(times, 0).repeat(times, 1))


def test_hostile_names_are_shown_and_do_nothing(visit: Callable[..., Page], file: Path) -> None:
    tab = visit(file)
    tab.get_by_label("Order").select_option("name")
    assert names(tab)[0] == HOSTILE
    assert EVIL_CLASS.split()[0] in tab.locator(".legend li").nth(3).text_content()
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("script").count() == 2  # the images' data and the page's own
    assert not tab.locator("img[onerror]").count()


def test_nothing_scrolls_sideways_on_a_phone(visit: Callable[..., Page], file: Path) -> None:
    for width in (360, 390):
        tab = visit(file, width=width)
        tab.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        boxes = tab.locator("main .scroll, header .scroll").all()
        assert all(box.evaluate("e => e.scrollWidth <= e.clientWidth") for box in boxes)
    # A row is a card: every entry below the name of its column.
    entry = tab.locator("td[data-label=Dice]").first
    assert entry.evaluate("e => getComputedStyle(e, '::before').content") == '"Dice"'
    assert not tab.locator("thead").first.is_visible()
    card = tab.locator(".card").first
    card.click()  # a figure grows to its own size, and scrolls
    assert card.evaluate("e => e.scrollWidth > e.clientWidth")
    assert card.get_attribute("tabindex") == "0"


GROUPED = Table(
    "Gain",
    (Column("condition"), Column("ImageNet", is_number=True), Column("random", is_number=True)),
    (
        (Entry("a · 100%"), Entry("0.6 [0.5, 0.7]", 0.6, is_best=True), Entry("0.40", 0.4)),
        (Entry("b_50%"), Entry("0.9", 0.9), Entry("−0.1", -0.1, note="one seed")),
        (Entry("c"), Entry("0.2", 0.2), Entry("–")),
    ),
    foot=((Entry("never finds a defect"), Entry("0.0", 0.0), Entry("0.0", 0.0)),),
    groups=(Group("Dice", 2), Group("MLA", 1)),
    details=Table(
        "Details: p",
        (Column("condition"), Column("p", is_number=True)),
        ((Entry("a"), Entry("0.04")),),
    ),
)


def only(part: Table) -> Document:
    return Document("t", "s", (), sections=(Section("s", (part,)),))


def test_groups_sort_each_for_itself(visit: Callable[..., Page], tmp_path: Path) -> None:
    tab = visit(write(tmp_path / "page.html", only(GROUPED)))
    table = tab.locator("table").first
    first = "tbody th"
    assert table.locator(first).all_text_contents() == ["Dice", "a · 100%", "b_50%", "MLA", "c"]
    table.get_by_role("button", name="ImageNet").click()
    assert table.locator(first).all_text_contents() == ["Dice", "b_50%", "a · 100%", "MLA", "c"]
    best = table.locator("td strong")
    assert best.all_text_contents() == ["0.6"]
    assert table.locator(".note").text_content().strip() == "one seed"
    details = tab.locator("details.more")
    assert not details.get_by_text("0.04").is_visible()
    details.locator("summary").first.click()
    assert details.get_by_text("0.04").is_visible()


def test_groups_that_do_not_cover_the_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="groups of 2 rows for 3 rows"):
        report.render(only(replace(GROUPED, groups=(Group("Dice", 2),))))


MARKDOWN = r"""
| condition | ImageNet | random |
| --- | ---: | ---: |
| Dice |  |  |
| a · 100% | 0.6 [0.5, 0.7] | 0.40 |
| b\_50% | 0.9 | −0.1 one seed |
| MLA |  |  |
| c | 0.2 | – |
| never finds a defect | 0.0 | 0.0 |
"""
LATEX = r"""
\begin{tabular}{lrr}
\toprule
condition & ImageNet & random \\
\midrule
\multicolumn{3}{l}{\textbf{Dice}} \\
a $\cdot$ 100\% & 0.6 [0.5, 0.7] & 0.40 \\
b\_50\% & 0.9 & $-$0.1 one seed \\
\midrule
\multicolumn{3}{l}{\textbf{MLA}} \\
c & 0.2 & -- \\
never finds a defect & 0.0 & 0.0 \\
\bottomrule
\end{tabular}
"""


@pytest.mark.parametrize(("kind", "expected"), [("Markdown", MARKDOWN), ("LaTeX", LATEX)])
def test_a_table_is_copied(
    visit: Callable[..., Page], tmp_path: Path, kind: str, expected: str
) -> None:
    tab = visit(write(tmp_path / "page.html", only(GROUPED)))
    tab.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    tab.get_by_role("button", name=kind).first.click()
    tab.wait_for_function("window.copied")
    assert tab.evaluate("window.copied") == expected.strip()


def test_the_first_screen(visit: Callable[..., Page], tmp_path: Path) -> None:
    """Answer, scope, the most severe warning, figure and facts, before anything else."""
    document = replace(
        demo(),
        scope=("Difference +0.22, 3 seeds.",),
        lead=(picture("forest", "Forest", "Right is better."),),
        facts=(Fact("Trained on", "strips"), Fact("Commit", "abc")),
        files=("scores.csv",),
    )
    tab = visit(write(tmp_path / "page.html", document))
    header = tab.locator("header")
    assert header.locator(".scope").text_content() == "Difference +0.22, 3 seeds."
    assert header.locator("svg").is_visible()
    shown = [item.is_visible() for item in header.locator(".alarms li").all()]
    assert shown == [True, False]
    header.get_by_text("1 more warning").click()
    assert header.get_by_text("2 of 24 cells failed").is_visible()
    assert header.locator(".facts dt").all_text_contents() == ["Trained on", "Commit", "Tables"]
    assert header.locator(".facts dd").all_text_contents()[:2] == ["strips", "abc"]
    assert header.get_by_role("link", name="scores.csv").get_attribute("href") == "scores.csv"


LOW_CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const paper = (e) => {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    return colour[3] === 0 ? paper(e.parentElement) : colour;
  };
  const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const texts = [...document.querySelectorAll("body *:not(svg *, script)")]
    .filter((e) => e.checkVisibility() && hasText(e));
  return texts.map((e) => {
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(paper(e))].sort((x, y) => x - y);
    return [e.textContent.trim().slice(0, 30), (b + 0.05) / (a + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5);
}"""  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_scheme_follows_the_system_and_the_button(
    visit: Callable[..., Page], file: Path, scheme: str
) -> None:
    def is_dark(tab: Page) -> bool:
        style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
        paper, ink = (
            sum(map(int, re.findall(r"\d+", colour)))
            for colour in tab.locator("body").evaluate(style)
        )
        assert abs(paper - ink) > 500
        return paper < ink

    tab = visit(file, scheme=scheme)
    assert is_dark(tab) == (scheme == "dark")
    assert tab.evaluate(LOW_CONTRAST) == []
    tab.locator("#theme").click()
    assert is_dark(tab) == (scheme == "light")
    assert tab.evaluate(LOW_CONTRAST) == []


def test_prints_with_folded_sections_open_on_white(visit: Callable[..., Page], file: Path) -> None:
    tab = visit(file, scheme="dark")
    closed = "document.querySelectorAll('details:not([open])').length"
    assert (before := tab.evaluate(closed)) > 0
    tab.evaluate(f"addEventListener('beforeprint', () => {{ window.folded = {closed} }})")
    assert tab.pdf(format="A4").startswith(b"%PDF")
    assert tab.evaluate("window.folded") == 0
    assert tab.evaluate(closed) == before
    tab.emulate_media(media="print")
    style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
    assert tab.locator("body").evaluate(style) == ["rgb(255, 255, 255)", "rgb(27, 31, 35)"]
    assert not tab.locator(".controls").is_visible()


def test_contents_open_a_folded_section(visit: Callable[..., Page], file: Path) -> None:
    tab = visit(file)
    assert not tab.get_by_text("Commit abc123.").is_visible()
    tab.get_by_role("navigation", name="Contents").get_by_text("Configuration").click()
    tab.get_by_text("Commit abc123.").wait_for(state="visible", timeout=2000)


def test_same_document_same_page(document: Document, file: Path) -> None:
    assert report.render(document) == file.read_text(encoding="utf-8")


def test_parts_that_do_not_fit_are_errors(document: Document) -> None:
    def render(part: Table | Picture | Browser) -> None:
        report.render(Document("t", "s", (), sections=(Section("s", (part,)),)))

    browser = browser_of(document)
    image = browser.images[0]
    with pytest.raises(ValueError, match="shorter"):
        render(Table("t", (Column("a"), Column("b")), ((Entry("1"),),)))
    with pytest.raises(ValueError, match="no <svg> element"):
        render(Picture("name", "title", "caption", "<html>"))
    for fault, message in (
        ({"pairs": ()}, "no pair"),
        ({"colours": COLOURS[:3]}, "3 colours for 4 classes"),
        ({"colours": (*COLOURS[:3], "red;x")}, "expected #rrggbb"),
        ({"pairs": (("p", RANDOM, "VGG"),)}, "VGG"),
        ({"images": (replace(image, truth=("1 1",)),)}, "1 masks for 4 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            render(replace(browser, **fault))
