"""Every value of a config as an option of the command: explained, and overridden."""

import contextlib
import dataclasses
import inspect
import io
import re
import textwrap
import types
import typing
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.study_checks import RUN_VALUES

_ENTRY = re.compile(r"  (\w+): (.*)")
_WIDTH, _INDENT = 88, " " * 6
STUDY = "--study."  # options that only `amtl study` looks at
_NOT_OF_STUDY = {"--arms": "--study.arms", "--data.target": "--study.targets"}
# What a study refuses.
REFUSED = frozenset(_NOT_OF_STUDY) | {f"--{name.replace('_', '-')}" for name in RUN_VALUES}
_FILLED_IN = "--encoder.module"  # by `run`, not by people


class Option(NamedTuple):
    """A value of a config.

    Attributes:
      flag: how it is written, `--fit.num-steps`.
      kind: its annotation.
      default: its value in the config.
      text: what it is, from the docstring of its dataclass.
    """

    flag: str
    kind: Any
    default: Any
    text: str


def options_of(part: Any, prefix: str = "") -> list[Option]:
    """Lists the values of a config that people set, those of its parts behind its own."""
    own, nested, texts = [], [], _attribute_texts(type(part))
    hints = typing.get_type_hints(type(part))
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            nested += options_of(value, f"{prefix}{field.name}.")
        else:
            flag = "--" + (prefix + field.name).replace("_", "-")
            if flag != _FILLED_IN:
                own.append(Option(flag, hints[field.name], value, texts.get(field.name, "")))
    return own + nested


def _attribute_texts(kind: type) -> dict[str, str]:
    """Reads what the `Attributes:` of a docstring say about each field."""
    _, _, section = inspect.getdoc(kind).partition("Attributes:\n")
    texts, name = {}, None
    for line in section.splitlines():
        entry = _ENTRY.fullmatch(line)
        if entry:
            name, texts[entry[1]] = entry.groups()
        elif name:
            texts[name] += " " + line.strip()
    return texts


def explain(config: Config, *, without: Collection[str] = ()) -> str:
    """Explains every value of a config with its default, those of studies apart.

    Where its data is None, the values of every kind of data are explained. Nothing is said of the
    options `without`, such as `--until`.
    """
    own = options_of(dataclasses.replace(config, data=None))
    parts = [
        (
            "Values of the config",
            [one for one in own if one.flag != "--data" and not one.flag.startswith(STUDY)],
        )
    ]
    kinds = typing.get_args(typing.get_type_hints(Config)["data"])
    for data in [config.data] if config.data else [kind() for kind in kinds]:
        parts.append((f"Data: {_first_line(data)}", options_of(data, "data.")))
    parts.append(("Values of a study (amtl study)", options_of(config.study, "study.")))
    lines = []
    for title, options in parts:
        lines += ["", *textwrap.wrap(title + ":", _WIDTH)]
        for option in options:
            if option.flag not in without:
                lines += _explain_one(option)
    return "\n".join(lines)


def _first_line(part) -> str:
    line = inspect.getdoc(type(part)).partition("\n")[0]
    return f"{line.rstrip('.')} ({type(part).__name__})"


def _explain_one(option: Option) -> list[str]:
    default = _value_text(option.default)
    said = f"{option.text} [default: {default}]"
    head = textwrap.wrap(
        f"  {option.flag} {_kind_text(option.kind)}", _WIDTH, subsequent_indent=_INDENT
    )
    return head + textwrap.wrap(
        said, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False
    )


def _value_text(value) -> str:
    """A value as it is typed."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _kind_text(kind) -> str:
    """What is to be typed, for people."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "{" + ", ".join(inner) + "}" if len(inner) > 1 else inner[0]
    if origin is tuple:
        return f"{_kind_text(inner[0])} ..."
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_kind_text, inner))
    if kind is bool:
        return "{True, False}"
    return {types.NoneType: "None", str: "TEXT"}.get(kind, kind.__name__.upper())


