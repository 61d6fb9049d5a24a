"""`dialgate campaign`: campaigns that are paused, by a supervisor or for abandoned calls, and limits on those."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.gate_client import GateClient, path_of
from dialgate.interfaces.cli.ledger_access import R
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger.campaigns import (
    CampaignInfo,
    CampaignList,
    CampaignPauseRequest,
    CampaignResumeRequest,
    PauseLiftRequest,
    PauseReceipt,
)
from dialgate.runtime.terminal import show_table

app = typer.Typer()
campaign_app = typer.Typer(no_args_is_help=True)
app.add_typer(campaign_app, name="campaign")


def _show(campaigns: list[CampaignInfo]) -> None:
    rows = [
        (
            campaign.id,
            f"{limit.country} {limit.days}",
            f"{limit.abandoned:,} to {limit.compared:,}",
            f"{limit.above} to {limit.out_of}",
            f"paused until {limit.not_before}" if limit.not_before else f"{limit.used:.0%} used",
            f"{campaign.lifted_at} by {campaign.lifted_by}: {campaign.ground}" if campaign.lifted_at else "",
        )
        for campaign in campaigns
        for limit in campaign.limits
    ]
    show_table(
        "Abandoned calls",
        ("campaign", "law, period", "abandoned to answered", "limit", "", "last lifted"),
        rows,
    )
    for campaign in campaigns:
        if campaign.pause_at:
            typer.echo(
                f"{campaign.id} is paused since {campaign.pause_at} by {campaign.pause_actor}: {campaign.pause_reason}"
            )
        if "configuration" in campaign.paused_by:
            typer.echo(f"{campaign.id} is paused in the configuration.")


def _show_change(effect: str, receipt: PauseReceipt) -> None:
    _show([receipt.campaign])
    typer.echo(f"{effect} Change in force: {receipt.in_force}")


def _show_resumed(receipt: PauseReceipt) -> None:
    others = " It is still paused for another reason." if receipt.campaign.paused else ""
    _show_change(f"The supervisor's pause has ended.{others}", receipt)


@campaign_app.command("list")
@command(_show)
def campaign_list(*, gate: GateClient) -> list[CampaignInfo]:
    """Show how much of each limit on abandoned calls the campaigns have used, and which campaigns are paused.

    dialgate campaign list
    """
    return gate.send("GET", "/v1/campaigns", CampaignList).campaigns


def _add_change(name: str, kind: type[R], show: Callable[[PauseReceipt], None], about: str) -> None:
    @campaign_app.command(name, help=about)
    @command(show)
    @options_of(kind, fixed={"controller": "", "channel": "cli"})
    def change(
        change_request: R,
        *,
        id_: Annotated[str, typer.Argument(metavar="ID", help="Campaign ID.", show_default=False)],
        gate: GateClient,
    ) -> PauseReceipt:
        return gate.send("POST", path_of("/v1/campaigns", id_, name), PauseReceipt, change_request)


_add_change(
    "pause",
    CampaignPauseRequest,
    partial(_show_change, "The gate denies all calls of this campaign."),
    """Deny every call of a campaign until it is resumed. The reason and the actor are recorded.

    A gate on this node applies the change before the command ends. Other nodes follow within a second.

    dialgate campaign pause acme-fibre --reason "wrong price in the script"
    """,
)
_add_change(
    "resume",
    CampaignResumeRequest,
    _show_resumed,
    """End a supervisor's pause of a campaign.

    dialgate campaign resume acme-fibre --reason "script corrected"
    """,
)
_add_change(
    "lift",
    PauseLiftRequest,
    partial(_show_change, "The pause was lifted."),
    """Lift the pause of a campaign. Calls made so far no longer count. The ground and the actor are recorded.

    A gate on this node applies the change before the command ends. Other nodes follow within a second.

    dialgate campaign lift acme-fibre --ground "dialer set to one line for each agent" --actor dpo
    """,
)
