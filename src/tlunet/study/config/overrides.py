"""Parsing and checking the ``key=value`` words of a command line."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    QuotedString,
)
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf

from tlunet.errors import ConfigError
from tlunet.machine.command_line import override, shell_word
from tlunet.study.config.compose import choices_of, list_of_choices, nearest, no_such_key
from tlunet.study.config.values import LISTS, PATHS, refusal

#: ``key=value``; the key with Hydra's marks.
WORD = re.compile(r"(?P<key>[+~]{0,2}[\w./@-]+)=(?P<value>.*)", re.S)
#: What is usually meant by a choice that does not exist.
_MEANT = {
    "init": dict.fromkeys(("null", "none", "false", "scratch"), "random"),
    "logger": dict.fromkeys(("null", "none", "false"), "csv"),
    "augment": dict.fromkeys(("null", "false", "off"), "none"),
    "rest": dict.fromkeys(("null", "false", "off"), "none"),
    "trainer": {"cuda": "gpu", "mps": "auto"},
    "encoder": {"resnet18": "resnet", "densenet121": "densenet"},
}
#: Groups of which a key accepts more than the files name.
_MORE = {
    "encoder": "any other encoder of SMP or timm: encoder.name={choice}",
    "data": "your own images and masks: data=folder data.root={choice} data.classes=[scratch,dent]",
}


def parse(words: Sequence[str], base: DictConfig) -> list[Override]:
    """Parse overrides.

    Args:
        words: of the command line.
        base: the configuration without overrides; shows which keys are lists.

    Raises:
        ConfigError: one of them is not in Hydra's grammar; the line says what to type.
    """
    parsed = []
    for k, word in enumerate(words):
        try:
            parsed.append(_parse(word))
        except OverrideParseException:
            raise ConfigError(_unreadable(word, words[k + 1 :], base)) from None
    return parsed


def _parse(word: str) -> Override:
    hydra = GlobalHydra.instance()
    loader = hydra.config_loader() if hydra.is_initialized() else None  # for glob(…)
    return OverridesParser.create(loader).parse_overrides([word])[0]


def is_readable(word: str) -> bool:
    """Whether a word is in Hydra's grammar."""
    try:
        _parse(word)
    except OverrideParseException:
        return False
    return True


def _unreadable(word: str, following: Sequence[str], base: DictConfig) -> str:
    match = WORD.fullmatch(word)
    if not match or match["value"].startswith("="):
        hint = ", without spaces around the =" if "=" in following[:1] else ""
        return f"{word}: cannot be read; expected key=value{hint}"
    for n in range(1, min(len(following), 20) + 1):
        if "=" in following[n - 1]:
            break
        joined = re.sub(r",\s+", ",", " ".join([word, *following[:n]]))
        if is_readable(joined):
            return f"{word}: split at a space; as one word: {shell_word(joined)}"
    if is_readable(word.rstrip(", ")):
        return f"{word}: ends with a comma; remove it: {shell_word(word.rstrip(', '))}"
    key, value = match["key"], match["value"]
    meant: str | list[str] = re.sub(r"^(['\"])(.*)\1$", r"\2", value)
    if _is_list(base, key):
        meant = _names(value)
    if why_not := refusal(key, meant):
        return f"{word}: cannot be read; expected {why_not}"
    if choices_of(key) and (choices := _names(value)):
        return list_of_choices(key, choices)
    typed = override(key, meant)
    if isinstance(meant, list) and re.fullmatch(r"[\d.,\s]*", "".join(meant)):  # numbers
        typed = shell_word(f"{key}=[{','.join(meant)}]")
    if isinstance(meant, list):
        return f"{word}: cannot be read; expected a list: {typed}"
    return f"{word}: cannot be read; Hydra needs quotes around special characters: {typed}"


def _names(value: str) -> list[str]:
    """Split what was meant as a list."""
    inner = re.sub(r"^[\[(]|[\])]$", "", value.strip())
    return [name.strip().strip("'\"") for name in inner.split(",") if name.strip()]


def _is_list(base: DictConfig, key: str) -> bool:
    key = key.lstrip("+~")
    return key in LISTS or isinstance(OmegaConf.select(base, key), ListConfig)


def refuse_wrong_choices(parsed: Sequence[Override]) -> None:
    """Raise ConfigError for every choice that its group does not have, and for lists of choices."""
    problems = []
    for one in parsed:
        group = str(one.key_or_group)
        if one.is_delete() or not (allowed := choices_of(group)):
            continue
        for value in _elements(one.value()):
            if isinstance(value, list):
                problems.append(list_of_choices(group, [_text(item) for item in value]))
            elif not isinstance(value, dict) and "/" not in _text(value):  # a dict sets keys
                problems += _wrong_choice(group, _text(value), allowed)
    if problems:
        raise ConfigError(*dict.fromkeys(problems))


