"""Writes docs/parameters.md from the option classes: `python docs/parameters.py > docs/parameters.md`."""

import argparse

from aocr.cli import build_parser

HEAD = """# Parameters

Every option of every command, as `aocr COMMAND --help` lists it. This page is generated: `python docs/parameters.py >
docs/parameters.md`; a test compares it with the option classes in `aocr/config.py`.
"""


def main():
    parser = build_parser()
    print(HEAD)
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    print_options("aocr", parser)
    for name, command in commands.choices.items():
        print_options(f"aocr {name}", command)


def print_options(title, parser):
    """A section with the command's usage of arguments and a table of its options."""
    print(f"## `{title}`\n")
    shown = [action for action in parser._actions
             if action.help != argparse.SUPPRESS and not isinstance(action, (argparse._SubParsersAction,
                                                                             argparse._HelpAction))]
    print("| option | meaning |")
    print("| --- | --- |")
    for action in shown:
        print(f"| {names_of(action)} | {cell(action.help % vars(action))} |")
    print()


def names_of(action):
    """Names and value of an option, or the name of a positional argument."""
    value = action.metavar or ("|".join(action.choices) if action.choices else "")
    if not action.option_strings:
        return f"`{value or action.dest}`"
    return ", ".join(f"`{cell(f'{name} {value}'.strip())}`" for name in action.option_strings)


def cell(text):
    """Text that does not end a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
