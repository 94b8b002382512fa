"""The recipes: what they set, what wins over them, and what a run of one leaves."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from tlunet.errors import ConfigError
from tlunet.runs.settings import read_settings, what_differs
from tlunet.study.config.command import read_command
from tlunet.study.training.callbacks.checkpoints import Checkpoints
from tlunet.study.training.resolve import resolve

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
FAST = ("encoder.name=mobilenet_v2", "trainer=cpu")
#: Keys that runs of earlier versions lack.
LATER = (
    "recipe", "steps", "sampling", "ema", "tune", "optimizer.name", "optimizer.weight_decay",
    "optimizer.clip", "optimizer.schedule", "optimizer.warmup", "early_stopping.monitor",
    "augment.crop",
)  # fmt: skip


def read(*line: str) -> DictConfig:
    cells = read_command(line, ROOT / "conf")
    assert cells is not None
    return cells[0]


def test_production_is_another_protocol() -> None:
    cell = read("recipe=production")
    assert (cell.recipe, cell.loss._target_) == ("production", "tlunet.model.losses.LogDiceLoss")
    assert (cell.optimizer.name, cell.optimizer.clip) == ("adamw", 1.0)
    assert (cell.early_stopping.monitor, cell.early_stopping.patience) == ("val_dice", None)
    assert (cell.sampling, cell.steps, cell.tune) == ("balanced", 1500, True)
    assert cell.augment._target_ == "tlunet.data.sampling.copy_paste.CopyPaste"


def test_what_is_typed_wins_over_the_recipe() -> None:
    line = ("loss=focal", "augment=paper", "optimizer.lr=0.002", "steps=300", "sampling=uniform")
    cell = read("recipe=production", *line)
    assert cell.loss._target_ == "tlunet.model.losses.FocalLoss"
    assert "transform" not in cell.augment
    assert (cell.optimizer.lr, cell.steps, cell.sampling) == (0.002, 300, "uniform")
    assert cell.optimizer.name == "adamw"


def test_so_does_a_study_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults: [config, override recipe: production, override loss: lovasz, _self_]\n"
        "steps: 300\noptimizer: {clip: null}\n"
    )
    cell = read("-cd", str(tmp_path), "-cn", "mine")
    assert (cell.recipe, cell.steps) == ("production", 300)
    assert cell.loss._target_ == "tlunet.model.losses.LovaszLoss"
    assert (cell.optimizer.clip, cell.optimizer.name) == (None, "adamw")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("recipe=productive", "did you mean production?; allowed: paper, production"),
        ("steps=0", "expected a whole number of optimiser steps, or null"),
        ("sampling=rare", "expected uniform, balanced"),
        ("ema=1", "expected a number between 0 and 1, or null"),
        ("tune=1", "expected true or false"),
        ("optimizer.name=sgd", "expected adam, adamw"),
        ("optimizer.weight_decay=-1", "expected a number in [0, 1)"),
        ("optimizer.clip=0", "expected a number above 0, or null"),
        ("optimizer.schedule=step", "expected constant, cosine, one_cycle"),
        ("optimizer.warmup=1", "expected a fraction in [0, 1)"),
        ("early_stopping.monitor=loss", "expected val_loss, val_dice"),
        ("augment.crop=[32,40]", "expected [height,width], multiples of 32, or null"),
    ],
)
def test_a_wrong_value_is_one_line(word: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(word)
    [line] = error.value.lines
    assert line.startswith(word.partition("=")[0])
    assert says in line


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("home")
    return f"paths.runs={folder}/runs", f"paths.data={folder}/data"


def test_later_keys_change_no_digest(tiny: tuple[str, ...], home: tuple[str, ...]) -> None:
    now, before = read(*tiny, *FAST, *home), read(*tiny, *FAST, *home)
    OmegaConf.set_struct(before, False)
    for key in LATER:
        parent, _, last = key.rpartition(".")
        del (OmegaConf.select(before, parent) if parent else before)[last]
    assert resolve(now).digest == resolve(before).digest
    assert not any(key.rpartition(".")[2] in json.dumps(resolve(now).science) for key in LATER[1:])


@pytest.mark.parametrize(
    ("word", "where", "value"),
    [
        ("steps=9", ("steps",), 9),
        ("sampling=balanced", ("sampling",), "balanced"),
        ("ema=0.9", ("ema",), 0.9),
        ("optimizer.name=adamw", ("optimizer", "name"), "adamw"),
        ("optimizer.clip=1", ("optimizer", "clip"), 1),
        ("optimizer.schedule=cosine", ("optimizer", "schedule"), "cosine"),
        ("early_stopping.monitor=val_dice", ("early_stopping", "monitor"), "val_dice"),
        ("augment.crop=[32,32]", ("augment", "crop"), [32, 32]),
    ],
)
def test_another_value_is_part_of_it(
    word: str, where: tuple[str, ...], value: Any, tiny: tuple[str, ...], home: tuple[str, ...]
) -> None:
    plain, other = (resolve(read(*tiny, *FAST, *home, *words)) for words in ((), (word,)))
    found: Any = other.science
    for key in where:
        found = found[key]
    assert found == value
    assert other.digest != plain.digest
    tuned = resolve(read(*tiny, *FAST, *home, word, "tune=true"))
    assert tuned.digest == other.digest


def test_a_crop_larger_than_the_images_is_refused(
    tiny: tuple[str, ...], home: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match="larger than the images, 32×64"):
        resolve(read(*tiny, *FAST, *home, "augment.crop=[64,64]"))


def test_steps_count_after_the_budget(tiny: tuple[str, ...], home: tuple[str, ...]) -> None:
    cell = resolve(read(*tiny, *FAST, *home, "epochs=5", "frac=0.5", "steps=50", "budget=steps"))
    assert cell.epochs == 10
    assert cell.data.repeat == 6  # 12 images: 9 batches of 16 in two epochs of 6 passes
    assert 10 * len(cell.data.training_order()) == 50


def test_recipes_name_the_runs_of_a_report() -> None:
    line = ("-m", "recipe=paper,production")
    cells = read_command(line, ROOT / "conf")
    assert cells is not None
    one_left_out = read("recipe=production", "loss=focal")
    settings = [
        read_settings(cell) for cell in (*cells, one_left_out, read("recipe=production", "ema=0.9"))
    ]
    assert what_differs(settings) == [
        ["recipe=paper"],
        ["recipe=production"],
        ["recipe=production", "loss=FocalLoss"],
        ["recipe=production", "ema=0.9"],
    ]


@pytest.mark.parametrize(
    ("monitor", "epochs", "best"),
    [
        ("val_loss", [(3.0, 0.5), (2.0, 0.1), (4.0, 0.9)], 1),
        ("val_dice", [(3.0, 0.5), (2.0, 0.1), (4.0, 0.9)], 2),
        ("val_dice", [(3.0, 0.0), (2.0, 0.0), (4.0, 0.0)], 1),  # the lower loss among equals
    ],
)
def test_the_best_epoch_is_that_of_the_monitor(
    monitor: str, epochs: list[tuple[float, float]], best: int, tmp_path: Path
) -> None:
    class Trainer:
        current_epoch = 0

        def save_checkpoint(self, path: Path, weights_only: bool) -> None:
            pass

    trainer: Any = Trainer()
    checkpoints = Checkpoints(tmp_path, monitor=monitor)
    for epoch, (loss, dice) in enumerate(epochs):
        trainer.current_epoch = epoch
        trainer.callback_metrics = {"val_loss": torch.tensor(loss), "val_dice": torch.tensor(dice)}
        checkpoints.on_train_epoch_end(trainer, None)
        resumed = Checkpoints(tmp_path, monitor=monitor)
        resumed.load_state_dict(checkpoints.state_dict())
        checkpoints = resumed
    assert checkpoints.best_epoch == best
    assert checkpoints.best_loss == epochs[best][0]
    assert checkpoints.state_dict().keys() - {"best_dice"} == {"best_loss", "best_epoch"}


def test_a_production_run_is_trained_and_tuned(
    run_here: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    line = (
        *tiny, "encoder.name=resnet18", "trainer=cpu", "trainer.precision=32-true",
        "recipe=production", "epochs=2", "steps=8", "ema=0.9", "optimizer.schedule=one_cycle",
    )  # fmt: skip
    done = run_here(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = tmp_path.glob("runs/synthetic/*/")
    history = pd.read_csv(folder / "history.csv")
    assert history["step"].tolist() == [5, 10]  # 24 images, 3 times
    assert history["samples"].tolist() == [72, 144]
    assert history["learning_rate"][1] < history["learning_rate"][0]
    config = OmegaConf.load(folder / "config.yaml")
    assert (config.recipe, config.epochs) == ("production", 2)
    tuned = json.loads((folder / "tuned.json").read_text())
    assert tuned["digest"] == json.loads((folder / "meta.json").read_text())["digest"]
    images = pd.read_parquet(folder / "test_images.parquet").groupby("image_id")
    pixels = images[["truth_pixels", "predicted_pixels"]].sum()
    missed = (pixels["truth_pixels"] > 0) & (pixels["predicted_pixels"] == 0)
    assert tuned["flags"][0]["missed_masks"] == missed.sum()
    assert torch.get_num_threads() == 1  # trainer.threads: others may train beside it
    assert "tuned on the validation set" in done.stdout
    assert "with a defect, missed by masks: " in done.stdout
    state = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
    assert any(name.startswith("average.module.") for name in state)
    (folder / "tuned.json").unlink()
    again = run_here(*line, cwd=tmp_path)
    assert again.returncode == 0
    assert "already finished" in again.stdout
    assert json.loads((folder / "tuned.json").read_text()) == tuned
