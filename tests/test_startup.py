"""Fast commands import no heavy libraries; no times are measured here."""

import subprocess
import sys
from pathlib import Path

import pytest

from studies import make_truth, write_run

ROOT = Path(__file__).parent.parent
NETWORKS = ["torch", "pytorch_lightning", "timm", "segmentation_models_pytorch"]
HEAVY = {
    "torch", "torchvision", "torchmetrics", "pytorch_lightning", "timm",
    "segmentation_models_pytorch", "albumentations", "cv2", "wandb", "matplotlib", "scipy",
    "pandas", "pyarrow", "numpy", "PIL", "huggingface_hub",
}  # fmt: skip
RUN_PY = f"import runpy; runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')"
TLUNET = "from tlunet.cli import main; main()"


@pytest.mark.parametrize(
    ("start", "args", "code", "said", "unneeded"),
    [
        (RUN_PY, ["--help"], 0, "encoder=resnet,densenet", set()),
        (RUN_PY, ["nokey=1"], 2, "nokey: no such key", {"rich"}),
        (TLUNET, ["train", "--help"], 0, "encoder=resnet,densenet", set()),
        (TLUNET, ["--help"], 0, "status", {"hydra", "omegaconf", "yaml"}),
        (TLUNET, ["status", "STUDY"], 0, "1 finished", {"hydra"}),
        (TLUNET, ["status", "STUDY", "--json"], 0, '"finished"', {"hydra"}),
        (TLUNET, ["predict", "--help"], 0, "predictions.csv", {"hydra", "omegaconf", "yaml"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_heavy_is_imported(
    start: str, args: list[str], code: int, said: str, unneeded: set[str], tmp_path: Path
) -> None:
    if "STUDY" in args:
        write_run(tmp_path / "STUDY", make_truth(20))
    watched = HEAVY | unneeded
    program = (
        "import atexit, sys\n"
        f"found = lambda: sorted({watched} & {{*sys.modules}})\n"
        "atexit.register(lambda: print('imported:', found() or 'nothing'))\n"
        f"sys.argv = ['x', *{args}]\n{start}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert done.stdout.endswith("imported: nothing\n"), done.stdout[-300:]


@pytest.mark.parametrize(
    "module",
    [
        "tlunet.report.report",
        "tlunet.deploy.stream",
        *(
            f"tlunet.runs.{file.stem}"
            for file in sorted((ROOT / "src/tlunet/runs").glob("[!_]*.py"))
        ),
    ],
)
def test_reading_results_needs_no_torch(module: str) -> None:
    program = f"import sys, {module}; print([m for m in {NETWORKS} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
