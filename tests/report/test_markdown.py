import pytest

from tlunet.report.document import markdown
from tlunet.report.document.document import (
    Alarm,
    Browser,
    Column,
    Document,
    Entry,
    Fact,
    Fold,
    Group,
    Picture,
    Sample,
    Section,
    Table,
    Text,
)


def image(k: int, difference: float | None) -> Sample:
    scores = {"a": 0.5, "b": 0.5 + difference} if difference is not None else {"a": None, "b": None}
    return Sample(f"img_{k:02}|x.jpg", b"", (2, 3), ("",), {"a": ("",), "b": ("",)}, scores, (2, 3))


def browser(*differences: float | None) -> Browser:
    images = tuple(image(k, difference) for k, difference in enumerate(differences))
    return Browser("Where?", (("transfer", "a", "b"),), ("c",), ("#000000",), images, "All.")


TABLE = Table(
    "Scores",
    (Column("cell"), Column("dice_image", is_number=True, meaning="Mean | images.")),
    ((Entry("a|b *c*"), Entry("+0.500", 0.5, "good")), (Entry("d"), Entry("-0.25", -0.25))),
    foot=((Entry("never finds a defect"), Entry("")),),
    notes=("Both empty = 1.",),
)


def test_whole_document() -> None:
    document = Document(
        "Steel <b>",
        "8 cells",
        ("It helps.", "By 5%."),
        (Alarm("class_2 is _dead_"), Alarm("2 of 3 failed")),
        (
            Section("Results", (Text("- no list\nbut text"), TABLE)),
            Section(
                "Cells & <more>",
                (Picture("fig 4", "Dice [all]", "Median red.", "<svg/>"), Alarm("few seeds")),
                folded=True,
            ),
        ),
    )
    assert (
        markdown.render(document, figures="../figures")
        == r"""# Steel \<b\>

8 cells

> **It helps.**
>
> **By 5%.**

- ⚠ **Warning** class_2 is \_dead\_
- ⚠ **Warning** 2 of 3 failed

## Results

\- no list but text

**Scores**

| cell | dice_image |
| --- | ---: |
| a\|b \*c\* | +0.500 |
| d | -0.25 |
| *never finds a defect* |  |

- Both empty = 1.
- **dice_image**: Mean \| images.

<details markdown="1">
<summary><strong>Cells &amp; &lt;more&gt;</strong></summary>

![Dice \[all\]](../figures/fig%204.png)

*Dice \[all\]* Median red.

- ⚠ **Warning** few seeds

</details>
"""
    )


def test_first_screen_groups_details_and_folds() -> None:
    table = Table(
        "Gain",
        (Column("condition"), Column("ImageNet", is_number=True)),
        ((Entry("a"), Entry("0.6", 0.6, is_best=True)), (Entry("b", note="1 seed"), Entry("0.2"))),
        groups=(Group("Dice", 1), Group("M|LA", 1)),
        details=Table("p & seeds", (Column("p"),), ((Entry("0.04"),),)),
    )
    document = Document(
        "t", "s", ("It helps.",), (Alarm("few seeds"),),
        (Section("Scores", (Fold("All <scores>", (table,)),), of="loss=A"),),
        scope=("By 5%.",), lead=(Picture("forest", "Forest", "Right.", "<svg/>"),),
        facts=(Fact("Commit", "a_b"),), files=("scores.csv",),
    )  # fmt: skip
    assert (
        markdown.render(document)
        == r"""# t

s

> **It helps.**

By 5%.

- ⚠ **Warning** few seeds

![Forest](figures/forest.png)

*Forest* Right.

- Commit: a_b
- Tables: [scores.csv](scores.csv)

## loss=A: Scores

<details markdown="1">
<summary>All &lt;scores&gt;</summary>

**Gain**

| condition | ImageNet |
| --- | ---: |
| **Dice** |  |
| a | **0.6** |
| **M\|LA** |  |
| b *1 seed* | 0.2 |

<details markdown="1">
<summary>p &amp; seeds</summary>

| p |
| --- |
| 0.04 |

</details>

</details>
"""
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. first", r"1\. first"),
        ("2) second", r"2\) second"),
        ("+ plus", r"\+ plus"),
        ("-0.05 is less", "-0.05 is less"),
        ("1.5 more", "1.5 more"),
        ("# no heading", r"\# no heading"),
        ("AT&T &amp; `x` $y$ ~z~", r"AT&T \&amp; \`x\` \$y\$ \~z\~"),
    ],
)
def test_paragraphs_are_plain_text(text: str, expected: str) -> None:
    document = Document("t", "s", (), sections=(Section("s", (Text(text),)),))
    assert markdown.render(document).splitlines()[-1] == expected


def test_browser_lists_the_ends_of_its_first_pair() -> None:
    differences = [k / 100 for k in range(-12, 13)]  # 12 losses, one tie, 12 gains
    document = Document("t", "s", (), sections=(Section("s", (browser(*differences, None),)),))
    text = markdown.render(document)
    assert "[report.html](report.html). All." in text
    gains, losses = text.split("**Largest gains, transfer**")[1].split("**Largest losses")
    rows = [line for line in gains.splitlines() if line.startswith("| img")]
    assert [row.split(" | ")[3] for row in rows] == [f"+{k / 100:.3f} |" for k in range(12, 2, -1)]
    assert rows[0] == r"| img_24\|x.jpg | 0.500 | 0.620 | +0.120 |"
    rows = [line for line in losses.splitlines() if line.startswith("| img")]
    assert [row.split(" | ")[3] for row in rows] == [f"-{k / 100:.3f} |" for k in range(12, 2, -1)]


def test_browser_without_gains_says_so() -> None:
    document = Document("t", "s", (), sections=(Section("s", (browser(-0.1, 0.0),)),))
    text = markdown.render(document)
    assert "**Largest gains, transfer**: none" in text
    assert "| -0.100 |" in text
    assert "| +0.000 |" not in text


def test_short_row_is_an_error() -> None:
    table = Table("t", (Column("a"), Column("b")), ((Entry("1"),),))
    with pytest.raises(ValueError, match="shorter"):
        markdown.render(Document("t", "s", (), sections=(Section("s", (table,)),)))
