import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk, Strips
from tlunet.errors import ConfigError
from tlunet.model.network import CONFIG_NAMES
from tlunet.study.config.command import read_command
from tlunet.study.config.help import help_text
from tlunet.study.training.resolve import instantiate

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
CHOICES = [(p.parent.name, p.stem) for p in sorted(CONF.glob("*/*.yaml"))]

pytestmark = pytest.mark.usefixtures("composed_once")


def read(*line: str) -> list:
    cells = read_command(line, CONF)
    assert cells is not None
    return cells


def test_the_papers_line_asks_for_eight_cells() -> None:
    cells = read("-m", "encoder=resnet,densenet", "init=random,imagenet", "frac=1.0,0.5")
    grid = [(c.encoder.name, c.init.name, c.frac) for c in cells]
    assert grid == [
        (encoder, init, frac)
        for encoder in ("resnet18", "densenet121")
        for init in ("random", "imagenet")
        for frac in (1.0, 0.5)
    ]


def test_defaults_are_the_papers() -> None:
    [cfg] = read()
    assert (cfg.epochs, cfg.batch_size, cfg.threshold) == (10, 16, 0.5)
    assert (cfg.optimizer.lr, list(cfg.optimizer.betas)) == (5e-4, [0.99, 0.99])


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_yaml_composes(group: str, choice: str) -> None:
    needed = {"checkpoint": ["init.path=x"], "folder": ["data.classes=[a]"]}
    needed |= {"labels": ["frac=0.5"], "mean_teacher": ["frac=0.5"]}
    [cfg] = read(f"{group}={choice}", *needed.get(choice, []))
    if group == "recipe":
        assert cfg.recipe == choice
    elif cfg[group].get("_target_"):
        instantiate(cfg[group])


def test_every_key_of_data_reaches_the_datamodule() -> None:
    [cfg] = read()
    accepted = {"name"}
    for kind in (DefectDataModule, OnDisk, Strips):
        accepted |= set(inspect.signature(kind).parameters)
    assert set(cfg.data) <= accepted


def test_an_experiment_is_a_primary_configuration(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        "defaults: [config, _self_]\nstudy: mine\n"
        "hydra:\n  mode: MULTIRUN\n"
        "  sweeper:\n    params:\n      seed: 0,1,2\n      frac: 1.0,0.1\n"
    )
    cells = read("-cd", str(tmp_path), "-cn", "sweep", "epochs=3")
    assert [(c.seed, c.frac) for c in cells] == [(s, f) for s in (0, 1, 2) for f in (1.0, 0.1)]
    assert {c.study for c in cells} == {"mine"}
    assert {c.epochs for c in cells} == {3}


def keys(node: DictConfig, where: str = "") -> Iterator[str]:
    for key in map(str, node):
        if isinstance(node[key], DictConfig):
            yield from keys(node[key], f"{where}{key}.")
        else:
            yield f"{where}{key}"


def test_help_explains_every_choice_and_key() -> None:
    text = help_text(["--help", "epochs=3"], CONF)
    assert text is not None
    rows = [" ".join(line.split()) for line in text.splitlines()]
    for group, choice in CHOICES:
        assert any(re.match(rf"({group} )?(\* )?{choice}( [\w(]|$)", row) for row in rows), choice
    assert any(row.startswith("arch fpn feature pyramid network") for row in rows)
    assert any(row.startswith("* resnet 11.18 M parameters") for row in rows)
    explained = {row.split(" ")[0]: row.split(" ")[1:] for row in rows if row}
    for key in keys(read()[0]):
        assert key in explained, key
    assert explained["epochs"][:3] == ["3", "passes", "over"]
    assert explained["early_stopping.patience"][:3] == ["5", "epochs", "without"]
    assert explained["trainer.devices"][:2] == ["1", "processes"]
    assert explained["logger.images"][:2] == ["32", "maximum"]
    assert text.index("Examples") < text.index("Groups") < text.index("Keys")
    assert "Exit codes: 0 all finished; 1" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "hydra:" not in text
    assert help_text(["epochs=3"], CONF) is None
    with pytest.raises(ConfigError, match="epoch: no such key"):
        help_text(["--help", "epoch=3"], CONF)


