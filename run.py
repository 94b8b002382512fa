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
from tlunet.study.config import config_dir, help_text, read_command

ROOT = Path(__file__).parent


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(cfg: DictConfig) -> float | None:
    """One cell; never raises, so that a sweep goes on (its state is in its run folder)."""
    from tlunet.study.runner import run  # here, because it imports torch

    return run(cfg)


def main() -> int:
    """Check everything that can be checked, run the cells, gather results, write the report.

    Returns:
        0 if every cell asked for is finished, 1 if one is not, 2 if the command is wrong.
    """
    try:
        if (text := help_text(sys.argv[1:], ROOT / "conf")) is not None:
            print(text)
            return 0
        cells = read_command(sys.argv[1:], ROOT / "conf")
        if cells is None:
            job()
            return 0
        from tlunet.report.claims import find_claims
        from tlunet.report.report import conclude_study
        from tlunet.study.sweep import conclude, prepare

        claims = find_claims(config_dir(sys.argv[1:]) or ROOT / "experiments/tlunet_paper")
        folders = prepare(cells)
        job()
        code = conclude(folders)
        if len(folders) > 1:
            for study in dict.fromkeys(folder.parent for folder in folders):
                conclude_study(study, claims)
        return code
    except UserError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
