"""The project files other than code are consistent."""

import tomllib
from pathlib import Path
from xml.etree import ElementTree

import yaml
from pre_commit.clientlib import load_config

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_citation() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    [paper] = citation["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert citation["license"] in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert citation["authors"][0]["name"] in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_changes_begin_with_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = next(line for line in changes.splitlines() if line.startswith("## "))
    assert first.removeprefix("## ").startswith(PROJECT["version"])


def test_hooks_are_local() -> None:
    config = load_config(str(ROOT / ".pre-commit-config.yaml"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]


def test_badges_are_true() -> None:
    python = ElementTree.parse(ROOT / "docs/badges/python.svg").getroot().get("aria-label")
    assert python is not None
    assert python.removeprefix("Python: ").replace("≥ ", ">=") == PROJECT["requires-python"]
    licence = ElementTree.parse(ROOT / "docs/badges/license.svg").getroot().get("aria-label")
    assert licence == "license: MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
