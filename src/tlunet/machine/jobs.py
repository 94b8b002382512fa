"""Jobs of a batch system: which of them this process is, and what the queue says of others."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable

#: Slurm's words for a job that has yet to start, or to start again.
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")


def current() -> str | None:
    """The job this process belongs to, as ``slurm 4711_3`` or ``ray 02000000``, if to any."""
    env = os.environ
    if "SLURM_ARRAY_JOB_ID" in env:
        return f"slurm {env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    if "SLURM_JOB_ID" in env:
        return f"slurm {env['SLURM_JOB_ID']}"
    ray = sys.modules.get("ray")  # imported by whoever started a Ray worker, else nobody's
    if ray and ray.is_initialized():
        return f"ray {ray.get_runtime_context().get_job_id()}"
    return None


def queue(jobs: Iterable[str]) -> dict[str, str] | None:
    """What Slurm says of jobs that are not over.

    Args:
        jobs: as :func:`current` names them, or ``slurm 4711`` for a whole array; others are left
            out.

    Returns:
        Job → ``RUNNING``, ``PENDING`` …; a job that is over is not in it. ``None`` where nobody
        answers.
    """
    ids = sorted({job.removeprefix("slurm ") for job in jobs if job.startswith("slurm ")})
    if not ids:
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(ids)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:  # of a job long gone
        return None
    return {f"slurm {job}": state for job, state in map(str.split, done.stdout.splitlines())}


def watch_queue(seconds: float = 30) -> None:
    """Let submitit ask :func:`queue` which of its jobs are over.

    It asks ``sacct``, which has no answer on a cluster without accounting: the end of a job that
    was killed would then never be noticed.

    Args:
        seconds: at most, between two questions.
    """
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class Queue(SlurmInfoWatcher):
        def update(self) -> None:
            registered = self._registered - self._finished
            there = queue(f"slurm {job}" for job in registered)
            if there is not None:
                for job in registered:
                    is_over = f"slurm {job}" not in there
                    self._info_dict[job] = {"State": "OVER" if is_over else "RUNNING"}
                self._finished |= {job for job in registered if self.is_done(job, mode="cache")}
            self._last_status_check = time.time()

    SlurmJob.watcher = Queue(delay_s=seconds)
