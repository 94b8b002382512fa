"""Shared by the commands that use a trained network: open a run, a device, test images."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tlunet.errors import ConfigError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from tlunet.data.datamodule import DefectDataModule
    from tlunet.deploy.demo.samples import Example
    from tlunet.deploy.stream import Stream
    from tlunet.machine.device import Hardware

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "bf16-mixed", "32-true")
ONNX = ".onnx"
Chosen = TypeVar("Chosen")


def check_options(device: str, precision: str) -> None:
    """Raise ConfigError unless the device and the precision are known names."""
    if device not in DEVICES or precision not in PRECISIONS:
        raise ConfigError(
            f"--device {device} --precision {precision}: expected {', '.join(DEVICES)} "
            f"and {', '.join(PRECISIONS)}"
        )


def open_network(
    run: Path,
    tuned: bool,
    device: str,
    precision: str,
    batch_size: int,
    overlap: float | None = None,
) -> "Stream":
    """Load the network of a run or of an exported file; the latter needs no training code."""
    if run.suffix.lower() == ONNX:
        try:
            from tlunet.deploy.runtime import OnnxPredictor
            from tlunet.machine.parallel import threads
        except ModuleNotFoundError as error:
            raise ConfigError(f"{run}: needs {error.name}; pip install onnxruntime") from error
        if precision == "bf16-mixed":
            raise ConfigError("--precision bf16-mixed: an exported network computes in float32")
        return OnnxPredictor.load(
            run, tuned=tuned, device=device, batch_size=batch_size, threads=threads(),
            overlap=overlap,
        )  # fmt: skip
    if run.suffix == ".pt2":
        raise ConfigError(
            f"{run}: a torch.export program; use the run folder, or the model.onnx that tlunet "
            "export RUN writes"
        )
    from tlunet.deploy.predict import Predictor

    machine = choose_machine(device, precision)
    return Predictor.load(
        run,
        tuned=tuned,
        device=machine.device,
        precision=machine.precision,
        batch_size=batch_size,
        threads=machine.threads,
        overlap=overlap,
    )


def choose_machine(device: str, precision: str) -> "Hardware":
    """Return the requested or the best device; raise ConfigError if it is not available."""
    from tlunet.machine.device import choose

    try:
        return choose(device, precision)
    except ConfigError as error:
        raise ConfigError(f"--device {device}: not available here; use auto or cpu") from error


def sample_images(run: Path, most: int) -> "dict[str, NDArray[np.uint8]]":
    """Load test images of a run; print one line if they are no longer available."""
    from tlunet.deploy.demo.samples import samples

    return _from_test_set(run, lambda data: samples(data, most))


def _from_test_set(
    run: Path, choose: "Callable[[DefectDataModule], dict[str, Chosen]]"
) -> "dict[str, Chosen]":
    from tlunet.machine.console import complain, progress
    from tlunet.runs.data import open_data

    try:
        with progress() as report:
            folder = run if run.is_dir() else run.parent  # a checkpoint or an exported file
            return choose(open_data(folder, report))
    except UserError as error:
        complain(*(f"continuing without test images: {line}" for line in error.lines))
        return {}


def example_images(run: Path, most: int) -> "dict[str, Example]":
    """Load test images of a run with their ground truth; print one line if they are missing."""
    from tlunet.deploy.demo.samples import examples

    return _from_test_set(run, lambda data: examples(data, most))


def titles_of(runs: list[Path]) -> tuple[list[str], str]:
    """Name runs for a person.

    Returns:
        A title for each, by the settings in which they differ (``random``, ``ImageNet``), else by
        folder or path; and the settings that all share, which may be none.
    """
    settings = [_settings(run) for run in runs]
    columns = list(zip(*settings, strict=True)) if all(settings) else []
    differ = [k for k, values in enumerate(columns) if len({*values}) > 1]
    titles = [" · ".join(values[k] for k in differ) for values in settings] if differ else []
    if len({*titles}) == len(runs):
        common = [values[0] for k, values in enumerate(columns) if k not in differ]
        return titles, " · ".join(common)
    names = [run.resolve().name for run in runs]
    shared = " · ".join(settings[0]) if len({*settings}) == 1 else ""
    return names if len({*names}) == len(names) else [*map(str, runs)], shared


def _settings(run: Path) -> tuple[str, ...]:
    """Return a run's settings: ``ResNet``, ``ImageNet``, ``100%``, ``seed 0``; empty if unknown."""
    from tlunet.machine.files import read_json
    from tlunet.runs.names import encoder_name, init_name, percent

    try:
        meta = read_json((run if run.is_dir() else run.parent) / "meta.json")
        encoder = encoder_name(str(meta["encoder"]))
        share = f"{percent(meta['frac'])} of the data"
        return encoder, init_name(str(meta["init"])), share, f"seed {meta['seed']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ()
