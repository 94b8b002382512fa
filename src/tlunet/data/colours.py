"""Class colours, the same in every image, page and plot."""

#: The colour-blind safe palette of Okabe and Ito; repeats after seven classes.
CLASS_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")

#: What became of a pixel, and its colour; from the same palette.
OUTCOMES = ("found", "missed", "false alarm")
OUTCOME_COLOURS = ("#0072B2", "#D55E00", "#F0E442")


def class_colour(m: int) -> tuple[int, int, int]:
    """Return red, green and blue, 0…255, of the class with id m + 1.

    >>> class_colour(0), class_colour(7) == class_colour(0)
    ((230, 159, 0), True)
    """
    return red_green_blue(CLASS_COLOURS[m % len(CLASS_COLOURS)])


def red_green_blue(text: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0…255, of a colour ``#rrggbb``.

    >>> red_green_blue("#0072B2")
    (0, 114, 178)
    """
    red, green, blue = (int(text[k : k + 2], 16) for k in (1, 3, 5))
    return red, green, blue
