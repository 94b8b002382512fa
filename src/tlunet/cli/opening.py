"""Shared by the commands that use a trained network: open a run, a device, test images."""

from pathlib import Path
from typing import TYPE_CHECKING

from tlunet.errors import ConfigError, UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tlunet.deploy.stream import Stream
    from tlunet.machine.device import Hardware

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "bf16-mixed", "32-true")
ONNX = ".onnx"


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
            from tlunet.deploy.runtime import OnnxPredictor, threads
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
    from tlunet.deploy.samples import samples
    from tlunet.machine.console import complain, progress
    from tlunet.runs.data import open_data

    try:
        with progress() as report:
            folder = run if run.is_dir() else run.parent  # a checkpoint or an exported file
            return samples(open_data(folder, report), most)
    except UserError as error:
        complain(*(f"continuing without test images: {line}" for line in error.lines))
        return {}


def title_of(run: Path, runs: list[Path]) -> str:
    """Return a run's name, or its path if two runs have the same name."""
    names = [one.resolve().name for one in runs]
    return run.resolve().name if len({*names}) == len(names) else str(run)
