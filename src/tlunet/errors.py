"""What a user can mend, said in one line a fault."""


class UserError(Exception):
    """The command, the configuration or the data is wrong; exit code 2, no traceback.

    Args:
        *lines: one line a fault: what, where, what was expected, what to do.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class ConfigError(UserError):
    """A key, a group or a value of the configuration is wrong."""


class DataError(UserError):
    """A file, a row or a value of the data is wrong."""


class WeightsError(UserError):
    """The starting weights asked for cannot be had: that cell fails, the others run."""
