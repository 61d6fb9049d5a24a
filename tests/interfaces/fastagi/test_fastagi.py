"""The FastAGI server, with a fake Asterisk that fails on anything the real one would not accept."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from dialgate import decision_log
from dialgate.config.configuration import ConfigError
from dialgate.config.listeners import FastAgi
from dialgate.interfaces.deadline_timer import DeadlineTimer
from dialgate.interfaces.fastagi.protocol import (
    AgiReply,
    Environment,
    Hangup,
    Listener,
    NotAgi,
    set_variable,
    set_variables,
)
from dialgate.interfaces.fastagi.server import FastAgiServer as Door
from dialgate.interfaces.refusal_log import RefusalLog
from dialgate.tools.conformance.asterisk import agi
from tests.support import pbx
from tests.support.asterisk import Quirks, StrictChannel
from tests.support.pbx import Pbx, decision_and_reason
from tests.support.running_gate import serving
from tests.support.world import CALLER, CLEAR, KEY, LISTED, SCOPES, client, write_folder

ALLOW, LISTED_DENY = ("allow", ""), ("deny", "registry.listed")


@pytest.fixture
async def asterisk(tmp_path: Path) -> AsyncIterator[Pbx]:
    async with pbx.run_gate(tmp_path) as made:
        yield made


# ---- commands --------------------------------------------------------------------------------------------------------


async def test_a_lawful_call_is_allowed_with_the_decision_on_the_channel(asterisk: Pbx) -> None:
    channel = await asterisk.run_check(CLEAR)
    assert decision_and_reason(channel) == ALLOW
    assert channel.variables["AGISTATUS"] == "SUCCESS"
    assert channel.variables["DG_DECISION_ID"]
    assert channel.violations == []


async def test_an_unlawful_call_is_denied_with_its_reason(asterisk: Pbx) -> None:
    channel = await asterisk.run_check(LISTED)
    assert decision_and_reason(channel) == LISTED_DENY
    assert (channel.variables["DG_NOT_BEFORE"], channel.violations) == ("", [])


async def test_deny_is_sent_first_and_the_decision_last(asterisk: Pbx) -> None:
    """A connection that breaks at any point leaves the channel denied."""
    channel = await asterisk.run_check(CLEAR)
    first, answer = channel.said
    assert first == 'SET VARIABLE DG_DECISION "deny"'
    name = channel.variables["DG_DECISION_ID"]
    assert (
        answer
        == f'SET VARIABLE ARRAY(DG_REASON,DG_DECISION_ID,DG_NOT_BEFORE,DG_CLASS,DG_WOULD,DG_DECISION) ",{name},,,,allow"'
    )


async def test_variables_of_an_earlier_call_are_overwritten(asterisk: Pbx) -> None:
    left = {"DG_DECISION": "allow", "DG_REASON": "x", "DG_DECISION_ID": "x", "DG_NOT_BEFORE": "x"}
    channel = await asterisk.run_check(LISTED, variables=left)
    assert decision_and_reason(channel) == LISTED_DENY
    assert "x" not in channel.variables.values()


async def test_a_repeated_check_of_a_channel_counts_once(asterisk: Pbx) -> None:
    """For example, the first trunk was busy and the dialplan tries the next one."""
    first, second = [await asterisk.run_check(CLEAR) for _ in range(2)]
    other = await asterisk.run_check(CLEAR, uniqueid="1795510800.2")
    assert first.variables["DG_DECISION_ID"] == second.variables["DG_DECISION_ID"]
    assert other.variables["DG_DECISION_ID"] != first.variables["DG_DECISION_ID"]


async def test_a_call_may_be_stricter_than_its_campaign(asterisk: Pbx) -> None:
    assert decision_and_reason(await asterisk.run_check(CLEAR, "ai_voice")) == ("deny", "consent.missing")


ODD = [
    ("check", ("", "", ""), ("deny", "number.invalid")),
    ("check", (), ("deny", "number.invalid")),
    ("check", (CLEAR, "unknown", "acme-fibre"), ("deny", "caller_id.withheld")),
    ("check", (CLEAR, CALLER, "no-such"), ("deny", "campaign.unknown")),
    ("check", (CLEAR, CALLER, "acme-fibre", "loud"), ("deny", "request.invalid")),
    ("check", ("1" * 300, CALLER, "acme-fibre"), ("deny", "request.invalid")),
    ("check", (f"{CLEAR}\ufffd", CALLER, "acme-fibre"), ("deny", "number.invalid")),
    ("check", ('"', CALLER, "acme-fibre"), ("deny", "number.invalid")),
    ("check", (CLEAR, '"', "acme-fibre"), ("deny", "caller_id.withheld")),
    ("check", (CLEAR, CALLER, "a" * 4096), ("deny", "request.invalid")),
    ("check", ("$(rU{rest.escape})", CALLER, "acme-fibre"), ("deny", "number.invalid")),
    ("elsewhere", (CLEAR, CALLER, "acme-fibre"), ("deny", "path.unknown")),
    ("", (CLEAR, CALLER, "acme-fibre"), ("deny", "path.unknown")),
    ("check?x=1", (CLEAR, CALLER, "acme-fibre"), ALLOW),
]


@pytest.mark.parametrize(("script", "arguments", "answer"), ODD)
async def test_every_request_gets_an_answer(
    asterisk: Pbx, script: str, arguments: tuple[str, ...], answer: tuple[str, str]
) -> None:
    channel = asterisk.channel()
    await asterisk.agi(channel, script, *arguments)
    assert (decision_and_reason(channel), channel.violations) == (answer, [])


# ---- VICIdial --------------------------------------------------------------------------------------------------------

CODE = "V7152252280000844707"


async def test_vicidial_gets_a_denial_as_dialstatus(asterisk: Pbx) -> None:
    channel = await asterisk.run_check(LISTED, CODE, "acme-fibre", script="vicidial")
    assert decision_and_reason(channel) == LISTED_DENY
    assert (channel.variables["DIALSTATUS"], channel.variables["HANGUPCAUSE"]) == ("DNC", "34")


async def test_vicidial_keeps_a_lead_without_a_decision(asterisk: Pbx) -> None:
    """An outage must not mark a lead as do-not-call."""
    await asterisk.made.app._store.close()
    channel = await asterisk.run_check(CLEAR, CODE, "acme-fibre", script="vicidial")
    assert decision_and_reason(channel) == ("deny", "gate.unavailable")
    assert channel.variables["DIALSTATUS"] == "CONGESTION"


@pytest.mark.parametrize(
    ("code", "known"), [(CODE, True), ("DC7152252280000844707", True), ("Mario Rossi", False)]
)
async def test_vicidials_call_code_is_the_call_id(asterisk: Pbx, code: str, known: bool) -> None:
    """A repeated call code identifies the same call on any channel. Text that is not a call code identifies no call."""
    channels = [
        await asterisk.run_check(CLEAR, code, "acme-fibre", script="vicidial", uniqueid=f"1.{at}")
        for at in range(2)
    ]
    assert [decision_and_reason(channel) for channel in channels] == [ALLOW, ALLOW]
    assert len({channel.variables["DG_DECISION_ID"] for channel in channels}) == (1 if known else 2)
    assert "DIALSTATUS" not in channels[0].variables


# ---- errors ----------------------------------------------------------------------------------------------------------

HARMLESS = [
    Quirks(extra=("agi_future: yes", "agi_colon: a: b", "agi_empty:")),
    Quirks(arguments_first=True),
    Quirks(replies={"SET VARIABLE DG_DECISION": "100 result=0 Trying...\n200 result=1"}),
]  # fmt: skip
FATAL = [
    Quirks(hangup_before=1),
    *(Quirks(replies={f"SET VARIABLE {command}": reply})
      for command in ("DG_DECISION", "ARRAY")
      for reply in ("511 Command Not Permitted on a dead channel or intercept routine",
                    "520-Invalid command syntax.  Proper usage follows:\n200 result=1\n520 End of proper usage.",
                    "510 Invalid or unknown command", "200 result=-1", "what?", "x" * 9000)),
]  # fmt: skip


@pytest.mark.parametrize("quirks", HARMLESS)
async def test_new_variables_and_another_order_are_accepted(asterisk: Pbx, quirks: Quirks) -> None:
    assert decision_and_reason(await asterisk.run_check(CLEAR, quirks=quirks)) == ALLOW


@pytest.mark.parametrize("quirks", FATAL)
async def test_a_channel_with_a_failed_command_is_never_allowed(asterisk: Pbx, quirks: Quirks) -> None:
    channel = await asterisk.run_check(CLEAR, quirks=quirks)
    assert (channel.variables.get("DG_DECISION", "deny"), channel.violations) == ("deny", [])
    assert decision_and_reason(await asterisk.run_check(CLEAR)) == ALLOW, "the next call is served"


async def test_a_hang_up_during_the_check_leaves_no_allow(asterisk: Pbx) -> None:
    """The gate has already sent `allow`. The shipped dialplans check AGISTATUS, which reports the hang-up."""
    channel = await asterisk.run_check(CLEAR, quirks=Quirks(hangup_before=2))
    assert (channel.variables["AGISTATUS"], channel.violations) == ("HANGUP", [])


NOT_AGI = [
    b"agi_network_script: check\nagi_arg_1: 1\nagi_arg_1: 2\n\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"agi_network yes\n\n",
    b"\0" * 100 + b"\n",
    b"agi_x: " + b"y" * 40_000,
    b"agi_x: 1\n" * 5000,
]


@pytest.mark.parametrize("sent", NOT_AGI)
async def test_other_clients_than_asterisk_are_disconnected(asterisk: Pbx, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", asterisk.port)
    writer.write(sent)
    with suppress(ConnectionResetError):  # the server closed before it read everything
        assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()


@pytest.mark.parametrize("between", [b"510 Invalid or unknown command\n", b"HANGUP\n510 x\n", b"what?\n"])
async def test_replies_in_the_same_segment_as_a_failure_are_ignored(asterisk: Pbx, between: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", asterisk.port)
    writer.write(f"agi_network_script: check\nagi_arg_1: {CLEAR}\nagi_arg_2: {CALLER}\n".encode())
    writer.write(b"agi_arg_3: acme-fibre\n\n")
    assert await reader.readline() == b'SET VARIABLE DG_DECISION "deny"\n'
    writer.write(between + b"200 result=1\n" * 9)
    assert b"allow" not in await asyncio.wait_for(reader.read(), 2)
    writer.close()


async def test_a_half_closed_socket_gets_only_the_denial(asterisk: Pbx) -> None:
    """The client sends its environment but never replies to a command, so the gate sends only `deny`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", asterisk.port)
    writer.write(f"agi_network_script: check\nagi_arg_1: {CLEAR}\n\n".encode())
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 2) == b'SET VARIABLE DG_DECISION "deny"\n'
    writer.close()


