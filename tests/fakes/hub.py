"""A local weights hub that implements the part of the real protocol that the client uses."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serve_hub(files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve files like the Hugging Face Hub, within the context.

    A download is a HEAD for the commit, the entity tag and the size, then a GET. Files come from
    the hub itself: no redirect to a CDN, no xet headers, so the client uses plain HTTP. Everything
    else (`/api/…`) is a 404 with the hub's own error headers.

    Args:
        files: content by "owner/repo/resolve/<revision>/filename". A revision that is not a
            commit (40 hexadecimal digits) is answered with a commit derived from its name.

    Yields:
        The endpoint's URL, for the variable HF_ENDPOINT.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            path = self.path.lstrip("/").split("?")[0]
            content = files.get(path)
            if content is None:
                status, body = 404, json.dumps({"error": "Entry not found"}).encode()
                headers = {"X-Error-Code": _error_code(path, files)}
            else:
                status, body = 200, content
                revision = path.split("/resolve/")[1].split("/")[0]
                is_commit = re.fullmatch(r"[0-9a-f]{40}", revision)
                headers = {
                    "X-Repo-Commit": revision if is_commit else _hash("sha1", revision.encode()),
                    "ETag": f'"{_hash("sha256", content)}"',
                    "Accept-Ranges": "bytes",
                }
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _error_code(path: str, files: Mapping[str, bytes]) -> str:
    """Error code for the part of owner/repo/resolve/<revision>/filename that does not exist."""
    repo, _, rest = path.partition("/resolve/")
    if not any(key.startswith(f"{repo}/resolve/") for key in files):
        return "RepoNotFound"
    revision = rest.split("/")[0]
    if not any(key.startswith(f"{repo}/resolve/{revision}/") for key in files):
        return "RevisionNotFound"
    return "EntryNotFound"


def _hash(kind: str, content: bytes) -> str:
    return hashlib.new(kind, content).hexdigest()
