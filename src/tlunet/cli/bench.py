"""``tlunet bench``: measure the speed of this machine."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def bench(
    encoder: Annotated[
        list[str] | None, typer.Option(help="Repeatable. \\[default: the paper's two]")
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="HxW", help="Repeatable. \\[default: 64x400, 256x1600]"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=2, help="\\[default: 16; 4 for 256x1600 on a CPU]", show_default=False),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds per side.")] = 5,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Timed steps per round. \\[default: 200 on a GPU, 2 on a CPU]"),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(min=1, help="Untimed steps before them. \\[default: 40 on a GPU, 1 on a CPU]"),
    ] = None,
    strips: Annotated[
        int | None,
        typer.Option(
            min=16, help="Number of strips. \\[default: 128 batches on a GPU, 16 on a CPU]"
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Also measure the default path with one change: layout, decoder, memory, "
            "compile, compile_encoder, compile_decoder or compile_heads. Repeatable."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure only this part, besides training: evaluation, inference, stages, "
            "kernels, packs, cell or commands; training for nothing else. Repeatable."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16-mixed or 32-true.")] = "auto",
    cache: Annotated[Path, typer.Option(help="Folder for strips and packs.")] = Path("data"),
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for one JSON file per result, such as benchmarks/results."),
    ] = None,
) -> None:
    """Measure training, evaluation, inference, packing and start-up on this machine.

    For each encoder and size, TLU-Net and a plain recipe
    (benchmarks/plain_recipe.py) train alternately, A B A B …, on synthetic
    strips.
    """
    from tlunet.bench.bench import Plan, file_name, measure, show
    from tlunet.machine.console import console, say
    from tlunet.machine.device import choose
    from tlunet.machine.files import write_json

    machine = choose(device, precision)
    plans = [
        Plan.of(
            name, text, machine, batch_size=batch_size, rounds=rounds, steps=steps, warmup=warmup,
            strips=strips, variants=tuple(variant or ()), only=tuple(only or ()),
        )
        for name in encoder or ("resnet18", "densenet121")
        for text in size or ("64x400", "256x1600")
    ]  # fmt: skip
    records = []
    for plan in plans:
        records.append(measure(plan, machine, cache, say))
        if out:
            file = out / file_name(records[-1])
            out.mkdir(parents=True, exist_ok=True)
            write_json(file, records[-1])
            say(f"record: {file}")
    console.print(show(records))