async def test_a_decision_that_asterisk_does_not_read_is_logged(tmp_path: Path) -> None:
    """Asterisk has not replied to the first command by the deadline. The call ends as denied, without a reason on the channel."""
    async with pbx.run_gate(tmp_path, fastagi={"deadline_seconds": 0.5}) as asterisk:
        with capture_logs() as lines:
            reader, writer = await asyncio.open_connection("127.0.0.1", asterisk.port)
            writer.write(f"agi_network_script: check\nagi_arg_1: {CLEAR}\n\n".encode())
            assert await asyncio.wait_for(reader.read(), 5) == b'SET VARIABLE DG_DECISION "deny"\n'
            writer.close()
    reasons = [line["reason"] for line in lines if line["event"] == "calls refused"]
    assert reasons == ["Asterisk did not reply to the command before the decision"]


def test_refusals_are_counted_and_logged_once_a_second_per_reason() -> None:
    now = [100.0]
    refusals = RefusalLog("fastagi", lambda: now[0])
    with capture_logs() as lines:
        for at, reason in (
            (0, "late"),
            (0.1, "late"),
            (0.9, "late"),
            (0.9, "full"),
            (1.0, "late"),
            (1.5, "late"),
        ):
            now[0] = 100 + at
            refusals.add(reason, waited=0.25049)
    assert [(line["reason"], line["calls"], line["waited"]) for line in lines] == [
        ("late", 1, 0.25), ("full", 1, 0.25), ("late", 3, 0.25),
    ]  # fmt: skip


