"""Command line options from the option classes, and back."""

import argparse
import dataclasses
import logging
from typing import Any, TypeVar

from aocr.config import ModelConfig, Options, TestConfig, TrainConfig, flags_of
from aocr.errors import usage_error

log = logging.getLogger(__name__)

Chosen = TypeVar("Chosen", bound=Options)  # an option class

# A charset is no option of ModelConfig: it is stored by its characters. This is the flag that names one.
ORIGINAL_EVERYWHERE = {
    TrainConfig: ("initial_learning_rate", "max_gradient_norm", "gradient_clipping"),
    TestConfig: ("distance", "output_dir"),
}
CHARSET_HELP = "read and write exactly these characters, or those in the UTF-8 file of this name"
FULL_ASCII_HELP = "read and write the ASCII characters 32 to 126 (default: 0-9 and A-Z, and what else the labels hold)"


def add_options(parser: argparse.ArgumentParser, options: type[Options], title: str | None = None) -> None:
    """Adds an argument for each field of an option class. What is not given is not set."""
    group = parser.add_argument_group(title) if title else parser
    for field in (field for field in dataclasses.fields(options) if flags_of(field)):
        group.add_argument(*flags_of(field), default=argparse.SUPPRESS, help=_help(field), **_settings(field))


def add_model_options(parser: argparse.ArgumentParser, *own: type[Options]) -> None:
    """Adds the model's options, `--full-ascii` included.

    `own`: the command's other option classes. Of those that the original had on every command that uses a model, what
    is not among them is accepted and told to be without effect, so that its users' scripts go on working.
    """
    add_options(parser, ModelConfig, "model (stored with it; only the first training needs these)")
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
    """Notes that an option was given which does nothing here."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.without_effect = [*namespace.without_effect, option_string]


def warn_without_effect(args: argparse.Namespace) -> None:
    """One warning for each option that was given and does nothing."""
    for option in args.without_effect:
        log.warning("%s has no effect on `aocr %s`", option, args.command)


def _settings(field):
    """What argparse needs to know of a field."""
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


def given(args: argparse.Namespace, options: type[Options]) -> dict[str, Any]:
    """The fields of an option class that the command line sets, by name."""
    names = {field.name for field in dataclasses.fields(options)}
    return {name: tuple(value) if isinstance(value, list) else value
            for name, value in vars(args).items() if name in names}


def collect(args: argparse.Namespace, options: type[Chosen]) -> Chosen:
    """An instance of an option class from the command line and its defaults. UserError if a value breaks a limit."""
    try:
        return options(**given(args, options))
    except ValueError as error:
        raise usage_error(str(error)) from None
