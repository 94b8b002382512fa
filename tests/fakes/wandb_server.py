"""A local W&B server that implements the part of the protocol that the real client uses."""

import base64
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wandb_store import ArtifactStore
from wandb_views import ViewStore

KEY = "0123456789abcdef0123456789abcdef01234567"  # the only valid login
ENTITY = "tester"


@dataclass
class Run:
    """The data received for one run.

    Attributes:
        about: the last values of `UpsertBucket`: displayName, config, tags, …
        streams: file → line number → line; uploading the same lines replaces them.
        uploads: content by name.
        exit_code: exit code of the last process that ended; None before that.
    """

    about: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, dict[int, str]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    def lines(self, name: str) -> list[Any]:
        """The lines of a stream in order."""
        return [json.loads(line) for _, line in sorted(self.streams.get(name, {}).items())]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The logged rows, identified by their step; a later row replaces an earlier one.

        This is why the record of an interrupted run can be uploaded although it includes rows that
        the server already has.
        """
        return list({row["_step"]: row for row in self.lines("wandb-history.jsonl")}.values())

    @property
    def summary(self) -> dict[str, Any]:
        """The last summary."""
        return (self.lines("wandb-summary.json") or [{}])[-1]

    def column(self, name: str) -> list[Any]:
        """The values of a column, from rows that have it."""
        return [row[name] for row in self.history if name in row]


class WandbServer(ArtifactStore, ViewStore):
    """Stores runs by id; can go down and up again on the same port without losing data.

    Attributes:
        runs: the received runs.
        requests: the requested operations.
        unknown: requested operations that this server does not implement.
        mode: `ok`; `hang`: connections are accepted but never answered; `refuse`: every login
            fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, Run] = {}
        self.unknown: list[str] = []
        self.requests: list[str] = []
        self.mode = "ok"
        self._lock = threading.Lock()
        self._port = 0
        self._connections: set[socket.socket] = set()
        self.up()

    @property
    def url(self) -> str:
        """For the variable WANDB_BASE_URL."""
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Listen, on the port it had before."""
        self._released = threading.Event()
        self._http = _Server(("127.0.0.1", self._port), _Handler)
        self._http.wandb = self
        self._port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def down(self) -> None:
        """Nothing listens any more; connections break off."""
        if not self._thread.is_alive():
            return
        self._released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        with self._lock:
            for connection in list(self._connections):
                with suppress(OSError):  # already closed
                    connection.shutdown(socket.SHUT_RDWR)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self.runs

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The answer to one operation."""
        name = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = name[1] if name else query
        with self._lock:
            self.requests.append(operation)
            answer = getattr(self, f"_{operation}", None)
            if answer is None:
                self.unknown.append(operation)
                return {"errors": [{"message": f"this server does not know {operation}"}]}
            return {"data": answer(variables)}

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
        return {"viewer": viewer | {"teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _OrgFeatureFlags(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"organization": None}

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run_id = given["name"]
        inserted = run_id not in self.runs
        run = self.runs.setdefault(run_id, Run())
        run.about |= {k: v for k, v in given.items() if v is not None}
        owner = {"id": "1", "name": run.about.get("entity") or ENTITY}
        project = {"id": "1", "name": run.about["project"], "entity": owner}
        bucket = self._bucket(run_id, run) | {
            "description": None, "sweepName": None, "project": project
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(given["name"])
        bucket = self._bucket(given["name"], run) if run else None
        entity = {"id": "1", "name": ENTITY}
        return {"model": {"id": "1", "name": given["project"], "entity": entity, "bucket": bucket}}

    def _bucket(self, run_id: str, run: Run) -> dict[str, Any]:
        history, events = ("wandb-history.jsonl", "wandb-events.jsonl")

        def tail(name: str) -> str:
            return json.dumps([json.dumps(line) for line in run.lines(name)[-1:]])

        return {
            "id": run_id,
            "name": run_id,
            "displayName": run.about.get("displayName"),
            "config": run.about.get("config", "{}"),
            "tags": run.about.get("tags", []),
            "notes": run.about.get("notes"),
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.lines(history)),
            "eventsLineCount": len(run.lines(events)),
            "logLineCount": len(run.streams.get("output.log", {})),
            "historyTail": tail(history),
            "eventsTail": tail(events),
            "wandbConfig": json.dumps({"t": 1}),
        }

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run_id = given["run"]
        files = [
            {"name": name, "uploadUrl": f"{self.url}/storage/{run_id}/{name}"}
            for name in given["files"]
        ]
        return {"createRunFiles": {"runID": run_id, "uploadHeaders": [], "files": files}}

    def _MarkRunFilesUploaded(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"markRunFilesUploaded": {"success": True}}

    def stream(self, run_id: str, content: dict[str, Any]) -> dict[str, Any]:
        """Receive numbered lines of a run's files."""
        with self._lock:
            self.requests.append("file_stream")
            run = self.runs.setdefault(run_id, Run())
            for name, part in content.get("files", {}).items():
                numbered = enumerate(part["content"], part["offset"])
                run.streams.setdefault(name, {}).update(numbered)
            if content.get("complete"):
                run.exit_code = content["exitcode"]
        return {"limits": {}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    wandb: WandbServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.wandb._connections.add(self.connection)

    def finish(self) -> None:
        super().finish()
        self.server.wandb._connections.discard(self.connection)

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"")

    def do_PUT(self) -> None:
        body = self._body()
        if (match := re.match(r"/storage/([^/]+)/(.+)", self.path)) and self._is_awake():
            self.server.wandb.runs[match[1]].uploads[match[2]] = body
        elif match := re.match(r"/artifacts/([^/]+)/(.+)", self.path):
            self.server.wandb.receive(match[1], match[2], body)
        self._answer(b"")

    def do_POST(self) -> None:
        body = self._body()
        if not self._is_awake():
            return
        wandb = self.server.wandb
        if not self._is_logged_in():
            error = {"errors": [{"message": "user is not logged in"}]}
            self._answer(json.dumps(error).encode(), status=401)
        elif self.path == "/graphql":
            asked = json.loads(body)
            answer = wandb.graphql(asked["query"], asked.get("variables") or {})
            self._answer(json.dumps(answer).encode())
        elif match := re.match(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self._answer(json.dumps(wandb.stream(match[1], json.loads(body))).encode())
        else:
            self._answer(b"{}", status=404)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _is_awake(self) -> bool:
        """Wait while the server hangs; requests in that time are never answered."""
        if self.server.wandb.mode == "hang":
            self.server.wandb._released.wait()
            self.close_connection = True
            return False
        return True

    def _is_logged_in(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        is_right = base64.b64decode(given) == f"api:{KEY}".encode()
        return is_right and self.server.wandb.mode != "refuse"

    def _answer(self, body: bytes, status: int = 200) -> None:
        if not self._is_awake():
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def serve_wandb() -> Iterator[WandbServer]:
    """Run a server within the context; use its `url` as WANDB_BASE_URL."""
    server = WandbServer()
    try:
        yield server
    finally:
        server.down()
