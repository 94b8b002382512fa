"""The fenced code blocks of the pages in docs/."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


@pytest.fixture
def one_core() -> Iterator[None]:
    """Pin this process and its children to one core, for a fixed number of threads."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    yield
    os.sched_setaffinity(0, mine)


class Fenced(NamedTuple):
    language: str
    title: str  # the file that it contains or changes
    code: str
    line: int  # line of the page

    def compiled(self, page: str) -> object:
        """Compile it such that a failure names the page and its line."""
        return compile("\n" * self.line + self.code, page, "exec")


@pytest.fixture(scope="session")
def fenced() -> Callable[[str], list[Fenced]]:
    """Return a function that reads the code blocks of a page, in order."""

    def read(page: str) -> list[Fenced]:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        return [
            Fenced(m[1], m[2] or "", m[3], text.count("\n", 0, m.start(3)))
            for m in FENCE.finditer(text)
        ]

    return read