def _wrong_choice(group: str, choice: str, allowed: Sequence[str]) -> list[str]:
    if choice in allowed:
        return []
    meant = _MEANT.get(group, {}).get(choice.lower())
    near = f", did you mean {meant}?" if meant else nearest(choice.lower(), allowed)
    is_name = re.fullmatch(r"(?!null$|true$|false$)[\w.-]+", choice)
    more = f"; {_MORE[group].format(choice=choice)}" if group in _MORE and is_name else ""
    return [f"{group}={choice}: no such choice{near}; allowed: {', '.join(allowed)}{more}"]


def _elements(value: Any) -> Iterator[Any]:
    """The values that an override gives a key, one after the other."""
    if isinstance(value, ChoiceSweep):
        yield from value.list
    elif not isinstance(value, Glob):
        yield value


def _text(value: Any) -> str:
    if isinstance(value, QuotedString):
        return value.text
    return (
        str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    )


def refuse_swept_settings(parsed: Sequence[Override]) -> None:
    """Raise ConfigError for several values of one of Hydra's own settings, as the launcher."""
    for one in parsed:
        key, _, value = str(one.input_line).partition("=")
        if one.is_sweep_override() and key.lstrip("+").startswith("hydra"):
            quoted = f"; one value with a comma needs quotes: {override(key, value)}"
            raise ConfigError(
                f"{one.input_line}: expected one value, as Hydra's settings cannot be swept"
                + ("" if choices_of(key) else quoted)
            )


def refuse_several_values(parsed: Sequence[Override], base: DictConfig) -> None:
    """Raise ConfigError for keys with several values in a command that is no sweep."""
    problems = []
    for one in parsed:
        if not one.is_sweep_override():
            continue
        key, word = str(one.key_or_group), str(one.input_line)
        value = word.partition("=")[2]
        if _is_list(base, key):
            problems.append(f"{word}: expected a list: {shell_word(f'{key}=[{value}]')}")
            continue
        said = f"{word}: several values need -m: python run.py -m {shell_word(word)}"
        if re.fullmatch(r"0,\d+", value):
            said += f"; one value has a decimal point: {key}={value.replace(',', '.')}"
        if key in PATHS:
            said += f"; one value with a comma needs quotes: {override(key, value)}"
        problems.append(said)
    if problems:
        raise ConfigError(*problems)


def refuse_no_values(parsed: Sequence[Override]) -> None:
    """Raise ConfigError for a sweep without a cell, naming the key that has no value."""
    empty = [
        str(one.input_line)
        for one in parsed
        if one.is_sweep_override()
        and not isinstance(one.value(), IntervalSweep)
        and next(one.sweep_string_iterator(), None) is None
    ]
    if empty:
        raise ConfigError(*(f"{word}: has no values, so there is nothing to run" for word in empty))


def refuse_unused_weights(parsed: Sequence[Override], cells: Sequence[DictConfig]) -> None:
    """Raise ConfigError for starting weights on the command line that no cell starts from."""
    inits = dict.fromkeys(str(cell.init.name) for cell in cells)
    if inits.keys() & {"imagenet", "checkpoint"}:
        return
    for one in parsed:
        if one.key_or_group == "init.path" and one.value() is not None:
            raise ConfigError(
                f"{one.input_line}: not used by init={','.join(inits)}; "
                "expected init=imagenet or init=checkpoint"
            )


def refuse_new_keys(parsed: Sequence[Override], base: DictConfig) -> None:
    """Allow ``+key=value`` only as an argument of a ``_target_``; nothing reads other new keys."""
    for one in parsed:
        key = str(one.key_or_group)
        parent = OmegaConf.select(base, key.rpartition(".")[0] or "no parent")
        takes_more = isinstance(parent, DictConfig) and parent.get("_target_") is not None
        if not one.is_add() or key.startswith("hydra") or takes_more:
            continue
        if OmegaConf.select(base, key, default=...) is not ...:
            raise ConfigError(f"+{key}: exists already; remove the +")
        names = list(map(str, base))
        if isinstance(parent, DictConfig):
            names = [f"{key.rpartition('.')[0]}.{name}" for name in map(str, parent)]
        raise ConfigError(no_such_key(f"+{key}", names, base))
