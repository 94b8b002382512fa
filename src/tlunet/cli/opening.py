"""What the verbs of a network in use have in common: opening a run, a device, its images."""

from importlib.util import find_spec
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
    """Raise ConfigError unless a device and a precision are among those there are anywhere."""
    if device not in DEVICES or precision not in PRECISIONS:
        raise ConfigError(
            f"--device {device} --precision {precision}: allowed are {', '.join(DEVICES)} "
            f"and {', '.join(PRECISIONS)}"
        )


def open_network(run: Path, tuned: bool, device: str, precision: str, batch_size: int) -> "Stream":
    """The network of a run, or of an exported file: then nothing of training is imported."""
    if run.suffix == ONNX:
        try:
            from tlunet.deploy.runtime import OnnxPredictor, cores
        except ModuleNotFoundError as error:
            raise ConfigError(f"{run}: needs {error.name}; pip install onnxruntime") from error
        if precision == "bf16-mixed":
            raise ConfigError("--precision bf16-mixed: an exported network computes in float32")
        return OnnxPredictor.load(
            run, tuned=tuned, device=device, batch_size=batch_size, threads=cores()
        )
    if run.suffix == ".pt2":
        raise ConfigError(
            f"{run}: a program for torch.export.load; take the run's folder, or tlunet export "
            "RUN's model.onnx"
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
    )


def choose_machine(device: str, precision: str) -> "Hardware":
    """The device asked for, or the best there is; raise ConfigError where it is not here."""
    from tlunet.machine.device import choose

    try:
        return choose(device, precision)
    except ConfigError as error:
        raise ConfigError(f"--device {device}: there is none here; take auto or cpu") from error


def sample_images(run: Path, most: int) -> "dict[str, NDArray[np.uint8]]":
    """Images of a run's test part, where they are still there; else a line that they are not."""
    from tlunet.deploy.samples import samples
    from tlunet.machine.console import complain, progress
    from tlunet.runs.data import open_data

    try:
        with progress() as report:
            folder = run if run.is_dir() else run.parent  # of a checkpoint or an exported file
            return samples(open_data(folder, report), most)
    except UserError as error:
        complain(*(f"without images of the test part: {line}" for line in error.lines))
        return {}


def require(extra: str, *modules: str) -> None:
    """Raise ConfigError unless the libraries of an extra are installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        raise ConfigError(f"{', '.join(missing)} is not installed: pip install '.[{extra}]' has it")


def title_of(run: Path, runs: list[Path]) -> str:
    """A run's name, and its folder's where two have the same."""
    names = [one.resolve().name for one in runs]
    return run.resolve().name if len({*names}) == len(names) else str(run)
