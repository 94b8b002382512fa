"""One cell in several processes (``trainer=ddp``): started here, or already there in a Slurm job.

The first of them, rank 0, holds the cell's lock and writes its files; all of them train and test.
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
from tlunet.study.training.signals import Stopped, Stopping, heed_signals

GRACE = 20.0  # seconds that the others get to end once one has failed

Work = Callable[[dict[str, Any], Stopping], None]


def rank() -> int:
    """This process's, 0 if it is alone."""
    return int(os.environ.get("RANK", 0))


def join_given(processes: int) -> bool:
    """Whether a Slurm job step has started this cell's processes; they are then brought together.

    submitit starts as many tasks a node as ``hydra.launcher.tasks_per_node`` says.
    """
    env = os.environ
    if processes == 1 or env.get("SLURM_NTASKS") != str(processes) or "SLURM_PROCID" not in env:
        return False
    if not dist.is_initialized():
        from lightning_fabric.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment(auto_requeue=False)
        place = slurm.global_rank(), slurm.local_rank(), slurm.node_rank()
        _join(*place, processes, slurm.main_address, slurm.main_port)
    return True


def _join(rank: int, local: int, node: int, processes: int, address: str, port: int) -> None:
    """Meet the others; Lightning finds the group there and takes it."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(local), "NODE_RANK": str(node),
        "WORLD_SIZE": str(processes), "MASTER_ADDR": address, "MASTER_PORT": str(port),
    }  # fmt: skip
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=processes)


def tell(goes: bool) -> bool:
    """What rank 0 has decided, for all; alone, the process decides."""
    if not dist.is_initialized():
        return goes
    told = [goes]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def any_of(*flags: bool) -> list[bool]:
    """Each flag as it is in any process: over gloo, so that no GPU is waited for."""
    if not dist.is_initialized():
        return list(flags)
    shared = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return [bool(flag) for flag in shared]


def gather(part: dict[Any, Any]) -> dict[Any, Any]:
    """Every process's part in one, at rank 0; elsewhere the part alone."""
    if not dist.is_initialized():
        return part
    parts: list[Any] | None = [None] * dist.get_world_size() if rank() == 0 else None
    dist.gather_object(part, parts)
    return {k: v for p in parts or [part] for k, v in p.items()}


def launch(work: Work, config: dict[str, Any], machine: Hardware, stopping: Stopping) -> None:
    """Start a cell's processes on this machine and wait for them.

    Args:
        work: what each does with the configuration; importable, since they start afresh.
        config: resolved.
        machine: how many processes.
        stopping: a signal to this process is passed on to them.

    Raises:
        UserError: what one of them failed of, or they are to be on several machines.
        Stopped: a signal ended them.
    """
    if machine.nodes > 1:
        raise ConfigError(
            f"trainer.nodes={machine.nodes}: only a Slurm job can start the processes; add "
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
        if any(c.exitcode for c in children):  # the others wait for it in vain
            wait([c.sentinel for c in children if c.is_alive()], timeout=GRACE)
            for child in children:
                if child.is_alive():
                    child.kill()
                child.join()
    stopping.is_deferred = False
    for end in ends:
        with suppress(EOFError):  # it had nothing to say
            words.append(end.recv())
    if stopping.requested:
        raise Stopped(stopping.requested)
    if words:
        raise UserError(words[0])
    for k, child in enumerate(children):
        if child.exitcode:
            raise UserError(f"process {k} of {processes} ended with exit code {child.exitcode}")


def _child(
    rank: int, processes: int, port: int, work: Work, config: dict[str, Any], end: Connection
) -> None:
    with heed_signals() as stopping:
        try:
            _join(rank, rank, 0, processes, "127.0.0.1", port)
            work(config, stopping)
        except Stopped:
            os._exit(1)  # the parent says so; destroying the group would wait for the others
        except UserError as error:
            end.send("; ".join(error.lines))
            os._exit(1)
    dist.destroy_process_group()
