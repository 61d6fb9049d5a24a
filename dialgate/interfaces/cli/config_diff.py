"""`dialgate config diff`: what a draft of the configuration would change in the decisions of the last days."""

from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from dialgate.audit.configuration_diff import ConfigurationDiff, compare, last_days
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.config import config_app
from dialgate.interfaces.cli.decisions import open_chains
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, ConfigPath, load_config
from dialgate.interfaces.cli.replay import read_entries
from dialgate.interfaces.console.change_sentences import sentence, summary
from dialgate.interfaces.console.words import words_in
from dialgate.runtime.terminal import bars

FailOn: TypeAlias = Literal["never", "allow", "deny", "any"]


def _show(compared: tuple[ConfigurationDiff, FailOn]) -> None:
    diff, words = compared[0], words_in("en")
    typer.echo(summary(diff, words))
    for change in diff.changes:
        typer.echo(sentence(change, words))
        typer.echo(f"  {words('changes.examples')}: {', '.join(change.examples)}")


@config_app.command("diff")
@command(
    _show,
    data=lambda compared: compared[0],
    ok=lambda compared: not any(compared[1] in change.directions for change in compared[0].changes),
)
def config_diff(
    *,
    draft: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Draft of dialgate.yaml, in its folder. Default: that of --config."
        ),
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, max=366, help="Days to compare, up to the newest decision in the log.")
    ] = 7,
    campaign: Annotated[str, typer.Option(help="Only the calls of this campaign.")] = "",
    fail_on: Annotated[
        FailOn,
        typer.Option(
            help="Exit with 1 if a denied call would be allowed (allow), an allowed one denied (deny), or anything changes (any).",
        ),
    ] = "never",
    config: ConfigPath = DEFAULT_CONFIG,
) -> tuple[ConfigurationDiff, FailOn]:
    """Show what a draft of configuration or law would change in the decisions of the last days.

    Each recorded call is decided again, alone, with what was looked up for it at the time. Without --draft, the draft is the
    configuration on disk: what a gate would change if you reloaded it now. A call that the record cannot settle, for example
    because the draft asks a registry that was not consulted, counts as denied.

    Exit 0: nothing changes, or nothing that --fail-on names. 1: something does. 2: the draft is invalid.

    dialgate config diff --draft draft/dialgate.yaml --days 14 --fail-on allow
    """
    chains = open_chains(load_config(config))
    within = last_days(chains, days)
    with bars() as bar:
        entries = chain.from_iterable(read_entries(bar, reader, within) for reader in chains.readers.values())
        return compare(load_config(draft or config), chains, entries, within, campaign), fail_on
