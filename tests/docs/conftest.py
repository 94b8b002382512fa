"""What the pages of docs/ have in fences."""

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
    """This process and what it starts on one core: as many threads, on a busy machine too."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    yield
    os.sched_setaffinity(0, mine)


class Fenced(NamedTuple):
    language: str
    title: str  # the file that it is, or is a change of
    code: str
    line: int  # of the page

    def compiled(self, page: str) -> object:
        """So that a failure names the page and its line."""
        return compile("\n" * self.line + self.code, page, "exec")


@pytest.fixture(scope="session")
def fenced() -> Callable[[str], list[Fenced]]:
    """The code of a page, in its order."""

    def read(page: str) -> list[Fenced]:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        return [
            Fenced(m[1], m[2] or "", m[3], text.count("\n", 0, m.start(3)))
            for m in FENCE.finditer(text)
        ]

    return read
