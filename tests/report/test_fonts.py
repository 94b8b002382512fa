"""Names in any script are drawn with a font that has them, or become numbers; never boxes."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tlunet.machine import fonts as machine_fonts
from tlunet.report.figures import fonts
from tlunet.report.figures.style import legend, save, styled
from tlunet.report.figures.text import text_width, wrap

CIRCLED = "Ⓐ-rust"  # DejaVu Sans lacks its first character, a font of matplotlib has it
UNKNOWN = "\U00016a40\U00016a41"  # letters of a script that hardly any font has


@pytest.fixture(autouse=True)
def only_matplotlibs_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fonts of the machine differ, those of matplotlib do not."""
    monkeypatch.setitem(machine_fonts.FOLDERS, "linux", ())
    monkeypatch.setattr(fonts, "_has_font", {})
    cached = machine_fonts.files, machine_fonts.find, machine_fonts.tell_missing
    for function in cached:
        function.cache_clear()
    families = list(fonts.FAMILIES)
    yield
    fonts.FAMILIES[:] = families
    for function in cached:
        function.cache_clear()


@styled
def drawing(names: list[str]) -> Figure:
    figure = Figure(figsize=(4, 2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(wrap(f"a study of {CIRCLED} and {UNKNOWN}", 3))
    axes.set_xlabel(UNKNOWN)
    legend(figure, [Patch(label=name) for name in fonts.drawable(names)])
    return figure


def test_a_name_is_drawn_with_another_font_or_as_a_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Warnings are errors here: matplotlib warns of each character that it draws as a box."""
    for _ in range(2):
        figure = drawing(["Kratzer", "Riß", "трещина", CIRCLED, UNKNOWN])
        save(figure, tmp_path / "figure")
    [box] = figure.legends
    assert {text.get_text() for text in box.get_texts()} == {
        "Kratzer", "Riß", "трещина", CIRCLED, "class 5",
    }  # fmt: skip
    assert figure.axes[0].get_xlabel() == "??"
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"no installed font has the characters of {UNKNOWN}: pictures show class numbers instead; "
        "install one, such as Noto Sans CJK (apt install fonts-noto-cjk)\n"
    )


def test_the_users_own_settings_are_left_alone() -> None:
    before = list(mpl.rcParams["font.family"])
    fonts.drawable([CIRCLED])
    assert mpl.rcParams["font.family"] == before
    assert fonts.FAMILIES[0] == "DejaVu Sans"
    assert len(fonts.FAMILIES) == 2


def test_ascii_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_fonts, "find", lambda text: pytest.fail("searched"))
    assert fonts.drawable(["rust", "a·b – 256×1600"]) == ["rust", "a·b – 256×1600"]
    assert text_width("rust") > 0


@pytest.mark.parametrize(
    ("names", "drawn"),
    [
        (("rust", "Riß"), ["rust", "Riß"]),
        (("rust", "трещина"), ["rust", "трещина"]),
        (("rust", CIRCLED), ["rust", CIRCLED]),
        (("rust", UNKNOWN), ["rust", "class 2"]),
    ],
)
def test_a_legend_of_pillow_has_one_font_for_all(names: tuple[str, ...], drawn: list[str]) -> None:
    font, found = machine_fonts.legend(names, 12)
    assert found == drawn
    missing = font.getmask(machine_fonts.MISSING)
    shapes = [bytes(font.getmask(character)) for character in "".join(found)]
    assert bytes(missing) not in shapes
