"""Expanding ~ in the paths of a command line."""

import re
from collections.abc import Sequence
from pathlib import Path

from tlunet.machine.command_line import hydra_value
from tlunet.study.config.overrides import WORD, is_readable
from tlunet.study.config.values import PATHS

#: Part of a value: a text in quotes, a text without, a comma or a bracket.
_TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,()'"]+|.""", re.S)


def expand_home(words: Sequence[str]) -> list[str]:
    """Replace a leading ~ in the path keys of a command line by the home folder.

    A shell expands ~ at the start of a word only, so ``data.root=~/steel`` arrives as typed, and
    Hydra's grammar does not take it.
    """
    return [_expanded(word) for word in words]


def _expanded(word: str) -> str:
    match = WORD.fullmatch(word)
    if not match or "~" not in match["value"] or match["key"].lstrip("+") not in PATHS:
        return word
    tokens, is_start = [], True
    for token in _TOKEN.findall(match["value"]):
        tokens.append(_at_home(token) if is_start else token)
        is_start = token in ",(" or (is_start and token.isspace())
    expanded = f"{match['key']}={''.join(tokens)}"
    return expanded if is_readable(expanded) else word


def _at_home(token: str) -> str:
    try:
        if token.lstrip().startswith("~"):
            return hydra_value(str(Path(token.strip()).expanduser()))
        if token.startswith(("'~", '"~')):
            quote, (user, slash, rest) = token[0], token[1:].partition("/")
            if slash or user == f"~{quote}":
                home = str(Path(user.removesuffix(quote)).expanduser())
                end = "" if slash else quote
                return f"{quote}{home.replace(quote, f'{chr(92)}{quote}')}{slash}{rest}{end}"
    except RuntimeError:  # no such user
        pass
    return token
