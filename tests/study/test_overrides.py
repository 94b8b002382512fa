"""What is typed on the command line: groups, several values, quotes, home folders, study files."""

import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tlunet.errors import ConfigError
from tlunet.study.config.command import read_command
from tlunet.study.config.home import expand_home
from tlunet.study.config.values import PATHS, check

CONF = Path(__file__).parents[2] / "conf"
GROUPS = sorted({path.parent.relative_to(CONF).as_posix() for path in CONF.glob("*/**/*.yaml")})

pytestmark = pytest.mark.usefixtures("composed_once")


def read(*words: str) -> list:
    cells = read_command(words, CONF)
    assert cells is not None
    return cells


def refused(*words: str) -> str:
    """Return the only line of the error."""
    with pytest.raises(ConfigError) as caught:
        read(*words)
    [line] = caught.value.lines
    return line


def study(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "mine.yaml").write_text(text)
    return ("-cd", str(folder), "-cn", "mine")


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("words", [[], ["-m"]])
def test_a_list_for_a_group_is_refused(group: str, words: list[str]) -> None:
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    first, second = names[0], [*names, "other"][1]
    line = refused(*words, f"{group}=[{first},{second}]")
    assert line.startswith(f"{group}=[{first},{second}]: expected one choice")
    assert "several values are separated by commas, with -m: python run.py -m " in line
    way_out = f"expected one choice, without brackets: {group}={first}"
    assert refused(*words, f"{group}=[{first}]") == f"{group}=[{first}]: {way_out}"


@pytest.mark.parametrize(
    "word",
    [
        "loss=[paper,lovasz],balanced",
        "loss=choice([paper,lovasz],[balanced])",
        "loss=['paper','lovasz']",
        "loss=[]",
    ],
)
def test_a_list_among_several_values_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="expected one choice"):
        read("-m", word)


@pytest.mark.parametrize("word", ["seed=range(1,1)", "frac=range(0)", "encoder=glob(zzz*)"])
@pytest.mark.parametrize("sweeper", [[], ["hydra/sweeper=optuna"]])
def test_a_sweep_without_a_cell_is_refused(word: str, sweeper: list[str]) -> None:
    assert refused("-m", "init=random,imagenet", word, *sweeper) == (
        f"{word}: has no values, so there is nothing to run"
    )


def test_a_decimal_comma_is_recognised() -> None:
    assert refused("frac=0,5").endswith("; one value has a decimal point: frac=0.5")
    assert "decimal point" not in refused("frac=1,0.5")


def test_choices_in_other_brackets_are_a_list() -> None:
    assert refused("trainer=(cpu,gpu)").startswith("trainer=[cpu,gpu]: expected one choice")


@pytest.mark.parametrize("word", ["+encoder=[a,b]", "++encoder=[a,b]", "+encoder@encoder=[a]"])
def test_a_list_is_not_added_either(word: str) -> None:
    assert "encoder" in refused(word)


@pytest.mark.parametrize(
    "default",
    [
        "override encoder: [resnet, densenet]",
        "encoder: [resnet, densenet]",
        "encoder@encoder: [densenet]",
        "override encoder: resnet,densenet",
    ],
)
def test_a_list_in_a_study_file_is_refused(default: str, tmp_path: Path) -> None:
    line = refused(*study(tmp_path, f"defaults:\n- config\n- {default}\n- _self_\n"))
    assert "encoder=[resnet,densenet]: expected one choice" in line
    assert "hydra.sweeper.params" in line


@pytest.mark.parametrize("value", ["'[resnet,densenet]'", "[resnet, densenet]"])
def test_a_list_in_swept_keys_is_refused(value: str, tmp_path: Path) -> None:
    params = f"hydra: {{mode: MULTIRUN, sweeper: {{params: {{encoder: {value}}}}}}}"
    line = refused(*study(tmp_path, f"defaults: [config, _self_]\n{params}\n"))
    assert line.startswith("encoder=[resnet,densenet]: expected one choice")


