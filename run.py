"""The paper's study, or one cell of it.

    python run.py -m encoder=resnet,densenet init=random,imagenet frac=1.0,0.5
    python run.py encoder=densenet init=imagenet frac=0.5 seed=1

`python run.py --help` shows every choice and key.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from tlunet.errors import UserError
from tlunet.study.config import read_command


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(cfg: DictConfig) -> float | None:
    """One cell; never raises, so that a sweep goes on (its state is in its run folder)."""
    from tlunet.study.runner import run  # here, because it imports torch

    return run(cfg)


def main() -> int:
    """Check everything that can be checked, run the cells, gather their results.

    Returns:
        0 if every cell asked for is finished, 1 if one is not, 2 if the command is wrong.
    """
    try:
        cells = read_command(sys.argv[1:], Path(__file__).parent / "conf")
        if cells is None:
            job()
            return 0
        from tlunet.study.sweep import conclude, prepare

        folders = prepare(cells)
        job()
        return conclude(folders)
    except UserError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
