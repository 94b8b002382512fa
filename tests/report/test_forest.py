"""The forest plot draws what its table says: values read back from the artists."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figure_texts import text_problems
from tlunet.report.figures.forest import forest, settings_forest

FEW = "one or two seeds: interval over images only"
LONGEST = sorted(smp.encoders.get_encoder_names(), key=len)[-3:]


def gains(
    encoders: Sequence[str] = ("resnet", "densenet"),
    inits: Sequence[str] = ("imagenet",),
    fracs: Sequence[float] = (1.0, 0.5),
    seeds: int = 3,
    claimed: bool = True,
) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for encoder in encoders:
        for init in inits:
            for frac in fracs:
                for metric in ("dice_image", "mla"):
                    centre = draw.uniform(-0.05, 0.4)
                    each = (centre + draw.normal(0, 0.03, seeds)).tolist()
                    value = float(np.mean(each))
                    rows.append(
                        {
                            "encoder": encoder, "init": init, "frac": frac, "metric": metric,
                            "value": value, "low": value - draw.uniform(0.02, 0.1),
                            "high": value + draw.uniform(0.02, 0.1),
                            "claimed": value + draw.normal(0, 0.1) if claimed else np.nan,
                            "n_seeds": seeds, "seeds": each,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def one(**changes: Any) -> pd.DataFrame:
    """A table with one row for Dice and one for MLA."""
    row = {
        "encoder": "resnet", "init": "imagenet", "frac": 1.0, "value": 0.354, "low": 0.287,
        "high": 0.433, "claimed": 0.31, "n_seeds": 3, "seeds": [0.3, 0.35, 0.412],
    } | changes  # fmt: skip
    return pd.DataFrame([row | {"metric": "dice_image"}, row | {"metric": "mla"}])


def written(ax: Axes) -> list[str]:
    """The numbers beside a panel, from top to bottom."""
    texts = [text for text in ax.texts if text.get_text() not in ("Dice", "MLA")]
    by_row = sorted(texts, key=lambda text: text.xy[1])  # type: ignore[attr-defined]
    assert by_row[0].get_text() == "mean [95% interval]"
    return [text.get_text() for text in by_row[1:]]


def points(ax: Axes, marker: str) -> list[tuple[list[float], float]]:
    """The (x values, height of the row) of each line with a marker, from top to bottom."""
    lines = [line for line in ax.lines if line.get_marker() == marker]
    found = [
        (np.asarray(a.get_xdata()).tolist(), float(np.asarray(a.get_ydata())[0])) for a in lines
    ]
    return sorted(found, key=lambda item: item[1])


def entries(figure: Figure) -> dict[str, Line2D]:
    (legend,) = figure.legends
    handles = legend.legend_handles
    return dict(zip([t.get_text() for t in legend.get_texts()], handles, strict=True))  # type: ignore[arg-type]


def row_labels(figure: Figure) -> list[str]:
    return [text.get_text().replace("\n", " · ") for text in figure.axes[0].get_yticklabels()]


def test_values_are_where_the_table_says() -> None:
    table = gains(seeds=4)
    figure = forest(table.sample(frac=1, random_state=0))
    for ax, metric in zip(figure.axes, ("dice_image", "mla"), strict=True):
        rows = table[table["metric"] == metric]  # already in display order
        assert [x for x, _ in points(ax, "s")] == [[v] for v in rows["value"]]
        assert [y for _, y in points(ax, "s")] == [0, 1, 2, 3]
        assert [x for x, _ in points(ax, "|")] == rows[["low", "high"]].to_numpy().tolist()
        assert [x for x, _ in points(ax, "o")] == rows["seeds"].tolist()
        assert [x for x, _ in points(ax, "D")] == [[v] for v in rows["claimed"]]
        for y, (_, seeds), (_, paper) in zip(
            range(4), points(ax, "o"), points(ax, "D"), strict=True
        ):
            assert y - 0.5 < paper < y < seeds < y + 0.5
        low, high = ax.get_xlim()
        drawn = [x for line in ax.lines for x in np.asarray(line.get_xdata()) if line.get_clip_on()]
        assert low < min(drawn) <= 0 <= max(drawn) < high
        bottom, top = ax.get_ylim()
        assert bottom > top  # the first row is at the top


def test_labels_and_numbers() -> None:
    figure = forest(one())
    assert row_labels(figure) == ["resnet · ImageNet · 100%"]
    assert [ax.get_xlabel().replace("\n", " ") for ax in figure.axes] == [
        "difference in Dice (ImageNet − random)",
        "difference in MLA (ImageNet − random)",
    ]
    assert [written(ax) for ax in figure.axes] == [["+0.354 [+0.287, +0.433]"]] * 2
    figure = forest(one(value=-0.0004, low=-0.1, high=0.0))
    assert written(figure.axes[0]) == ["−0.000 [−0.100, +0.000]"]


def test_rows_are_in_display_order() -> None:
    table = gains(("vgg", "densenet", "resnet"), ("synthetic", "imagenet"), (0.25, 1.0))
    figure = forest(table)
    expected = [
        f"{encoder} · {init} · {frac}"
        for encoder in ("resnet", "densenet", "vgg")
        for init in ("ImageNet", "synthetic")
        for frac in ("100%", "25%")
    ]
    assert row_labels(figure) == expected
    assert "(pre-trained − random)" in figure.axes[0].get_xlabel().replace("\n", " ")


def test_numbers_are_outside_the_panels() -> None:
    figure = forest(gains(LONGEST))
    figure.draw_without_rendering()
    left, right = (ax.get_window_extent() for ax in figure.axes)
    for ax, panel, end in zip(figure.axes, (left, right), (right.x0, figure.bbox.x1), strict=True):
        boxes = [text.get_window_extent() for text in ax.texts if "[" in text.get_text()]
        assert len(boxes) == 7
        assert all(panel.x1 < box.x0 and box.x1 < end for box in boxes)
        assert panel.width > 0.15 * figure.bbox.width


def test_few_seeds_are_hollow_and_dashed() -> None:
    table = pd.concat([one(), one(frac=0.5, n_seeds=2, seeds=[0.3, 0.4])])
    figure = forest(table)
    full, few = [line for line in figure.axes[0].lines if line.get_marker() == "s"]
    assert full.get_markerfacecolor() == full.get_color()
    assert few.get_markerfacecolor() == "white"
    solid, dashed = [line for line in figure.axes[0].lines if line.get_label() == "interval"]
    assert (solid.is_dashed(), dashed.is_dashed()) == (False, True)
    handles = entries(figure)
    assert set(handles) == {"mean and its 95% interval", FEW, "one seed", "the paper"}
    assert handles[FEW].get_markerfacecolor() == "white"
    assert set(entries(forest(one()))) == {"mean and its 95% interval", "one seed", "the paper"}
    assert set(entries(forest(one(n_seeds=1, seeds=[0.3])))) == {FEW, "one seed", "the paper"}


def test_no_entry_for_the_paper_without_its_number() -> None:
    figure = forest(one(claimed=np.nan))
    assert "the paper" not in entries(figure)
    assert not points(figure.axes[0], "D")
    assert len(points(forest(gains()).axes[0], "D")) == 4


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"low": np.nan, "high": np.nan}, "+0.354 (no interval)"),
        ({"value": np.nan, "low": np.nan, "high": np.nan, "seeds": []}, "no score"),
    ],
)
def test_what_is_unknown_is_said(changes: dict[str, Any], text: str) -> None:
    figure = forest(pd.concat([one(), one(frac=0.5, **changes)]))
    assert written(figure.axes[0]) == ["+0.354 [+0.287, +0.433]", text]
    assert text_problems(figure) == []
    assert np.isfinite(figure.axes[0].get_xlim()).all()
    assert text_problems(forest(one(**changes))) == []


def test_a_missing_metric_leaves_a_labelled_gap() -> None:
    table = gains()
    lost = (table["encoder"] == "resnet") & (table["frac"] == 0.5) & (table["metric"] == "mla")
    figure = forest(table[~lost])
    dice, mla = figure.axes
    assert len(row_labels(figure)) == 4
    assert len(points(dice, "s")) == 4
    assert [y for _, y in points(mla, "s")] == [0, 2, 3]
    assert written(mla)[1] == "no score"
    assert text_problems(figure) == []
    only = forest(table[table["metric"] == "mla"])
    assert written(only.axes[0]) == ["no score"] * 4


def test_height_grows_with_the_rows() -> None:
    heights = [forest(gains(fracs=np.linspace(0.1, 1, n))).get_figheight() for n in (1, 4, 8)]
    assert heights == sorted(set(heights))


@pytest.mark.parametrize("shift", [0.0, 1e-9, -0.02, 0.03, -0.07, -0.15, 0.45, -1.0, 1.0])
def test_extreme_differences(shift: float) -> None:
    same = dict.fromkeys(("value", "low", "high", "claimed"), shift)
    figure = forest(one(**same, seeds=[shift] * 3))
    low, high = figure.axes[0].get_xlim()
    assert high - low >= 0.019
    assert text_problems(figure) == []


def test_an_empty_or_ambiguous_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        forest(one().assign(metric="auc"))
    with pytest.raises(ValueError, match="several rows for"):
        forest(pd.concat([one(), one()]))


def settings(labels: Sequence[str], scores: Sequence[str] = ("Dice", "MLA")) -> pd.DataFrame:
    row = {"low": -0.1, "high": 0.3, "n_seeds": 3, "seeds": [0.0, 0.1, 0.2]}
    pairs = [(score, label) for score in scores for label in labels]
    return pd.DataFrame(
        [
            row | {"score": score, "label": label, "value": 0.1 * k}
            for k, (score, label) in enumerate(pairs)
        ]
    )


@pytest.mark.parametrize(
    ("labels", "scores", "rows", "panels"),
    [
        (["100%"], ["Dice", "MLA"], ["Dice", "MLA"], ["resnet · 100%: difference (A − B)"]),
        (
            ["100%", LONGEST[-1]], ["Dice", "MLA"], ["100%", LONGEST[-1]],
            ["difference in Dice (A − B)", "difference in MLA (A − B)"],
        ),
        ([f"loss={k}" for k in range(12)], ["Dice"], ["loss=0"], ["difference in Dice (A − B)"]),
    ],
)  # fmt: skip
def test_settings_are_compared_score_by_score(
    labels: list[str], scores: list[str], rows: list[str], panels: list[str]
) -> None:
    table = settings(labels, scores)
    figure = settings_forest(table, ("A", "B"), "resnet")
    assert [ax.get_xlabel().replace("\n", " ") for ax in figure.axes] == panels
    own = [table] if len(panels) == 1 else [table[table["score"] == score] for score in scores]
    for ax, drawn in zip(figure.axes, own, strict=True):
        assert [x for x, _ in points(ax, "s")] == [[value] for value in drawn["value"]]
        assert [x for x, _ in points(ax, "|")] == [[-0.1, 0.3]] * len(drawn)
        assert [x for x, _ in points(ax, "o")] == [[0.0, 0.1, 0.2]] * len(drawn)
    shown = [re.sub(r"[\s·]", "", text) for text in row_labels(figure)]  # they are wrapped
    assert shown[: len(rows)] == [re.sub(r"[\s·]", "", row) for row in rows]
    assert "+0.000 [−0.100, +0.300]" in [text.get_text() for text in figure.axes[0].texts]
    assert text_problems(figure) == []


def test_no_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        settings_forest(settings([]).reindex(columns=["score", "label"]), ("a", "b"))