@pytest.mark.parametrize(
    ("word", "way_out"),
    [
        (
            "encoder=resnet,densenet",
            "several values need -m: python run.py -m encoder=resnet,dense",
        ),
        ("seed=0,1,2", "several values need -m: python run.py -m seed=0,1,2"),
        ("seed=range(3)", "several values need -m: python run.py -m 'seed=range(3)'"),
        ("optimizer.lr=choice(1,2)", "several values need -m"),
        ("hydra/launcher=slurm,ray", "expected one value, as Hydra's settings cannot be swept"),
        ("hydra.sweeper.params.seed=0,1", "needs quotes: \"hydra.sweeper.params.seed='0,1'\""),
        ("data.classes=scratch,dent", "expected a list: 'data.classes=[scratch,dent]'"),
        ("data.size=256,1600", "expected a list: 'data.size=[256,1600]'"),
        ("data.root=a,b", "one value with a comma needs quotes: \"data.root='a,b'\""),
    ],
)
def test_several_values_name_m(word: str, way_out: str) -> None:
    assert refused(word).startswith(f"{word}: ")
    assert way_out in refused(word)


@pytest.mark.parametrize(
    ("typed", "way_out"),
    [
        ("data.root='steel (1)'", "\"data.root='steel (1)'\""),
        ("data.root=钢板", "\"data.root='钢板'\""),
        ("data.root=a=b", "\"data.root='a=b'\""),
        ("data.root=a#b", "\"data.root='a#b'\""),
        ("data.root=a[0]", "\"data.root='a[0]'\""),
        ("data.root={x}y", "\"data.root='{x}y'\""),
        ("\"data.root='it's'\"", 'data.root="it'),
        ("paths.runs='~/a (1)'", "\"paths.runs='~/a (1)'\""),
        ("data.classes=[rolled,钢]", "\"data.classes=[rolled,'钢']\""),
        ("'data.size=(256,1600)'", "expected a list: 'data.size=[256,1600]'"),
        ("data.classes=[scratch, dent]", "as one word: 'data.classes=[scratch,dent]'"),
        ("data.classes=[rolled in]", "as one word: 'data.classes=[rolled in]'"),
        ("-m encoder=resnet, densenet", "as one word: encoder=resnet,densenet"),
        ("encoder = resnet", "expected key=value, without spaces around the ="),
        ("study='my steel (1)'", "expected a folder name of letters"),
        ("frac==0.5", "expected key=value"),
        ("-m seed=0,1, frac=1", "ends with a comma; remove it: seed=0,1"),
    ],
)
def test_what_hydra_cannot_read_comes_with_what_to_type(typed: str, way_out: str) -> None:
    line = refused(*shlex.split(typed))
    assert way_out in line
    assert "Exception" not in line


def test_a_glob_selects_choices() -> None:
    assert len(read("-m", "encoder=glob(efficientnet_lite*)")) == 3
    assert "several values need -m" in refused("encoder=glob(*)")


