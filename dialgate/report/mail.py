"""A report as an e-mail: short text, with PDF and CSV attached. For a process of its own, like every report."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

from msgspec import Struct

from dialgate.config.configuration import Config
from dialgate.config.report_mail import ReportMail, ReportSchedule
from dialgate.core.faults import Unavailable
from dialgate.core.model import SECOND, Instant
from dialgate.report.export import pdf, spreadsheet
from dialgate.report.figures import Period
from dialgate.report.rendering import gather_calls
from dialgate.report.shadow import ShadowReportOrder, gather_shadow
from dialgate.report.shadow_tables import lay_out_shadow, shadow_spreadsheet
from dialgate.report.tables import TableLayout, lay_out
from dialgate.runtime.extras import require

_SECONDS = 60  # to connect, and for each answer until the password was accepted
_SECONDS_TO_SEND = (
    600  # for each later answer, because a server may check the mail first (RFC 5321, 4.5.3.2.6)
)
_LONGEST = 200  # characters of what the server said


class MailFailed(Unavailable):
    """The mail server did not accept a report. The message says why."""


class MailOrder(Struct, frozen=True, kw_only=True):
    """A report to send. `message` is its Message-ID."""

    schedule: ReportSchedule
    period: Period
    made_at: Instant
    message: str


def send_report(config: Config, order: MailOrder) -> list[str]:
    """Make and send a report. Return an entry for each recipient who did not get it, with the server's answer.

    Raises `MailFailed` if none got it, `MissingExtra`, `LogDamaged` and `StoreUnavailable`.
    """
    require("reports", "A report by mail")
    mail = config.settings.mail
    assert mail is not None
    message = _message(mail.sender, order, *_content(config, order))
    return asyncio.run(_send(mail, config, order.schedule.recipients, message.as_bytes()))


def summary(refused: Collection[str]) -> str:
    """Return how many recipients did not get a report, and why, or "" if all got it."""
    return f"refused for {len(refused)}: {'; '.join(refused)}"[:_LONGEST] if refused else ""


def _content(config: Config, order: MailOrder) -> tuple[TableLayout, str]:
    schedule, period, made_at = order.schedule, order.period, order.made_at
    if schedule.report == "shadow":
        asked = ShadowReportOrder(controllers=(schedule.controller,), period=period, made_at=made_at)
        shadow = gather_shadow(config, asked)
        return lay_out_shadow(shadow, schedule.language), shadow_spreadsheet(shadow)
    calls = asyncio.run(gather_calls(config, schedule.controller, period, made_at))
    return lay_out(calls, schedule.language), spreadsheet(calls)


def _message(sender: str, order: MailOrder, layout: TableLayout, table: str) -> EmailMessage:
    message = EmailMessage()
    # A name can contain line breaks.
    message["Subject"] = " ".join(f"{layout.title}: {layout.subtitle}".split())
    message["Date"] = format_datetime(datetime.fromtimestamp(order.made_at // SECOND, UTC))
    message["From"], message["To"] = sender, ", ".join(order.schedule.recipients)
    message["Message-ID"] = order.message
    message["Auto-Submitted"] = "auto-generated"
    figures = "\n".join(f"{figure.name}: {figure.value}" for figure in layout.figures)
    parts = (f"{layout.subtitle}\n{layout.made}", layout.lead, figures, layout.note)
    message.set_content("\n\n".join(filter(None, parts)) + "\n")
    name = f"dialgate-{order.schedule.name}-{order.period.name}"
    document = pdf(layout, order.made_at)
    message.add_attachment(document, maintype="application", subtype="pdf", filename=f"{name}.pdf")
    message.add_attachment(table, subtype="csv", filename=f"{name}.csv")
    return message


async def _send(mail: ReportMail, config: Config, recipients: tuple[str, ...], message: bytes) -> list[str]:
    import aiosmtplib  # noqa: PLC0415 - in an extra

    roots: Path | None = config.folder / mail.roots if mail.roots else None
    server = aiosmtplib.SMTP(
        hostname=mail.host,
        port=mail.server_port,
        use_tls=mail.tls == "implicit",
        start_tls=mail.tls == "starttls",
        cert_bundle=str(roots) if roots else None,
        username=mail.user or None,
        password=config.mail_password or None,
        timeout=_SECONDS,
    )
    try:
        async with server:
            refused, _ = await server.sendmail(mail.sender, recipients, message, timeout=_SECONDS_TO_SEND)
    except aiosmtplib.SMTPAuthenticationError as error:
        text = f"it refused the password of {mail.user} ({error.code} {error.message}); check `mail.user` and `mail.password_file`"
    except aiosmtplib.SMTPRecipientsRefused as error:
        text = summary([f"{each.recipient}: {each.code} {each.message}" for each in error.recipients])
    except (aiosmtplib.SMTPException, OSError) as error:
        text = str(error) or type(error).__name__
    else:
        return [f"{name}: {answer.code} {answer.message}" for name, answer in refused.items()]
    raise MailFailed(
        f"the mail server {mail.host}:{mail.server_port} did not take the report: {text}"[:_LONGEST]
    )
