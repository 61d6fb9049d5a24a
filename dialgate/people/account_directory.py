"""The accounts of the people who use the gates on one store."""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

import structlog
from msgspec import Struct, structs

from dialgate.config.clients import LOCAL, PERSON, Client
from dialgate.config.configuration import Config
from dialgate.core.model import HOUR, Instant
from dialgate.core.name_suggestions import choose
from dialgate.core.refusal import Refused
from dialgate.core.responses import when
from dialgate.crypto.keys import Keys
from dialgate.crypto.nonces import nonces
from dialgate.people import account_sessions, credentials
from dialgate.people.account_sessions import BrowserInfo
from dialgate.people.confirmation import confirmed
from dialgate.people.credentials import PasswordHashing, digest_of, without_credentials
from dialgate.people.openid_claims import OpenIdPerson
from dialgate.people.roles import ALL, ROLES
from dialgate.people.schemas import (
    LONGEST_NAME,
    AccountInfo,
    AccountRequest,
    AccountUpdate,
    Invitation,
    info_of,
)
from dialgate.people.sign_in_limits import SignInLimits
from dialgate.store import PersonAccounts
from dialgate.store.accounts import PersonAccount

INVITED: Final = 72 * HOUR
_DEVICES: Final = "@devices"
_log = structlog.get_logger(__name__)


class SignedIn(Struct, frozen=True):
    """A new session: its name and the device cookie, for the browser only. `recovery` holds new recovery codes."""

    session: str
    device: str
    recovery: tuple[str, ...] = ()


