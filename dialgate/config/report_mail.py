"""The settings of reports by mail: the mail server, and which report goes to whom."""

from collections.abc import Container, Iterator
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from dialgate.config.fields import HostName, Name, Strict

# Printable ASCII without what separates addresses, so an address adds no header and no other recipient.
Address: TypeAlias = Annotated[str, Meta(pattern=r"^[^\x00-\x20\x7f-\U0010ffff@,;:<>()\x22\x5c]+@[A-Za-z0-9][A-Za-z0-9.-]*$")]  # fmt: skip
_LOCAL = frozenset({"localhost", "127.0.0.1"})
_PORTS = {"starttls": 587, "implicit": 465, "none": 25}


class ReportSchedule(Strict, frozen=True, kw_only=True):
    """A report that is sent after each day, week or month."""

    name: Name
    """Stable name. The gate stores under it what was sent. With another name or controller, the last report is sent again."""
    controller: str
    """Controller to report on. Its country's time zone decides when a period ends."""
    report: Literal["calls", "shadow"] = "calls"
    """`calls`, or `shadow` for what shadow mode let through."""
    period: Literal["day", "week", "month"] = "day"
    """`day`, `week` (Monday to Sunday) or `month`."""
    recipients: Annotated[tuple[Address, ...], Meta(min_length=1, max_length=50)]
    """E-mail addresses. Each recipient sees the others."""
    language: Literal["it", "en"] = "it"
    """Language of the mail and the report."""
    hour: Annotated[int, Meta(ge=0, le=23)] = 6
    """Hour from which the report is sent, on the day after the period."""


class ReportMail(Strict, frozen=True, kw_only=True):
    """The mail server (SMTP), and the reports that the gate sends through it: see `docs/how-to/mail-reports.md`.

    They need `pip install 'dialgate[reports]'`.
    """

    host: HostName
    """Host of the mail server."""
    port: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    """Default: 587 with `starttls`, 465 with `implicit`, 25 with `none`."""
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    """`starttls`, `implicit` (TLS from the first byte), or `none`, only for a server on this machine."""
    roots: str = ""
    """PEM file with the root certificates of the server. Default: those of the system."""
    user: str = ""
    """User name at the mail server, if it wants one."""
    password_file: str = ""
    """File that contains the user's password."""
    sender: Address
    """Sender's address."""
    reports: tuple[ReportSchedule, ...] = ()
    """The reports to send."""

    @property
    def server_port(self) -> int:
        return self.port or _PORTS[self.tls]


def password_of(text: str) -> bytes:
    """Return the password in the text of a `password_file`. Raises `ValueError`."""
    if not text.strip():
        raise ValueError("password_file is empty; write the password to it")
    return text.strip().encode()


def faults(mail: ReportMail, controllers: Container[str]) -> Iterator[str]:
    """Yield a message for each contradiction between the settings."""
    if mail.tls == "none" and mail.host not in _LOCAL:
        yield "tls: none sends reports and the password in clear text; use `starttls` or `implicit`, or a server on this machine"
    if bool(mail.user) != bool(mail.password_file):
        yield "set both `user` and `password_file`, or neither"
    names = [schedule.name for schedule in mail.reports]
    for schedule in mail.reports:
        if names.count(schedule.name) > 1:
            yield f"report {schedule.name} is defined twice; give each report a unique name"
        if schedule.controller not in controllers:
            yield f"report {schedule.name}: there is no controller {schedule.controller}"
