"""`tlunet data get`: the real clients with a local server, and every failure."""

import csv
import io
import json
import os
import socket
import sys
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import kagglehub.clients
import numpy as np
import pytest
from kagglesdk import kaggle_env
from PIL import Image

from file_server import FileServer, serve_file
from tlunet import cli
from tlunet.data.download import archive, get
from tlunet.data.download.archive import FetchError, download, unpack
from tlunet.data.download.published import NEU_SEG, SEVERSTAL, Published, differences
from tlunet.data.readers import severstal
from tlunet.errors import ConfigError

Run = Callable[..., tuple[int, str, str]]
BASIC = "Basic " + b64encode(b"me:secret").decode()


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return buffer.getvalue()


def tree(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `tlunet data get …` in this process, in an empty folder, with an empty Kaggle home."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in [name for name in os.environ if name.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tlunet", "data", "get", *args])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


# Kaggle


@pytest.fixture
def kaggle(strips: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A Kaggle server whose competition is the 24 strips."""
    source = severstal.read(strips)
    labels = np.zeros((24, 4), bool)
    for row, record in enumerate(source.records):
        labels[row, [class_id - 1 for class_id, *_ in record.runs]] = True
    counts = tuple(labels.sum(0).tolist())
    free = int((~labels.any(1)).sum())
    monkeypatch.setattr(get, "SEVERSTAL", Published({"train": 24}, (32, 64), counts, free))
    with serve_file(zipped(tree(strips))) as server:
        server.token = BASIC
        endpoints = {**kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD: server.url}
        monkeypatch.setattr(kaggle_env, "_env_to_endpoint", endpoints)
        yield server


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch, typed: Run) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "secret")


@pytest.mark.usefixtures("logged_in")
def test_the_competition_is_put_in_place(kaggle: FileServer, typed: Run, strips: Path) -> None:
    code, out, _ = typed("severstal")
    assert code == 0
    assert "data/severstal: downloaded; matches the published data: 24 train images of 32×64" in out
    assert "train on it: python run.py data=severstal data.root=data/severstal" in out
    assert tree(Path("data/severstal")) == tree(strips)
    assert [path.name for path in Path("data").iterdir()] == ["severstal"]

    code, out, _ = typed("severstal")  # again: checked, not downloaded
    assert code == 0
    assert "already exists; matches the published data" in out
    assert kaggle.asked == [""]


def test_the_newer_kind_of_token(
    kaggle: FileServer, typed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_abc")
    kaggle.token = "Bearer KGAT_abc"
    code, _, _ = typed("severstal", "--root", "elsewhere/steel")
    assert code == 0
    assert Path("elsewhere/steel/train.csv").is_file()


def test_a_token_in_the_file_that_kaggle_offers(kaggle: FileServer, typed: Run) -> None:
    file = Path(os.environ["KAGGLE_CONFIG_DIR"], "kaggle.json")
    file.write_text(json.dumps({"username": "me", "key": "secret"}))
    assert typed("severstal")[0] == 0


def test_no_token(kaggle: FileServer, typed: Run) -> None:
    code, _, err = typed("severstal")
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("Kaggle: no API token found; create one at https://www.kaggle.com/set")
    assert "/competitions/severstal-steel-defect-detection/rules" in err
    assert not any(Path().iterdir())


def test_a_broken_token_file(kaggle: FileServer, typed: Run) -> None:
    Path(os.environ["KAGGLE_CONFIG_DIR"], "kaggle.json").write_text("{")
    code, _, err = typed("severstal")
    assert code == 2
    assert "Invalid Kaggle credentials file" in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(
    ("token", "status", "code", "said"),
    [
        ("another", 302, 2, "Kaggle: API token rejected (401); create one at https://"),
        (BASIC, 403, 2, "Kaggle: no permission (403); accept the competition's rules at https://"),
        (BASIC, 404, 1, "Kaggle: server returned 404"),
        (BASIC, 503, 1, "Kaggle: server returned 503; retry later"),
    ],
    ids=["token", "rules", "gone", "busy"],
)
def test_kaggle_refuses(
    token: str, status: int, code: int, said: str, kaggle: FileServer, typed: Run
) -> None:
    kaggle.token, kaggle.kaggle_status = token, status
    found, _, err = typed("severstal")
    assert found == code
    assert err.splitlines()[-1].startswith(said)
    assert "Traceback" not in err
    assert not list(Path().rglob("*.*"))  # only the folder data is left


@pytest.mark.usefixtures("logged_in")
def test_no_network(kaggle: FileServer, typed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, nobody)
    code, _, err = typed("severstal")
    assert code == 1
    assert "Kaggle: unreachable or interrupted (ConnectionError)" in err
    assert not Path("data/severstal").exists()


@pytest.mark.usefixtures("logged_in")
def test_a_broken_off_download_goes_on(
    kaggle: FileServer, typed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kagglehub.clients, "CHUNK_SIZE", 1000)  # it writes a megabyte at a time
    half = len(kaggle.content) // 2
    kaggle.break_at = half
    code, _, err = typed("severstal")
    assert code == 1
    assert "are kept in data/.severstal.download: run the same command to resume" in err
    assert not Path("data/severstal").exists()

    code, _, _ = typed("severstal")
    assert code == 0
    assert kaggle.asked[-1].startswith("bytes=")
    assert 0 < int(kaggle.asked[-1][6:-1]) <= half
    assert [path.name for path in Path("data").iterdir()] == ["severstal"]


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_damaged_archive_is_not_taken_again(
    kaggle: FileServer, typed: Run, has_checksum: bool
) -> None:
    third = len(kaggle.content) // 3
    kaggle.spoilt = kaggle.content[:third] + bytes(400) + kaggle.content[third + 400 :]
    kaggle.md5 = has_checksum
    code, _, err = typed("severstal")
    assert code == 1
    said = "the download was damaged" if has_checksum else "the archive is damaged ("
    assert err.splitlines()[-1].startswith(f"Kaggle: {said}")
    assert not Path("data/severstal").exists()
    kaggle.spoilt = None
    assert typed("severstal")[0] == 0


@pytest.mark.usefixtures("logged_in")
def test_another_data_set_is_not_put_in_place(kaggle: FileServer, typed: Run, strips: Path) -> None:
    files = tree(strips)
    del files[next(name for name in files if name.endswith(".jpg"))]
    kaggle.content = zipped(files)
    code, _, err = typed("severstal")
    assert code == 1
    lines = err.splitlines()
    assert any(
        "the download differs from the published data set and is kept" in line for line in lines
    )
    assert any("23 train images; expected 24" in line for line in lines)
    assert not Path("data/severstal").exists()


@pytest.mark.usefixtures("logged_in")
def test_what_is_there_is_never_overwritten(kaggle: FileServer, typed: Run) -> None:
    Path("data/severstal/train_images").mkdir(parents=True)
    Path("data/severstal/train_images/mine.jpg").write_bytes(b"mine")
    Path("data/severstal/train.csv").write_text("ImageId,ClassId,EncodedPixels\nmine.jpg,1,1 1\n")
    code, _, err = typed("severstal")
    assert code == 2
    assert err.startswith("data/severstal: already exists and differs from the published data set")
    assert "1 train images; expected 24" in err
    assert Path("data/severstal/train_images/mine.jpg").read_bytes() == b"mine"
    assert kaggle.asked == []


def test_the_published_numbers_are_those_of_the_label_table(real: Path) -> None:
    with (real / "severstal_sample/labels_12568.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = np.array([[int(row[str(m)]) for m in (1, 2, 3, 4)] for row in rows])
    assert SEVERSTAL.parts == {"train": len(rows)}
    assert SEVERSTAL.class_images == tuple(labels.sum(0).tolist())
    assert SEVERSTAL.free == int((labels.sum(1) == 0).sum())


def test_the_sample_is_not_taken_for_the_whole(real: Path) -> None:
    found = differences(severstal.read(real / "severstal_sample"), SEVERSTAL)
    assert found[0] == "25 train images; expected 12,568"
    assert "class 2: 0 images; expected 247" in found
    assert not any("×" in line for line in found)  # their sizes are correct


# NEU-Seg


def grey(level: int, size: tuple[int, int] = (20, 20)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full(size, level, np.uint8)).save(file, "PNG")
    return file.getvalue()


NEU = {
    f"NEU_Seg-main/{name}": grey(level)
    for level, part in enumerate(("training", "test"), start=1)
    for name in (f"images/{part}/1.png", f"annotations/{part}/1.png")
} | {"NEU_Seg-main/README.md": b"# NEU-Seg\n"}


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A repository that contains one training and one test image."""
    monkeypatch.setattr(get, "NEU_SEG", Published({"train": 1, "test": 1}, (20, 20)))
    monkeypatch.setattr(archive, "CHUNK", 64)
    with serve_file(zipped(NEU)) as server:
        server.url += "/storage/archive.zip"
        yield server


def test_the_repository_is_put_in_place(github: FileServer, typed: Run) -> None:
    code, out, err = typed("neu_seg", "--url", github.url)
    assert (code, err) == (0, "")
    assert (
        "data/neu_seg: downloaded; matches the published data: 1 train + 1 test images of 20×20"
        in out
    )
    assert sorted(tree(Path("data/neu_seg"))) == sorted(
        n.removeprefix("NEU_Seg-main/") for n in NEU
    )
    assert [path.name for path in Path("data").iterdir()] == ["neu_seg"]
    assert "already exists" in typed("neu_seg", "--url", github.url)[1]


def test_that_the_licence_is_not_known_is_said() -> None:
    assert "its authors state none" in NEU_SEG.licence


def test_an_interrupted_download_starts_again(github: FileServer, typed: Run) -> None:
    github.break_at = 300
    code, _, err = typed("neu_seg", "--url", github.url)
    assert code == 1
    assert f"{github.url}: interrupted at 0 of 0 MB" in err
    assert not Path("data/neu_seg").exists()
    assert typed("neu_seg", "--url", github.url)[0] == 0
    assert Path("data/neu_seg").is_dir()


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"status": 404}, 2, "not available (404 Not Found); pass another --url"),
        ({"status": 503}, 1, "server returned 503"),
        ({"content": b"<html>not an archive</html>"}, 1, "archive.zip: damaged (File is not a zip"),
        (
            {"content": zipped({"../../out.txt": b"x"})},
            1,
            "'../../out.txt' is outside the folder",
        ),
        ({"content": zipped({"/etc/out.txt": b"x"})}, 1, "'/etc/out.txt' is outside the folder"),
        ({"content": zipped({})}, 1, "archive.zip: contains no files"),
        ({"content": zipped({"a/images/x.txt": b"x"})}, 1, "the download differs from the"),
    ],
    ids=["404", "503", "html", "climbs", "absolute", "empty", "other"],
)
def test_what_is_no_archive_of_it(
    change: dict[str, object], code: int, said: str, github: FileServer, typed: Run
) -> None:
    for name, value in change.items():
        setattr(github, name, value)
    found, _, err = typed("neu_seg", "--url", github.url)
    assert found == code
    assert said in err
    assert "Traceback" not in err
    assert not Path("data/neu_seg").exists()
    assert not list(Path().rglob("out.txt"))


