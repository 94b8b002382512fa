"""One cell in several processes (``trainer=ddp``), started here or by a Slurm job.

Rank 0 holds the cell's lock and writes its files; all processes train and test.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist

from tlunet.errors import ConfigError, UserError
from tlunet.machine.device import Hardware
from tlunet.machine.gpus import number_by_bus
from tlunet.machine.jobs import step_tasks
from tlunet.study.training.signals import Stopped, Stopping, heed_signals

GRACE = 20.0  # seconds for the other processes to end after one has failed

Work = Callable[[dict[str, Any], Stopping], None]


def rank() -> int:
    """Return the rank of this process; 0 for a single process."""
    return int(os.environ.get("RANK", 0))


def take_given_device(accelerator: str) -> None:
    """Make the GPU of a process started by a Slurm job step its current one; see `take_device`."""
    if step_tasks(os.environ) > 1 and "SLURM_LOCALID" in os.environ:
        take_device(int(os.environ["SLURM_LOCALID"]), accelerator)


def take_device(local: int, accelerator: str) -> None:
    """Make a process's own GPU its current one, before anything asks "the GPU".

    Otherwise every process would open a context on the first GPU and see that one's free memory.

    Args:
        local: number of the process on this machine.
        accelerator: ``trainer.accelerator``; nothing is done for ``cpu``.
    """
    number_by_bus()
    if accelerator in ("auto", "cuda") and torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())


def join_given(processes: int) -> bool:
    """Join the process group if a Slurm job step started this cell's processes; return whether.

    submitit starts ``hydra.launcher.tasks_per_node`` tasks per node.
    """
    env = os.environ
    if processes == 1 or step_tasks(env) != processes or "SLURM_PROCID" not in env:
        return False
    if not dist.is_initialized():
        from lightning_fabric.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment(auto_requeue=False)
        place = slurm.global_rank(), slurm.local_rank(), slurm.node_rank()
        _join(*place, processes, slurm.main_address, slurm.main_port)
    return True


def _join(rank: int, local: int, node: int, processes: int, address: str, port: int) -> None:
    """Create the process group; Lightning finds and uses it."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(local), "NODE_RANK": str(node),
        "WORLD_SIZE": str(processes), "MASTER_ADDR": address, "MASTER_PORT": str(port),
    }  # fmt: skip
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=processes)


def broadcast(goes: bool) -> bool:
    """Return rank 0's decision in every process; a single process decides itself."""
    if not dist.is_initialized():
        return goes
    told = [goes]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def any_rank(*flags: bool) -> list[bool]:
    """Combine each flag over all processes by OR; uses gloo, so it does not wait for a GPU."""
    if not dist.is_initialized():
        return list(flags)
    shared = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return [bool(flag) for flag in shared]


def gather(part: dict[Any, Any]) -> dict[Any, Any]:
    """Merge the parts of all processes on rank 0; other ranks return their own part."""
    if not dist.is_initialized():
        return part
    parts: list[Any] | None = [None] * dist.get_world_size() if rank() == 0 else None
    dist.gather_object(part, parts)
    return {k: v for p in parts or [part] for k, v in p.items()}


def launch(work: Work, config: dict[str, Any], machine: Hardware, stopping: Stopping) -> None:
    """Start a cell's processes on this machine and wait for them.

    Args:
        work: called with the configuration in each process; must be importable, as processes are
            spawned.
        config: the resolved configuration.
        machine: gives the number of processes.
        stopping: a signal to this process is forwarded to the others.

    Raises:
        UserError: a process failed, or several machines are requested.
        Stopped: a signal stopped the processes.
    """
    if machine.nodes > 1:
        raise ConfigError(
            f"trainer.nodes={machine.nodes}: only a Slurm job can start these processes; add "
            f"hydra/launcher=slurm hydra.launcher.nodes={machine.nodes} "
            f"hydra.launcher.tasks_per_node={machine.devices}"
        )
    processes = machine.processes
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ends, children = [], []
    stopping.is_deferred = True
    for k in range(processes):
        end, their_end = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(k, processes, port, work, config, their_end))
        child.start()
        their_end.close()
        ends.append(end)
        children.append(child)
    words: list[str] = []
    is_passed_on = False
    while alive := [c for c in children if c.is_alive()]:
        wait([c.sentinel for c in alive], timeout=0.2)
        if stopping.requested and not is_passed_on:
            is_passed_on = True
            for child in alive:
                child.terminate()
        if any(c.exitcode for c in children):  # the others would wait for it forever
            wait([c.sentinel for c in children if c.is_alive()], timeout=GRACE)
            for child in children:
                if child.is_alive():
                    child.kill()
                child.join()
    stopping.is_deferred = False
    for end in ends:
        with suppress(EOFError):  # it reported no error
            words.append(end.recv())
    if stopping.requested:
        raise Stopped(stopping.requested)
    if words:
        raise UserError(words[0])
    for k, child in enumerate(children):
        if child.exitcode:
            raise UserError(f"process {k} of {processes} exited with code {child.exitcode}")


def _child(
    rank: int, processes: int, port: int, work: Work, config: dict[str, Any], end: Connection
) -> None:
    with heed_signals() as stopping:
        try:
            take_device(rank, config["trainer"]["accelerator"])
            _join(rank, rank, 0, processes, "127.0.0.1", port)
            work(config, stopping)
        except Stopped:
            os._exit(1)  # the parent reports it; destroying the group would wait for the others
        except UserError as error:
            end.send("; ".join(error.lines))
            os._exit(1)
    dist.destroy_process_group()
