"""Reports by mail: each is sent once, again after a failure, to a server that proves its name, and never twice after a restart."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from dialgate.app import App
from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.config.report_mail import ReportMail, ReportSchedule, faults
from dialgate.core.local_time import instant_in
from dialgate.core.model import DAY, HOUR, MINUTE, Instant
from dialgate.report.mailing import due_periods
from dialgate.store.report_mails import ReportDelivery
from tests.cluster.test_peers import two_gates
from tests.report.test_report import fill_day
from tests.support import world
from tests.support.paths import ROOT
from tests.support.world import CLEAR, KEY, LISTED, NOW, SCOPES, World, client, running, write_folder

OFFICER, BOSS = "officer@acme.example", "boss@acme.example"
DAILY = {"name": "daily", "controller": "acme", "recipients": [OFFICER, BOSS], "language": "en"}
ROME = "Europe/Rome"
MORNING = NOW + 20 * HOUR  # 06:00 of the next day in Rome
CLIENTS = [client("tests", KEY, *SCOPES, "watch")]


class MailServer:
    """What a mail server took, and what it refuses."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.signed_in: list[bool | None] = []  # for each mail
        self.refused: set[str] = set()  # recipients
        self.answer = "250 OK"
        self.too_large: set[str] = set()  # periods
        self.took, self.answers = asyncio.Event(), asyncio.Event()  # no answer leaves while it is not set
        self.answers.set()
        self.port = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        if address in self.refused:
            return "550 No such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        if self.too_large & set(str(mail["Subject"]).split()):
            return "552 Too large"
        if self.answer.startswith("250"):
            self.signed_in.append(session.authenticated)
            self.mails.append(mail)
        self.took.set()
        await self.answers.wait()
        return self.answer

    def sent(self) -> list[str]:
        return [str(mail["Subject"]).rpartition(" ")[2] for mail in self.mails]


