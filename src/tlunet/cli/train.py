"""``tlunet train``: the same as ``python run.py``, or all steps for a folder of images."""

import runpy
import sys
from pathlib import Path

import typer

from tlunet.errors import ConfigError

app = typer.Typer()


@app.command(
    add_help_option=False,
    context_settings={
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "ignore_unknown_options": True,
    },
)
def train(context: typer.Context) -> None:
    """Train on a folder of images; or a cell or sweep, as python run.py.

    A folder is checked, trained on, tuned and exported (tlunet train FOLDER --help).
    Otherwise the arguments are those of run.py (tlunet train --help):

        tlunet train my_steel --classes scratch,dent

        tlunet train -m encoder=resnet,densenet init=random,imagenet frac=1.0,0.5
    """
    if context.args and _is_folder(context.args[0]):
        from tlunet.cli import train_folder

        train_folder.app(context.args, prog_name="tlunet train")
    script = find_run_py()
    sys.argv = [str(script), *context.args]
    runpy.run_path(str(script), run_name="__main__")


def _is_folder(word: str) -> bool:
    """Whether an argument is no option and no ``key=value`` of run.py."""
    return not word.startswith("-") and "=" not in word and not word.startswith("~")


def find_run_py() -> Path:
    """Return ``run.py`` of the checkout this package belongs to, or of the current folder.

    Raises:
        ConfigError: neither has ``run.py`` and ``conf/``, which are not part of the package.
    """
    folders = list(dict.fromkeys((Path(__file__).resolve().parents[3], Path.cwd())))
    for folder in folders:
        if (folder / "run.py").is_file() and (folder / "conf/config.yaml").is_file():
            return folder / "run.py"
    raise ConfigError(
        "tlunet train: no run.py with conf/config.yaml in "
        f"{' or '.join(map(str, folders))}; run it in a checkout of the repository, or install "
        "that with pip install -e ."
    )
