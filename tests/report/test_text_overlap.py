"""No texts of a figure overlap or are cut off, even with long encoder names."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from figure_texts import text_problems
from studies import write_grid
from tlunet.report.analysis.blocks import collect
from tlunet.report.analysis.comparisons import compare, pairs
from tlunet.report.analysis.resampled import Resampled, score_table
from tlunet.report.figures import figures as drawings
from tlunet.report.figures.forest import forest
from tlunet.report.figures.images import examples
from tlunet.report.figures.images.pictures import Pictures

LONGEST = sorted(smp.encoders.get_encoder_names(), key=len)[-3:]
STUDIES: dict[str, dict[str, Any]] = {
    "small": {"encoders": ("resnet", "densenet"), "fracs": (1.0, 0.5)},
    "long names": {
        "encoders": LONGEST,
        "fracs": (1.0, 0.5, 0.25, 0.125),
        "classes": ("pitted_surface", "rolled-in_scale", "scratches", "patches"),
    },
}
INITS = ("imagenet", "synthetic")
FORESTS = {
    "one row": (("resnet",), INITS[:1], (1.0,), 3),
    "one seed": (("resnet", "densenet"), INITS[:1], (1.0, 0.5), 1),
    "many rows": (LONGEST, INITS, (1.0, 0.5, 0.25, 0.125), 3),
    "one long name": (LONGEST[-1:], INITS[:1], (1.0,), 3),
    "recipe": (LONGEST, (f"imagenet path={LONGEST[0]}/{LONGEST[1]}.pth",), (0.123456,), 3),
}
SHAPES = {"strip": (64, 800), "square": (64, 64), "two to one": (32, 64)}
NAMES = ("gain_by_class", "figure_4", "figure_5", "figure_6", "figure_8", "figure_8_seconds",
         "figure_9", "precision_recall", "reliability", "cost", "label_efficiency_dice_image",
         "label_efficiency_mla")  # fmt: skip
CASES = [
    *((study, name) for study in STUDIES for name in NAMES),
    *(("long names", f"figure_7{kind} {shape}") for kind in ("", "_outcomes") for shape in SHAPES),
]
Drawn = dict[tuple[str, str], Figure]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """Every figure of the report, by study and name."""
    figures: Drawn = {}

    def keep(study: str, name: str, title: str, caption: str, figure: Figure) -> None:
        figures[study, name] = figure

    for study, grid in STUDIES.items():
        folder = write_grid(tmp_path_factory.mktemp("study"), 12, seeds=(0,), **grid)
        block = Resampled(collect(folder).blocks[0], replicates=20)
        draw: Any = partial(keep, study)
        drawings.figures(block, score_table([block]), draw)
        drawings.class_gains(block, compare([block]), draw)
        if study == "small":
            continue
        _, *cells = next(pair for pair in pairs(block) if pair[0] == "init")
        masks: Any = [{(name, 1): "1 9" for name in block.data.image_ids}] * 2
        for shape, size in SHAPES.items():
            shown = Pictures(*cells, 0, pack(block, size), masks)
            draw(f"figure_7 {shape}", "", "", examples.figure_7(shown))
            draw(f"figure_7_outcomes {shape}", "", "", examples.outcomes_7(shown))
    return figures


def pack(block: Resampled, size: tuple[int, int]) -> Any:
    """Images of a different size than the study's, which determines the layout of Figure 7."""
    ids = block.data.image_ids
    steel = np.random.default_rng(0).integers(90, 160, (len(ids), *size)).astype(np.uint8)
    masks = np.zeros_like(steel)
    masks[:, : size[0] // 3, : size[1] // 4] = 1
    index = {"image_id": list(ids)}
    names = block.data.classes
    return SimpleNamespace(
        size=size, images=steel, masks=masks, classes=names, index=index, fit="stretch",
        region=lambda row: (slice(None), slice(None)),
    )  # fmt: skip


def test_every_figure_is_among_the_cases(drawn: Drawn) -> None:
    assert set(drawn) == set(CASES)


@pytest.mark.parametrize(("study", "name"), CASES)
def test_texts_do_not_overlap(study: str, name: str, drawn: Drawn) -> None:
    assert text_problems(drawn[study, name]) == []


@pytest.mark.parametrize("value", [0.354, -0.354, 0.0])
@pytest.mark.parametrize("shape", FORESTS)
def test_texts_of_a_forest_do_not_overlap(shape: str, value: float) -> None:
    encoders, inits, fracs, seeds = FORESTS[shape]
    rows = [
        {"encoder": e, "init": i, "frac": f, "metric": m, "value": value, "low": -0.5, "high": 0.5,
         "claimed": 0.4, "n_seeds": seeds, "seeds": [value] * seeds}
        for e in encoders for i in inits for f in fracs for m in ("dice_image", "mla")
    ]  # fmt: skip
    assert text_problems(forest(pd.DataFrame(rows))) == []


@pytest.mark.parametrize("kind", ["", "_outcomes"])
@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_are_large_enough_to_look_at(shape: str, kind: str, drawn: Drawn) -> None:
    figure = drawn["long names", f"figure_7{kind} {shape}"]
    figure.draw_without_rendering()
    page = 896  # pixels: the widest that the report shows a figure
    for ax in figure.axes:
        (image,) = (child for child in ax.get_children() if isinstance(child, AxesImage))
        wide = ax.get_window_extent().width / figure.bbox.width * page
        assert wide > {"strip": 800, "two to one": 400, "square": 190}[shape]
        # Without interpolation, an SVG contains the image's pixels.
        assert image.get_interpolation() == ("antialiased" if shape == "strip" else "none")
