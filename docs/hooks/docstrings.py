"""Adapt docstrings for mkdocstrings."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|data|meth|mod|attr):(?=`)")


class Plain(griffe.Extension):
    """Remove Sphinx roles and turn ``Example:`` into the section for code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:  # noqa: D102
        if obj.docstring:
            text = _ROLE.sub("", obj.docstring.value)
            obj.docstring.value = text.replace("Example:\n", "Examples:\n")
