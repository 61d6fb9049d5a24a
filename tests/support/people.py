"""People for tests: an authenticator app, and accounts of which the invitation was accepted."""

from urllib.parse import urlsplit

import pyotp
from argon2 import PasswordHasher
from msgspec import Struct

from dialgate.config.accounts import Role
from dialgate.config.clients import Client
from dialgate.core.model import Instant
from dialgate.people.account_directory import AccountDirectory, SignedIn
from dialgate.people.account_sessions import BrowserInfo
from dialgate.people.credentials import make_totp_secret
from dialgate.people.schemas import AccountRequest

PASSWORD = "correct horse battery"
OPERATOR = Client(name="cli:root", controllers=("acme", "beta"), scopes=("admin",))
# A gate's own hash takes 0.17 s of processor time. A hash states its parameters, so a gate verifies these like its own.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HOME = BrowserInfo(address="192.0.2.1", agent="Firefox")


class Person(Struct):
    """A person with an authenticator app."""

    name: str
    secret: str
    signed_in: SignedIn

    def code(self, now: Instant) -> str:
        return code_of(self.secret, now)


def code_of(secret: str, now: Instant) -> str:
    return pyotp.TOTP(secret).at(now // 1000)


def code_in(link: str) -> tuple[str, str]:
    """Return the account and the code of an invitation's link."""
    *_, name, code = urlsplit(link).path.split("/")
    return name, code


async def join(
    people: AccountDirectory,
    now: Instant,
    name: str,
    role: Role = "officer",
    *controllers: str,
    by: Client = OPERATOR,
) -> Person:
    """Add a person, and accept the invitation."""
    request = AccountRequest(name=name, role=role, controllers=controllers or ("acme",))
    return await accept(people, now, (await people.add(by, request)).link)


async def accept(people: AccountDirectory, now: Instant, link: str) -> Person:
    """Accept an invitation, as whoever has its link can. From then on, the gate's new hashes are cheap."""
    people.hashing.hasher = CHEAP
    name, secret = code_in(link)[0], make_totp_secret()
    signed_in = await people.accept(*code_in(link), PASSWORD, (secret, code_of(secret, now)), HOME)
    return Person(name, secret, signed_in)
