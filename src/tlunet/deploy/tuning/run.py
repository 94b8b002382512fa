"""Tuning a finished run, from its folder to its ``tuned.json``."""

from pathlib import Path
from typing import NamedTuple

from tlunet.deploy.predict import Predictor
from tlunet.deploy.tuning.tune import Tuned, check_goal, check_same, tune
from tlunet.errors import DataError, UserError, first_line
from tlunet.machine.console import complain, progress, say
from tlunet.machine.counted import counted
from tlunet.machine.device import Hardware, choose
from tlunet.machine.files import read_json, write_json
from tlunet.runs.data import open_data
from tlunet.runs.folder import check_finished, read_meta

FILE = "tuned.json"
GOAL = "dice_kaggle"


class TunedRun(NamedTuple):
    """Result of tuning a run.

    Attributes:
        tuned: the rules and their scores.
        classes: names of the classes.
        difference: largest difference to the run's own scores, at its own threshold.
    """

    tuned: Tuned
    classes: tuple[str, ...]
    difference: float


def tune_run(run: Path, machine: Hardware, goal: str = GOAL) -> TunedRun:
    """Fit the rules of a finished run on its validation set and write ``tuned.json``.

    Args:
        run: its folder.
        machine: where the network is evaluated.
        goal: a key of :data:`tlunet.deploy.tuning.search.GOALS`.

    Raises:
        ConfigError: the goal is unknown.
        DataError: the run is not finished, or its images, split or weights are not available.
    """
    check_goal(goal)
    if not run.is_dir():
        raise DataError(f"{run}: no such folder; expected a finished run")
    check_finished(run)
    meta, known = read_meta(run), read_json(run / "metrics.json")
    if not known:
        raise DataError(f"{run / 'metrics.json'}: no such file; expected a finished run")
    predictor = Predictor.load(run, device=machine.device, precision=machine.precision)
    with progress() as report:
        data = open_data(run, report)
        data.eval_batch_size = machine.eval_batch_size(data.batch_size)
        done = dict.fromkeys(("val", "test"), 0)

        def tell(part: str, images: int) -> None:
            done[part] += images
            report(f"{part} set, four views", done[part], len(data.rows[part]))

        tested = data.split["subset"] == "test"
        groups = data.split.loc[tested, "group"].to_numpy()
        tuned = tune(predictor, data.batches, meta["size"], groups, goal, tell)
    is_same_machine = (machine.accelerator, machine.precision) == (
        meta.get("accelerator"), meta.get("precision"),
    )  # fmt: skip
    difference = check_same(tuned.test, known, is_same_machine)
    write_json(run / FILE, tuned.as_dict() | {"digest": meta.get("digest")})
    return TunedRun(tuned, predictor.classes, difference)


def tune_if_missing(run: Path) -> None:
    """Tune a run just trained, unless it is tuned already; a problem is reported in one line."""
    if (run / FILE).exists():
        return
    meta = read_meta(run)
    try:
        # As many threads as in training: beside it other cells may be trained or tuned.
        machine = choose(meta["accelerator"], meta["precision"], meta.get("threads"))
        tuned = tune_run(run, machine).tuned
    except UserError as error:
        complain(*(f"{run}: not tuned: {line}" for line in error.lines))
        return
    except (OSError, RuntimeError) as error:  # a full disk, out of memory; the run is finished
        complain(f"{run}: not tuned: {first_line(error)}; tlunet tune {run} tries again")
        return
    own, fitted = (tuned.test[name] for name in (GOAL, f"tuned_{GOAL}"))
    say(f"  tuned on the validation set: test Kaggle-Dice {own:.3f} → {fitted:.3f}")
    total = tuned.flags[0]
    for kind, of, what in (
        ("missed", "defective", "with a defect, missed"),
        ("false", "defect_free", "without one, flagged"),
    ):
        if total[of]:
            before, after = total[f"{kind}_masks"], total[f"tuned_{kind}_masks"]
            say(f"  {counted(total[of], 'test image')} {what} by masks: {before} → {after}")
