"""The views of a W&B server: specifications of workspaces and reports."""

import json
from typing import Any


class ViewStore:
    """Handles view requests of W&B's client."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[dict[str, Any]] = []
        self.projects = ["tlunet"]

    def view(self, kind: str) -> dict[str, Any]:
        """The last view of a type, with its specification as plain values."""
        view = [view for view in self.views if view["type"] == kind][-1]
        return view | {"spec": json.loads(view["spec"])}

    def _upsertView(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.views.append(given)
        project = {
            "id": "1", "name": given["projectName"], "entityName": given["entityName"],
        }  # fmt: skip
        view = {**given, "id": f"view{len(self.views)}", "project": project, "updatedAt": None}
        return {"upsertView": {"view": view, "inserted": True}}

    _UpsertView2 = _upsertView

    def _GetDefaultEntity(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"viewer": {"id": "1", "entity": "tester"}}

    def _GetProjects(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        facts = {"__typename": "Project", "createdAt": "2026-01-01T00:00:00", "isBenchmark": False}
        facts |= {"user": None, "entityName": "tester"}
        edges = [{"node": facts | {"id": name, "name": name}} for name in self.projects]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"edges": edges, "pageInfo": page}}
