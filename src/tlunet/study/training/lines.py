"""Lines about one cell, fitted to the terminal."""

import re

from rich.cells import cell_len

from tlunet.machine.console import width


def fitted(title: str, *facts: str) -> str:
    """Join a cell's title and facts; a title that does not fit the terminal is shortened.

    A file or pipe gets the whole title.
    """
    told = "".join(f"  {fact}" for fact in facts)
    return shortened(title, width() - cell_len(told)) + told


def shortened(title: str, room: int) -> str:
    """Shorten a cell's title to a number of characters, at the start of the encoder's name.

    >>> shortened("[3/8] timm-tf_efficientnet_lite4 · ImageNet · 100% · seed 0", 41)
    '[3/8] …t_lite4 · ImageNet · 100% · seed 0'
    >>> shortened("pre-training resnet18 on 192 synthetic sheets", 30)
    'pre-training resnet18 on 192 …'
    """
    excess = cell_len(title) - room
    if excess <= 0:
        return title
    parts = re.fullmatch(r"([✓✗–] )?(\[\d+(?:/\d+)?\] )?(.*?)( · .*)", title)
    if parts is None or len(parts[3]) < excess + 3:
        return title[: max(room - 1, 0)] + "…"
    sign, position, encoder, rest = (part or "" for part in parts.groups())
    return f"{sign}{position}…{encoder[excess + 1 :]}{rest}"


def score(name: str, value: float | None) -> str:
    """Format a score in a constant number of characters; ``None`` is a dash.

    >>> score("Dice", 0.42), score("Dice", None)
    ('Dice 0.420', 'Dice     –')
    """
    return f"{name} {'–' if value is None else format(value, '.3f'):>5}"


def clock(seconds: float) -> str:
    """Format seconds as minutes and seconds, from one hour on with hours.

    >>> clock(7.6), clock(130), clock(3729)
    ('0:08', '2:10', '1:02:09')
    """
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{s:02}" if minutes >= 60 else f"{minutes}:{s:02}"


def duration(seconds: float) -> str:
    """Format an estimate of a time in the unit that suits it.

    >>> duration(8.4), duration(72), duration(1080), duration(9000)
    ('8 s', '1.2 min', '18 min', '2.5 h')
    """
    unit, size = ("h", 3600) if seconds >= 5400 else ("min", 60) if seconds >= 60 else ("s", 1)
    amount = seconds / size
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "s" else f"{amount:.1f} {unit}"
