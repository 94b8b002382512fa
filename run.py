"""Run the paper's study, or one of its cells.

    python run.py -m encoder=resnet,densenet init=random,imagenet frac=1.0,0.5
    python run.py encoder=densenet init=imagenet frac=0.5 seed=1

`python run.py --help` lists all options and keys.
"""

import sys
from contextlib import nullcontext
from pathlib import Path

import hydra
from omegaconf import DictConfig

from tlunet.errors import UserError
from tlunet.machine.streams import make_patient
from tlunet.study.config.command import config_dir, read_command
from tlunet.study.config.help import help_text
from tlunet.study.config.home import expand_home
from tlunet.study.config.launched import refuse_to_be_one_of_several
from tlunet.study.sweep.job import own_gpus, run_job
from tlunet.study.sweep.launcher import Launcher, set_up
from tlunet.study.training.signals import Stopped

ROOT = Path(__file__).parent


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(cfg: DictConfig) -> float | None:
    """Run one cell; never raises, so that a sweep continues (the run folder holds the state)."""
    if not cfg.tune:
        return run_job(cfg)
    from tlunet.deploy.tuning.run import tune_if_missing  # late: slow to import

    return run_job(cfg, tune_if_missing)


def main() -> int:
    """Check command and data, run the cells, collect the results, write the report.

    Returns:
        0 if all requested cells are finished, 1 if any is not, 2 if the command is wrong.
    """
    command, conf = expand_home(sys.argv[1:]), ROOT / "conf"
    sys.argv[1:] = command  # read by Hydra
    make_patient()
    set_up()
    try:
        if (text := help_text(command, conf)) is not None:
            print(text)
            return 0
        cells = read_command(command, conf)
        if cells is None:
            job()
            return 0
        refuse_to_be_one_of_several(cells)
        launcher = Launcher.read(command, conf, cells[0].paths.runs)
        with own_gpus(cells) if launcher.is_here else nullcontext():
            from tlunet.report.analysis.claims import find_claims  # late: slow to import
            from tlunet.report.report import conclude_study
            from tlunet.study.sweep.prepare import prepare
            from tlunet.tracking.wandb.report import log_report

            claims = find_claims(config_dir(command, conf) or ROOT / "experiments/tlunet_paper")
            sweep = prepare(cells, launcher)
            sweep.launch(job)
            code = sweep.conclude()
            if len(cells) > 1 or launcher.is_search:
                for study in sweep.studies:
                    if conclude_study(study, claims):
                        log_report(study, cells[0].logger)
            return code
    except UserError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        return 2
    except (Stopped, KeyboardInterrupt) as stop:
        print(f"{str(stop) or 'interrupted'}: run the same command to resume", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
