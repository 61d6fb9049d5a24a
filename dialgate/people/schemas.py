"""Requests and responses about accounts."""

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from dialgate.config.accounts import Role
from dialgate.core.responses import when
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import OptionalTimestamp, Timestamp
from dialgate.store.accounts import PersonAccount

LONGEST_NAME: Final = 64
AccountName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Controllers: TypeAlias = Annotated[tuple[str, ...], Meta(min_length=1, max_length=1000)]
AccountState: TypeAlias = Literal["invited", "active", "disabled"]


class AccountRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person to invite."""

    name: Annotated[AccountName, Meta(description="Name of the person in records, such as `anna.rossi`.")]
    role: Annotated[Role, Meta(description="What the person may do.")]
    controllers: Annotated[
        Controllers, Meta(description="Controllers for which the person acts; `*` for all, also later ones.")
    ]


class AccountUpdate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes of an account. `disabled` also removes the password, the codes and the sessions."""

    role: Role | None = None
    controllers: Controllers | None = None
    disabled: bool = False


class SessionEnd(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session to end, or all sessions of the person if it is empty."""

    session: Annotated[str, Meta(max_length=64)] = ""


class Invitation(Struct, frozen=True, kw_only=True):
    """An invitation, valid once. `link` begins with the setting `accounts.url`; without it, it is a path at the gate."""

    account: str
    link: str
    valid_until: Timestamp


class SessionInfo(Struct, frozen=True, kw_only=True):
    id: str
    begun: Timestamp
    used_at: Timestamp
    address: str
    browser: str


class AccountInfo(Struct, frozen=True, kw_only=True):
    """An account with its sessions. `issuer` is the OpenID provider at which the person signs in, or empty.

    `confirmed`: whether the person counts where two people must act. `confirmed_by`: who answers for the latest invitation.
    """

    name: str
    role: str
    controllers: tuple[str, ...]
    state: AccountState
    made_at: Timestamp
    made_by: str
    signed_in_at: OptionalTimestamp
    issuer: str
    recovery_codes: int
    sessions: list[SessionInfo]
    confirmed: bool
    confirmed_by: tuple[str, ...]


class AccountList(Struct, frozen=True):
    accounts: list[AccountInfo]


def info_of(account: PersonAccount) -> AccountInfo:
    is_active = account.password or account.identity
    return copy_fields(
        account,
        AccountInfo,
        state="disabled" if account.disabled_at else "active" if is_active else "invited",
        made_at=when(account.made_at),
        signed_in_at=when(account.signed_in_at),
        issuer=account.identity[0] if account.identity else "",
        recovery_codes=len(account.recovery),
        sessions=[
            copy_fields(
                session,
                SessionInfo,
                id=session.id[:16],
                begun=when(session.begun),
                used_at=when(session.used_at),
            )
            for session in account.sessions
        ],
        confirmed=account.is_confirmed,
        confirmed_by=account.confirmed_by or (),
    )
