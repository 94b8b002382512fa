"""Numbers with their nouns."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Format a number and its noun.

    Args:
        number: of the things.
        noun: in the singular.
        plural: if it is not the noun with an s.

    >>> counted(1, "object"), counted(1200, "object"), counted(2, "class", "classes")
    ('1 object', '1,200 objects', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
