"""A local server for one file, with range requests and injected failures."""

import hashlib
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """The served file, and the requests received.

    Attributes:
        content: the file.
        spoilt: content to send instead; None: the file.
        break_at: bytes after which the next response is cut off, once; None: never.
        knows_ranges: whether range requests are supported.
        kaggle_status: status of Kaggle's API; 302 redirects to the file.
        token: the accepted login of Kaggle's API, as in the header.
        md5: whether to send the checksum, like Google's storage.
        asked: the requested ranges; "" for the whole file.
        status: status of the response if it is not the file.
    """

    content: bytes
    spoilt: bytes | None = None
    break_at: int | None = None
    knows_ranges: bool = True
    kaggle_status: int = 302
    token: str = ""
    md5: bool = True
    status: int = 200
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve_file(content: bytes) -> Iterator[FileServer]:
    """Serve a file as `/storage/archive.zip`, and Kaggle's API that redirects to it.

    Kaggle's client posts to `/v1/competitions.CompetitionApiService/DownloadDataFiles`, is
    redirected to a storage URL, and requests a range there to resume a download.
    """
    server = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            known = self.headers.get("Authorization", "") == server.token
            status = server.kaggle_status if known else 401
            if not self.path.endswith("CompetitionApiService/DownloadDataFiles"):
                status = 404
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{server.url}/storage/archive.zip?signature=s")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            server.asked.append(asked)
            if server.status != 200:
                self.send_response(server.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            tag = f'"{hashlib.sha256(server.content).hexdigest()}"'
            is_same = self.headers.get("If-Range", tag) == tag
            start = int(asked[6:].split("-")[0]) if asked and server.knows_ranges and is_same else 0
            self.send_response(206 if start else 200)
            body = (server.spoilt or server.content)[start:]
            self.send_header("Content-Length", str(len(body)))
            if server.knows_ranges:
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("ETag", tag)
            if server.md5:
                digest = b64encode(hashlib.md5(server.content).digest()).decode()
                self.send_header("X-Goog-Hash", f"md5={digest}")
            self.send_header("Content-Type", "application/zip")
            self.end_headers()
            cut, server.break_at = server.break_at, None
            self.wfile.write(body[:cut])

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
