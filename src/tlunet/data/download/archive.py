"""Download an archive and unpack it safely into one folder."""

import http.client
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tlunet.errors import ConfigError, visible
from tlunet.machine.console import Progress

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20


class FetchError(Exception):
    """A temporary failure: no network, a server error, or a damaged file.

    Args:
        *lines: the problem, one line each.
    """

    def __init__(self, *lines: str) -> None:
        self.lines = tuple(map(visible, lines))
        super().__init__("\n".join(self.lines))


def download(url: str, file: Path, *, most: int, progress: Progress | None = None) -> None:
    """Download a file; it appears under its name when it is complete.

    Args:
        url: ``http`` or ``https``.
        file: the destination.
        most: maximum size in bytes.
        progress: called with the progress in megabytes, if the server reports the size.

    Raises:
        ConfigError: the URL is invalid or nothing is available there.
        FetchError: the download failed for now, or the file is too large.
        OSError: the disk is full or cannot be written.
    """
    if not url.startswith(("https://", "http://")):
        raise ConfigError(f"--url {url}: expected a URL that starts with https:// or http://")
    part = file.with_name(f"{file.name}.part")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "tlunet"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response, part.open("wb") as copy:
            _receive(response, copy, most, progress)
        part.replace(file)
    except urllib.error.HTTPError as error:
        what = f"{error.code} {error.reason}"
        if error.code in (401, 403, 404, 410):
            raise ConfigError(f"{url}: not available ({what}); pass another --url") from error
        raise FetchError(f"{url}: server returned {what}; retry later") from error
    except (http.client.HTTPException, ValueError) as error:
        raise FetchError(f"{url}: interrupted ({error!r})") from error
    except OSError as error:
        if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
            raise  # a disk error
        reason = getattr(error, "reason", error)
        raise FetchError(f"{url}: unreachable or interrupted ({reason})") from error
    finally:
        part.unlink(missing_ok=True)


def _receive(
    response: http.client.HTTPResponse, copy: BinaryIO, most: int, progress: Progress | None
) -> None:
    length, done = response.headers.get("Content-Length"), 0
    total = int(length) if length else None
    while chunk := response.read(CHUNK):
        done += len(chunk)
        if done > most:
            raise FetchError(
                f"{response.url}: larger than {most >> 20} MB; this is not the expected archive"
            )
        copy.write(chunk)
        if progress and total:
            progress("downloading, MB", done >> 20, max(1, total >> 20))
    if total is not None and done < total:
        raise FetchError(f"{response.url}: interrupted at {done >> 20} of {total >> 20} MB")


def unpack(archive: Path, folder: Path, *, most: int, files: int) -> None:
    """Unpack a ZIP file; a single top-level folder is stripped.

    Args:
        archive: the ZIP file.
        folder: the destination; it must not exist.
        most: maximum unpacked size in bytes.
        files: maximum number of files.

    Raises:
        FetchError: it is damaged, too large, or contains a path outside the folder.
        OSError: the disk is full or cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = [info for info in packed.infolist() if not info.is_dir()]
            _check(archive, entries, most=most, files=files)
            paths = [PurePosixPath(info.filename) for info in entries]
            tops = {path.parts[0] for path in paths}
            shared = 1 if len(tops) == 1 and all(len(path.parts) > 1 for path in paths) else 0
            for info, path in zip(entries, paths, strict=True):
                target = folder.joinpath(*path.parts[shared:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(info) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, CHUNK)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FetchError(f"{archive.name}: damaged ({error})") from error


def _check(archive: Path, entries: list[zipfile.ZipInfo], *, most: int, files: int) -> None:
    if not entries:
        raise FetchError(f"{archive.name}: contains no files")
    if len(entries) > files or sum(info.file_size for info in entries) > most:
        raise FetchError(
            f"{archive.name}: unpacks to {len(entries)} files and "
            f"{sum(info.file_size for info in entries) >> 20} MB; expected at most {files} and "
            f"{most >> 20}"
        )
    for info in entries:
        path = PurePosixPath(info.filename)
        leads_out = path.is_absolute() or ".." in path.parts or "\\" in info.filename
        if leads_out or ":" in path.parts[0] or stat.S_ISLNK(info.external_attr >> 16):
            raise FetchError(f"{archive.name}: {info.filename!r} is outside the folder")
