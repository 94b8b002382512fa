"""``tlunet train FOLDER``: from a folder of images to a network that predicts."""

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlunet.cli import data, deploy
from tlunet.errors import ConfigError, UserError
from tlunet.machine.command_line import hydra_value, tlunet_command

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from tlunet.runs.cell import Cell

app = typer.Typer(add_completion=False)
OVERRIDES = "Keys of run.py, such as epochs=5 or encoder=resnet; they win over everything else."


@app.command()
def folder(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="Images and masks.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=OVERRIDES)
    ] = None,
    classes: data.Classes = "",
    foreground: data.Foreground = None,
    kind: data.Kind = "auto",
    recipe: Annotated[str, typer.Option(help="production, or paper: conf/recipe/.")] = "production",
) -> None:
    """Train a network on a folder of images: check, train, tune, export.

    Checks the data and shows it as a page, chooses an input size, trains
    EfficientNet-Lite0 from ImageNet weights, fits thresholds on the validation
    images (recipe=production), exports to ONNX, and prints the command that
    predicts. If training is interrupted, run the same command to resume.

        tlunet train my_steel --classes scratch,dent

        tlunet train my_steel --classes scratch,dent encoder=resnet seed=1
    """
    from tlunet.machine.console import say

    chosen = overrides or []
    asked = _read_overrides([f"recipe={hydra_value(recipe)}", *chosen])
    words = [*_defaults(root, classes, foreground, kind, recipe, chosen, asked), *chosen]
    cell = _train(words)
    try:
        deploy.export(cell.folder)
    except UserError as error:
        say(*(f"not exported: {line}" for line in error.lines))
    tuned = ["--tuned"] if (cell.folder / "tuned.json").is_file() else []
    line = tlunet_command("predict", cell.folder, "IMAGES", "--out", "found", *tuned)
    say(f"predict on new images: {line}")


def _read_overrides(words: list[str]) -> "DictConfig":
    """Compose the words; raise ConfigError unless each is a ``key=value`` that run.py accepts."""
    from tlunet.cli.train import find_run_py
    from tlunet.study.config.command import read_command

    for word in words:
        if "=" not in word:
            raise ConfigError(f"{word}: expected KEY=VALUE after the folder, such as epochs=5")
    cells = read_command(words, find_run_py().parent / "conf")
    assert cells is not None  # nothing is only shown
    return cells[0]


def _defaults(
    root: Path,
    classes: str,
    foreground: int | None,
    kind: str,
    recipe: str,
    chosen: list[str],
    asked: "DictConfig",
) -> list[str]:
    """Check and show the data as it will be used; return the overrides that go before `chosen`."""
    from tlunet.data.dataset import read_source
    from tlunet.data.readers.layouts import recognise
    from tlunet.data.sizes import count_sizes, training_fit, training_size
    from tlunet.machine.console import say

    names = data._names(classes)
    layout = recognise(root) if kind == "auto" else kind
    source = read_source(root, layout, names, foreground)
    taken = {word.partition("=")[0].lstrip("+") for word in chosen}
    sizes = count_sizes(source.records)
    size, fit = training_size(sizes)
    if "data.size" in taken:
        size = tuple(asked.data.size) if asked.data.size else None
        fit = training_fit(sizes, size) if size else "stretch"
    if "data.fit" in taken:
        fit = asked.data.fit
    text = f"{size[0]}x{size[1]}" if size else None
    shown: dict[str, Any] = {
        "kind": layout, "classes": classes, "foreground": foreground, "size": text, "fit": fit,
    }  # fmt: skip
    shown |= {key: asked.data[key] for key in ("split", "duplicates", "groups")}
    shown["frac"] = asked.frac
    data.check(root, **shown)
    study = asked.study or root.resolve().name
    page = Path(asked.paths.runs) / study / "data.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    data.show(root, **shown, out=page)
    values = {
        "data": layout,
        "data.root": str(root),
        "data.classes": names,
        "data.foreground": foreground,
        "data.size": size,
        "data.fit": fit if size else None,
        "recipe": recipe,
        "encoder": "efficientnet_lite0",
        "init": "imagenet",
        "study": study,
    }
    words = [f"{k}={hydra_value(v)}" for k, v in values.items() if v and k not in taken]
    say(f"python run.py {' '.join([*words, *chosen])}")
    return words


def _train(words: list[str]) -> "Cell":
    """Run ``run.py``; return the cell that it trained, or end with its exit code."""
    from tlunet.cli.train import find_run_py
    from tlunet.study.config.command import read_command
    from tlunet.study.training.resolve import resolve

    script = find_run_py()
    sys.argv = [str(script), *words]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    cells = read_command(words, script.parent / "conf")
    assert cells is not None
    return resolve(cells[0])
