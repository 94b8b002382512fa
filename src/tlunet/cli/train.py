"""``tlunet train``: the same as ``python run.py``."""

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
    """Train one cell or a sweep; the same as python run.py.

    Takes the arguments of run.py, see tlunet train --help:

        tlunet train -m encoder=resnet,densenet init=random,imagenet frac=1.0,0.5
    """
    script = find_run_py()
    sys.argv = [str(script), *context.args]
    runpy.run_path(str(script), run_name="__main__")


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
