"""Data sets from where they are published, into place whole or not at all.

Everything happens in ``.<name>.download`` beside the folder that is asked for: what has come of an
archive stays there when a download is broken off, so that the same call goes on with it.
"""

import fcntl
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tlunet.data.checks.examine import Progress
from tlunet.data.download.archive import FetchError, download, unpack
from tlunet.data.download.published import NEU_SEG, SEVERSTAL, Published, differences
from tlunet.data.readers import folder, severstal
from tlunet.data.source import Source
from tlunet.errors import ConfigError, DataError

COMPETITION = "severstal-steel-defect-detection"
RULES = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
TOKENS = "https://www.kaggle.com/settings"
TOKEN = (
    f"make one at {TOKENS} (API, Create New Token), save it as ~/.kaggle/kaggle.json or set "
    "KAGGLE_USERNAME and KAGGLE_KEY (KAGGLE_API_TOKEN for the newer kind)"
)
#: The branch is whatever the repository's default is; it has no licence file and no release.
NEU_SEG_URL = "https://codeload.github.com/DHW-Master/NEU_Seg/zip/HEAD"
NEU_SEG_MOST = 1 << 30  # bytes, packed or not; it is some forty million
NEU_SEG_FILES = 20_000  # it has nine thousand
SHOWN = 10


def get_severstal(root: Path) -> bool:
    """Download the competition's data by Kaggle's own client, with the user's own token.

    Args:
        root: the folder to make.

    Returns:
        Whether it was downloaded; else it was there already, and is the published data set.

    Raises:
        ConfigError: there is no token, it is not valid, or the rules are not accepted.
        DataError: there is something else at ``root``.
        FetchError: it cannot be had now, or is not what was published.
        OSError: the disk is full or cannot be written.
    """
    if _is_there(root, severstal.read, SEVERSTAL):
        return False
    _require_token()
    with _download_folder(root) as scratch:
        got = _from_kaggle(scratch)
        if not got.is_relative_to(scratch):  # a Kaggle notebook has it mounted
            raise ConfigError(
                f"the data are here already, at {got}: run.py data=severstal data.root={got}"
            )
        _settle(got, root, severstal.read, SEVERSTAL)
        shutil.rmtree(scratch)  # the client's own notes lie there, too
    return True


def get_neu_seg(root: Path, url: str = NEU_SEG_URL, progress: Progress | None = None) -> bool:
    """Download NEU-Seg from its public repository.

    Args:
        root: the folder to make.
        url: of a ZIP file with ``images/`` and ``annotations/``, in a folder or not.
        progress: told how far it is.

    Returns:
        Whether it was downloaded; else it was there already, and is the published data set.

    Raises:
        ConfigError: the address is wrong.
        DataError: there is something else at ``root``.
        FetchError: it cannot be had now, or is not what was published.
        OSError: the disk is full or cannot be written.
    """
    if _is_there(root, folder.read_neu_seg, NEU_SEG):
        return False
    with _download_folder(root) as scratch:
        archive, new = scratch / "archive.zip", scratch / "new"
        shutil.rmtree(new, ignore_errors=True)  # of an attempt that was killed
        if not archive.exists():
            download(url, archive, most=NEU_SEG_MOST, progress=progress)
        try:
            unpack(archive, new, most=NEU_SEG_MOST, files=NEU_SEG_FILES)
        except FetchError:
            shutil.rmtree(new, ignore_errors=True)
            archive.unlink()  # else the next call would find it again
            raise
        _settle(new, root, folder.read_neu_seg, NEU_SEG)
        archive.unlink()
    return True


def _is_there(root: Path, read: Callable[[Path], Source], published: Published) -> bool:
    """Whether the data set is there; nothing else may be."""
    if not root.exists():
        return False
    if root.is_dir() and not any(root.iterdir()):
        return False
    if found := differences(read(root), published):
        raise DataError(
            f"{root}: is there already, and differs from what is published; nothing was changed: "
            "move it away, or name another --root",
            *_first(found),
        )
    return True


def _settle(got: Path, root: Path, read: Callable[[Path], Source], published: Published) -> None:
    """Move a data set into place if it is the published one."""
    try:
        found = differences(read(got), published)
    except DataError as error:
        found = list(error.lines)
    if found:
        raise FetchError(
            f"{got}: what came differs from what is published; it stays there, to be looked at, "
            f"moved to {root} by hand, or removed and downloaded anew",
            *_first(found),
        )
    if root.is_dir():
        root.rmdir()  # empty: it was looked at
    got.rename(root)


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines[:SHOWN] + ([f"… and {more} more differences"] if more > 0 else [])


@contextmanager
def _download_folder(root: Path) -> Iterator[Path]:
    """Where the download goes on, for one process at a time."""
    scratch = root.with_name(f".{root.name}.download")
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # dies with its holder
        except BlockingIOError:
            raise ConfigError(f"{root}: another process is downloading it") from None
        try:
            yield scratch
        finally:  # what goes on next time is kept, and nothing else
            if not any(path.is_file() for path in scratch.rglob("*") if path.name != "lock"):
                shutil.rmtree(scratch, ignore_errors=True)


# Kaggle


def _require_token() -> None:
    """Raise ConfigError unless Kaggle's client finds a token where it looks for one."""
    from kagglehub.config import get_kaggle_credentials

    try:
        token = get_kaggle_credentials()
    except (ValueError, OSError) as error:
        raise ConfigError(f"Kaggle: {error}; {TOKEN}") from error
    if token is None:
        raise ConfigError(
            f"Kaggle: no API token found; {TOKEN}; then accept the competition's rules at {RULES}"
        )


def _from_kaggle(scratch: Path) -> Path:
    """The competition's files, in a folder below the scratch folder."""
    import kagglehub
    import requests
    from kagglehub.exceptions import DataCorruptionError, KaggleApiHTTPError

    archive = scratch / "competitions" / f"{COMPETITION}.archive"
    unpacked = scratch / "competitions" / COMPETITION
    with _environment("KAGGLEHUB_CACHE", str(scratch)):
        try:
            return Path(kagglehub.competition_download(COMPETITION))
        except KaggleApiHTTPError as error:
            raise _refused(error.response.status_code) from error
        except DataCorruptionError as error:  # the client has removed it
            raise FetchError(
                "Kaggle: the archive came damaged; the same line tries anew"
            ) from error
        except requests.exceptions.RequestException as error:
            what = f"Kaggle: cannot be reached, or was broken off ({type(error).__name__})"
            if archive.exists():
                kept = f"{archive.stat().st_size / 2**20:.1f} MB are kept in {scratch}"
                what += f"; {kept}: the same line goes on from there"
            raise FetchError(what) from error
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            archive.unlink(missing_ok=True)  # else the client would take it again
            shutil.rmtree(unpacked, ignore_errors=True)
            raise FetchError(
                f"Kaggle: the archive is damaged ({error}); the same line tries anew"
            ) from error


def _refused(status: int) -> Exception:
    """What Kaggle's answer means to the user."""
    if status == 401:
        return ConfigError(f"Kaggle: your API token is not accepted (401); {TOKEN}")
    if status == 403:
        return ConfigError(
            f"Kaggle: no permission (403); accept the competition's rules at {RULES} (Late "
            "Submission, I Understand and Accept), and look whether the token is of that account"
        )
    return FetchError(f"Kaggle: the server answers {status}; try again later")


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable that the client reads, set for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
