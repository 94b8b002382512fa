"""How masks are drawn: every pixel, and colours that colour-blind readers can tell apart."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from tlunet.data.colours import CLASS_COLOURS, OUTCOME_COLOURS, OUTCOMES, red_green_blue
from tlunet.data.drawing import compared, draw, draw_outcomes, outcomes, paint

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)
NONE, RIM = [0, 0, 0, 0], [0, 0, 0, 170]

# Machado, Oliveira and Fernandes (2009), severity 1, on linear red, green and blue.
BLINDNESS = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def squares() -> NDArray[np.bool_]:
    """Two classes that overlap in two columns."""
    masks = np.zeros((2, 12, 14), bool)
    masks[0, 2:9, 2:9] = True
    masks[1, 2:9, 6:12] = True
    return masks


def test_inside_edge_rim_and_overlap() -> None:
    picture = paint(squares())
    assert picture[0, 0].tolist() == NONE
    assert picture[1, 4].tolist() == RIM
    assert picture[1, 1].tolist() == NONE  # the rim has no corners
    assert picture[2, 4].tolist() == [*ORANGE, 255]
    assert picture[5, 3].tolist() == [*ORANGE, 115]
    assert picture[5, 7].tolist() == [158, 170, 116, 115]  # both insides: the mean of the colours
    assert picture[5, 8].tolist() == [*ORANGE, 255]  # the edge of the first, inside the second
    assert picture[5, 6].tolist() == [*BLUE, 255]  # the edge of the second, inside the first
    assert picture[5, 12].tolist() == RIM
    outlines = paint(squares(), fill=0)
    assert outlines[5, 3, 3] == outlines[5, 7, 3] == 0
    assert np.array_equal(outlines[..., 3] == 255, picture[..., 3] == 255)


def test_the_border_of_the_image_is_an_edge() -> None:
    picture = paint(np.ones((1, 4, 6), bool))
    assert (picture[1:-1, 1:-1, 3] == 115).all()
    assert (picture[[0, -1], :, 3] == 255).all()
    assert (picture[:, [0, -1], 3] == 255).all()


def test_edges_are_thicker_on_large_images() -> None:
    masks = np.zeros((1, 60, 1600), bool)
    masks[0, 20:40, 100:200] = True
    column = paint(masks)[:, 150, 3].tolist()  # 1600 / 500: three pixels
    assert column[16:24] == [0, 170, 170, 170, 255, 255, 255, 115]


@pytest.mark.parametrize("channels", [(), (3,)])
def test_masks_are_mixed_with_the_image(channels: tuple[int, ...]) -> None:
    image = np.full((12, 14, *channels), 100, np.uint8)
    drawn = draw(image, squares())
    assert drawn.shape == (12, 14, 3)
    assert drawn[0, 0].tolist() == [100, 100, 100]
    assert drawn[5, 3].tolist() == [159, 127, 55]  # 100 + 115/255 · (colour − 100)
    assert drawn[1, 4].tolist() == [33, 33, 33]  # 100 · (1 − 170/255)
    assert drawn[2, 4].tolist() == list(ORANGE)
    assert np.array_equal(
        draw(image, np.zeros((2, 12, 14), bool))[..., 0], image.reshape(12, 14, -1)[..., 0]
    )


def test_found_missed_and_false_alarm() -> None:
    truth, predicted = np.zeros((2, 2, 1, 6), bool)
    truth[0, 0, :4] = True  # class 1: four pixels
    predicted[0, 0, :2] = True  # two are found,
    predicted[1, 0, 2] = True  # one is taken for class 2,
    predicted[0, 0, 5] = True  # and one is nothing
    found, missed, false = outcomes(truth, predicted)[:, 0].tolist()
    assert found == [True, True, False, False, False, False]
    assert missed == [False, False, True, True, False, False]
    assert false == [False, False, False, False, False, True]
    assert OUTCOMES == ("found", "missed", "false alarm")
    drawn = draw_outcomes(np.full((1, 6), 100, np.uint8), truth, predicted)  # all edges
    blue, red, yellow = map(red_green_blue, OUTCOME_COLOURS)
    expected = [blue, blue, red, red, (33, 33, 33), yellow]
    assert [tuple(pixel) for pixel in drawn[0].tolist()] == expected


def test_truth_prediction_and_outcome_in_one_picture() -> None:
    square, strip = np.zeros((1, 500, 500), bool), np.zeros((1, 100, 500), bool)
    assert compared(np.zeros((500, 500), np.uint8), square, square).shape == (500, 1512, 3)
    assert compared(np.zeros((100, 500), np.uint8), strip, strip).shape == (312, 500, 3)
    small = strip[:, :10, :50]  # enlarged ten times
    assert compared(np.zeros((10, 50, 3), np.uint8), small, small).shape == (312, 500, 3)


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colour_blind_readers_can_tell_the_outcomes_apart(kind: str) -> None:
    seen = [simulated(red_green_blue(colour), BLINDNESS[kind]) for colour in OUTCOME_COLOURS]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))
    assert nearest > 90  # of 441; green and red of a traffic light: below 60 for protanopes
    assert set(OUTCOME_COLOURS) <= set(CLASS_COLOURS)


def simulated(colour: tuple[int, int, int], matrix: list[list[float]]) -> NDArray[np.float64]:
    """How a colour appears, 0…255."""
    level = np.array(colour) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrix) @ linear, 0, 1)
    return 255 * np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