def refuse_study_options(words: Sequence[str], command: str) -> None:
    """Refuses options that a command would not look at.

    Raises:
      ConfigError: names the first.
    """
    for word in words:
        if word.startswith(STUDY):
            raise ConfigError(
                f"{_name(word)} is for amtl study; {command} has one target, --data.target, and "
                "the seeds, arms and budget of the config."
            )


def refuse_run_options(words: Sequence[str]) -> None:
    """Refuses options that a study would not look at.

    Raises:
      ConfigError: names the first.
    """
    for word in words:
        own = _NOT_OF_STUDY.get(_name(word))
        if own:
            raise ConfigError(f"{_name(word)} is not for amtl study. Give {own}.")


def override(config: Config, words: Sequence[str], *, other_flags: Sequence[str] = ()) -> Config:
    """Applies options such as `--fit.num-steps 200` to a config.

    Args:
      config: what they change.
      words: the options and their values, as a shell splits them.
      other_flags: options that the command knows besides; only for suggestions.

    Raises:
      ConfigError: one line that names the option, what it expects, or the one that was meant.
    """
    if not words:
        return config
    options = {option.flag: option for option in options_of(config)}
    groups = _groups(words)
    seen = set()
    for flag, *_ in groups:
        name = _name(flag)
        if name not in options:
            raise ConfigError(_unknown(name, [*options, *other_flags], config))
        if name in seen:
            raise ConfigError(f"Option {name} is given twice.")
        seen.add(name)
    try:
        return _parse(config, words)
    except SystemExit:
        raise ConfigError(_first_problem(config, options, groups)) from None


def _parse(config: Config, words: Sequence[str]) -> Config:
    """Parses quietly; raises `SystemExit` where a value does not fit its type."""
    import tyro  # only now: help and most errors do without

    # Some of its errors come as a box although it is told to keep quiet.
    with contextlib.redirect_stderr(io.StringIO()):
        return tyro.cli(
            Config,
            default=config,
            args=list(words),
            console_outputs=False,
            add_help=False,
            config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
        )


def _name(flag: str) -> str:
    """The option that `--fit.num_steps=3` means."""
    return flag.partition("=")[0].replace("_", "-")


def _groups(words: Sequence[str]) -> list[list[str]]:
    """Splits words into options, each with its values."""
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("-") and not _is_number(word):
            groups.append([word])
        elif groups:
            groups[-1].append(word)
        else:
            raise ConfigError(f"Unexpected {word!r}: one CONFIG is expected, then options.")
    return groups


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _unknown(name: str, known: list[str], config: Config) -> str:
    nested = [one for one in known if one.startswith(f"{name}.")]
    if nested:
        return f"Unknown option {name}. Options of {name.lstrip('-')}: {', '.join(nested)}."
    kinds = typing.get_args(typing.get_type_hints(Config)["data"])
    owners = [
        kind.__name__
        for kind in kinds
        if name in (option.flag for option in options_of(kind(), "data."))
    ]
    if owners:
        return (
            f"{name} is an option of {' and '.join(owners)}, and the data of this config is "
            f"{type(config.data).__name__}."
        )
    same_leaf = [one for one in known if one.rpartition(".")[2] == name.lstrip("-")]
    meant = same_leaf or get_close_matches(name, known, n=1)
    hint = f" Did you mean {' or '.join(meant)}?" if meant else ""
    return f"Unknown option {name}.{hint} All options: amtl run CONFIG --help."


def _first_problem(config: Config, options: dict[str, Option], groups: list[list[str]]) -> str:
    """Says which option does not parse, in our words: each is tried on its own."""
    for group in groups:
        flag, *values = group[0].split("=", 1) + group[1:]
        try:
            _parse(config, group)
        except SystemExit:
            got = repr(" ".join(values)) if values else "nothing"
            expected = _kind_text(options[_name(flag)].kind)
            return f"{flag} expects {expected}, got {got}."
    return f"Cannot read the options {' '.join(group[0] for group in groups)} together."
