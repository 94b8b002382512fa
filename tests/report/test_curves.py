"""Compare curves with scikit-learn, areas with the scores, and calibration with hand results."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from figure_texts import text_problems
from tlunet.report.figures import curves, panels, reliability, style

MANY = ("resnet", "densenet", "efficientnet-b0")


def labels(
    encoders: tuple[str, ...] = ("resnet",),
    fracs: tuple[float, ...] = (1.0,),
    seeds: int = 3,
    n: int = 40,
    classes: int = 2,
) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    truth = draw.random((n, classes)) < 0.3
    tables = []
    for encoder in encoders:
        for init in ("random", "imagenet"):
            for frac in fracs:
                for seed in range(seeds):
                    prob = np.clip(0.25 * truth + 0.7 * draw.random(truth.shape), 0, 1)
                    cell = {"encoder": encoder, "init": init, "frac": frac, "seed": seed}
                    rows = {
                        "image_id": np.repeat([f"{k}.jpg" for k in range(n)], classes),
                        "class_id": np.tile(np.arange(1, classes + 1), n),
                        "class_name": np.tile([f"class {m}" for m in range(classes)], n),
                        "label": truth.ravel(),
                        "prob": prob.ravel().round(1).astype(np.float32),  # with ties
                    }
                    tables.append(pd.DataFrame(cell | rows))
    return pd.concat(tables, ignore_index=True)


def seeds_of(table: pd.DataFrame, init: str, class_id: int) -> list[tuple[np.ndarray, np.ndarray]]:
    part = table[(table["init"] == init) & (table["class_id"] == class_id)]
    return [(s["label"].to_numpy(), s["prob"].to_numpy()) for _, s in part.groupby("seed")]


def test_roc_of_one_seed_is_scikit_learns() -> None:
    table = labels(seeds=1)
    ax = curves.roc(table.sample(frac=1, random_state=0)).axes[1]
    for line, class_id in zip(ax.lines, (1, 2), strict=False):
        ((label, prob),) = seeds_of(table, "imagenet", class_id)
        fpr, tpr, _ = roc_curve(label, prob, drop_intermediate=False)
        drawn = np.stack([line.get_xdata(), line.get_ydata()], axis=1).round(9).tolist()
        expected = np.stack([fpr, tpr], axis=1).round(9).tolist()
        assert all(point in expected for point in drawn)
        assert {x for x, _ in drawn} == {x for x, _ in expected}
        np.testing.assert_allclose(
            np.trapezoid(*np.array(drawn).T[::-1]), roc_auc_score(label, prob)
        )


def test_roc_of_several_seeds_is_their_vertical_average() -> None:
    table = labels()
    figure = curves.roc(table)
    ax = figure.axes[0]
    means = []
    for line, class_id in zip(ax.lines, (1, 2), strict=False):
        areas = [roc_auc_score(*seed) for seed in seeds_of(table, "random", class_id)]
        means.append(np.mean(areas))
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        np.testing.assert_allclose(np.trapezoid(y, x), means[-1])
        assert line.get_label() == f"{means[-1]:.2f}"
    assert ax.get_title() == f"mean AUC {np.mean(means):.2f}"
    below = " · ".join(f"{mean:.2f}" for mean in means)  # in the order of the legend
    assert [text.get_text() for text in ax.texts] == [below, "random · 100%"]
    assert ax.get_legend() is None
    assert ax.get_ylabel() == "resnet"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["class 0", "class 1"]
    np.testing.assert_allclose(ax.lines[2].get_xydata(), [[0, 0], [1, 1]])  # chance
    # By hand, without ties: each curve steps up once, at a false positive rate of 0 or 1/2.
    truth = np.array([True, False, False])
    pair = [curves.roc_points(truth, np.array(p)) for p in ([0.9, 0.5, 0.1], [0.5, 0.9, 0.1])]
    x, y = curves.mean_roc(pair)
    assert list(zip(x.tolist(), y.tolist(), strict=True)) == [
        (0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1), (1, 1),
    ]  # fmt: skip


def test_precision_recall_has_the_average_precision_below_it() -> None:
    table = labels()
    ax = curves.precision_recall(table.sample(frac=1, random_state=0)).axes[1]
    means = []
    for k, class_id in enumerate((1, 2)):
        curve, prevalence = ax.lines[2 * k], ax.lines[2 * k + 1]
        seeds = seeds_of(table, "imagenet", class_id)
        means.append(np.mean([average_precision_score(*seed) for seed in seeds]))
        x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
        assert curve.get_drawstyle() == "steps-pre"
        assert x[[0, -1]].tolist() == [0, 1]
        np.testing.assert_allclose((np.diff(x) * y[1:]).sum(), means[-1])
        np.testing.assert_allclose(prevalence.get_ydata(), seeds[0][0].mean())
        assert curve.get_label() == f"{means[-1]:.2f}"
    assert ax.get_title().endswith(f"mean AP {np.mean(means):.2f}")


def test_precision_reaches_back_from_its_recall_by_hand() -> None:
    points = curves.precision_points(np.array([False, True, True]), np.array([0.9, 0.5, 0.1]))
    assert [part.tolist() for part in points] == [[0, 0.5, 1], [0, 0.5, 2 / 3]]
    x, y = curves.mean_precision([points])
    assert x.tolist() == [0, 0.5, 1]
    assert y.tolist() == [0.5, 0.5, 2 / 3]


def test_a_class_without_positives_or_negatives_is_undefined() -> None:
    table = labels()
    table.loc[table["class_id"] == 2, "label"] = False
    table.loc[table["class_id"] == 1, "label"] = True
    roc, precision = curves.roc(table).axes[0], curves.precision_recall(table).axes[0]
    assert [line.get_label() for line in roc.lines[:2]] == ["undefined"] * 2
    assert roc.get_title().endswith("mean AUC undefined")
    assert precision.lines[0].get_label() == "1.00"
    assert precision.lines[2].get_label() == "undefined"
    assert precision.get_title().endswith("mean AP 1.00")  # over the defined ones
    reliability.reliability(table).draw_without_rendering()


def test_calibration_and_its_error_by_hand() -> None:
    prob = np.array([0.1, 0.2, 0.6, 0.8, 1.0])
    label = np.array([False, True, True, False, True])
    found = reliability.calibration(label, prob, bins=2)
    assert found["n"].tolist() == [2, 3]
    np.testing.assert_allclose(found["predicted"], [0.15, 0.8])
    np.testing.assert_allclose(found["observed"], [0.5, 2 / 3])
    expected = 2 / 5 * (0.5 - 0.15) + 3 / 5 * (0.8 - 2 / 3)
    assert reliability.calibration_error(label, prob, bins=2) == pytest.approx(expected)


def test_reliability_pools_the_seeds_and_leaves_small_bins_out() -> None:
    table = labels(n=24)
    figure = reliability.reliability(table.sample(frac=1, random_state=0), bins=8)
    ax, under = figure.axes[0], figure.axes[2]
    part = table[table["init"] == "random"]
    own = part[part["class_id"] == 2]
    bins = own.groupby(np.minimum((own["prob"].astype(float) * 8).astype(int), 7))
    sizes = bins.size()
    assert sizes.min() < reliability.FEWEST <= sizes.max()
    kept = sizes[sizes >= reliability.FEWEST].index
    line = ax.lines[2]  # the diagonal and class 1 come before
    np.testing.assert_allclose(line.get_xdata(), bins["prob"].mean()[kept], rtol=1e-6)
    np.testing.assert_allclose(line.get_ydata(), bins["label"].mean()[kept])
    heights = [bar.get_height() for bar in under.patches]  # type: ignore[attr-defined]
    assert sum(heights) == len(part) == 3 * 24 * 2
    error = reliability.calibration_error(part["label"].to_numpy(), part["prob"].to_numpy(float), 8)
    assert ax.get_title().endswith(f"ECE {error:.3f}")


def test_panels_of_a_large_grid_and_a_missing_cell() -> None:
    table = labels(MANY, fracs=(1.0, 0.5), seeds=1, n=12, classes=1)
    missing = (
        (table["encoder"] == "densenet") & (table["init"] == "random") & (table["frac"] == 0.5)
    )
    figure = curves.roc(table[~missing])
    assert len(figure.axes) == 3 * 2 * 2
    assert figure.get_figwidth() <= style.WIDTH
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert [text for text in texts if not text.startswith("0.") and text != "1.00"] == [
        "random · 100%", "ImageNet · 100%", "random · 50%", "ImageNet · 50%", "no run",
    ]  # fmt: skip
    assert [ax.get_ylabel() for ax in figure.axes[::4]] == list(MANY)
    assert text_problems(figure) == []


def test_no_panels_for_what_was_not_trained() -> None:
    """Two of three encoders have random weights only: a row per condition, none of them empty."""
    table = labels(MANY, fracs=(1.0, 0.5), seeds=1, n=12, classes=1)
    figure = curves.roc(table[(table["init"] == "random") | (table["encoder"] == MANY[0])])
    assert len(figure.axes) == 4 * 2
    assert "no run" not in [text.get_text() for ax in figure.axes for text in ax.texts]
    rows = [ax.get_ylabel().replace("\n", " · ") for ax in figure.axes[::2]]
    assert rows[:2] == [f"{MANY[0]} · random", f"{MANY[0]} · ImageNet"]
    assert len(figure.legends) == 1
    # One encoder with one fraction only: three empty panels of twelve, rather than many rows.
    table = labels(MANY[:2], fracs=(1.0, 0.5, 0.25, 0.1), seeds=1, n=12, classes=1)
    is_short = (table["encoder"] == MANY[0]) & ((table["init"] != "random") | (table["frac"] < 1))
    figure = curves.precision_recall(table[~is_short])
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert (len(figure.axes), texts.count("no run")) == (12, 3)


@pytest.mark.parametrize(
    ("levels", "columns"),
    [
        ((2, 2, 2), ("frac", "init")),
        ((3, 2, 4), ("frac",)),
        ((2, 2, 1), ("encoder", "init")),
        ((3, 2, 1), ("encoder",)),
        ((5, 2, 1), ("frac", "init")),
        ((1, 1, 6), ("frac",)),
        ((1, 1, 1), ("frac",)),
    ],
)
def test_what_the_columns_stand_for(levels: tuple[int, ...], columns: tuple[str, ...]) -> None:
    names = ("encoder", "init", "frac")
    assert (
        panels.choose_columns({n: [*range(k)] for n, k in zip(names, levels, strict=True)})
        == columns
    )


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    table = labels(n=20, classes=1)
    for name, rows in (("a", table), ("b", table.sample(frac=1, random_state=1))):
        style.save(curves.roc(rows), tmp_path / name / "roc")
    for suffix in ("svg", "png"):
        first, second = (tmp_path / name / f"roc.{suffix}" for name in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_an_empty_table_is_an_error() -> None:
    for draw in (curves.roc, curves.precision_recall, reliability.reliability):
        with pytest.raises(ValueError, match="no rows"):
            draw(labels().iloc[:0])