def test_addresses_that_are_none(typed: Run) -> None:
    for url in ("file:///etc/passwd", "ftp://host/x.zip", "x.zip"):
        code, _, err = typed("neu_seg", "--url", url)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(f"--url {url}: expected a URL that starts with https:// or http://")


def test_an_archive_is_bounded(tmp_path: Path, github: FileServer) -> None:
    with pytest.raises(FetchError, match="larger than 0 MB; this is not the expected archive"):
        download(github.url, tmp_path / "file", most=100)
    file = tmp_path / "bomb.zip"
    file.write_bytes(zipped({"a": bytes(3 << 20), "b": b""}))
    with pytest.raises(FetchError, match="unpacks to 2 files and 3 MB; expected at most 9 and 1"):
        unpack(file, tmp_path / "new", most=1 << 20, files=9)
    with pytest.raises(FetchError, match="expected at most 1 and"):
        unpack(file, tmp_path / "new", most=1 << 30, files=1)
    assert not (tmp_path / "new").exists()


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(FetchError, match="'link' is outside the folder"):
        unpack(file, tmp_path / "new", most=1 << 20, files=9)


def test_one_download_at_a_time(tmp_path: Path) -> None:
    with (
        get._download_folder(tmp_path / "data"),
        pytest.raises(ConfigError, match="another process is downloading it"),
        get._download_folder(tmp_path / "data"),
    ):
        pass