def test_what_to_type_works() -> None:
    line = refused("data.root=steel (1), 钢=板")
    [word] = shlex.split(line.partition("special characters: ")[2])
    assert read(word)[0].data.root == "steel (1), 钢=板"


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize(
    ("typed", "read_as"),
    [
        ("~", "/home/me"),
        ("~/steel", "/home/me/steel"),
        ("'~/steel (1)'", "'/home/me/steel (1)'"),
        ('"~/a"', '"/home/me/a"'),
        ("~/a,b,'~/c'", "/home/me/a,b,'/home/me/c'"),
        ("choice(~/a, b)", "choice(/home/me/a, b)"),
        ("a~b", "a~b"),
        ("./~", "./~"),
        ("'a,~/b'", "'a,~/b'"),
        ("'~nobody_here/a'", "'~nobody_here/a'"),
    ],
)
def test_a_home_folder_is_expanded_in_every_path(
    key: str, typed: str, read_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home([f"{key}={typed}", f"+{key}={typed}", "study=~/a", "-m"]) == [
        f"{key}={read_as}", f"+{key}={read_as}", "study=~/a", "-m",
    ]  # fmt: skip


def test_a_home_folder_with_special_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jörg o'neil")
    [cell] = read("data.root=~/a", "paths.runs='~/b'", 'paths.data="~/c"')
    assert cell.data.root == "/home/jörg o'neil/a"
    assert (cell.paths.runs, cell.paths.data) == ("/home/jörg o'neil/b", "/home/jörg o'neil/c")


@pytest.mark.parametrize("key", [key for key in PATHS if not key.startswith("hydra")])
def test_a_home_folder_in_a_file_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    cell = OmegaConf.create()
    OmegaConf.update(cell, key, "~/steel")
    assert check(cell) == [
        f"{key}=~/steel: ~ is not expanded here; write the folder out: /home/me/steel"
    ]
    OmegaConf.update(cell, key, "~nobody_here")
    assert "a folder of this name is ./~nobody_here" in check(cell)[0]


def test_weights_that_no_cell_starts_from_are_refused() -> None:
    line = refused("init.path=w.pth")
    assert line == (
        "init.path=w.pth: not used by init=random; expected init=imagenet or init=checkpoint"
    )
    assert refused("-m", "init=random,synthetic", "init.path=w.pth") == line.replace(
        "init=random;", "init=random,synthetic;"
    )
    assert len(read("-m", "init=random,imagenet", "init.path=w.pth")) == 2
    assert read("init.path=null")


def test_a_folder_of_studies(tmp_path: Path) -> None:
    assert refused("-cd", str(tmp_path / "no")) == f"-cd {tmp_path}/no: no such folder"
    assert refused("-cd", str(tmp_path)).endswith("contains no configuration file (.yaml)")
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/mine.yaml").write_text("_target_: tlunet.model.losses.PaperLoss\n")
    choice = "# @package _global_\ndefaults:\n  - override /loss: bce_dice\n"
    (tmp_path / "loss/whole.yaml").write_text(choice)
    assert read("-cd", str(tmp_path), "loss=mine")  # more choices for a group
    for name in ("one", "two"):
        (tmp_path / "study").mkdir(exist_ok=True)
        (tmp_path / "study" / f"{name}.yaml").write_text("defaults: [config, _self_]\n")
        assert refused("-cd", str(tmp_path)).endswith(f"did you mean -cd {tmp_path}/study?")
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text("defaults: [config, _self_]\n")
    (tmp_path / "claims.yaml").write_text("claims: []\n")
    assert refused("-cd", str(tmp_path)).endswith("configuration file of this folder: one, two")
    assert refused("-cd", str(tmp_path), "-cn", "on") == (
        f"-cn on: no such configuration file; in {tmp_path}: one, two"
    )
    file = tmp_path / "one.yaml"
    assert refused("-cd", str(file)) == f"-cd {file}: a file; use -cd {tmp_path} -cn one"
    assert "no such configuration file" in refused("-cn", "one")
    assert read("-cd", str(tmp_path), "-cn", "one")
    assert read("-cd", str(tmp_path), "-cn", "one.yaml")
    line = refused("-cd", str(tmp_path.parent), "-cn", f"{tmp_path.name}/one")
    assert line.endswith(f"without folders; use -cd {tmp_path} -cn one")
    assert refused("-cn", str(file)).endswith(f"without folders; use -cd {tmp_path} -cn one")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"epochs: 3\n", "-cn mine: {file}: no defaults; an experiment starts with defaults: "),
        (b"", "-cn mine: {file}: no defaults; an experiment starts with defaults: "),
        (b"\xff\xfe", "-cn mine: {file}: cannot be read as UTF-8 ("),
        (b"defaults: [config]\nepochs: [3\n", "{file} line 3: cannot be read as YAML ("),
        (
            b"defaults: [config, override encoder: densnet]\n",
            "encoder=densnet: no such choice, did you mean densenet?; allowed: ",
        ),
    ],
)
def test_a_study_file_that_is_wrong_is_named(text: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(text)
    assert refused("-cd", str(tmp_path), "-cn", "mine").startswith(says.format(file=file))
