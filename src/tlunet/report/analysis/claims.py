"""Judge the claims of a `claims.yaml` by the measurements of a study.

Keys of a claim: ``id``, ``says``, ``where``, ``note``, ``number`` (the claimed number, if any),
``metric`` (a score of ``comparisons.csv``), ``a`` and ``b`` (cells: ``encoder``, ``init``,
``frac``, and settings such as ``loss`` if protocols are compared; ``b`` takes from ``a`` the keys
it does not set; a list stands for each of its values), and ``kind``:

- ``difference``: a - b is above zero. ``relative``: a / b - 1 is above zero. ``improved``: more
  images improve with a than get worse; the number is the fraction that improves.
- ``growth``: a - b exceeds the same difference for the cells ``than``. ``relative_growth``: the
  same for a / b - 1.
- ``at_most``: a - b is below ``margin``.
- ``best``: a scores above every other cell with the same fraction of the data.
- ``classes``: in every cell a the classes ``higher`` score above the classes ``lower``.
- ``rarest``: in every cell a the class with the fewest test images scores below the mean of the
  others.
- ``median``, ``smallest_box``: of the values in a box plot; judged by their order only. ``box`` is
  the fraction of the values inside the box, by default 0.5.
- ``curve``: a column of ``history.csv`` is higher at the ``first`` or ``last`` ``epoch``.
- ``faster``: a reaches b's best value of such a column in fewer epochs; measured in epochs.
- ``complex``: in every cell a, images whose true defects are simple score above those with complex
  ones: the lowest third by 1 / (4πA/P²) and by the number of components, minus the highest third.
- ``label_worth``: with some multiple of the labels of a (above one), random weights score as high
  (:mod:`tlunet.report.analysis.label_worth`); measured as that multiple, on all fractions of the
  block. It has no ``b``.
- ``unmeasured``: no measurement answers it.

Several pairs are averaged; with ``every: true``, and always in ``best``, ``classes``, ``rarest``,
``median``, ``smallest_box``, ``label_worth`` and ``improved``, each must hold: such a claim is
contradicted only if a cell contradicts it after Holm's correction. *Direction* is supported if the
95% interval excludes zero (of ``label_worth``: one) on the claimed side, contradicted if on the
other side, inconclusive if it includes it. *Size* is supported if the interval excludes zero and
lies within the number ± half of it, contradicted if it excludes the number, else compatible, but
not shown. With fewer than three seeds both are "one training". A claim about ImageNet is not
measured with another initialisation: its number is shown, but is not a verdict.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tlunet.errors import ConfigError, reason_of
from tlunet.report.analysis.answers import ANSWERS, Measured
from tlunet.report.analysis.asked import AbsentError, Claim
from tlunet.report.analysis.blocks import Key
from tlunet.report.analysis.resampled import Resampled
from tlunet.report.analysis.statistics import LEVEL, Verdict, direction, holm, size

KEYS = {
    "id", "says", "where", "note", "number", "metric", "a", "b", "kind", "than", "margin",
    "higher", "lower", "epoch", "every", "box",
}  # fmt: skip
NEEDED = {
    "difference": {"b"}, "relative": {"b"}, "improved": {"b"}, "median": {"b"},
    "growth": {"b", "than"}, "relative_growth": {"b", "than"}, "at_most": {"b", "margin"},
    "curve": {"b", "epoch"}, "faster": {"b"},
    "classes": {"higher", "lower"},
}  # fmt: skip
COLUMNS = [
    "block", "id", "says", "where", "kind", "number", "value", "low", "high", "n_seeds", "interval",
    "case", "direction", "size", "note",
]  # fmt: skip


def find_claims(experiment: Path) -> Path | None:
    """Find and check an experiment's ``claims.yaml``; ``None`` if it has none.

    Raises:
        ConfigError: the file cannot be read, or a claim is invalid.
    """
    path = experiment / "claims.yaml"
    if not path.exists():
        return None
    read_claims(path)
    return path


def read_claims(path: Path) -> list[Claim]:
    """Read and check the claims of a file.

    Raises:
        ConfigError: the file is missing or not YAML, or a claim has an invalid, unknown or missing
            key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({reason_of(error)})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    claims = content.get("claims") if isinstance(content, dict) else None
    if not isinstance(claims, list) or not all(isinstance(claim, dict) for claim in claims):
        raise ConfigError(f"{path}: expected a key 'claims' with a list of claims")
    problems = [f"{path}, {problem}" for claim in claims for problem in _problems(claim)]
    if problems:
        raise ConfigError(*problems)
    return claims


