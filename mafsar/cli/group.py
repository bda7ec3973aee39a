"""Command classes: errors in one place, did-you-mean, ``-v``/``-q`` before or after the verb."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from mafsar.cli import usage, voice
from mafsar.cli.wording import worded
from mafsar.errors import MafsarError
from mafsar.plain import plain

DEBUG_VARIABLE = "MAFSAR_DEBUG"
_CLUSTER = re.compile(r"auto|local|ray://\S+|[A-Za-z0-9.-]+:\d+")
"""What may follow ``--ray``: the address of a cluster."""
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class Verb(TyperCommand):
    """One verb: answers ``key=value`` habits and unknown flags with did-you-mean."""

    takes_pairs = False  # `train key=value…` means it

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with metavars alone where Typer would show types as well."""
        _hide_types(self, ctx)
        super().format_help(ctx, formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage line's words; what is required needs no braces."""
        pieces = super().collect_usage_pieces(ctx)
        return [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in pieces]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, with a hint where a word looks like another tool's."""
        flags = _long_flags(self, ctx)
        args = _with_values(args) if "--ray" in flags else args
        if not self.takes_pairs and not ctx.resilient_parsing:
            for word in _positional(args):
                meant = usage.pair_as_flag(word, flags)
                if meant:
                    refuse(f"{word!r} is not how {ctx.command_path} takes options", meant, ctx)
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as problem:
            refuse(*_explain(problem, flags), ctx)


class PairVerb(Verb):
    """A verb that takes ``key=value`` words (`train`)."""

    takes_pairs = True


class VerbGroup(TyperGroup):
    """The ``mafsar`` group and its sub-groups; `main` reports every error."""

    order: tuple[str, ...] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs as help lists them: those of `order` first."""
        names = super().list_commands(ctx)
        first = [name for name in self.order if name in names]
        return first + [name for name in names if name not in first]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with metavars alone where Typer would show types as well."""
        _hide_types(self, ctx)
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words before the verb; an unknown flag there gets a hint."""
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as problem:
            if type(problem).__name__ == "NoArgsIsHelpError":
                raise
            refuse(*_explain(problem, _long_flags(self, ctx)), ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb; an unknown one is answered with what was probably meant."""
        word = args[0]
        verbs = self.list_commands(ctx)
        if word in verbs or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        meant = usage.suggest_verb(word, verbs)
        hint = f"{ctx.command_path} {meant}" if meant else None
        return refuse(f"{ctx.command_path} has no command {word!r}", hint, ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and leave with its exit code; no traceback without `MAFSAR_DEBUG`."""
        voice.reset()
        prog_name = prog_name or "mafsar"
        try:
            result = super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            sys.stdout.flush()
        except Exception as problem:  # noqa: BLE001 - every error is reported here
            if isinstance(problem, BrokenPipeError):
                _forget_stdout()
                sys.exit(EXIT_FAILED)
            sys.exit(_report(problem))
        except KeyboardInterrupt:
            voice.error("interrupted")
            sys.exit(EXIT_INTERRUPTED)
        if not standalone_mode:
            return result
        sys.exit(result if isinstance(result, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; if the reader of stdout goes away, it ends quietly."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _forget_stdout()
            raise typer.Exit(EXIT_FAILED) from None
        except KeyboardInterrupt:
            voice.error("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from None


def refuse(message: str, meant: str | None, ctx: Any) -> NoReturn:
    """End with exit 2 and name what is wrong, what was probably meant, and where the help is."""
    hint = f"; did you mean {meant}?" if meant else ""
    help_line = "" if meant else f" (see {ctx.command_path} --help)"
    voice.error(f"{message}{hint}{help_line}")
    raise typer.Exit(EXIT_USAGE)


def _explain(problem: Any, flags: Sequence[str]) -> tuple[str, str | None]:
    """The message and the hint for an error of the parser."""
    option = getattr(problem, "option_name", None)
    possible = getattr(problem, "possibilities", None)
    if option and type(problem).__name__ == "NoSuchOption":
        meant = usage.suggest_option(option, flags) or (possible[0] if possible else None)
        return f"no such option {option}", meant
    message = problem.format_message().rstrip(".")
    message = message.removeprefix("Invalid value for ").removeprefix("Invalid value: ")
    message = re.sub(r"^'(-[\w-]+|[A-Z.]+)'(?: / '-\w+')*: ", r"\1: ", message)
    if message[1:2].islower():
        message = message[:1].lower() + message[1:]
    return message, None


def _report(problem: Exception) -> int:
    """Print an exception in one line and return its exit code."""
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        traceback.print_exception(problem)
    if isinstance(problem, typer.TyperException):
        code = getattr(problem, "exit_code", EXIT_FAILED)
        if type(problem).__name__ == "NoArgsIsHelpError":
            # Rich has printed the help already, and then there is no more to say.
            sys.stderr.write(
                plain(f"{problem.format_message()}\n") if problem.format_message() else ""
            )
        else:
            voice.error(_explain(problem, [])[0])
        return int(code)
    if isinstance(problem, typer.Abort):
        voice.error("interrupted")
        return EXIT_INTERRUPTED
    if isinstance(problem, MafsarError):
        voice.error(worded(problem))
        return EXIT_FAILED
    detail = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
    voice.error(f"{detail}; set {DEBUG_VARIABLE}=1 for the traceback")
    return EXIT_FAILED


def _hide_types(command: Any, ctx: Any) -> None:
    """Flags have no type to show; the type of an argument (``<str>``) says less than its help."""
    for param in command.get_params(ctx):
        if getattr(param, "is_flag", False):
            param.metavar = param.metavar or ""
        elif param.param_type_name == "argument":
            param.display_type_rich = _no_type


def _no_type(ctx: Any) -> None:
    """Stands in for a parameter's type in its help."""
    del ctx


def _long_flags(command: Any, ctx: Any) -> list[str]:
    return [
        flag
        for param in command.get_params(ctx)
        for flag in (*param.opts, *param.secondary_opts)
        if flag.startswith("--")
    ]


def _with_values(args: Sequence[str]) -> list[str]:
    """The words with ``--ray=local`` for a ``--ray`` that is not followed by an address."""
    words: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*words, word, *rest]
        has_value = bool(rest) and _CLUSTER.fullmatch(rest[0]) is not None
        words.append("--ray=local" if word == "--ray" and not has_value else word)
    return words


def _positional(args: Sequence[str]) -> list[str]:
    """The words that may be positional: no flags, and nothing that follows a bare flag."""
    words, after_flag = [], False
    for word in args:
        if word == "--":
            break
        if word.startswith("-") and len(word) > 1:
            after_flag = "=" not in word
        else:
            if not after_flag:
                words.append(word)
            after_flag = False
    return words


def _forget_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
