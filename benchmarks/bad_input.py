"""Records error messages and exit codes for bad input in docs/bad_input.md.

    python benchmarks/bad_input.py

Every command is run, in a folder with a small data set that has the problem.
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
HEAD = """# Error messages

Recorded by `python benchmarks/bad_input.py`, with the exit code below each message. Nothing was
trained, and no existing file was changed.
"""
SEVERSTAL = "data=severstal data.root=steel"


def append(line: str) -> Callable[[Path], None]:
    """Append a row to train.csv."""

    def change(home: Path) -> None:
        with (home / "steel/train.csv").open("a") as file:
            file.write(line + "\n")

    return change


def truncate(home: Path) -> None:
    """Truncate an image to half its size."""
    image = sorted((home / "steel/train_images").iterdir())[0]
    os.truncate(image, image.stat().st_size // 2)


def colourless(home: Path) -> None:
    """Replace an image by a 16-bit image."""
    path = sorted((home / "steel/train_images").iterdir())[1]
    Image.new("I;16", (64, 32)).save(path, format="PNG")


def several(home: Path) -> None:
    """Add several problems."""
    for row in ("ghost.jpg,1,1 5", "../../secret.jpg,1,1 5", "{image},9,1 5", "{image},3,5 3 4 2"):
        append(row.format(image=sorted((home / "steel/train_images").iterdir())[3].name))(home)
    truncate(home)


def secret_checkpoint(home: Path) -> None:
    """Write a pickle that would execute code."""
    code = (
        "import os, pickle\n"
        "class Bad:\n"
        "    def __reduce__(self): return os.system, ('touch executed',)\n"
        "pickle.dump(Bad(), open('stranger.ckpt', 'wb'))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=home, check=True)


def nothing(home: Path) -> None:
    """Leave the data valid."""


CASES: tuple[tuple[str, Callable[[Path], None], str], ...] = (
    ("Unknown key", nothing, "run.py epoch=3"),
    ("Unknown choice", nothing, "run.py encoder=resnett"),
    ("Several values out of range", nothing, "run.py frac=1.5 seed=-1 batch_size=0"),
    ("No data", nothing, "run.py data=severstal data.root=nowhere"),
    ("A folder that is no data set", nothing, "run.py data.root=steel/train_images"),
    ("Class names for data that has its own", nothing, f"run.py {SEVERSTAL} data.classes=[a]"),
    ("Several problems in one data set", several, f"run.py {SEVERSTAL}"),
    ("The same problems, found before training", several, "tlunet data check steel"),
    ("A mask outside the image", append("{image},1,2040 20"), f"run.py {SEVERSTAL}"),
    ("A 16-bit image", colourless, f"run.py {SEVERSTAL}"),
    ("A fraction too small for a single image", nothing, f"run.py {SEVERSTAL} frac=0.001"),
    ("Unknown encoder", nothing, f"run.py {SEVERSTAL} encoder.name=resnet19"),
    ("Weights that no cell uses", nothing, f"run.py {SEVERSTAL} init.path=weights.pth"),
    (
        "A class that may not be instantiated",
        nothing,
        f"run.py {SEVERSTAL} loss._target_=os.system",
    ),
    (
        "Untrusted checkpoint",
        secret_checkpoint,
        f"run.py {SEVERSTAL} init=checkpoint init.path=stranger.ckpt",
    ),
    ("Not a run folder", nothing, "tlunet predict steel steel/train_images --out found"),
    ("Not a study folder", nothing, "tlunet report steel"),
)


def typed(home: Path, line: str) -> tuple[str, int]:
    """Run a command; return its output and its exit code."""
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
    """Run every command and write the page."""
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
            rows = table.read_text()
            images = sorted((home / "steel/train_images").iterdir())
            name = next(image.name for image in images[5:] if image.name not in rows)  # no defect
            table.write_text(rows.replace("{image}", name))
            shown = f"python {line}" if line.startswith("run.py") else line
            text, code = typed(home, line)
            parts.append(f"## {title}\n\n```console\n$ {shown}\n{text}\n$ echo $?\n{code}\n```\n")
            if (home / "executed").exists():
                raise SystemExit(f"{line}: code in the file was executed")
    OUT.write_text("\n".join(parts))
    print(OUT)


if __name__ == "__main__":
    main()