@pytest.mark.parametrize("flag", ["--help", "--cfg=job", "--hydra-help"])
def test_what_hydra_only_shows_is_left_to_it(flag: str) -> None:
    assert read_command([flag], CONF) is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("frac=0", "frac=0: expected a number above 0 and at most 1"),
        ("frac=1.5", "frac=1.5: expected a number above 0 and at most 1"),
        ("frac=half", "frac=half: expected a number above 0"),
        ("frac=true", "frac=True: expected a number above 0"),
        ("epochs=0", "epochs=0: expected a whole number, 1 or more"),
        ("epochs=2.5", "epochs=2.5: expected a whole number"),
        ("budget=images", "budget=images: expected epochs, steps"),
        ("batch_size=-1", "batch_size=-1: expected a whole number"),
        ("seed=-1", "seed=-1: expected a whole number, 0 or more"),
        ("threshold=1", "threshold=1: expected a probability"),
        ("force=maybe", "force=maybe: expected true or false"),
        ("study=../x", "study=../x: expected a folder name"),
        ("optimizer.betas=[0.9]", "optimizer.betas=[0.9]: expected two numbers"),
        ("data.split=mine", "data.split=mine: expected random, official"),
        ("data.size=[8,8]", "expected [height,width], each at least 32"),
        ("data.residency=disk", "expected auto, gpu, memmap"),
        ("trainer.accelerator=tpu", "expected auto, cuda, mps, cpu"),
        (
            "encoder=resnt",
            "encoder=resnt: no such choice, did you mean resnet?; allowed: convnext_tiny, densenet",
        ),
        ("init=imagnet", "did you mean imagenet?; allowed: checkpoint, imagenet, random"),
        ("init=checkpoint", "init.path is not set"),
        ("data=folder", "data.classes: not set; expected the names of the class ids 1, 2, …"),
        ("epoch=3", "epoch: no such key, did you mean epochs?"),
        ("data.sed=3", "data.sed: no such key, did you mean data.seed?"),
        ("+foo=1", "+foo: no such key; allowed: study, seed"),
        ("loss._target_=os.system", "loss._target_=os.system: not allowed"),
        ("augment._target_=builtins.eval", "augment._target_=builtins.eval: not allowed"),
        ("frac", "frac: cannot be read"),
        ("frac=[", "frac=[: cannot be read"),
        ("study=${nope}", "nope"),
        (
            "frac=[1.0,0.5]",
            "expected a number above 0 and at most 1; several values: -m frac=1.0,0.5",
        ),
        ("trainer.device=2", "trainer.device: no such key, did you mean trainer.devices?"),
        ("lr=1e-3", "lr: no such key, did you mean optimizer.lr?"),
        ("learning_rate=1e-3", "learning_rate: no such key, did you mean optimizer.lr?"),
        ("+data.clases=[a]", "+data.clases: no such key, did you mean data.classes?"),
        ("+data.classes=[a]", "+data.classes: exists already; remove the +"),
        ("encoder=resnet34", "any other encoder of SMP or timm: encoder.name=resnet34"),
        ("init=null", "init=null: no such choice, did you mean random?; allowed: checkpoint"),
        ("logger=false", "logger=false: no such choice, did you mean csv?"),
        ("encoder=", "encoder=: no such choice; allowed: convnext_tiny"),
        ("data=steel", "your own images and masks: data=folder data.root=steel data.classes=["),
        (
            "hydra.launcher.n_jobs=2",
            "hydra.launcher.n_jobs: no such key; python run.py --cfg hydra",
        ),
        ("--epochs=3", "unrecognized arguments: --epochs=3; keys have no dashes: epochs=3"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(line: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(line)
    assert len(caught.value.lines) == 1
    assert "\n" not in caught.value.lines[0]
    assert says in caught.value.lines[0]


def test_all_faults_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read("-m", "frac=1.0,0,2", "epochs=0")
    assert len(caught.value.lines) == 3


def test_nested_targets_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"transform\.transforms\.0\._target_=os\.system"):
        read(
            "+augment.transform={_target_: albumentations.Compose, "
            "transforms: [{_target_: os.system}]}"
        )


STUDIES = {  # cells per seed
    "tlunet_paper/sweep": (8, "tlunet_paper"),
    "tlunet_paper/synthetic": (4, "tlunet_paper_synthetic"),
    "tlunet_paper/synthetic_transfer": (4, "tlunet_paper_synthetic"),
    "neu_seg/sweep": (8, "neu_seg"),
    "neu_seg/baseline": (2, "neu_seg"),
    "neu_seg/steps": (4, "neu_seg"),
    "loss_reading/sweep": (2, "loss_reading"),
    "few_labels/sweep": (6, "few_labels"),
    "few_labels/fewer": (6, "few_labels"),
    "few_labels/full": (2, "few_labels"),
    "few_labels/copy_paste": (2, "copy_paste"),
    "recipe/sweep": (6, "recipe"),
    "recipe/strips": (3, "recipe_strips"),
    "recipe/ablation": (12, "recipe_ablation"),
    "recipe/strips_ablation": (8, "recipe_strips_ablation"),
    "recipe/tiles": (3, "recipe_tiles"),
    "recipe/long": (2, "recipe_long"),
    "recipe/strips_long": (2, "recipe_strips_long"),
}


@pytest.mark.parametrize("file", STUDIES)
def test_every_study_composes(file: str) -> None:
    folder, name = file.split("/")
    one_seed = "hydra.sweeper.params.seed='0'"
    found = read("-cd", str(ROOT / "experiments" / folder), "-cn", name, one_seed)
    assert (len(found), found[0].study) == STUDIES[file]


def test_no_study_is_forgotten() -> None:
    files = (p for p in ROOT.glob("experiments/*/*.yaml") if p.name != "claims.yaml")
    assert {str(p.relative_to(ROOT / "experiments").with_suffix("")) for p in files} == {*STUDIES}


def test_encoders_are_called_as_in_conf() -> None:
    files = (ROOT / "conf/encoder").glob("*.yaml")
    assert {OmegaConf.load(file).name: file.stem for file in files} == CONFIG_NAMES
