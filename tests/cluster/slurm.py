"""A one-node Slurm from Debian's packages, up for the duration of a block; needs root.

apt install slurmctld slurmd slurm-client munge
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")

CONF = """
ClusterName=tlunet
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
FirstJobId={first}
SlurmctldPort={controller}
SlurmdPort={daemon}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=10
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverTimeLimit=1
"""


def lacking() -> str | None:
    """Return why Slurm cannot run here, or ``None``."""
    if os.getuid():
        return "Slurm's daemons must be started by root"
    missing = [name for name in NEEDED if not shutil.which(name)]
    return (
        f"{', '.join(missing)}: not installed (apt install slurmctld slurmd munge)"
        if missing
        else None
    )


@contextmanager
def one_node(folder: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start the daemons, and stop them after the block.

    Args:
        folder: for state and logs; the path must be short, as it contains a socket.
        cpus: number of concurrent one-core jobs.

    Yields:
        The environment in which ``sbatch`` and related commands use this Slurm.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key, conf = folder / "munge.key", folder / "slurm.conf"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    settings = {
        "host": socket.gethostname().split(".")[0],
        "first": int(time.time()) % 10**7,  # job numbers differ from earlier ones
        "controller": _free_port(),
        "daemon": _free_port(),
    }
    conf.write_text(CONF.format(folder=folder, cpus=cpus, **settings))
    env = os.environ | {"SLURM_CONF": str(conf)}
    daemons = []

    def start(*command: object) -> None:
        with (folder / f"{command[0]}.out").open("wb") as log:
            daemons.append(subprocess.Popen([*map(str, command)], env=env, stdout=log, stderr=log))

    try:
        start(
            "munged", "--foreground", "--force", f"--key-file={key}",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        _until(lambda: (folder / "munge.socket").exists(), "munged", folder)
        start("slurmctld", "-D", "-f", conf)
        start("slurmd", "-D", "-f", conf)
        _until(
            lambda: "idle" in _said("sinfo", "--noheader", "--format=%T", env=env), "slurmd", folder
        )
        yield env
    finally:
        _said("scancel", "--user=root", env=env)
        for _ in range(100):  # wait for jobs to end, with a limit
            if not _said("squeue", "--noheader", env=env):
                break
            time.sleep(0.2)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _said(*command: str, env: dict[str, str]) -> str:
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout


def _until(is_so: Callable[[], bool], what: str, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > deadline:
            logs = "\n".join(p.read_text(errors="replace")[-2000:] for p in folder.glob("*.log"))
            raise RuntimeError(f"{what} does not start:\n{logs}")
        time.sleep(0.2)
