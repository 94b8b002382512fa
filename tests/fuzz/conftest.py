"""Command lines by the hundred."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def quickly(composed_once: None) -> None:
    """What the files alone say is composed once."""
