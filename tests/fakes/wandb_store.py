"""The artifacts of a W&B server: versions by content, with the runs that made and used them."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Artifact:
    """One version of an artifact.

    Attributes:
        about: the input of `CreateArtifact`.
        manifest: file → its entry, once committed.
        files: content by storage path.
        made_by: ids of the runs that logged it.
        used_by: ids of the runs that used it.
    """

    about: dict[str, Any]
    aliases: set[str] = field(default_factory=set)
    manifest: dict[str, Any] | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    made_by: set[str] = field(default_factory=set)
    used_by: set[str] = field(default_factory=set)

    def content(self, file: str) -> bytes:
        """Return a file by its name in the artifact, after checking its digest."""
        assert self.manifest is not None, "never committed"
        digest = self.manifest[file]["digest"]
        found = self.files[base64.b64decode(digest).hex()]
        assert base64.b64encode(hashlib.md5(found).digest()).decode() == digest, file
        return found


class ArtifactStore:
    """Handles artifact requests of W&B's client; the same content is stored as one version."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[str, Artifact] = {}  # by id
        self._clients: dict[str, str] = {}

    def named(self, collection: str) -> list[Artifact]:
        """The versions of one collection."""
        versions = self.versions.values()
        return [a for a in versions if a.about["artifactCollectionName"] == collection]

    def of_type(self, kind: str) -> list[Artifact]:
        """Every version of one type."""
        return [a for a in self.versions.values() if a.about["artifactTypeName"] == kind]

    def receive(self, artifact_id: str, path: str, content: bytes) -> None:
        """Receive an uploaded file or manifest."""
        artifact = self.versions[artifact_id]
        if path == "manifest":
            artifact.manifest = json.loads(content)["contents"]
        else:
            artifact.files[path] = content

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        wanted = given["input"]
        collection, digest = wanted["artifactCollectionName"], wanted["digest"]
        artifact_id = hashlib.sha256(f"{collection}|{digest}".encode()).hexdigest()[:12]
        artifact = self.versions.setdefault(artifact_id, Artifact(wanted))
        artifact.aliases |= {alias["alias"] for alias in wanted.get("aliases") or []}
        artifact.made_by.add(wanted["runName"])
        self._clients[wanted["clientID"]] = artifact_id
        state = "PENDING" if artifact.manifest is None else "COMMITTED"
        sequence = {"id": collection, "latestArtifact": None}
        told = {"id": artifact_id, "state": state, "artifactSequence": sequence}
        return {"createArtifact": {"artifact": told}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"createArtifactManifest": self._manifest(given["artifactID"])}

    def _UpdateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"updateArtifactManifest": self._manifest(given["artifactManifestID"])}

    def _manifest(self, artifact_id: str) -> dict[str, Any]:
        url = f"{self.url}/artifacts/{artifact_id}/manifest"
        file = {"id": artifact_id, "uploadUrl": url, "uploadHeaders": []}
        return {"artifactManifest": {"id": artifact_id, "file": file}}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        edges = []
        for spec in given["input"]["artifactFiles"]:
            artifact_id, path = spec["artifactID"], base64.b64decode(spec["md5"]).hex()
            node = {
                "storagePath": path,
                "uploadUrl": f"{self.url}/artifacts/{artifact_id}/{path}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": artifact_id},
            }
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        artifact_id = given["artifactID"]
        digest = self.versions[artifact_id].about["digest"]
        return {"commitArtifact": {"artifact": {"id": artifact_id, "digest": digest}}}

    def _UseArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        wanted = given["input"]
        self.versions[wanted["artifactID"]].used_by.add(wanted["runName"])
        return {"useArtifact": {"artifact": {"id": wanted["artifactID"]}}}

    def _ClientIDMapping(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"clientIDMapping": {"serverID": self._clients[given["clientID"]]}}

    def _FetchArtifactDigestAlgorithm(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": None}

    def _XXHashDigestsEnabled(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}
