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


def reason_of(error: BaseException) -> str:
    """Return why a call failed: the system's own words if there are any (libraries have none).

    >>> reason_of(FileNotFoundError(2, "No such file or directory")), reason_of(OSError("a wreck"))
    ('No such file or directory', 'a wreck')
    >>> reason_of(OSError())
    'OSError'
    """
    words = error.strerror if isinstance(error, OSError) else None
    return words or first_line(error)


def path_of(error: OSError, otherwise: object) -> str:
    """Return the file that an error is about; an error without one is about ``otherwise``.

    >>> path_of(OSError(28, "No space left on device", "a.png"), "found")
    'a.png'
    >>> path_of(OSError("a wreck"), "found")
    'found'
    """
    named = [name for name in (error.filename2, error.filename) if isinstance(name, str)]
    return named[0] if named else str(otherwise)


class UserError(Exception):
    """The command, configuration or data is invalid; exit code 2, no traceback.

    Args:
        *lines: one line per problem: what, where, what was expected, what to do.

    Raises:
        ValueError: there is no line, so the user could not solve the problem.
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
