"""Errors that the user can fix, reported in one line per problem."""


def visible(text: str) -> str:
    r"""Escape invisible characters and terminal control codes; the result is one line.

    >>> print(visible("a\n\x1b[31mb.jpg"))
    a\n\x1b[31mb.jpg
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: BaseException, most: int = 160) -> str:
    r"""Return the first line of an exception's message, or its class name if there is none.

    >>> first_line(ValueError("no such file\nat line 3")), first_line(KeyError())
    ('no such file', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:most]


class UserError(Exception):
    """The command, configuration or data is invalid; exit code 2, no traceback.

    Args:
        *lines: one line per problem: what, where, what was expected, what to do.

    Raises:
        ValueError: there is no line: nobody could solve such a problem.
    """

    def __init__(self, *lines: str) -> None:
        if not any(map(str.strip, lines)):
            raise ValueError(f"{type(self).__name__}: expected one line per problem, got none")
        self.lines = tuple(map(visible, lines))
        super().__init__("\n".join(self.lines))


class ConfigError(UserError):
    """A key, group or value of the configuration is invalid."""


class DataError(UserError):
    """A file, row or value of the data is invalid."""


class WeightsError(UserError):
    """The requested initial weights are not available: this cell fails, the others run."""
