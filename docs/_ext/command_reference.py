"""Sphinx directive ``commands``: the reference of a command line, made from its argparse parsers at build time.

    ```{commands} masa_track.cli.main:build_parser
    ```

Each subcommand becomes a section with its usage, description, arguments and epilog. An option can be linked to by the
id ``COMMAND-OPTION``, for example ``#track-gallery``.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_USAGE_WIDTH = 100


class Commands(SphinxDirective):
    """One section for each subcommand of the parser that ``MODULE:FUNCTION`` returns."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The sections, in the order in which the subcommands were added."""
        module, _, function = self.arguments[0].partition(":")
        parser = getattr(import_module(module), function)()
        return [_section(name, subparser) for name, subparser in subcommands(parser).items()]


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the subcommands by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise ValueError(f"the parser of {parser.prog} has no subcommands")


def _section(name: str, parser: argparse.ArgumentParser) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(name)], names=[name])
    section += nodes.title("", "", nodes.literal("", parser.prog))
    for paragraph in (parser.description or "").split("\n\n"):
        section += nodes.paragraph("", paragraph)
    usage = argparse.HelpFormatter(parser.prog, width=_USAGE_WIDTH)
    usage.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    section += _block(usage.format_help())
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if actions:
            section += nodes.rubric("", (group.title or "").capitalize())
            section += nodes.definition_list("", *(_item(name, parser, action) for action in actions))
    if parser.epilog:
        section += nodes.rubric("", "Notes and examples")
        section += _block(parser.epilog)
    return section


def _item(command: str, parser: argparse.ArgumentParser, action: argparse.Action) -> nodes.definition_list_item:
    names = action.option_strings or [str(action.metavar or action.dest)]
    identifier = nodes.make_id(f"{command}-{names[-1]}")
    value = (
        argparse.HelpFormatter(parser.prog)._format_args(action, action.dest.upper()) if action.option_strings else ""
    )
    term = nodes.term("", "", nodes.literal("", f"{', '.join(names)} {value}".rstrip()), ids=[identifier])
    values = {**vars(action), "prog": parser.prog}
    text = (action.help or "") % {key: getattr(value, "__name__", value) for key, value in values.items()}
    if action.choices is not None:
        text += f" (one of: {', '.join(map(str, action.choices))})"
    if action.required and action.option_strings:
        text += " (required)"
    return nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", text)))


def _block(text: str) -> nodes.literal_block:
    return nodes.literal_block(text.rstrip(), text.rstrip(), language="none")


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