# ---- the deadline ----------------------------------------------------------------------------------------------------


async def test_a_late_gate_denies_at_the_deadline(tmp_path: Path) -> None:
    """The test holds the lock of the log until the response has arrived, so no decision can be written."""
    async with pbx.run_gate(tmp_path, fastagi={"deadline_seconds": 4}) as asterisk:
        app, loop = asterisk.made.app, asyncio.get_running_loop()
        with capture_logs() as lines:
            async with app._recorder.turn:
                begun = loop.time()
                channel = await asterisk.run_check(CLEAR)
                took = loop.time() - begun
        assert decision_and_reason(channel) == ("deny", "gate.unavailable")
        assert took > 1
        assert asterisk.made.sample("dialgate_faults_total", component="fastagi") == 1
        (line,) = [line for line in lines if line["event"] == "calls refused"]
        assert (line["component"], line["reason"], line["calls"]) == (
            "fastagi",
            "no decision by the deadline",
            1,
        )
        assert 1 < line["waited"] <= took
        assert decision_and_reason(await asterisk.run_check(CLEAR, uniqueid="1.2")) == ALLOW


class Asker:
    was_late = False

    def late(self) -> None:
        self.was_late = True


@pytest.mark.parametrize("behind", [0.0, 0.03])
async def test_a_deadline_fires_early_by_the_delay_of_the_event_loop(behind: float) -> None:
    """The denial is sent at most 250 ms after the call, although the event loop was late by `behind`."""
    now = 0.0
    due = DeadlineTimer(0.25, lambda: now)
    due.add(Asker(), 0.25)
    now = 0.005 + behind
    due.over()
    asker, gone = Asker(), Asker()
    due.add(asker, 0.25)
    due.drop(gone, due.add(gone, 0.25))
    begun = now
    while not asker.was_late:
        now += 0.005
        due.over()
    assert 0.25 - 0.011 - 2 * behind <= now - begun <= 0.25
    assert not gone.was_late


