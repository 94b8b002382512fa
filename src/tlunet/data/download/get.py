"""Download published data sets; the folder appears only when it is complete.

Everything happens in ``.<name>.download`` next to the requested folder. Kaggle's client resumes an
interrupted download from there.
"""

import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tlunet.data.download.archive import FetchError, download, unpack
from tlunet.data.download.published import NEU_SEG, SEVERSTAL, Published, differences
from tlunet.data.readers import folder, severstal
from tlunet.data.source import Source
from tlunet.errors import ConfigError, DataError
from tlunet.machine.command_line import run_command
from tlunet.machine.console import Progress
from tlunet.machine.files import locked

COMPETITION = "severstal-steel-defect-detection"
RULES = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
TOKENS = "https://www.kaggle.com/settings"
TOKEN = (
    f"create one at {TOKENS} (API, Create New Token), save it as ~/.kaggle/kaggle.json or set "
    "KAGGLE_USERNAME and KAGGLE_KEY (KAGGLE_API_TOKEN for new tokens)"
)
#: The repository's default branch; it has no licence file and no release.
NEU_SEG_URL = "https://codeload.github.com/DHW-Master/NEU_Seg/zip/HEAD"
NEU_SEG_MOST = 1 << 30  # bytes, packed or not; the data set has about 40 million
NEU_SEG_FILES = 20_000  # the data set has about 9,000
SHOWN = 10


def get_severstal(root: Path) -> bool:
    """Download the competition data with Kaggle's client and the user's token.

    Args:
        root: the folder to create.

    Returns:
        Whether it was downloaded; otherwise it already exists and is the published data set.

    Raises:
        ConfigError: the token is missing or invalid, or the rules are not accepted.
        DataError: ``root`` contains something else.
        FetchError: it is not available now, or differs from the published data set.
        OSError: the disk is full or cannot be written.
    """
    if _is_there(root, severstal.read, SEVERSTAL):
        return False
    _require_token()
    with _download_folder(root) as scratch:
        got = _from_kaggle(scratch)
        if not got.is_relative_to(scratch):  # in a Kaggle notebook, the data is mounted
            raise ConfigError(
                f"the data is already at {got}: "
                + run_command(("data", "severstal"), ("data.root", got))
            )
        _settle(got, root, severstal.read, SEVERSTAL)
        shutil.rmtree(scratch)  # the client's metadata is also there
    return True


def get_neu_seg(root: Path, url: str = NEU_SEG_URL, progress: Progress | None = None) -> bool:
    """Download NEU-Seg from its public repository.

    Args:
        root: the folder to create.
        url: URL of a ZIP file with ``images/`` and ``annotations/``, in a folder or not.
        progress: called with the progress.

    Returns:
        Whether it was downloaded; otherwise it already exists and is the published data set.

    Raises:
        ConfigError: the URL is invalid.
        DataError: ``root`` contains something else.
        FetchError: it is not available now, or differs from the published data set.
        OSError: the disk is full or cannot be written.
    """
    if _is_there(root, folder.read_neu_seg, NEU_SEG):
        return False
    with _download_folder(root) as scratch:
        archive, new = scratch / "archive.zip", scratch / "new"
        shutil.rmtree(new, ignore_errors=True)  # from an attempt that was killed
        if not archive.exists():
            download(url, archive, most=NEU_SEG_MOST, progress=progress)
        try:
            unpack(archive, new, most=NEU_SEG_MOST, files=NEU_SEG_FILES)
        except FetchError:
            shutil.rmtree(new, ignore_errors=True)
            archive.unlink()  # otherwise the next call would use it again
            raise
        _settle(new, root, folder.read_neu_seg, NEU_SEG)
        archive.unlink()
    return True


def _is_there(root: Path, read: Callable[[Path], Source], published: Published) -> bool:
    """Whether the data set already exists; raise DataError for anything else."""
    if not root.exists():
        return False
    if root.is_dir() and not any(root.iterdir()):
        return False
    if lines := differences(read(root), published):
        raise DataError(
            f"{root}: already exists and differs from the published data set; nothing was changed: "
            "move it away or pass another --root",
            *_first(lines),
        )
    return True


def _settle(got: Path, root: Path, read: Callable[[Path], Source], published: Published) -> None:
    """Move a data set into place if it is the published one."""
    try:
        lines = differences(read(got), published)
    except DataError as error:
        lines = list(error.lines)
    if lines:
        raise FetchError(
            f"{got}: the download differs from the published data set and is kept: inspect it, "
            f"move it to {root} yourself, or remove it and download it again",
            *_first(lines),
        )
    if root.is_dir():
        root.rmdir()  # empty, as checked before
    got.rename(root)


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines[:SHOWN] + ([f"… and {more} more differences"] if more > 0 else [])


@contextmanager
def _download_folder(root: Path) -> Iterator[Path]:
    """Lock the download folder, for one process at a time."""
    scratch = root.with_name(f".{root.name}.download")
    with locked(scratch / "lock", wait=False) as is_mine:
        if not is_mine:
            raise ConfigError(f"{root}: another process is downloading it")
        try:
            yield scratch
        finally:  # keep only what the next call can resume
            if not any(path.is_file() for path in scratch.rglob("*") if path.name != "lock"):
                shutil.rmtree(scratch, ignore_errors=True)


# Kaggle


def _require_token() -> None:
    """Raise ConfigError unless Kaggle's client finds a token."""
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
    """Download the competition's files to a folder in the scratch folder."""
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
                "Kaggle: the download was damaged; run the same command to try again"
            ) from error
        except requests.exceptions.RequestException as error:
            what = f"Kaggle: unreachable or interrupted ({type(error).__name__})"
            if archive.exists():
                kept = f"{archive.stat().st_size / 2**20:.1f} MB are kept in {scratch}"
                what += f"; {kept}: run the same command to resume"
            raise FetchError(what) from error
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            archive.unlink(missing_ok=True)  # otherwise the client would use it again
            shutil.rmtree(unpacked, ignore_errors=True)
            raise FetchError(
                f"Kaggle: the archive is damaged ({error}); run the same command to try again"
            ) from error


def _refused(status: int) -> Exception:
    """Translate Kaggle's status code to an error for the user."""
    if status == 401:
        return ConfigError(f"Kaggle: API token rejected (401); {TOKEN}")
    if status == 403:
        return ConfigError(
            f"Kaggle: no permission (403); accept the competition's rules at {RULES} (Late "
            "Submission, I Understand and Accept) with the account that the token belongs to"
        )
    return FetchError(f"Kaggle: server returned {status}; retry later")


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable temporarily."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
