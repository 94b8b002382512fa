"""The W&B workspace and report of a study: specification, and saving with W&B's client."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from studies import CLASSES, write_grid
from tlunet import cli
from tlunet.errors import ConfigError, DataError
from tlunet.tracking.wandb import connection as wandb_link
from tlunet.tracking.wandb.dashboard import COLUMNS, save
from wandb_server import KEY, WandbServer, serve_wandb

# wandb-workspaces 0.4 declares its fields in pydantic 1 style.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
ANSWER = "ImageNet weights raise Dice from 0.3 to 0.4, by +0.1 [+0.05, +0.15]."
LOGGER = {"name": "wandb", "project": "tlunet", "mode": "auto"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = write_grid(
        tmp_path_factory.mktemp("runs") / "grid", n=6, encoders=["resnet"], fracs=[1.0], seeds=[0]
    )
    for file in study.glob("*/config.yaml"):
        file.write_text(file.read_text() + f"logger: {json.dumps(LOGGER)}\n")
    (study / "report.html").write_text("<html>")
    (study / "answer.md").write_text(ANSWER.replace("[", "\\[") + "\n\nAnd the rest.\n")
    (study / "figures").mkdir()
    for name in ("forest", "figure_4"):
        (study / f"figures/{name}.png").touch()
    return study


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(wandb_link, "KNOCK", 0.5)
    with serve_wandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server
        wandb_link.tear_down()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["dashboard", *arguments])


def every(found: Any, key: str) -> list[Any]:
    """All values of a key, at any depth."""
    if isinstance(found, list):
        return [value for part in found for value in every(part, key)]
    if not isinstance(found, dict):
        return []
    below = [value for part in found.values() for value in every(part, key)]
    return [found[key], *below] if key in found else below


def check_layout(spec: Any) -> None:
    lines = {
        (config["xAxis"], metric)
        for config in every(spec, "config")
        if "xAxis" in config
        for metric in config["metrics"]
    }
    for axis in ("epoch", "elapsed_seconds"):
        assert {(axis, f"val_{name}") for name in ("loss", "dice", "mla")} <= lines
    assert {("epoch", f"val_dice_class/{m}") for m in range(1, len(CLASSES) + 1)} <= lines
    bars = [*chain.from_iterable(every(spec, "metrics"))]
    assert any("dice_image" in name for name in bars)
    assert any("mla" in name for name in bars)
    media = set(chain.from_iterable(every(spec, "mediaKeys")))
    assert {"test/examples", "figures/figure_4", "figures/figure_5"} <= media
    assert '"test/roc_table"' in json.dumps(spec)


def texts(block: Any) -> str:
    return "".join(map(str, every(block, "text")))


def check_opening(workspace: Any, report: Any, study: Path) -> None:
    """Answer, forest plot, where the report is: in this order, before anything else."""
    where = str(study.resolve() / "report.html")
    first, grid, rest, place, *_ = [block for block in report["spec"]["blocks"] if texts(block) or
                                    every(block, "mediaKeys")]  # fmt: skip
    assert texts(first) == ANSWER
    assert every(grid, "mediaKeys") == [["figures/forest"]]
    assert texts(rest) == "And the rest."
    assert where in texts(place)
    assert "the artifact report-grid of this project" in texts(place)
    section = workspace["spec"]["section"]["panelBankConfig"]["sections"][0]
    assert section["name"] == "Answer"
    [shown] = every(section, "value")
    assert shown.startswith("**ImageNet weights raise Dice from 0.3 to 0.4, by +0.1 \\[+0.05,")
    assert where in shown
    assert every(section, "mediaKeys") == [["figures/forest"]]


def test_the_specification_is_written_without_a_network(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    file = tmp_path / "made/spec.json"
    done = run(str(study), "--dry-run", str(file))
    assert done.exit_code == 0, done.output
    spec = json.loads(file.read_text())
    check_opening(spec["workspace"], spec["report"], study)
    for name in ("workspace", "report"):
        check_layout(spec[name])
        filters = [json.dumps(found) for found in every(spec[name], "filters")]
        assert filters
        assert all('"study"' in found and '"grid"' in found for found in filters)
        for order in every(spec[name], "columnOrder"):
            assert order == COLUMNS
        grouped = {group["name"] for groups in every(spec[name], "grouping") for group in groups}
        assert {name.removesuffix(".value") for name in grouped} == {
            "grid_encoder", "grid_init", "grid_frac",
        }  # fmt: skip


def test_both_are_saved_by_the_real_client(study: Path, server: WandbServer) -> None:
    done = run(str(study))
    assert done.exit_code == 0, done.output
    assert not server.unknown
    for kind, word in (("project-view", "workspace"), ("runs", "report")):
        view = server.view(kind)
        assert (view["entityName"], view["projectName"]) == ("tester", "tlunet")
        assert view["displayName"] == "TLU-Net: grid"
        check_layout(view["spec"])
        assert f"{word}: {server.url}/tester/tlunet" in done.output


def test_what_is_missing_is_said_in_a_line(
    study: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(call: Callable[[], object], kind: type[ConfigError | DataError]) -> str:
        with pytest.raises(kind) as raised:
            call()
        [line] = raised.value.lines
        return line

    server.down()
    assert "cannot be reached" in refused(lambda: save(study), ConfigError)
    server.up()
    server.mode = "refuse"
    assert "W&B refused it (" in refused(lambda: save(study), ConfigError)
    server.mode = "ok"
    with monkeypatch.context() as patch:
        patch.delenv("WANDB_API_KEY")
        wandb_link.tear_down()
        assert "needs a login: run wandb login" in refused(lambda: save(study), ConfigError)
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "wandb_workspaces", None)
        assert "pip install '.[dashboard]'" in refused(lambda: save(study), ConfigError)
    assert "no run folder" in refused(lambda: save(tmp_path), DataError)
    own = write_grid(tmp_path / "csv", n=6, encoders=["resnet"], fracs=[1.0], seeds=[0])
    assert "logger=wandb" in refused(lambda: save(own), DataError)
    assert not server.views
