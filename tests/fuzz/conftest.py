"""Fixtures for tests with hundreds of command lines."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def quickly(composed_once: None) -> None:
    """Compose the configuration of the files only once."""
