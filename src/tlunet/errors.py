"""What a user can mend, said in one line a fault."""


def visible(text: str) -> str:
    r"""Text as one line: what would not be seen, or would steer the terminal, is written out.

    >>> print(visible("a\n\x1b[31mb.jpg"))
    a\n\x1b[31mb.jpg
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UserError(Exception):
    """The command, the configuration or the data is wrong; exit code 2, no traceback.

    Args:
        *lines: one line a fault: what, where, what was expected, what to do.
    """

    def __init__(self, *lines: str) -> None:
        self.lines = tuple(map(visible, lines))
        super().__init__("\n".join(self.lines))


class ConfigError(UserError):
    """A key, a group or a value of the configuration is wrong."""


class DataError(UserError):
    """A file, a row or a value of the data is wrong."""


class WeightsError(UserError):
    """The starting weights asked for cannot be had: that cell fails, the others run."""