async def test_a_silent_client_is_closed_at_the_deadline(tmp_path: Path) -> None:
    async with pbx.run_gate(tmp_path, fastagi={"deadline_seconds": 0.1}) as asterisk:
        reader, writer = await asyncio.open_connection("127.0.0.1", asterisk.port)
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()


async def test_a_connection_over_the_limit_is_closed(tmp_path: Path) -> None:
    async with pbx.run_gate(tmp_path, fastagi={"connections": 1}) as asterisk:
        _, first = await asyncio.open_connection("127.0.0.1", asterisk.port)
        first.write(b"agi_network: yes\n")
        channel = await asterisk.run_check(CLEAR)
        assert (channel.variables["AGISTATUS"], "DG_DECISION" in channel.variables) == ("SUCCESS", False)
        first.close()


async def test_closing_waits_for_checks_in_progress(tmp_path: Path) -> None:
    async with pbx.run_gate(tmp_path) as asterisk:
        reader, writer = await asyncio.open_connection("127.0.0.1", asterisk.port)
        writer.write(f"agi_network_script: check\nagi_arg_1: {LISTED}\n\n".encode())
        assert await reader.readline() == b'SET VARIABLE DG_DECISION "deny"\n'
        closing = asyncio.create_task(asterisk.server.close())
        writer.write(b"200 result=1\n")
        assert (await reader.readline()).startswith(b"SET VARIABLE ARRAY(DG_REASON,")
        writer.close()
        await closing


async def test_a_port_in_use_is_a_configuration_error(asterisk: Pbx) -> None:
    config = asterisk.made.app.config
    taken = replace(config, settings=replace(config.settings, fastagi=FastAgi(port=asterisk.port)))
    asterisk.made.app.gate.config = taken
    with pytest.raises(ConfigError, match=r"fastagi: 127\.0\.0\.1"):
        await Door(asterisk.made.app).start()


# ---- authorisation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"sources": ["192.0.2.0/24"]}, "auth.missing"), ({"scopes": ["simulate"]}, "auth.scope")],
)
async def test_a_client_without_scope_is_denied_with_the_reason(
    tmp_path: Path, changes: dict[str, list[str]], code: str
) -> None:
    async with pbx.run_gate(tmp_path) as asterisk:
        app = asterisk.made.app
        app.reload(pbx.reconfigured(app.config, changes))
        assert decision_and_reason(await asterisk.run_check(CLEAR)) == ("deny", code)


