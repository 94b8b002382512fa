"""Commands to type, quoted for the shell and for Hydra's grammar of ``run.py``."""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Text that Hydra reads as the same text without quotes; not a number, a boolean or null.
_PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)(?:[A-Za-z_/]|\.{1,2}/)[\w./-]*", re.A | re.I)


Value = str | Path | Sequence[str] | Sequence[int]


def run_command(*overrides: tuple[str, Value]) -> str:
    """Format a training command.

    Args:
        *overrides: keys and values; a sequence becomes a list.

    >>> print(run_command(("data", "folder"), ("data.root", "steel (1)")))
    python run.py data=folder "data.root='steel (1)'"
    """
    return " ".join(["python run.py", *(override(key, value) for key, value in overrides)])


def tlunet_command(*words: str | Path) -> str:
    """Format a ``tlunet`` command.

    >>> print(tlunet_command("report", "runs/my steel"))
    tlunet report 'runs/my steel'
    """
    return shlex.join(["tlunet", *map(_as_argument, words)])


def override(key: str, value: Value) -> str:
    r"""Format ``key=value`` for ``run.py`` so that it can be pasted into a shell.

    >>> print(override("data.classes", ["scratch", "rolled in"]))
    "data.classes=[scratch,'rolled in']"
    >>> print(override("data.root", "it's $5"))
    'data.root="it'"'"'s $5"'
    """
    if isinstance(value, Path):
        value = _as_argument(value)
    # Prefer the quotes that need no escaping in the shell.
    words = [f"{key}={hydra_value(value, quote)}" for quote in "'\""]
    return min(map(shell_word, words), key=len)


def shell_word(word: str) -> str:
    """Quote one word for a POSIX shell, in double quotes where these suffice."""
    if "'" in word and not re.search(r'[$`"\\!]', word):
        return f'"{word}"'
    return shlex.quote(word)


def hydra_value(value: str | int | Iterable[str | int], quote: str = "'") -> str:
    """Format a text, or a list, in Hydra's grammar, with quotes only where needed.

    >>> hydra_value("runs/a"), hydra_value("a,b"), hydra_value("1"), hydra_value(["a", "null"])
    ('runs/a', "'a,b'", "'1'", "[a,'null']")
    """
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        return f"[{','.join(hydra_value(item, quote) for item in value)}]"
    if _PLAIN.fullmatch(value):
        return value
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # else OmegaConf would interpolate ${…}
    text = re.sub(rf"(\\+)(?={quote}|\Z)", r"\1\1", text)
    return quote + text.replace(quote, f"\\{quote}") + quote


def _as_argument(word: str | Path) -> str:
    """Keep a path's leading ~ from being expanded, and its leading dash from being an option."""
    text = str(word)
    return f"./{text}" if isinstance(word, Path) and text.startswith(("~", "-")) else text