def _problems(claim: Claim) -> Iterator[str]:
    name, kind = f"claim {claim.get('id', '?')!r}", claim.get("kind")
    for key in sorted(claim.keys() - KEYS):
        yield f"{name}: unknown key {key!r}; allowed: {', '.join(sorted(KEYS))}"
    if not isinstance(kind, str) or kind not in ANSWERS:
        yield f"{name}: kind is {kind!r}; allowed: {', '.join(ANSWERS)}"
        return
    needed = {"id", "says"} | NEEDED.get(kind, set())
    needed |= set() if kind == "unmeasured" else {"metric", "a"}
    if kind == "label_worth" and "b" in claim:
        yield f"{name}: key 'b' is not used; it is compared with random weights at every fraction"
    for key in sorted(needed - claim.keys()):
        yield f"{name}: key {key!r} is missing"
    for key in claim.keys() & {"a", "b", "than"}:
        yield from (f"{name}, {key}: {problem}" for problem in _cell_problems(claim[key]))
    for key in claim.keys() & {"number", "margin", "box"}:
        if not _is_number(claim[key]):
            yield f"{name}: {key} is {claim[key]!r}, expected a number"
    for key in claim.keys() & {"higher", "lower"}:
        if not isinstance(claim[key], list):
            yield f"{name}: {key} is {claim[key]!r}, expected a list of class ids"
    if claim.get("epoch", "first") not in ("first", "last"):
        yield f"{name}: epoch is {claim['epoch']!r}, expected first or last"
    if isinstance(claim.get("a"), dict):
        for key in sorted(set(Key._fields) - claim["a"].keys()):
            yield f"{name}: key {key!r} is missing in 'a'"


def _cell_problems(cell: Any) -> Iterator[str]:
    if not isinstance(cell, dict):
        yield f"{cell!r} is not a cell; expected keys such as encoder, init and frac"
        return
    fracs = cell.get("frac", 1.0)
    for frac in fracs if isinstance(fracs, list) else [fracs]:
        if not _is_number(frac):
            yield f"frac is {frac!r}, expected a number"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def judge(claims: Sequence[Claim], blocks: Sequence[Resampled]) -> pd.DataFrame:
    """Judge every claim in every block; a claim that names settings once for the whole study.

    Returns:
        ``block, id, says, where, kind, number, note`` of the claim; ``value, low, high, n_seeds,
        interval`` measured; ``case``: the cells measured (the weakest if each must hold), or why
        nothing was measured; ``direction`` and ``size``: the verdicts, size null without a number.
    """
    rows = []
    for claim in claims:
        named = {*claim.get("a", {}), *claim.get("b", {})} - set(Key._fields)
        if named:
            rows.append(_judged(claim, blocks, "between protocols"))
        else:
            rows += [_judged(claim, [block], block.data.title) for block in blocks]
    return pd.DataFrame(rows, columns=COLUMNS)


def _judged(claim: Claim, blocks: Sequence[Resampled], title: str) -> dict[str, Any]:
    claim, stand_in = _with_stand_in(claim, blocks)
    row = {key: claim.get(key) for key in COLUMNS} | {"block": title}
    number = claim.get("number")
    verdicts: tuple[Verdict, Verdict] = ("not measured", "not measured")
    try:
        cases = list(ANSWERS[claim["kind"]](claim, blocks))
    except AbsentError as absent:
        row["case"] = str(absent)
    else:
        weakest = min(cases, key=lambda case: np.nan_to_num(case.evidence.low, nan=-np.inf))
        row |= {name: getattr(weakest.value, name) for name in ("value", "low", "high")}
        row |= {"n_seeds": weakest.n_seeds, "interval": weakest.interval}
        row["case"] = weakest.case + (f" (weakest of {len(cases)})" if len(cases) > 1 else "")
        if not stand_in:
            sizes = [size(case.value, number or 0.0, case.n_seeds) for case in cases]
            verdicts = _all(_directions(cases)), _all(sizes)
    if stand_in:
        row["case"] = f"with init={stand_in} instead: {row['case']}"
    return row | {"direction": verdicts[0], "size": None if number is None else verdicts[1]}


def _directions(cases: Sequence[Measured]) -> list[Verdict]:
    """Judge each case; of several, one contradicts the claim only after Holm's correction."""
    verdicts = [direction(case.evidence, case.n_seeds) for case in cases]
    corrected = holm([case.evidence.p for case in cases])
    return [
        "inconclusive" if verdict == "contradicted" and p >= 1 - LEVEL else verdict
        for verdict, p in zip(verdicts, corrected, strict=True)
    ]


def _all(verdicts: Sequence[Verdict]) -> Verdict:
    order: tuple[Verdict, ...] = (
        "not measured", "one training", "contradicted", "inconclusive", "compatible, not shown",
    )  # fmt: skip
    for decisive in order:
        if decisive in verdicts:
            return decisive
    return "supported"


def _with_stand_in(claim: Claim, blocks: Sequence[Resampled]) -> tuple[Claim, str | None]:
    """Replace ImageNet in a claim by another initialisation if the study has no ImageNet cell."""
    inits = [key.init for block in blocks for key in block.data.keys if key.init != "random"]
    if (
        any(i.startswith("imagenet") for i in inits)
        or not inits
        or "imagenet" not in str(claim.get("a", ""))
    ):
        return claim, None

    def swap(value: Any) -> Any:
        if isinstance(value, list):
            return [swap(v) for v in value]
        return inits[0] if value == "imagenet" else value

    swapped = {k: {name: swap(v) for name, v in claim[k].items()} for k in ("a", "b") if k in claim}
    return claim | swapped, inits[0]