@asynccontextmanager
async def mail_server(folder: Path, tls: str = "none") -> AsyncIterator[MailServer]:
    """Run a server. With `starttls` it wants TLS and the password `secret`."""
    await asyncio.to_thread(folder.mkdir)
    world.write_certificate(folder)
    server, context = MailServer(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    def check(_: Any, __: Any, ___: Any, ____: Any, login: Any) -> AuthResult:
        return AuthResult(success=(login.login, login.password) == (b"gate", b"secret"), handled=False)

    def build() -> SMTP:
        if tls == "starttls":
            wants: dict[str, Any] = {"tls_context": context, "require_starttls": True, "auth_required": True}
        else:  # aiosmtpd does not see that TLS began before it
            wants = {"auth_require_tls": False}
        return SMTP(server, authenticator=check, **wants)

    loop = asyncio.get_running_loop()
    listener = await loop.create_server(build, "127.0.0.1", 0, ssl=context if tls == "implicit" else None)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def settings(server: MailServer, *schedules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return `mail` for a server without TLS, or with it if `changes` say so."""
    address = {"host": "127.0.0.1", "port": server.port, "tls": "none", "sender": "dialgate@acme.example"}
    return {**address, "reports": [*schedules], **changes}


def secure(folder: Path, tls: str, password: str = "secret") -> dict[str, Any]:
    (folder / "mail.password").write_text(f"{password}\n")
    return {"tls": tls, "roots": "server/cert.pem", "user": "gate", "password_file": "mail.password"}


async def send(app: App, at: Instant) -> None:
    """Let a gate look once, at a time, whether a report is due."""
    if app.report_mailing._task:  # since the start
        await app.report_mailing._task
    await begin(app, at)


def begin(app: App, at: Instant) -> asyncio.Task[None]:
    app.report_mailing._checked = 0
    task = app.report_mailing.tick(at)
    assert task is not None
    return task


async def shown(gate: World) -> list[tuple[str, str]]:
    """Return the last period and the problem of each report, as the endpoint returns them."""
    found = await gate.get("/v1/report/scheduled")
    return [(report["last"], report["problem"]) for report in found["reports"]]


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_report_is_sent_once_over_tls_with_figures_pdf_and_csv(tmp_path: Path, tls: str) -> None:
    async with mail_server(tmp_path / "server", tls) as server:
        mail = settings(server, DAILY, **secure(tmp_path, tls))
        async with running(tmp_path, mail=mail, clients=CLIENTS) as gate:
            await send(gate.app, NOW)
            assert server.sent() == ["2026-11-23"]  # of a new schedule, the last complete day
            await fill_day(gate)
            for at in (MORNING - MINUTE, MORNING, MORNING + MINUTE):
                gate.hand.at = at
                await send(gate.app, at)
            assert server.sent() == ["2026-11-23", "2026-11-24"]
            assert await shown(gate) == [("2026-11-24", "")]
            assert gate.sample("dialgate_report_mails_total", report="daily", result="sent") == 2
    assert server.signed_in == [True, True]
    mail_ = server.mails[1]
    assert (mail_["To"], mail_["From"]) == (f"{OFFICER}, {BOSS}", "dialgate@acme.example")
    text, pdf, csv = (part for part in mail_.walk() if not part.is_multipart())
    assert "Calls checked: 4\r\nAllowed: 2\r\n" in text.get_content()
    assert pdf.get_content().startswith(b"%PDF-")
    assert "reasons,registry.listed,count,1" in csv.get_content()
    assert [part.get_filename() for part in (pdf, csv)] == [
        "dialgate-daily-2026-11-24.pdf",
        "dialgate-daily-2026-11-24.csv",
    ]
    digits = re.sub(r"[^0-9]", "", text.get_content() + csv.get_content())
    assert not [number for number in (CLEAR, LISTED) if number[1:] in digits]


async def test_weekly_report_on_shadow_mode_is_in_italian(tmp_path: Path) -> None:
    weekly = {**DAILY, "name": "weekly", "period": "week", "report": "shadow", "language": "it"}
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, mail=settings(server, weekly)) as gate,
    ):
        await send(gate.app, NOW)
    (mail,) = server.mails
    assert mail["Subject"] == "Report sulla modalità di prova: acme · Settimana 2026-W47"
    text = next(part for part in mail.walk() if not part.is_multipart()).get_content()
    assert "Chiamate della linea viste dal gate: non nota\r\n" in text


async def test_a_refused_report_is_a_task_until_it_is_sent_again(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, mail=settings(server, DAILY), clients=CLIENTS) as gate,
    ):
        await send(gate.app, NOW)
        server.answer, gate.hand.at = "451 Try again later", MORNING
        await send(gate.app, MORNING)
        ((last, problem),) = await shown(gate)
        assert last == "2026-11-23"
        assert problem.endswith("did not take the report: (451, 'Try again later')")
        assert [
            task["name"] for task in (await gate.get("/v1/tasks"))["tasks"] if task["kind"] == "report_unsent"
        ] == ["daily"]
        assert "Try again later" in await gate.output("report", "--scheduled")
        server.answer = "250 OK"
        await send(gate.app, MORNING + 14 * MINUTE)  # too early for the next attempt
        assert server.sent() == ["2026-11-23"]
        await send(gate.app, MORNING + 16 * MINUTE)
        assert (server.sent(), await shown(gate)) == (["2026-11-23", "2026-11-24"], [("2026-11-24", "")])
        assert gate.sample("dialgate_report_mails_total", report="daily", result="failed") == 1


async def test_an_address_that_is_refused_is_named_and_the_others_get_one_mail(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, mail=settings(server, DAILY), clients=CLIENTS) as gate,
    ):
        await send(gate.app, NOW)
        server.refused.add(BOSS)
        await send(gate.app, MORNING)
        await send(gate.app, MORNING + HOUR)
        assert server.sent() == ["2026-11-23", "2026-11-24"]
        assert await shown(gate) == [("2026-11-24", f"refused for 1: {BOSS}: 550 No such user")]


@pytest.mark.torture  # nine reports
async def test_missed_reports_are_sent_later_the_oldest_first_but_not_more_than_seven(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, mail=settings(server, DAILY)) as gate,
    ):
        await send(gate.app, NOW)
        later = MORNING + 9 * DAY
        for at in (later, later + MINUTE):
            await send(gate.app, at)
    assert server.sent() == [
        "2026-11-23",
        *(f"2026-11-{day}" for day in (27, 28, 29, 30)),
        *(f"2026-12-0{day}" for day in (1, 2, 3)),
    ]


async def test_of_two_gates_on_one_store_one_sends(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path / "server") as server,
        two_gates(tmp_path, mail=settings(server, DAILY)) as gates,
    ):
        for at in (NOW, MORNING):
            await asyncio.gather(*(send(gate.app, at) for gate in gates))
    assert server.sent() == ["2026-11-23", "2026-11-24"]


async def test_a_wrong_password_and_a_wrong_certificate_are_refused_with_advice(tmp_path: Path) -> None:
    async with mail_server(tmp_path / "server", "starttls") as server:
        cases = {
            "wrong": ("check `mail.user` and `mail.password_file`", {}),
            "secret": ("CERTIFICATE_VERIFY_FAILED", {"roots": ""}),
        }
        for password, (advice, changes) in cases.items():
            folder = tmp_path / password
            folder.mkdir()
            world.write_certificate(folder)
            access = {**secure(folder, "starttls", password), "roots": "../server/cert.pem", **changes}
            async with running(folder, mail=settings(server, DAILY, **access), clients=CLIENTS) as gate:
                await send(gate.app, NOW)
                ((last, problem),) = await shown(gate)
            assert last == ""
            assert advice in problem
            assert password not in problem
    assert server.mails == []


SCHEDULES: list[tuple[str, str, str, str | None]] = [
    # period, now in Rome, end of the last one that was sent, what is due
    ("day", "2026-11-24T05:59", "2026-11-23T00:00", None),
    ("day", "2026-11-24T06:00", "2026-11-23T00:00", "2026-11-23"),
    ("day", "2026-11-24T06:00", "2026-11-24T00:00", None),
    ("day", "2026-03-29T06:00", "2026-03-28T00:00", "2026-03-28"),  # the day on which the clock goes forward
    ("day", "2026-03-30T06:00", "2026-03-29T00:00", "2026-03-29"),
    ("day", "2026-10-26T05:59", "2026-10-25T00:00", None),  # the day of 25 hours
    ("day", "2026-10-26T06:00", "2026-10-25T00:00", "2026-10-25"),
    ("week", "2026-11-29T23:59", "2026-11-23T00:00", None),
    ("week", "2026-11-30T06:00", "2026-11-23T00:00", "2026-W48"),
    ("week", "2027-01-04T06:00", "2026-12-28T00:00", "2026-W53"),
    ("week", "2026-11-30T06:00", "2026-11-16T00:00", "2026-W47"),
    ("month", "2026-11-30T23:59", "2026-11-01T00:00", None),
    ("month", "2026-12-01T05:59", "2026-11-01T00:00", None),
    ("month", "2026-12-01T06:00", "2026-11-01T00:00", "2026-11"),
    ("month", "2027-01-01T06:00", "2026-11-01T00:00", "2026-11"),
    ("month", "2027-01-01T06:00", "2026-12-01T00:00", "2026-12"),
    ("month", "2028-03-01T06:00", "", "2028-02"),
]


@pytest.mark.parametrize(("period", "now", "until", "due"), SCHEDULES)
def test_a_report_is_due_after_its_period_has_ended_in_the_controllers_country(
    period: str, now: str, until: str, due: str | None
) -> None:
    schedule = msgspec.convert({**DAILY, "period": period}, ReportSchedule)
    at, end = (instant_in(ROME, datetime.fromisoformat(text)) if text else 0 for text in (now, until))
    found = due_periods(schedule, ROME, at, ReportDelivery(schedule="acme/daily", until=end))
    assert (found[0].name if found else None) == due


def test_a_period_is_not_sent_again_in_another_time_zone() -> None:
    schedule = msgspec.convert(DAILY, ReportSchedule)
    (period,) = due_periods(schedule, ROME, MORNING, ReportDelivery(schedule="acme/daily"))
    sent = ReportDelivery(schedule="acme/daily", period=period.name, until=period.until)
    assert due_periods(schedule, "Europe/Lisbon", MORNING + 2 * HOUR, sent) == []
    (following,) = due_periods(schedule, "Europe/Lisbon", MORNING + 2 * HOUR + DAY, sent)
    assert (period.name, following.name) == ("2026-11-24", "2026-11-25")


def test_two_o_clock_is_once_a_day_also_when_the_clock_changes() -> None:
    """On 29 March there is no two o'clock in Rome, and on 25 October it comes twice."""
    schedule = msgspec.convert({**DAILY, "hour": 2}, ReportSchedule)
    for day in ("2026-03-29", "2026-10-25"):
        midnight = instant_in(ROME, datetime.fromisoformat(day))
        end, sent = midnight - DAY, []
        for at in range(midnight, midnight + DAY, 10 * MINUTE):
            if found := due_periods(schedule, ROME, at, ReportDelivery(schedule="acme/daily", until=end)):
                sent.append(at)
                end = found[-1].until
        assert sent == [midnight + 2 * HOUR]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"tls": "none", "host": "mail.acme.example"},
        "mail: tls: none sends reports and the password in clear text",
    ),
    ({"user": "gate"}, "mail: set both `user` and `password_file`, or neither"),
    ({"user": "gate", "password_file": "absent"}, "mail: cannot read absent; check the file's owner"),
    ({"user": "gate", "password_file": "empty"}, "mail: password_file is empty; write the password to it"),
    ({"user": "gate", "password_file": "accented"}, "mail: accented contains a character that is not ASCII"),
    ({"roots": "absent.pem"}, "mail: roots: there is no file absent.pem"),
    ({"reports": [DAILY, DAILY]}, "mail: report daily is defined twice; give each report a unique name"),
    ({"reports": [{**DAILY, "controller": "nobody"}]}, "mail: report daily: there is no controller nobody"),
    ({"reports": [{**DAILY, "recipients": []}]}, "mail.reports[0].recipients"),
    (
        {"reports": [{**DAILY, "recipients": ["a@b.example\nBcc: c@d.example"]}]},
        "mail.reports[0].recipients[0]",
    ),
    ({"sender": "dialgate"}, "mail.sender"),
]


@pytest.mark.parametrize(("changes", "problem"), MISTAKES)
def test_a_mistake_in_the_settings_is_named(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "accented").write_text("perché", "utf-8")
    mail = {**settings(MailServer(), DAILY), "port": 25, **changes}
    path = write_folder(tmp_path, mail=mail)
    with pytest.raises(ConfigError) as refused:
        loader.load(path)
    assert any(problem in found for found in refused.value.problems), refused.value.problems


def test_the_settings_of_the_page_are_valid() -> None:
    (block,) = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs/how-to/mail-reports.md").read_text("utf-8"), re.DOTALL
    )
    mail = msgspec.yaml.decode(block, type=dict[str, ReportMail])["mail"]
    assert list(faults(mail, {"acme"})) == []
    assert [(each.period, each.language) for each in mail.reports] == [("day", "it"), ("month", "en")]
