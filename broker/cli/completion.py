"""`completion`: a shell's script, for `crossfade` and for `xf`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL: `eval "$(crossfade completion bash)"`."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    for name in ("crossfade", "xf"):
        click.echo(kind(ctx.find_root().command, {}, name, f"_{name.upper()}_COMPLETE").source())
