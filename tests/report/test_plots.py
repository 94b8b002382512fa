"""Read drawn values back from the artists and compare them with independent results."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from figure_texts import text_problems
from tlunet.report.figures import marks, style
from tlunet.report.figures.cost import cost
from tlunet.report.figures.courses import convergence
from tlunet.report.figures.differences import differences
from tlunet.report.figures.efficiency import label_efficiency
from tlunet.report.figures.scores import _layout, boxes, label_bars
from tlunet.report.figures.style import RED
from tlunet.report.figures.text import text_width, wrap

KEYS = ["encoder", "init", "frac", "seed"]
MANY = ("resnet", "densenet", "convnext", "efficientnet-b0", "mobilenet_v2")


def grid(
    encoders: Sequence[str] = ("resnet", "densenet"),
    inits: Sequence[str] = ("random", "imagenet"),
    fracs: Sequence[float] = (1.0, 0.5),
    seeds: int = 3,
) -> pd.DataFrame:
    rows = [(e, i, f, s) for e in encoders for i in inits for f in fracs for s in range(seeds)]
    return pd.DataFrame(rows, columns=KEYS)


def images(cells: pd.DataFrame, n: int = 30) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    table = cells.merge(pd.DataFrame({"image_id": [f"{k}.jpg" for k in range(n)]}), how="cross")
    dice = draw.random(len(table))
    dice[table["image_id"] == "0.jpg"] = np.nan  # without a defect
    return table.assign(dice_image=dice, iou_image=dice / (2 - dice))


def scores(cells: pd.DataFrame) -> pd.DataFrame:
    draw = np.random.default_rng(1)
    metrics = pd.Series(["mla", "dice_image"], name="metric")
    table = cells[KEYS[:3]].drop_duplicates().merge(metrics, how="cross")
    mean = draw.uniform(0.3, 0.9, len(table))
    table = table.assign(mean=mean, low=mean - 0.05, high=mean + 0.02)
    return table.assign(n_seeds=3, interval="seeds and images")


def history(cells: pd.DataFrame) -> pd.DataFrame:
    draw = np.random.default_rng(2)
    table = cells.merge(pd.Series(range(6), name="epoch"), how="cross")
    for column in ("seconds", "val_loss", "val_dice", "val_mla"):
        table[column] = draw.uniform(0.1, 1, len(table))
    return table


def costs(cells: pd.DataFrame) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    columns = ["encoder_parameters", "parameters", "gflop_per_image", "seconds", "peak_memory"]
    values = {column: draw.uniform(1e6, 9e9, len(cells)) for column in [*columns, "dice_image"]}
    return cells.assign(**values)


def lacking(table: pd.DataFrame) -> pd.DataFrame:
    """The table without one cell of the grid."""
    cell = (table["encoder"] == "densenet") & (table["init"] == "imagenet") & (table["frac"] == 0.5)
    return table[~cell]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def notes(figure: Figure) -> list[str]:
    """Texts inside the panels, without the bold headers of the columns."""
    return [
        text.get_text()
        for ax in figure.axes
        for text in ax.texts
        if text.get_fontweight() != "bold"
    ]


def segments(ax: Axes) -> list[tuple[float, float]]:
    """(low, high) of each error bar, NaN where none is drawn."""
    found: list[Any] = [s for c in ax.collections for s in c.get_segments()]  # type: ignore[attr-defined]
    return [(s[0, 1], s[1, 1]) for s in found if len(s)]


DRAWN: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "boxes": lambda cells: boxes(images(cells)),
    "label_bars": lambda cells: label_bars(scores(cells)),
    "convergence": lambda cells: convergence(history(cells)),
    "seconds": lambda cells: convergence(history(cells), "seconds"),
    "differences": lambda cells: differences(images(cells), "imagenet"),
    "label_efficiency": lambda cells: label_efficiency(scores(cells)),
    "cost": lambda cells: cost(costs(cells)),
}


def test_order_is_the_papers_and_not_the_rows() -> None:
    cells = grid(("vgg", "densenet", "alexnet", "resnet"), ("synthetic", "imagenet", "random"))
    found = marks.order(cells.sample(frac=1, random_state=0))
    assert found.encoders == ["resnet", "densenet", "alexnet", "vgg"]
    assert found.inits == ["random", "imagenet", "synthetic"]
    assert found.fracs == [1.0, 0.5]
    assert found.pairs[:2] == [("resnet", "random"), ("resnet", "imagenet")]
    assert found.pairs[2:4] == [("resnet", "synthetic"), ("densenet", "random")]


def test_looks_do_not_depend_on_what_else_is_in_the_table() -> None:
    alone, full = marks.order(grid(["densenet"], ["synthetic"])), marks.order(grid(MANY))
    assert marks.marks("densenet", "synthetic", alone) == marks.marks("densenet", "synthetic", full)
    looks = [marks.marks(e, i, full) for e in MANY for i in ("random", "imagenet")]
    assert len({(m["marker"], m["linestyle"], m["markerfacecolor"]) for m in looks}) == 10
    assert len({marks.area(i, full)["hatch"] for i in marks.INITS}) == len(marks.INITS)


@pytest.mark.parametrize("name", DRAWN)
def test_an_empty_table_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=r"no rows|other than random"):
        DRAWN[name](grid().iloc[:0])


def test_boxes_are_quartiles_with_95_percent_whiskers() -> None:
    table = images(grid())
    figure = boxes(table.sample(frac=1, random_state=0))
    assert texts(figure) == ["100% of the data", "50% of the data"]
    cell = (table["encoder"] == "densenet") & (table["init"] == "random") & (table["frac"] == 0.5)
    for ax, metric in ((figure.axes[1], "dice_image"), (figure.axes[3], "iou_image")):
        values = table.loc[cell, metric].dropna().to_numpy()
        assert len(values) == 3 * 29  # images with a defect × seeds
        expected = np.percentile(values, [2.5, 25, 50, 75, 97.5])
        box = ax.patches[2].get_path().vertices  # third of four: densenet (random)
        lines = ax.lines[6 * 2 :]  # after two boxes; per box 2 whiskers, 2 caps, median, mean
        low, high, _, _, median, mean = (np.asarray(line.get_ydata()) for line in lines[:6])
        drawn = [low.min(), box[:, 1].min(), median[0], box[:, 1].max(), high.max()]
        np.testing.assert_allclose(drawn, expected)
        np.testing.assert_allclose(mean, values.mean())
        assert to_hex(lines[4].get_color()).upper() == RED
        assert len(ax.lines) == 6 * 4  # no fliers


def test_boxes_say_what_is_missing() -> None:
    table = lacking(images(grid()))
    assert notes(boxes(table)) == ["no run"] * 2
    found = notes(boxes(table.assign(iou_image=np.nan)))
    assert found == ["no run", *["no score"] * 7, "no run"]


def test_bars_stand_at_the_mean_with_their_interval() -> None:
    table = scores(grid())
    figure = label_bars(table.sample(frac=1, random_state=0))
    part = table[(table["metric"] == "mla") & (table["frac"] == 0.5)].set_index(["encoder", "init"])
    expected = 100 * part.loc[marks.order(table).pairs, ["mean", "low", "high"]].to_numpy()
    ax = figure.axes[1]
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], expected[:, 0])  # type: ignore[attr-defined]
    np.testing.assert_allclose(segments(ax), expected[:, 1:])
    *numbers, head = (text.get_text() for text in ax.texts)
    assert numbers == [f"{mean:.1f}" for mean in expected[:, 0]]
    assert head == "50% of the data"
    assert ax.get_yticks()[[0, -1]].tolist() == [0, 100]
    assert figure.legends[0].get_title().get_text().endswith("over seeds and images")


def test_bars_without_intervals_or_scores() -> None:
    table = lacking(scores(grid())).assign(low=np.nan, high=np.nan)
    figure = label_bars(table)
    assert np.isnan(segments(figure.axes[0])).all()
    assert figure.legends[0].get_title().get_text() == ""
    assert texts(figure).count("no run") == 1
    assert texts(label_bars(table.assign(mean=np.nan))).count("no score") == 7


def test_an_interval_need_not_hold_the_mean() -> None:
    table = scores(grid()).assign(mean=0.5, low=0.6, high=0.7)
    np.testing.assert_allclose(segments(label_bars(table).axes[0]), [(60, 70)] * 4)


def test_convergence_is_the_mean_up_to_the_last_epoch_of_all_seeds() -> None:
    table = history(grid())
    table = table[(table["seed"] != 1) | (table["epoch"] < 4)]  # one seed stopped early
    cell = (table["encoder"] == "resnet") & (table["init"] == "imagenet") & (table["frac"] == 0.5)
    by_epoch = table[cell & (table["epoch"] < 4)].groupby("epoch")["val_dice"]
    shuffled = table.sample(frac=1, random_state=0)
    ax = convergence(shuffled).axes[3]  # second row, second column
    line = ax.lines[1]
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata(), dtype=float)
    assert x[np.isfinite(y)].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(y[np.isfinite(y)], by_epoch.mean())
    band = ax.collections[1].get_paths()[0].vertices
    at_two = band[band[:, 0] == 2, 1]
    np.testing.assert_allclose([at_two.min(), at_two.max()], [by_epoch.min()[1], by_epoch.max()[1]])
    seconds = table[cell].pivot(index="epoch", columns="seed", values="seconds").cumsum()
    timed = convergence(shuffled, "seconds").axes[3].lines[1]
    drawn = np.asarray(timed.get_xdata(), dtype=float)[:4]
    np.testing.assert_allclose(drawn, seconds.mean(axis=1)[:4])
    hours = convergence(shuffled.assign(seconds=shuffled["seconds"] * 3600 * 5), "seconds")
    assert hours.axes[-1].get_xlabel() == "training time (h)"
    drawn = np.asarray(hours.axes[3].lines[1].get_xdata(), dtype=float)[:4]
    np.testing.assert_allclose(drawn, 5 * seconds.mean(axis=1)[:4])


def test_the_losses_axis_has_plain_numbers() -> None:
    figure = convergence(history(grid()))
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels(which="both")]
    assert {"1", "0.6"} <= {label for label in labels if label}
    assert not any("e" in label for label in labels)


def test_an_epoch_without_a_value_is_a_gap_and_one_seed_has_no_band() -> None:
    table = history(grid(seeds=1))
    table.loc[table["epoch"] == 2, "val_mla"] = np.nan
    ax = convergence(table).axes[4]
    assert np.isnan(np.asarray(ax.lines[0].get_ydata())).tolist() == [k == 2 for k in range(6)]
    assert not ax.collections
    convergence(table.assign(val_loss=np.nan, val_dice=np.nan)).draw_without_rendering()


def test_shares_and_counts_of_differences_by_hand() -> None:
    cells = grid(["resnet"], fracs=[1.0], seeds=1)
    table = cells.merge(pd.Series(list("abcdef"), name="image_id"), how="cross")
    table["dice_image"] = [0.5, 0.5, 0.5, 0.5, 0.5, np.nan, 0.6, 0.9, 0.7, 0.5, 0.4, 0.9]
    figure = differences(table.sample(frac=1, random_state=0), "imagenet")
    ax = figure.axes[0]
    assert title(ax) == "60% improved, 20% tied, 20% worse (n = 5)"
    drawn = {round(b.get_x() + 0.025, 2): b.get_height() for b in ax.patches}  # type: ignore[attr-defined]
    assert drawn == {-0.1: 1, 0.0: 1, 0.1: 1, 0.2: 1, 0.4: 1}
    assert [line.get_xdata() for line in ax.lines] == [[0, 0]]
    assert texts(figure) == ["resnet"]


def title(ax: Axes) -> str:
    return ax.get_title().replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")


def test_differences_pair_the_same_image_and_seed() -> None:
    table = images(grid())
    base = table["init"] == "random"
    table.loc[base, "dice_image"] = 0.1 * table.loc[base, "seed"]
    table.loc[~base, "dice_image"] = 0.1 * table.loc[~base, "seed"] + 0.05
    without = table[(table["seed"] != 2) | base]  # two seeds of one, three of the other
    figure = differences(lacking(without), "imagenet")
    expected = ["100% improved, 0% tied, 0% worse (n = 60)"] * 3
    assert [title(ax) for ax in figure.axes] == [*expected, ""]
    assert texts(figure) == ["resnet", "densenet", "no pairs"]


@pytest.mark.parametrize("init", ["random", "checkpoint"])
def test_differences_need_another_initialisation(init: str) -> None:
    with pytest.raises(ValueError, match=init):
        differences(images(grid()), init)


def test_label_efficiency_draws_means_and_intervals_beside_their_fraction() -> None:
    table = scores(grid(fracs=(1.0, 0.5, 0.25)))
    ax = label_efficiency(table.sample(frac=1, random_state=0)).axes[0]
    line = ax.lines[0]  # resnet (random)
    own = table[(table["metric"] == "dice_image") & (table["encoder"] == "resnet")]
    own = own[own["init"] == "random"].sort_values("frac")
    np.testing.assert_allclose(np.asarray(line.get_ydata()), own["mean"])
    apart = np.log2(np.asarray(line.get_xdata(), dtype=float) / own["frac"])
    assert (abs(apart) < 0.2).all()
    np.testing.assert_allclose(segments(ax)[:3], own[["low", "high"]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["100%", "50%", "25%"]
    names = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert names == [  # column by column: a row shows an encoder's initialisations
        "resnet · random", "densenet · random", "resnet · ImageNet", "densenet · ImageNet",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no rows"):
        label_efficiency(table, "unheard_of")


def test_cost_draws_the_mean_of_the_seeds_in_its_unit() -> None:
    table = costs(grid()).assign(gflop_per_image=np.nan)
    figure = cost(table.sample(frac=1, random_state=0))
    means = table.groupby(KEYS[:3])[["peak_memory", "dice_image"]].mean()
    drawn = [(line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[3].lines]  # type: ignore[index]
    expected = means.to_numpy() / [2**30, 1]
    np.testing.assert_allclose(sorted(drawn), sorted(expected.tolist()))
    assert texts(figure) == ["not measured"]
    assert not figure.axes[1].lines


RECIPE = "checkpoint path=/home/someone/weights/pretrained-on_everything/model_v2.pth"
CROWDED: dict[str, dict[str, Any]] = {
    "many encoders": {"encoders": MANY, "fracs": (1.0, 0.5, 0.25, 0.1)},
    "a path": {"inits": ("random", RECIPE)},
    "many fractions": {"encoders": ["resnet"], "fracs": (1.0, 0.95, 0.9, 0.5, 0.1, 0.05)},
    "one cell": {"encoders": ["resnet"], "inits": ["random"], "fracs": [1.0]},
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("crowd", CROWDED)
def test_texts_have_room(name: str, crowd: str) -> None:
    cells = grid(seeds=1, **CROWDED[crowd])
    if name != "differences":
        assert text_problems(DRAWN[name](cells)) == []
    elif crowd != "one cell":
        init = marks.order(cells).inits[-1]
        assert text_problems(differences(images(cells), init)) == []


def test_names_stay_horizontal_where_there_is_room() -> None:
    layouts = [
        _layout(marks.order(grid(encoders, fracs=fracs)))
        for encoders, fracs in [
            (["resnet", "densenet"], (1.0, 0.5)),
            ([f"timm-tf_efficientnet_lite{k}" for k in range(3)], (1.0, 0.5, 0.25, 0.125)),
            (MANY, (1.0, 0.5)),
        ]
    ]
    assert [(layout.columns, layout.rotation) for layout in layouts] == [(2, 0), (2, 0), (2, 90)]
    assert layouts[1].names[0] == "timm-tf_\nefficientnet_\nlite0"


def test_wrapping_loses_nothing() -> None:
    text = "timm-tf_efficientnet_lite0 · ImageNet path=/a/very_long/path.pth · 12.5%"
    for width in (0.1, 0.5, 1.0, 2.0, 9.0):
        lines = wrap(text, width).split("\n")
        assert "".join(lines).replace(" · ", "").replace(" ", "") == (
            text.replace(" · ", "").replace(" ", "")
        )
        assert all(text_width(line) <= width or len(line) == 1 for line in lines)


def test_a_measured_width_is_the_drawn_one() -> None:
    figure = Figure(dpi=200)
    for weight in ("normal", "bold"):
        text = figure.text(0, 0, "timm-tf_efficientnet_lite0", fontsize=8, fontweight=weight)
        drawn = text.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / 200
        assert drawn <= text_width(text.get_text(), 8, weight) <= 1.08 * drawn


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    table = images(grid(["resnet"], fracs=[1.0]))
    style.save(boxes(table), tmp_path / "a" / "figure")
    style.save(boxes(table.sample(frac=1, random_state=1)), tmp_path / "b" / "figure")
    for suffix in ("svg", "png"):
        first, second = (tmp_path / folder / f"figure.{suffix}" for folder in "ab")
        assert first.read_bytes() == second.read_bytes()
    assert len(list((tmp_path / "a").iterdir())) == 2


def test_a_drawing_is_svg_with_its_fonts_as_paths_and_png(tmp_path: Path) -> None:
    svg = style.save(label_bars(scores(grid(["resnet"], fracs=[1.0]))), tmp_path / "a")
    assert svg.startswith("<svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").endswith(svg)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<text" not in svg
