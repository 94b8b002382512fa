"""Outlines as pixels: exact areas, agreement with run-length code, and objects that are thin."""

import numpy as np
import pytest

from tlunet.data.convert.outline import draw_polygons

SIZE = (60, 80)  # height, width


def draw(*outlines: list[tuple[float, float]], size: tuple[int, int] = SIZE) -> np.ndarray:
    """The mask of one object in an image, bool (H, W)."""
    patch = draw_polygons([np.array(o, float) for o in outlines], is_relative=False)(size)
    whole = np.zeros(size, bool)
    height, width = patch.mask.shape
    whole[patch.top : patch.top + height, patch.left : patch.left + width] = patch.mask
    return whole


def rectangle(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def turned(length: float, width: float, angle: float) -> list[tuple[float, float]]:
    """A rectangle around the centre of the image."""
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    centre = np.array([40.3, 30.2])
    corners = (along + across, along - across, -along - across, -along + across)
    return [tuple(centre + corner) for corner in corners]


@pytest.mark.parametrize("width", [1, 2, 40])
@pytest.mark.parametrize("height", [1, 2, 40])
def test_a_rectangle_has_its_area(width: int, height: int) -> None:
    expected = np.zeros(SIZE, bool)
    expected[7 : 7 + height, 5 : 5 + width] = True
    assert (draw(rectangle(5, 7, width, height)) == expected).all()
    assert (draw(rectangle(5, 7, width, height)[::-1]) == expected).all()


def test_centres_on_the_outline_belong_to_one_of_two_neighbours() -> None:
    left, right = draw(rectangle(2.5, 2.5, 10, 8)), draw(rectangle(12.5, 2.5, 7, 8))
    assert (left.sum(), right.sum()) == (80, 56)
    assert not (left & right).any()


def test_triangles_that_share_a_diagonal_share_no_pixel() -> None:
    upper, lower = draw([(0, 0), (30, 0), (30, 20)]), draw([(0, 0), (30, 20), (0, 20)])
    assert not (upper & lower).any()
    assert (upper | lower).sum() == 600


def test_the_pixels_are_those_whose_centres_are_inside() -> None:
    from matplotlib.path import Path

    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    centres = np.column_stack([x.ravel(), y.ravel()])
    for _ in range(30):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 40)))
        radius = rng.uniform(8, 45, len(angles))  # some of it is outside the image
        outline = np.column_stack([40 + radius * np.cos(angles), 30 + radius * np.sin(angles)])
        expected = Path(outline).contains_points(centres).reshape(SIZE)
        assert (draw(outline.tolist()) == expected).all()


def test_even_and_odd() -> None:
    """A hole that a line connects with the border, and an object of several parts."""
    ring = [*rectangle(10, 10, 20, 20), (10, 10), *rectangle(15, 15, 10, 10), (15, 15)]
    assert draw(ring).sum() == 400 - 100
    parts = draw(rectangle(0, 0, 3, 3), rectangle(70, 50, 4, 2), rectangle(1, 1, 1, 1))
    assert parts.sum() == 9 + 8


@pytest.mark.parametrize(
    ("outline", "expected"),
    [
        (rectangle(5, 9.6, 40, 0.3), np.s_[9:10, 5:45]),  # no centre inside
        (rectangle(5, 9.8, 40, 0.4), np.s_[10:11, 5:45]),  # across two rows: one line
        (rectangle(9.1, 5, 0.2, 40), np.s_[5:45, 9:10]),
        ([(5, 9), (45, 9), (5, 9)], np.s_[9:10, 5:45]),  # there and back
        ([(5, 9), (5, 9), (5, 9)], np.s_[9:10, 5:6]),  # a point
        (rectangle(5.6, 9.6, 0.3, 0.3), np.s_[9:10, 5:6]),
        (rectangle(79.7, 10, 0.3, 5), np.s_[10:15, 79:80]),  # at the right edge
        ([(80, 10), (80, 15), (80, 10)], np.s_[10:15, 79:80]),  # on it
        ([(10, 60), (15, 60), (10, 60)], np.s_[59:60, 10:15]),
        (rectangle(-3, 9.6, 90, 0.3), np.s_[9:10, 0:80]),
    ],
)
def test_a_thin_object_is_a_line_of_one_pixel(
    outline: list[tuple[float, float]], expected: tuple[slice, slice]
) -> None:
    mask = np.zeros(SIZE, bool)
    mask[expected] = True
    assert (draw(outline) == mask).all()


@pytest.mark.parametrize("width", [0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("degrees", range(7, 180, 15))
def test_a_thin_scratch_in_any_direction_has_no_gap(width: float, degrees: int) -> None:
    from scipy.ndimage import label

    angle = np.radians(degrees)
    mask = draw(turned(40, width, angle))
    longer = 40 * max(abs(np.cos(angle)), abs(np.sin(angle)))
    assert longer - 1 <= mask.sum() <= longer * (1 + width) + 2
    assert label(mask, np.ones((3, 3)))[1] == 1


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
@pytest.mark.parametrize("width", [1, 1.5, 3, 8])
def test_the_area_is_unbiased(width: float, degrees: int) -> None:
    shifts = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    outline = np.array(turned(40, width, np.radians(degrees)))
    areas = [draw((outline + shift).tolist()).sum() for shift in shifts]
    assert np.mean(areas) == pytest.approx(40 * width, rel=0.05)


@pytest.mark.parametrize(
    "outline",
    [rectangle(-9, 5, 5, 5), rectangle(81, 5, 5, 5), rectangle(5, 61, 9, 0.1), [(-5, -5)] * 3],
)
def test_nothing_is_drawn_outside_the_image(outline: list[tuple[float, float]]) -> None:
    assert not draw(outline).any()


def test_far_points_cost_nothing() -> None:
    assert draw([(-9e5, -9e5), (9e5, -9e5), (9e5, 9e5), (-9e5, 9e5)]).all()
    assert draw(rectangle(-9e5, 20, 18e5, 1)).sum() == 80
