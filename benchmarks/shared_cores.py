"""What it costs that threads spin while they wait: a training alone, and beside another process.

    python benchmarks/shared_cores.py --out benchmarks/results/shared_cores.json

EfficientNet-Lite0, 16 images of 64×64 per step. Each side is a process of its own with a thread per
core and its own limit of OpenMP's spinning (GOMP_SPINCOUNT; "default": libgomp's). The sides take
turns, alone and beside another training of the same side.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tlunet.machine.parallel import cores

DEFAULT = "default"
ENCODER, BATCH, SIZE = "tu-tf_efficientnet_lite0", 16, (64, 64)
CORES = cores()
BESIDE = {"alone": 0, "beside one of one thread": 1, "beside one of a thread per core": CORES}


def child(threads: int) -> None:
    """Train as often as a line on standard input says; answer with the seconds."""
    import torch

    from tlunet.machine.device import choose
    from tlunet.model.losses import LogDiceLoss
    from tlunet.model.network import TLUNet

    machine = choose("cpu", "auto")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = TLUNet(ENCODER, 4).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    image = torch.randint(0, 255, (BATCH, 1, *SIZE), dtype=torch.uint8)
    masks = torch.rand(BATCH, 4, *SIZE) < 0.05
    masks = masks.to(memory_format=torch.channels_last)
    loss = LogDiceLoss()
    is_bf16 = machine.precision == "bf16-mixed"
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                logits = network(image)
            loss(logits.masks, logits.labels, masks, masks.flatten(2).any(2)).backward()
            optimizer.step()
            optimizer.zero_grad()
        print(time.perf_counter() - start, flush=True)


@contextmanager
def started(spin: str, threads: int) -> Iterator[subprocess.Popen[str]]:
    """Start a child with a limit of the spinning."""
    env = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if spin != DEFAULT:
        env["GOMP_SPINCOUNT"] = spin
    line = [sys.executable, __file__, "--child", str(threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(line, env=env, text=True, **pipes) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()
        process.kill()


def timed(process: subprocess.Popen[str], steps: int) -> float:
    """Seconds per step of a child."""
    assert process.stdin
    assert process.stdout
    print(steps, file=process.stdin, flush=True)
    return float(process.stdout.readline()) / steps


def measure(spins: Sequence[str], rounds: int, steps: int) -> Iterator[dict[str, object]]:
    """Yield a row for each thing that the machine does besides."""
    for what, threads in BESIDE.items():
        seconds: dict[str, list[float]] = {spin: [] for spin in spins}
        for k in range(rounds):
            for spin in spins[:: 1 if k % 2 else -1]:
                with started(spin, CORES) as process:
                    timed(process, 2)
                    with started(spin, threads) if threads else nullcontext() as other:
                        if other:
                            print(1_000_000, file=other.stdin, flush=True)
                            time.sleep(1)
                        seconds[spin].append(timed(process, steps))
                        if other:
                            other.kill()
        row: dict[str, object] = {"training": what}
        for spin, times in seconds.items():
            shown = "libgomp's default" if spin == DEFAULT else f"GOMP_SPINCOUNT={spin}"
            row[f"seconds per step, {shown}"] = round(statistics.median(times), 3)
        pairs = zip(seconds[spins[0]], seconds[spins[-1]], strict=True)
        faster = sorted(default / spin for default, spin in pairs)
        row["times faster"] = (
            f"{statistics.median(faster):.2f} ({faster[0]:.2f} to {faster[-1]:.2f})"
        )
        yield row


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spin", nargs="+", default=[DEFAULT, "10000"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return
    rows = []
    for row in measure(args.spin, args.rounds, args.steps):
        print(row, flush=True)
        rows.append(row)
    if args.out:
        from tlunet.bench.about import about
        from tlunet.machine.device import choose

        record = about(choose("cpu")) | {"rounds": args.rounds, "steps": args.steps, "rows": rows}
        args.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
