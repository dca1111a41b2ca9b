"""What all commands share: a help that is a whole page, and mistakes that are told as such."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from chatsdk.errors import ChatError, MissingCredentialsError

ENDS = {
    0: "all is well",
    1: "something failed; standard error says what",
    2: "a mistake on the command line; nothing was sent",
    130: "ended by Ctrl-C",
}


class Argument(click.Argument):
    """A positional argument that the help explains."""

    def __init__(self, *declared: Any, about: str = "", **options: Any) -> None:
        super().__init__(*declared, **options)
        self.about = about

    def make_metavar(self, ctx: click.Context) -> str:
        """Return how the help names it: also whether it may be left out, or comes again."""
        name = super().make_metavar(ctx)
        if self.metavar is not None:
            name = self.metavar if self.required else f"[{self.metavar}]"
            name += "" if self.nargs == 1 else "..."
        return name


class _Page:
    """What ends a page of help: notes, examples, exit statuses."""

    def __init__(
        self,
        *arguments: Any,
        notes: Mapping[str, str | Mapping[str, str]] | None = None,
        examples: Sequence[str] = (),
        ends: Mapping[int, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.notes = notes or {}
        self.examples = examples
        self.ends = {**ENDS, **(ends or {})}

    def write_rest(self, formatter: click.HelpFormatter) -> None:
        for title, text in self.notes.items():
            with formatter.section(title):
                if isinstance(text, str):
                    formatter.write_text(text)
                else:
                    formatter.write_dl(list(text.items()))
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
        with formatter.section("Exit status"):
            formatter.write_dl([(str(status), text) for status, text in self.ends.items()])


class Command(_Page, click.Command):
    """A command whose help is a whole page.

    Args:
        notes: Sections: title to text, or to what stands in two columns.
        examples: Lines to type.
        ends: What its exit statuses mean where that is special.
    """

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the page."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        given = [item for item in self.get_params(ctx) if isinstance(item, Argument)]
        if given:
            with formatter.section("Arguments"):
                formatter.write_dl([(item.make_metavar(ctx), item.about) for item in given])
        self.format_options(ctx, formatter)
        self.write_rest(formatter)


class Group(_Page, click.Group):
    """Commands that are loaded when they are asked for.

    Args:
        homes: Where each command lives: name to ``module:attribute``.
    """

    command_class = Command

    def __init__(
        self, *arguments: Any, homes: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.homes = homes or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return [*self.homes, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name, or None."""
        if cmd_name not in self.homes:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.homes[cmd_name].partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the page."""
        super().format_help(ctx, formatter)
        self.write_rest(formatter)


def command(name: str, **options: Any) -> Callable[[Callable[..., Any]], Command]:
    """Return a decorator that makes a `Command` of a function."""
    return click.command(name, cls=Command, **options)


def argument(*declared: str, **options: Any) -> Callable[[Any], Any]:
    """Return a decorator that adds an `Argument`."""
    return click.argument(*declared, cls=Argument, **options)


def _is_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    context.meta["chatsdk.json"] = value
    return value


as_json = click.option(
    "--json", "as_json", is_flag=True, callback=_is_json, help="Print JSON, for other programs."
)


class Mistake(click.ClickException):
    """Something that the caller got wrong, found before anything was sent."""

    exit_code = 2


@contextmanager
def usage() -> Iterator[None]:
    """Make each error inside a mistake of the caller's: status 2."""
    try:
        yield
    except MissingCredentialsError as error:
        hint = f"; or `chatsdk keys set {error.provider}` keeps it in the system keyring"
        raise Mistake(f"{error}{hint if error.provider else ''}") from error
    except (ChatError, TypeError, ValueError, OSError) as error:
        raise Mistake(str(error)) from error
