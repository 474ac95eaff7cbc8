"""The command itself: finds verbs, tells errors in one line, and ends with the right exit code."""

from __future__ import annotations

import difflib
import importlib
import keyword
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from broker import __version__
from broker.cli.failing import exit_code, told
from broker.cli.session import Session
from broker.cli.verbs import COMMON, OTHERS, VERBS, Verb

BROKEN_PIPE = 141
"""As a program that SIGPIPE ended: nobody reads any more, which is no error to tell of."""


class App(click.Group):
    """Loads a verb's module when the verb is typed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        verb = VERBS.get(cmd_name)
        return _load(verb) if verb else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            raise click.UsageError(f"there is no verb {name!r}; {_nearest(name)}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        for heading, verbs in (("Verbs", COMMON), ("More verbs", OTHERS)):
            with formatter.section(heading):
                formatter.write_dl([(verb.name, verb.help) for verb in verbs])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run, tell what went wrong, and exit. Never raises anything but SystemExit."""
        del standalone_mode  # it always is
        session = Session()
        code = 0
        try:
            answer = super().main(
                args=args,
                prog_name=prog_name,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                obj=session,
                **extra,
            )
            code = answer if isinstance(answer, int) else 0
            sys.stdout.flush()
        except BrokenPipeError:
            _close_stdout()
            code = BROKEN_PIPE
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last place where one can be told
            code = exit_code(error)
            if session.debug:
                import traceback  # noqa: PLC0415

                traceback.print_exc()
            told(error)
        finally:
            session.close()
        sys.exit(code)


def _load(verb: Verb) -> click.Command | None:
    """The verb's command; None when its module is not part of this build."""
    name = f"broker.cli.{verb.module}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return None
        raise
    command = getattr(module, f"{verb.name}_" if keyword.iskeyword(verb.name) else verb.name)
    if not isinstance(command, click.Command):
        raise TypeError(f"{name}.{verb.name} is no command")
    return command


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, VERBS, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(f'`{word}`' for word in close)}?" if close else "see `crossfade --help`"


def _close_stdout() -> None:
    """The interpreter would flush it once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", prog_name="crossfade", message="%(prog)s %(version)s")
@click.option(
    "--sites",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The site document. Otherwise: CROSSFADE_SITES, ./sites.yaml, the user's configuration folder.",
)
@click.option("--debug", is_flag=True, help="Print a traceback with an error.")
@click.pass_obj
def app(session: Session, sites: Path | None, debug: bool) -> None:
    """Place workflows at several sites, and carry them on when a site fades.

    RUN is a run's id, the start of one, or its name; left out, it is your newest. RUN/STAGE is one stage of it,
    RUN/STAGE@2 its second attempt. State is kept under CROSSFADE_HOME.
    """
    session.sites_path, session.debug = sites, debug
