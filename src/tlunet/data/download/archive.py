"""An archive from the web: it comes whole or goes on later, and unpacks into one folder only."""

import http.client
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tlunet.data.checks.examine import Progress
from tlunet.errors import ConfigError, visible

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20


class FetchError(Exception):
    """Something that cannot be had now: no network, a server's fault, a file that came broken.

    Args:
        *lines: what it is.
    """

    def __init__(self, *lines: str) -> None:
        self.lines = tuple(map(visible, lines))
        super().__init__("\n".join(self.lines))


def download(url: str, file: Path, *, most: int, progress: Progress | None = None) -> None:
    """Fetch a file; what an earlier attempt has left is gone on with if the server allows it.

    Until it is whole it is called ``<file>.part``, and ``<file>.etag`` says of which version.

    Args:
        url: ``http`` or ``https``.
        file: where it goes.
        most: bytes that it may have.
        progress: told how far it is, in megabytes, where the server says how much there is.

    Raises:
        ConfigError: not such an address, or nothing is there.
        FetchError: it did not come whole; the next call goes on.
        OSError: the disk is full or cannot be written.
    """
    if not url.startswith(("https://", "http://")):
        raise ConfigError(f"--url {url}: expected an address that begins with https://")
    part, version = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.etag")
    done = part.stat().st_size if part.exists() and version.exists() else 0
    headers = {"User-Agent": "tlunet"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": version.read_text()}
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _receive(response, part, version, done, most=most, progress=progress)
    except urllib.error.HTTPError as error:
        _raise_for(url, error, part)
    except (http.client.HTTPException, ValueError) as error:
        raise FetchError(f"{url}: broken off ({error!r})") from error
    except OSError as error:
        if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
            raise  # of the disk
        reason = getattr(error, "reason", error)
        raise FetchError(f"{url}: cannot be reached, or was broken off ({reason})") from error
    part.replace(file)
    version.unlink(missing_ok=True)


def _receive(
    response: http.client.HTTPResponse, part: Path, version: Path, done: int,
    *, most: int, progress: Progress | None,
) -> None:  # fmt: skip
    if response.status != 206:
        done = 0  # the whole file, whatever was asked for
    etag = response.headers.get("ETag", "")
    if etag.startswith('"'):  # a weak one does not promise the same bytes
        version.write_text(etag)
    else:
        version.unlink(missing_ok=True)
    length = response.headers.get("Content-Length")
    total = done + int(length) if length else None
    with part.open("ab" if done else "wb") as file:
        while chunk := response.read(CHUNK):
            done += len(chunk)
            if done > most:
                raise FetchError(f"{response.url}: more than {most >> 20} MB; not the archive")
            file.write(chunk)
            if progress and total:
                progress("downloading, MB", done >> 20, max(1, total >> 20))
    if total is not None and done < total:
        raise FetchError(f"{response.url}: broken off at {done >> 20} of {total >> 20} MB")


def _raise_for(url: str, error: urllib.error.HTTPError, part: Path) -> None:
    if error.code == 416:  # what is here is not a beginning of what is there
        part.unlink(missing_ok=True)
        raise FetchError(f"{url}: has changed since; the same line starts anew") from error
    if error.code in (401, 403, 404, 410):
        raise ConfigError(f"{url}: not there ({error.code} {error.reason}); --url names another")
    raise FetchError(f"{url}: the server answers {error.code} {error.reason}; try later") from error


def unpack(archive: Path, folder: Path, *, most: int, files: int) -> None:
    """Unpack a ZIP file; one folder that holds everything else in it is left away.

    Args:
        archive: the file.
        folder: where its content goes; it must not exist.
        most: bytes that it may unpack to.
        files: how many it may hold.

    Raises:
        FetchError: it is damaged, too large, or has a name that leads out of the folder.
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
        raise FetchError(f"{archive.name}: holds no file")
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
            raise FetchError(f"{archive.name}: {info.filename!r} leads out of the folder")
