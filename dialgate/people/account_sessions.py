"""Sessions of people, as values in their accounts.

A session's name is known only to the browser: the account holds its digest.
"""

import secrets
from typing import Final

from msgspec import Struct, structs

from dialgate.config.accounts import AccountSettings
from dialgate.core.model import HOUR, MINUTE, Instant
from dialgate.people.credentials import digest_of
from dialgate.store.accounts import AccountSession, PersonAccount

RESOLUTION: Final = MINUTE  # of the time of last use
_MOST: Final = 20  # of one person; another one ends the oldest
_SEPARATOR: Final = "~"  # in no name of an account


class BrowserInfo(Struct, frozen=True, kw_only=True):
    """The browser that signs in: its address, its `User-Agent`, and the value of its device cookie."""

    address: str = ""
    agent: str = ""
    device: str = ""


def make_name(account: str) -> str:
    return f"{account}{_SEPARATOR}{secrets.token_urlsafe(32)}"


def account_of(session_name: str) -> str:
    """Return the name of the account to which a session's name belongs, or "" if it is no such name."""
    account, separator, _ = session_name.partition(_SEPARATOR)
    return account if separator else ""


def form_token(session_name: str) -> str:
    """Return what every form of a session must send. Another site does not know it, and it does not reveal the name."""
    return digest_of(f"form of {session_name}")


def with_session(account: PersonAccount, name: str, browser: BrowserInfo, now: Instant) -> PersonAccount:
    session = AccountSession(
        id=digest_of(name), begun=now, used_at=now, address=browser.address[:64], browser=browser.agent[:128]
    )
    return structs.replace(
        account, sessions=(*account.sessions[1 - _MOST :], session), signed_in_at=max(now, 1)
    )


def live_session(
    account: PersonAccount, name: str, settings: AccountSettings, now: Instant
) -> AccountSession | None:
    digest = digest_of(name)
    return next((session for session in live_sessions(account, settings, now) if session.id == digest), None)


def live_sessions(
    account: PersonAccount, settings: AccountSettings, now: Instant
) -> tuple[AccountSession, ...]:
    if account.disabled_at:
        return ()
    longest, idle = settings.session_hours * HOUR, settings.idle_minutes * MINUTE
    return tuple(
        session
        for session in account.sessions
        if now - session.begun < longest and now - session.used_at < idle
    )


def used_now(account: PersonAccount, session: AccountSession, now: Instant) -> PersonAccount:
    sessions = tuple(
        structs.replace(kept, used_at=now) if kept.id == session.id else kept for kept in account.sessions
    )
    return structs.replace(account, sessions=sessions)


def without_session(account: PersonAccount, prefix: str) -> PersonAccount:
    """Return the account without the session whose id begins with `prefix`, or without any if it is empty."""
    return structs.replace(
        account, sessions=tuple(kept for kept in account.sessions if not kept.id.startswith(prefix))
    )
