"""Jobs of a batch system: the job of this process, and the state of other jobs in the queue."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping

#: Slurm's states of a job that is waiting to start or restart.
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")


def current() -> str | None:
    """The job of this process, such as ``slurm 4711_3`` or ``ray 02000000``, if any."""
    env = os.environ
    if "SLURM_ARRAY_JOB_ID" in env:
        return f"slurm {env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    if "SLURM_JOB_ID" in env:
        return f"slurm {env['SLURM_JOB_ID']}"
    ray = sys.modules.get("ray")  # only imported in a Ray worker
    if ray and ray.is_initialized():
        return f"ray {ray.get_runtime_context().get_job_id()}"
    return None


def step_tasks(env: Mapping[str, str]) -> int:
    """Count the tasks of the Slurm step that this process belongs to; 0 outside of a step.

    A batch script has SLURM_NTASKS and SLURM_PROCID, too, but it is a single process.
    """
    number = env.get("SLURM_STEP_NUM_TASKS") or (
        env.get("SLURM_NTASKS", "") if "SLURM_STEP_ID" in env else ""
    )
    return int(number) if number.isdecimal() else 0


def queue(jobs: Iterable[str]) -> dict[str, str] | None:
    """Ask Slurm for the states of unfinished jobs.

    Args:
        jobs: names as from :func:`current`, or ``slurm 4711`` for a whole array; jobs of other
            systems are ignored.

    Returns:
        Job → ``RUNNING``, ``PENDING`` …, without finished jobs; ``None`` if Slurm does not answer.
    """
    ids = sorted({job.removeprefix("slurm ") for job in jobs if job.startswith("slurm ")})
    if not ids:
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(ids)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:  # the job ended long ago
        return None
    return {f"slurm {job}": state for job, state in map(str.split, done.stdout.splitlines())}
