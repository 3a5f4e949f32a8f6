"""Converts option classes to command line options, and parsed options back."""

import argparse
import dataclasses
import logging
from collections.abc import Iterable
from typing import Any, TypeVar

from aocr.config import ModelConfig, Options, TestConfig, TrainConfig, flags_of
from aocr.errors import usage_error
from aocr.files import scheme_problem

log = logging.getLogger(__name__)

Chosen = TypeVar("Chosen", bound=Options)  # an option class

ORIGINAL_EVERYWHERE = {  # option class -> fields that the original accepted on every command that uses a model
    TrainConfig: ("initial_learning_rate", "max_gradient_norm", "gradient_clipping"),
    TestConfig: ("distance", "output_dir"),
}
POSITIONAL = ("dataset", "directory", "files", "output", "paths")
PATHS = (*POSITIONAL, "api_key_file", "augment", "backgrounds", "batching_config", "checkpoint", "fonts", "image_root",
         "init_from", "lexicon", "log_path", "model_dir", "models_config", "output_dir", "rejects", "review", "sheet",
         "validation", "verify", "visualize", "words")
# Not options of ModelConfig, since a charset is stored as its characters.
CHARSET_HELP = "charset: exactly these characters, or those in this UTF-8 file"
FULL_ASCII_HELP = "charset: ASCII 32 to 126 (default: 0-9, A-Z and all other characters in the labels)"


def add_options(parser: argparse.ArgumentParser, options: type[Options], title: str | None = None) -> None:
    """Adds an argument for each field of an option class. Omitted options are absent from the namespace."""
    group = parser.add_argument_group(title) if title else parser
    for field in (field for field in dataclasses.fields(options) if flags_of(field)):
        group.add_argument(*flags_of(field), default=argparse.SUPPRESS, help=_help(field), **_settings(field))


def add_model_options(parser: argparse.ArgumentParser, *own: type[Options]) -> None:
    """Adds the model's options, including `--full-ascii` and `--charset`.

    `own`: the command's other option classes. Flags outside of them that the original accepted on every command that
    uses a model are accepted with a warning, so that existing scripts keep working.
    """
    add_options(parser, ModelConfig, "model (stored with it; needed only by the first training)")
    parser.add_argument("--full-ascii", action="store_true", default=argparse.SUPPRESS, help=FULL_ASCII_HELP)
    parser.add_argument("--charset", metavar="TEXT", default=argparse.SUPPRESS, help=CHARSET_HELP)
    parser.set_defaults(without_effect=[])
    for options, names in ORIGINAL_EVERYWHERE.items():
        if options not in own:
            for field in (f for f in dataclasses.fields(options) if f.name in names):
                settings = dict(_settings(field), dest="without_effect", action=_WithoutEffect)
                if isinstance(field.default, bool):
                    settings["nargs"] = 0
                parser.add_argument(*flags_of(field), help=argparse.SUPPRESS, **settings)


class _WithoutEffect(argparse.Action):
    """Records an option that has no effect on the command."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.without_effect = [*namespace.without_effect, option_string]


def warn_without_effect(args: argparse.Namespace) -> None:
    """Logs a warning for each given option that has no effect."""
    for option in args.without_effect:
        log.warning("%s has no effect on `aocr %s`", option, args.command)


def _settings(field):
    """Returns the argparse settings of a field."""
    choices = field.metadata["choices"]
    if isinstance(field.default, bool):
        return dict(dest=field.name, action="store_false" if field.metadata["negated"] else "store_true")
    if choices:
        return dict(dest=field.name, choices=choices)
    if field.type is tuple:
        return dict(dest=field.name, action="append", metavar="TEXT")
    return dict(dest=field.name, type=field.type, metavar={int: "N", float: "X", str: "TEXT"}[field.type])


def _help(field):
    text = field.metadata["help"].replace("%", "%%")
    if isinstance(field.default, bool):
        return text
    if "(default: " in text:
        return text
    return f"{text} (default: {'none' if field.default in (None, ()) else field.default})"


def check_paths(args: argparse.Namespace) -> None:
    """Raises UserError if an argument holds a NUL, or a path names a storage or has a form that cannot be used."""
    for name, value in vars(args).items():
        for text in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(text, str):
                _check_text(f"--{name.replace('_', '-')} " if name not in POSITIONAL else "", text, name)


def _check_text(flag, text, name):
    if "\0" in text:
        raise usage_error(f"{flag}{text}: holds a NUL character; remove it")
    if name in PATHS and (problem := scheme_problem(text)):
        raise usage_error(f"{flag}{problem}")


def given(args: argparse.Namespace, options: type[Options]) -> dict[str, Any]:
    """Returns the fields of an option class that the command line sets, by name."""
    names = names_of(options)
    return {name: tuple(value) if isinstance(value, list) else value
            for name, value in vars(args).items() if name in names}


def options_of(function: str, given: dict[str, Any], *classes: type[Options], without: Iterable[str] = (),
               beside: Iterable[str] = ()) -> list[Any]:
    """Builds option classes from the keyword arguments of a function.

    Args: function: its name. without: fields that are no arguments of functions. beside: arguments that no class has.
    Raises: TypeError for an unknown argument; UserError if a value is out of range or of the wrong type.
    """
    fields = {field.name: field for options in classes for field in dataclasses.fields(options)
              if flags_of(field) and field.name not in without}
    known = sorted({*fields, *beside})
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"{function}() has no option {name!r}; use one of {', '.join(known)}")
        if name in fields:
            _check_type(name, value, fields[name].type)
    try:
        return [options(**{name: value for name, value in given.items() if name in names_of(options)})
                for options in classes]
    except ValueError as error:
        raise usage_error(str(error)) from None


def _check_type(name, value, kind):
    """Raises UserError unless an option's value is None or of a type; an integer is a float too."""
    kinds = (float, int) if kind is float else kind
    if value is not None and (not isinstance(value, kinds) or isinstance(value, bool) and kind is not bool):
        raise usage_error(f"{name} is {value!r}; use a value of type {kind.__name__}")


def names_of(options: type[Options]) -> set[str]:
    """Returns the names of an option class's fields."""
    return {field.name for field in dataclasses.fields(options)}


def collect(args: argparse.Namespace, options: type[Chosen]) -> Chosen:
    """Builds an option class from the command line and its defaults. UserError if a value is out of range."""
    try:
        return options(**given(args, options))
    except ValueError as error:
        raise usage_error(str(error)) from None