async def test_a_client_of_another_controller_cannot_use_the_campaign(tmp_path: Path) -> None:
    async with pbx.run_gate(tmp_path) as asterisk:
        app = asterisk.made.app
        app.reload(pbx.reconfigured(app.config, {"controllers": []}))
        assert decision_and_reason(await asterisk.run_check(CLEAR)) == ("deny", "campaign.unknown")


async def test_every_allow_that_was_sent_is_in_the_log(asterisk: Pbx) -> None:
    channels = await asyncio.gather(
        *(asterisk.run_check(to, uniqueid=f"1.{at}") for at in range(3) for to in (CLEAR, LISTED))
    )
    allowed = sum(decision_and_reason(channel)[0] == "allow" for channel in channels)
    report = decision_log.verify(asterisk.made.app.config.data / "log")
    assert (report.ok, report.allows, report.denies) == (True, allowed, len(channels) - allowed)


# ---- the protocol, without sockets -----------------------------------------------------------------------------------

CONVERSATION = (
    b"agi_network: yes\nagi_network_script: check\nagi_callerid: unknown\nagi_arg_1: a: b\nagi_arg_2:\n\n"
    b"200 result=1\nHANGUP\n200 result=1 (a (b)\n200 result= (timeout)\n520-Usage\n200 result=1\n520 End.\n"
    b"511 Command Not Permitted\n"
)


@pytest.mark.parametrize("size", [1, 2, 7, 8192])
def test_bytes_may_arrive_in_any_pieces(size: int) -> None:
    listener = Listener()
    pieces = [CONVERSATION[at : at + size] for at in range(0, len(CONVERSATION), size)]
    said = [item for piece in pieces for item in listener.feed(piece)]
    environment = said.pop(0)
    assert isinstance(environment, Environment)
    assert (environment.script, environment.arguments) == ("check", ("a: b", ""))
    assert said == [
        AgiReply(200, "1"),
        Hangup(),
        AgiReply(200, "1", "a (b"),
        AgiReply(200, "", "timeout"),
        AgiReply(520),
        AgiReply(511),
    ]


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "a b", "a,b", "x" * 257, "\u00e9"])
def test_values_that_need_escaping_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="not allowed in an AGI command"):
        set_variable("DG_REASON", value)
    with pytest.raises(ValueError, match="not allowed in an AGI command"):
        set_variable(value, "x")
    with pytest.raises(ValueError, match="not allowed in an AGI command"):
        set_variables([("DG_REASON", value), ("DG_DECISION", "deny")])


def test_an_invalid_reply_ends_the_connection_and_is_not_repeated() -> None:
    listener = Listener()
    list(listener.feed(b"agi_network: yes\n\n"))
    with pytest.raises(NotAgi) as raised:
        list(listener.feed(b"0612345678\n"))
    assert "0612345678" not in str(raised.value)


# ---- with real processes ---------------------------------------------------------------------------------------------


async def test_ten_thousand_idle_connections_do_not_keep_a_call_waiting(tmp_path: Path) -> None:
    """The gate is a real `dialgate serve`. If the limit on open files is below 11,000, there are fewer connections."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = min(10_000, hard - 1_000)
    path = write_folder(
        tmp_path,
        clients=[client("tests", KEY, *SCOPES), pbx.PBX],
        fastagi={"port": 0, "deadline_seconds": 10},
    )
    async with serving(path) as app:
        port = app.port("fastagi")
        idle = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(wanted)]
        channel = StrictChannel(extension=LISTED, caller=CALLER)
        begun = asyncio.get_running_loop().time()
        await agi(channel, f"agi://127.0.0.1:{port}/check", LISTED, CALLER, "acme-fibre")
        assert decision_and_reason(channel)[0] == "deny"
        assert channel.variables["DG_DECISION_ID"], "decided, and not merely refused"
        assert asyncio.get_running_loop().time() - begun < 5
        for connection in idle:
            connection.close()
