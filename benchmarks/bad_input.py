"""What bad input prints, and its exit code, word for word: written to docs/bad_input.md.

    python benchmarks/bad_input.py

Every command is really typed, in a folder with a small data set that has the fault.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "bad_input.md"
HEAD = """# What bad input prints

Recorded by `python benchmarks/bad_input.py`; the exit code stands under each. Nothing was trained,
and nothing that was there before was changed.
"""
SEVERSTAL = "data=severstal data.root=steel"


def append(line: str) -> Callable[[Path], None]:
    """One more row in train.csv."""

    def change(home: Path) -> None:
        with (home / "steel/train.csv").open("a") as file:
            file.write(line + "\n")

    return change


def truncate(home: Path) -> None:
    """Half an image."""
    image = sorted((home / "steel/train_images").iterdir())[0]
    os.truncate(image, image.stat().st_size // 2)


def colourless(home: Path) -> None:
    """An image of 16 bits."""
    path = sorted((home / "steel/train_images").iterdir())[1]
    Image.new("I;16", (64, 32)).save(path, format="PNG")


def several(home: Path) -> None:
    """More than one fault."""
    for row in ("ghost.jpg,1,1 5", "../../secret.jpg,1,1 5", "{image},9,1 5", "{image},3,5 3 4 2"):
        append(row.format(image=sorted((home / "steel/train_images").iterdir())[3].name))(home)
    truncate(home)


def secret_checkpoint(home: Path) -> None:
    """A pickle that would run code."""
    code = (
        "import os, pickle\n"
        "class Bad:\n"
        "    def __reduce__(self): return os.system, ('touch executed',)\n"
        "pickle.dump(Bad(), open('stranger.ckpt', 'wb'))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=home, check=True)


def nothing(home: Path) -> None:
    """The data are sound."""


CASES: tuple[tuple[str, Callable[[Path], None], str], ...] = (
    ("A key that does not exist", nothing, "run.py epoch=3"),
    ("A choice that does not exist", nothing, "run.py encoder=resnett"),
    ("Values out of range, several at once", nothing, "run.py frac=1.5 seed=-1 batch_size=0"),
    ("No data there", nothing, "run.py data=severstal data.root=nowhere"),
    ("Several faults in one data set", several, f"run.py {SEVERSTAL}"),
    ("The same, found before anybody trains", several, "tlunet data check steel"),
    ("A run past the end of the image", append("{image},1,2040 20"), f"run.py {SEVERSTAL}"),
    ("An image of 16 bits", colourless, f"run.py {SEVERSTAL}"),
    ("A share so small that no image is left", nothing, f"run.py {SEVERSTAL} frac=0.001"),
    ("An encoder that does not exist", nothing, f"run.py {SEVERSTAL} encoder.name=resnet19"),
    (
        "A part that a file may not instantiate",
        nothing,
        f"run.py {SEVERSTAL} loss._target_=os.system",
    ),
    (
        "A checkpoint from a stranger",
        secret_checkpoint,
        f"run.py {SEVERSTAL} init=checkpoint init.path=stranger.ckpt",
    ),
    ("A run that is none", nothing, "tlunet predict steel steel/train_images --out found"),
    ("A study that is none", nothing, "tlunet report steel"),
)


def typed(home: Path, line: str) -> tuple[str, int]:
    """What a command prints, and its exit code."""
    program, *rest = line.split()
    tlunet = Path(sys.executable).with_name("tlunet")
    first = [sys.executable, str(ROOT / "run.py")] if program == "run.py" else [str(tlunet)]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*first, *rest], cwd=home, env=env, capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).replace(str(home), "…").strip().splitlines()
    return "\n".join(line.rstrip() for line in lines), done.returncode


def main() -> None:
    """Type every command and write the page."""
    from tlunet.data.synthetic.generate import generate

    parts = [HEAD]
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound"
        generate(sound / "steel", n=48, size=(32, 64), seed=3)
        for k, (title, change, line) in enumerate(CASES):
            home = Path(folder) / str(k)
            shutil.copytree(sound, home)
            change(home)
            table = home / "steel/train.csv"
            name = sorted((home / "steel/train_images").iterdir())[5].name
            table.write_text(table.read_text().replace("{image}", name))
            shown = f"python {line}" if line.startswith("run.py") else line
            text, code = typed(home, line)
            parts.append(f"## {title}\n\n```console\n$ {shown}\n{text}\n$ echo $?\n{code}\n```\n")
            if (home / "executed").exists():
                raise SystemExit(f"{line}: code of the file was executed")
    OUT.write_text("\n".join(parts))
    print(OUT)


if __name__ == "__main__":
    main()
