"""Check the figure of validation Dice by optimiser step."""

import numpy as np
import pandas as pd
import pytest

from figure_texts import text_problems
from tlunet.report.settings.courses import setting_courses


def history(steps: int, epochs: int, frac: float = 1.0, seeds: int = 2) -> pd.DataFrame:
    rows = [
        {"encoder": "resnet", "init": "random", "frac": frac, "seed": seed, "epoch": epoch,
         "step": steps * (epoch + 1), "val_dice": 0.1 * epoch + 0.01 * seed}
        for seed in range(seeds) for epoch in range(epochs - seed)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_line_per_setting_ends_where_every_seed_was() -> None:
    settings = {
        "recipe=paper": pd.concat([history(7, 4, 0.1), history(64, 4)]),
        "recipe=production": history(64, 5),
    }
    figure = setting_courses(settings)
    first, second = figure.axes
    drawn = [[np.asarray(line.get_xydata()) for line in ax.get_lines()] for ax in (first, second)]
    assert [len(lines) for lines in drawn] == [2, 1]  # all data first: both settings have it
    paper, production = drawn[0]
    assert paper[:, 0].tolist() == [64, 128, 192, 256]
    assert production[:, 0].tolist() == [64, 128, 192, 256, 320]
    assert paper[:3, 1] == pytest.approx([0.005, 0.105, 0.205])
    assert np.isnan([paper[3, 1], production[4, 1]]).all()  # one seed stopped before
    assert drawn[1][0][:, 0].tolist() == [7, 14, 21, 28]
    [box] = figure.legends
    assert [text.get_text() for text in box.get_texts()] == list(settings)
    assert text_problems(figure) == []


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        setting_courses(
            {"recipe=paper": history(1, 0).reindex(columns=["encoder", "init", "frac"])}
        )