class AccountDirectory:
    """Adds, invites, changes and signs in people. The log has a line for each change, with the names of both people."""

    def __init__(
        self, store: PersonAccounts, keys: Keys, clock: Callable[[], Instant], config: Callable[[], Config]
    ) -> None:
        self._store, self._keys, self._clock, self._config = store, keys, clock, config
        self.hashing, self._limits, self._nonces = PasswordHashing(), SignInLimits(clock), nonces()
        self._has_person = False

    def close(self) -> None:
        self.hashing.close()

    # ---- administration ----------------------------------------------------------------------------------------------

    async def infos(self) -> list[AccountInfo]:
        """Return all accounts with their live sessions. Raises `StoreUnavailable`."""
        return [info_of(self._with_live_sessions(account)) for account in await self._store.accounts()]

    async def info(self, name: str) -> AccountInfo:
        """Return one account with its live sessions. Raises `Refused` and `StoreUnavailable`."""
        account = await self._store.account(name)
        if account is None:
            raise _unknown()
        return info_of(self._with_live_sessions(account))

    def _with_live_sessions(self, account: PersonAccount) -> PersonAccount:
        live = account_sessions.live_sessions(account, self._config().settings.accounts, self._clock())
        return structs.replace(account, sessions=live)

    async def add(self, by: Client, request: AccountRequest) -> Invitation:
        """Add an account and return its invitation. Raises `Refused` and `StoreUnavailable`."""
        self._check_controllers(request.controllers)
        code, now, vouching = secrets.token_urlsafe(32), self._clock(), await self._vouching(by)

        def changed(account: PersonAccount | None) -> PersonAccount:
            if account is not None:
                raise Refused(
                    "account.exists",
                    "An account with this name exists. Change it, invite the person again, or choose another name.",
                    "name",
                    409,
                )
            return PersonAccount(
                name=request.name,
                role=request.role,
                controllers=request.controllers,
                made_at=now,
                made_by=by.name,
                invitation=digest_of(code),
                invited_until=now + INVITED,
                confirmed_by=vouching,
            )

        await self._store.change_account(request.name, changed)
        _log.info(
            "account added",
            account=request.name,
            role=request.role,
            controllers=request.controllers,
            by=by.name,
        )
        return self._invitation(request.name, code, now)

    async def invite(self, by: Client, name: str) -> Invitation:
        """Invite a person again, who lost a phone or comes back. What they had to sign in is void at once.

        Raises `Refused` and `StoreUnavailable`.
        """
        code, now, vouching = secrets.token_urlsafe(32), self._clock(), await self._vouching(by)

        def changed(account: PersonAccount) -> PersonAccount:
            invited = {"invitation": digest_of(code), "invited_until": now + INVITED, "disabled_at": 0}
            return structs.replace(without_credentials(account), **invited, confirmed_by=vouching)

        await self._change(by, name, changed)
        _log.info("account invited again", account=name, by=by.name)
        return self._invitation(name, code, now)

    def _invitation(self, name: str, code: str, now: Instant) -> Invitation:
        url = (self._config().settings.accounts.url or "").rstrip("/")
        link = f"{url}/console/invitation/{name}/{code}"
        return Invitation(account=name, link=link, valid_until=when(now + INVITED))

    async def update(self, by: Client, name: str, update: AccountUpdate) -> AccountInfo:
        """Change role or controllers, or disable the account. Raises `Refused` and `StoreUnavailable`."""
        if update.controllers is not None:
            self._check_controllers(update.controllers)

        def changed(account: PersonAccount) -> PersonAccount:
            if update.disabled:
                account = structs.replace(
                    without_credentials(account), disabled_at=account.disabled_at or self._clock()
                )
            role, controllers = update.role or account.role, update.controllers or account.controllers
            return structs.replace(account, role=role, controllers=controllers)

        account = await self._change(by, name, changed)
        _log.info(
            "account disabled" if update.disabled else "account changed",
            account=name,
            role=account.role,
            controllers=account.controllers,
            by=by.name,
        )
        return info_of(self._with_live_sessions(account))

    async def confirm(self, by: Client, name: str) -> AccountInfo:
        """Record that an operator knows whose account this is. Whoever invited somebody could have accepted the link themselves.

        Raises `Refused` and `StoreUnavailable`.
        """
        vouching = await self._vouching(by)
        account = await self._replace(name, lambda account: confirmed(account, vouching))
        _log.info("account confirmed", account=name, by=by.name)
        return info_of(self._with_live_sessions(account))

    async def is_person(self, client: Client) -> bool:
        """Return whether a client counts where two people must act: a confirmed account, or somebody on the gate's machine.

        A key can be shared. Raises `StoreUnavailable`.
        """
        if not client.name.startswith(PERSON):
            return client.name.startswith(LOCAL)
        account = await self._store.account(client.name.removeprefix(PERSON))
        return account is not None and account.is_confirmed

    async def _vouching(self, by: Client) -> tuple[str, ...]:
        return (by.name,) if await self.is_person(by) else ()

    async def _change(
        self, by: Client, name: str, changed: Callable[[PersonAccount], PersonAccount]
    ) -> PersonAccount:
        if by.name == PERSON + name:
            raise Refused(
                "account.own", "Another operator must change your account. Ask one.", "name", status=403
            )
        return await self._replace(name, changed)

    async def _replace(self, name: str, changed: Callable[[PersonAccount], PersonAccount]) -> PersonAccount:
        account = await self._store.change_account(name, lambda account: account and changed(account))
        if account is None:
            raise _unknown()
        return account

    async def end_sessions(self, by: Client, name: str, session: str = "") -> AccountInfo:
        """End a session by the beginning of its id, or all sessions of a person. Raises `Refused` and `StoreUnavailable`."""
        account = await self._replace(
            name, lambda account: account_sessions.without_session(account, session)
        )
        _log.info("sessions ended", account=name, session=session or "all", by=by.name)
        return info_of(self._with_live_sessions(account))

    def _check_controllers(self, names: tuple[str, ...]) -> None:
        known = self._config().controllers.keys()
        if missing := [name for name in names if name != ALL and name not in known]:
            text = f"No such controller: {', '.join(missing)}. {choose('Use one of these', known)}"
            raise Refused("controller.unknown", text, "controllers", 404)

    # ---- sign-in -----------------------------------------------------------------------------------------------------

    async def has_person(self) -> bool:
        """Return whether a person has ever signed in. From then on, keys do not open the console."""
        if not self._has_person:
            self._has_person = any(account.signed_in_at for account in await self._store.accounts())
        return self._has_person

    async def sign_in(self, name: str, password: str, code: str, browser: BrowserInfo) -> SignedIn:
        """Begin a session. `code` is a one-time or a recovery code. Raises `Refused` and `StoreUnavailable`."""
        name = name if len(name) <= LONGEST_NAME else ""  # the limits keep names in memory
        device = browser.device if self._is_known(name, browser.device) else ""
        self._limits.begin(name, browser.address, device)
        account = await self._store.account(name)
        is_right = await self.hashing.is_right(account, password, is_known=bool(device))
        session, signed_in = account_sessions.make_name(name), None
        if account is not None and is_right:
            hashed = account.password

            def changed(present: PersonAccount | None) -> PersonAccount | None:
                if present is None or present.disabled_at or present.password != hashed:
                    return None
                now = self._clock()
                used = credentials.without_code(present, self._secret_of(present), code, now)
                return used and account_sessions.with_session(used, session, browser, now)

            signed_in = await self._store.change_account(name, changed)
        if signed_in is None:
            _log.warning("sign-in refused", account=name, address=browser.address)
            raise _wrong()
        self._limits.succeed(name, browser.address, device)
        _log.info("signed in", account=name, address=browser.address)
        return SignedIn(session, device or self._new_device(name))

    async def sign_in_elsewhere(self, person: OpenIdPerson, browser: BrowserInfo) -> SignedIn:
        """Begin a session for a person whom an OpenID provider named. Their first sign-in adds the account.

        Role and controllers become those of the claims. A name that belongs to another person is refused, as is a disabled
        account. Raises `Refused` and `StoreUnavailable`.
        """
        session, now = account_sessions.make_name(person.name), self._clock()

        def changed(account: PersonAccount | None) -> PersonAccount:
            account = account or PersonAccount(
                name=person.name, role="", controllers=(), made_at=now, made_by=person.identity[0],
                identity=person.identity,
            )  # fmt: skip
            if account.identity != person.identity:
                raise Refused("console.name_taken", "This name belongs to another account.", status=403)
            if account.disabled_at:
                raise Refused("console.disabled", "This account is disabled.", status=403)
            account = structs.replace(account, role=person.role, controllers=person.controllers)
            return account_sessions.with_session(account, session, browser, now)

        await self._store.change_account(person.name, changed)
        _log.info(
            "signed in", account=person.name, role=person.role, address=browser.address, at=person.identity[0]
        )
        return SignedIn(session, self._new_device(person.name))

    def _secret_of(self, account: PersonAccount) -> str:
        return self._keys.accounts.open(account.totp, account.name.encode()).decode()

    def _is_known(self, name: str, device: str) -> bool:
        nonce, _, mark = device.partition(".")
        return bool(mark) and hmac.compare_digest(self._mark(name, nonce).encode(), mark.encode())

    def _new_device(self, name: str) -> str:
        nonce = secrets.token_urlsafe(16)
        return f"{nonce}.{self._mark(name, nonce)}"

    def _mark(self, name: str, nonce: str) -> str:
        return self._keys.named(_DEVICES, f"{name}\0{nonce}".encode()).hex()

    async def is_invited(self, name: str, code: str) -> bool:
        account = await self._store.account(name)
        return account is not None and self._is_invitation(account, code)

    def _is_invitation(self, account: PersonAccount, code: str) -> bool:
        is_right = hmac.compare_digest(account.invitation, digest_of(code))
        return is_right and self._clock() < account.invited_until and not account.disabled_at

    async def accept(
        self, name: str, code: str, password: str, totp: tuple[str, str], browser: BrowserInfo
    ) -> SignedIn:
        """Set the password and the authenticator of an invited person, and sign them in.

        `totp` is the new secret, and a code of it as proof that the authenticator works. Raises `Refused` and
        `StoreUnavailable`.
        """
        secret, one_time_code = totp
        if not await self.is_invited(name, code):
            raise _not_invited()
        credentials.check_password(password, name)
        step = credentials.used_step(secret, one_time_code.replace(" ", ""), self._clock())
        if not step:
            raise Refused(
                "console.wrong_code", "The code is wrong. Enter the one that the app shows now.", "code"
            )
        recovery = credentials.make_recovery_codes()
        session = account_sessions.make_name(name)
        accepted = structs.replace(
            PersonAccount(name=name, role="", controllers=(), made_at=0, made_by=""),
            password=await self.hashing.hash(password),
            totp=self._keys.accounts.close(secret.encode(), next(self._nonces), name.encode()),
            totp_step=step,
            recovery=tuple(digest_of(code.replace("-", "")) for code in recovery),
        )

        def changed(account: PersonAccount | None) -> PersonAccount | None:
            if account is None or not self._is_invitation(account, code):
                return None
            own = {field: getattr(accepted, field) for field in ("password", "totp", "totp_step", "recovery")}
            return account_sessions.with_session(
                structs.replace(without_credentials(account), **own), session, browser, self._clock()
            )

        if await self._store.change_account(name, changed) is None:
            raise _not_invited()
        _log.info("invitation accepted", account=name, address=browser.address)
        return SignedIn(session, self._new_device(name), tuple(recovery))

    async def change_password(self, session: str, current: str, password: str) -> None:
        """Change the password of the person with this session, and end their other sessions. Raises `Refused`."""
        name = account_sessions.account_of(session)
        account = await self._store.account(name)
        if account is None or not await self.hashing.is_right(account, current, is_known=True):
            raise _wrong()
        credentials.check_password(password, name)
        hashed, kept = await self.hashing.hash(password), digest_of(session)

        def changed(present: PersonAccount) -> PersonAccount:
            own = tuple(session for session in present.sessions if session.id == kept)
            if present.password != account.password or not own:
                raise _wrong()
            return structs.replace(present, password=hashed, sessions=own)

        await self._replace(name, changed)
        _log.info("password changed", account=name)

    # ---- sessions ----------------------------------------------------------------------------------------------------

    async def find(self, session_name: str) -> Client | None:
        """Return the person with a session, as a client, or None if it has ended. Record that it was used now.

        Raises `StoreUnavailable`.
        """
        name, settings, now = (
            account_sessions.account_of(session_name),
            self._config().settings.accounts,
            self._clock(),
        )
        account = await self._store.account(name)
        if account is None:
            return None
        session = account_sessions.live_session(account, session_name, settings, now)
        if session is None:
            return None
        if now - session.used_at >= account_sessions.RESOLUTION:
            await self._replace(name, lambda present: account_sessions.used_now(present, session, now))
        return self._client(account)

    async def sign_out(self, session_name: str) -> None:
        name, digest = account_sessions.account_of(session_name), digest_of(session_name)
        await self._replace(name, lambda account: account_sessions.without_session(account, digest))

    def _client(self, account: PersonAccount) -> Client:
        known = self._config().controllers
        names = (
            known if ALL in account.controllers else [name for name in account.controllers if name in known]
        )
        scopes = {str(role): scopes for role, scopes in ROLES.items()}.get(account.role, ())
        return Client(name=PERSON + account.name, controllers=tuple(names), scopes=scopes)


def _unknown() -> Refused:
    return Refused(
        "account.unknown", "No account has this name. `dialgate account list` shows all.", "name", 404
    )


def _wrong() -> Refused:
    return Refused(
        "console.wrong_sign_in", "Name, password or code is wrong, or the code was used before.", status=401
    )


def _not_invited() -> Refused:
    text = "This invitation was used, replaced or is older than 72 hours. Ask an operator for a new one."
    return Refused("console.not_invited", text, status=410)
