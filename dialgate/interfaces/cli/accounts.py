"""`dialgate account`: the people who sign in at the console."""

from typing import Annotated, TypeAlias

import typer

from dialgate.config.accounts import Role
from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.gate_client import GateClient, path_of
from dialgate.people.schemas import (
    AccountInfo,
    AccountList,
    AccountRequest,
    AccountUpdate,
    Invitation,
    SessionEnd,
)

app = typer.Typer()
account_app = typer.Typer(no_args_is_help=True)
app.add_typer(account_app, name="account")

Name: TypeAlias = Annotated[
    str, typer.Argument(help="Name of the person, such as anna.rossi.", show_default=False)
]
Names: TypeAlias = Annotated[
    list[str], typer.Option("--controller", help="A controller for which the person acts; repeat for more. `*`: all.")
]  # fmt: skip


def _show_invitation(invitation: Invitation) -> None:
    typer.echo(f"Send this link to {invitation.account}. It is valid once, until {invitation.valid_until}:")
    typer.echo(invitation.link)
    if invitation.link.startswith("/"):
        typer.echo("Put the gate's address before it, or set `accounts.url`.")


def _show(accounts: list[AccountInfo]) -> None:
    show_rows(
        "Accounts",
        accounts,
        {
            "name": "name",
            "role": "role",
            "controllers": lambda account: " ".join(account.controllers),
            "state": "state",
            "confirmed": lambda account: "yes" if account.confirmed else "no",
            "last sign-in": "signed_in_at",
            "sessions": lambda account: " ".join(session.id for session in account.sessions),
        },
    )


def _show_one(account: AccountInfo) -> None:
    _show([account])


@account_app.command("add")
@command(_show_invitation, misuses=("account.exists", "controller.unknown"))
def account_add(
    *,
    name: Name,
    role: Annotated[Role, typer.Option(help="What the person may do.")],
    controller: Names,
    gate: GateClient,
) -> Invitation:
    """Add an account, and print the link with which the person sets a password and a second factor.

    Roles: agent (simulate calls, record stops), supervisor (also board, lists, reports), officer (also look-ups and requests of
    data subjects), operator (the gate and its accounts), auditor (reads everything, changes nothing).

    dialgate account add anna.rossi --role officer --controller acme
    """
    request = AccountRequest(name=name, role=role, controllers=tuple(controller))
    return gate.send("POST", "/v1/accounts", Invitation, request)


@account_app.command("list")
@command(_show)
def account_list(*, gate: GateClient) -> list[AccountInfo]:
    """Show all accounts, also disabled ones, and the ids of their sessions.

    dialgate account list
    """
    return gate.send("GET", "/v1/accounts", AccountList).accounts


@account_app.command("invite")
@command(_show_invitation, misuses=("account.unknown",))
def account_invite(*, name: Name, gate: GateClient) -> Invitation:
    """Invite a person again, who lost the phone or comes back. Password, codes and sessions are void at once.

    dialgate account invite anna.rossi
    """
    return gate.send("POST", path_of("/v1/accounts", name, "invitation"), Invitation)


@account_app.command("confirm")
@command(_show_one, misuses=("account.unknown",))
def account_confirm(*, name: Name, gate: GateClient) -> AccountInfo:
    """Confirm that an account belongs to its person, once they have accepted the invitation. It then counts where two people must act.

    dialgate account confirm anna.rossi
    """
    return gate.send("POST", path_of("/v1/accounts", name, "confirmation"), AccountInfo)


@account_app.command("change")
@command(_show_one, misuses=("account.unknown", "controller.unknown"))
def account_change(
    *,
    name: Name,
    role: Annotated[Role | None, typer.Option(help="The new role.")] = None,
    controller: Names = [],
    gate: GateClient,
) -> AccountInfo:
    """Change a person's role or controllers. It applies to the person's next request.

    dialgate account change anna.rossi --role auditor
    """
    update = AccountUpdate(role=role, controllers=tuple(controller) or None)
    return gate.send("POST", path_of("/v1/accounts", name), AccountInfo, update)


@account_app.command("disable")
@command(_show_one, misuses=("account.unknown",))
def account_disable(*, name: Name, gate: GateClient) -> AccountInfo:
    """Disable the account of a person who leaves, and end all sessions at once. The name stays in the records.

    dialgate account disable anna.rossi
    """
    return gate.send("POST", path_of("/v1/accounts", name), AccountInfo, AccountUpdate(disabled=True))


@account_app.command("end")
@command(_show_one, misuses=("account.unknown",))
def account_end(
    *,
    name: Name,
    session: Annotated[str, typer.Option(help="Id of one session. Default: all.")] = "",
    gate: GateClient,
) -> AccountInfo:
    """End one or all sessions of a person. They can sign in again.

    dialgate account end anna.rossi
    """
    end = SessionEnd(session=session)
    return gate.send("POST", path_of("/v1/accounts", name, "sessions", "end"), AccountInfo, end)
