"""Reconciliation finds and classifies every call that bypassed the gate, in files of different switches."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from typer.testing import CliRunner

from dialgate.audit.reconciliation import cdr, matching
from dialgate.audit.reconciliation.cdr import CdrUnreadable, Columns
from dialgate.audit.reconciliation.cdr_asterisk import Trunks
from dialgate.audit.reconciliation.matching import Node, ReconciliationReport
from dialgate.config.clients import Client
from dialgate.core.model import DAY, MINUTE, SECOND, Call
from dialgate.crypto.keys import KeyRetired, Keys
from dialgate.decision_log.archive import segments_to_pack
from dialgate.decision_log.archive.packing import pack
from dialgate.interfaces.cli import main
from tests.support import world
from tests.support.world import CALLER, CLEAR, LIST, LISTED, NOW, World, publish_answers

OTHERS = [f"+3906123470{at:02}" for at in range(40)]
LINE = "+390612340000"


class Row(Struct):
    """A row of a switch's file: a call placed `after` seconds after NOW."""

    called: str
    after: float = 1
    caller: str = CALLER
    call_id: str = ""
    status: str = "200"
    decision: str = ""


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, log_segment_mb=1) as made:
        publish_answers(made.app.config.data, dict.fromkeys(OTHERS, False), NOW - DAY)
        await made.post("/v1/lists", LIST | {"numbers": [CLEAR, LISTED, *OTHERS]})
        await made.app.tick()
        yield made


async def check_number(gate: World, to: str, *, after: int = 0, call_id: str = "") -> str:
    """Decide on a number `after` seconds from NOW and return the decision id."""
    gate.hand.at = NOW + after * SECOND
    client = Client(name="tests", controllers=("acme",), scopes=("check",))
    call = Call(to=to, from_=CALLER, campaign="acme-fibre", call_id=call_id)
    return (await gate.app.gate.check(call, client)).decision_id


def write_calls(folder: Path, rows: list[Row]) -> Path:
    path = folder / "trunk.csv"
    lines = ["time,called,caller,call_id,status,decision"]
    for row in rows:
        at = datetime.fromtimestamp(NOW / 1000 + row.after, UTC).isoformat()
        lines.append(f"{at},{row.called},{row.caller},{row.call_id},{row.status},{row.decision}")
    path.write_text("\n".join(lines) + "\n")
    return path


def reconcile_file(
    gate: World, path: Path, format_: cdr.Format = "csv", zone: str = "UTC", trunks: Trunks | None = None
) -> ReconciliationReport:
    data = gate.app.config.data
    calls = cdr.read(path, format_, Columns(), zone, "", trunks)
    nodes = Node.all(data)
    own = frozenset({LINE, CALLER})
    return matching.reconcile([calls], nodes, home="IT", own=own, skew=5 * SECOND)


def kinds(report: ReconciliationReport) -> list[tuple[int, str]]:
    return [(finding.line, finding.kind) for finding in report.findings]


async def test_every_kind_of_bypass_is_found(gate: World, tmp_path: Path) -> None:
    named = await check_number(gate, OTHERS[0], call_id="c-0")
    for number in (*OTHERS[1:8], LISTED):
        await check_number(gate, number)
    rows = [
        Row(OTHERS[0], call_id="c-0"),  # line 2
        Row(OTHERS[1], after=-4),  # within the skew
        Row(OTHERS[2], after=15 * 60 + 4),
        Row(OTHERS[3].removeprefix("+39"), caller=CALLER.removeprefix("+39")),
        Row("+390612999999"),  # 6: no check
        Row(LISTED),  # 7
        Row(OTHERS[4], after=15 * 60 + 6),  # 8
        Row(OTHERS[5], after=-6),  # 9: before its decision
        Row(OTHERS[6]),
        Row(OTHERS[6], after=2),  # 11
        Row(OTHERS[7], caller="+390699999999"),  # 12
        Row("+390612888888", call_id="c-0"),  # 13
        Row("+390612777777", decision=named),  # 14
        Row("anonymous"),  # 15
        Row(LINE, caller="+390699999999"),  # a probe
    ]
    report = reconcile_file(gate, write_calls(tmp_path, rows))
    assert kinds(report) == [
        (6, "undecided"), (7, "denied"), (8, "expired"), (9, "undecided"), (11, "twice"), (12, "other_caller_id"),
        (13, "other_number"), (14, "other_number"), (15, "unreadable"),
    ]  # fmt: skip
    assert (report.calls, report.matched, report.own, report.legs) == (14, 5, 1, 0)
    assert report.findings[6].decision == named


async def test_a_call_that_shadow_mode_let_through_is_no_bypass(tmp_path: Path) -> None:
    async with world.running(tmp_path, shadow_until=date(2026, 11, 30)) as gate:
        await check_number(gate, LISTED)
        report = reconcile_file(gate, write_calls(tmp_path, [Row(LISTED), Row(OTHERS[0])]))
    assert (report.matched, report.shadow, kinds(report)) == (0, 1, [(3, "undecided")])


async def test_call_on_a_second_trunk_is_one_call(gate: World, tmp_path: Path) -> None:
    for number in OTHERS[:3]:
        await check_number(gate, number)
    rows = [
        Row(OTHERS[0], call_id="a", status="503"), Row(OTHERS[0], after=2, call_id="a", status="486"),
        Row(OTHERS[0], after=4, call_id="a"),
        Row(OTHERS[1], call_id="b"), Row(OTHERS[1], after=60, call_id="b"),  # 6: it was already answered
        Row(OTHERS[2], call_id="c", status="503"), Row(OTHERS[2], after=2, call_id="d"),  # 8: another call
    ]  # fmt: skip
    report = reconcile_file(gate, write_calls(tmp_path, rows))
    assert (kinds(report), report.legs) == ([(6, "twice"), (8, "twice")], 2)


async def test_matching_is_maximal_and_uses_each_allow_once(gate: World, tmp_path: Path) -> None:
    """The number of matches equals that of the largest matching, found by brute force."""
    data = gate.app.config.data
    number = OTHERS[0]
    decision_ids = [await check_number(gate, number, after=at) for at in (0, 300, 600, 900)]
    assert all(decision_ids)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(-100, 2000), max_size=6))
    def compare(times: list[int]) -> None:
        path = write_calls(tmp_path, [Row(number, after=at) for at in times])
        nodes = Node.all(data)
        calls = [cdr.read(path, "csv", Columns(), "UTC")] if times else []
        report = matching.reconcile(calls, nodes, home="IT", own=frozenset(), skew=5 * SECOND)
        assert report.matched == largest_matching(sorted(times), (0, 300, 600, 900))

    await asyncio.to_thread(compare)


def largest_matching(times: list[int], allows: tuple[int, ...]) -> int:
    if not times:
        return 0
    at, *rest = times
    fits = [allow for allow in allows if allow - 5 <= at <= allow + 905]
    taken = [1 + largest_matching(rest, tuple(other for other in allows if other != fit)) for fit in fits]
    return max([largest_matching(rest, allows), *taken])


async def test_archived_log_gives_the_same_report(gate: World, tmp_path: Path) -> None:
    for at, number in enumerate(OTHERS[:4]):
        await check_number(gate, number, call_id=f"c-{at}")
    rows = [
        Row(OTHERS[0]),
        Row(OTHERS[1]),
        Row(OTHERS[1]),
        Row(LISTED),
        Row("+390612888888", call_id="c-2"),
    ]
    before = reconcile_file(gate, write_calls(tmp_path, rows))
    await asyncio.gather(
        *(check_number(gate, f"+39061299{at:04}") for at in range(4_000))
    )  # more than one file
    gate.hand.at = NOW + 2 * MINUTE
    await gate.app.tick()  # makes the checkpoint that archiving needs
    assert [pack(segment) for segment in segments_to_pack(gate.app.config.data / "log", NOW + DAY)]
    after = reconcile_file(gate, write_calls(tmp_path, rows))
    assert (after.findings, after.matched) == (before.findings, before.matched)
    assert kinds(before) == [(4, "twice"), (5, "undecided"), (6, "other_number")]


async def test_retired_month_cannot_be_reconciled(gate: World, tmp_path: Path) -> None:
    await check_number(gate, CLEAR)
    keys = Keys.open(gate.app.config.data / "keys.json")
    keys.month(NOW + 40 * DAY)
    keys.retire("2026-11")
    with pytest.raises(KeyRetired, match="2026-11"):
        reconcile_file(gate, write_calls(tmp_path, [Row(CLEAR)]))


# ---- files of switches -----------------------------------------------------------------------------------------------

_MASTER = '"","{}","{}","dialer","""Acme"" <{}>","PJSIP/a-1","PJSIP/trunk-2","{}","{}","{}","","{}",{},0,"{}","DOCUMENTATION","{}",""'


def master(called: str, dialled: str, *, app: str = "Dial", at: str = "2026-11-24 10:00:02", end: str = "ANSWERED", uniqueid: str = "1.1") -> str:  # fmt: skip
    return _MASTER.format(CALLER, called, CALLER, app, dialled, at, at, 9, end, uniqueid)


async def test_asterisk_number_is_the_dialled_one(gate: World, tmp_path: Path) -> None:
    """The dialled extension has a prefix, and times are in Rome's local time."""
    for number in OTHERS[:4]:
        await check_number(gate, number)
    path = tmp_path / "Master.csv"
    lines = [
        master(f"9{OTHERS[0]}", f"PJSIP/{OTHERS[0]}@trunk,60,Tt"),
        master(f"9{OTHERS[1]}", f"PJSIP/trunk/sip:{OTHERS[1]}@sbc.example,60"),
        master(OTHERS[2], f"SIP/trunk/{OTHERS[2]},60", end="CONGESTION", uniqueid="1.2"),
        master(OTHERS[2], f"SIP/backup/{OTHERS[2]}", at="2026-11-24 10:00:09", uniqueid="1.2"),
        master("+390612999999", "agi://127.0.0.1/check", app="AGI"),
        master(OTHERS[3], f"PJSIP/{LISTED}@trunk"),
        master(OTHERS[3], f"PJSIP/{OTHERS[3]}@trunk&PJSIP/{LISTED}@trunk"),
    ]
    path.write_text("\n".join(lines) + "\n")
    report = reconcile_file(gate, path, "asterisk", "Europe/Rome", Trunks(names=("trunk", "backup")))
    assert (kinds(report), report.matched, report.legs) == ([(6, "undecided"), (7, "unreadable")], 3, 1)


DESTINATIONS = ["PJSIP/1234#{}@trunk", "DAHDI/g1/ww{}", "PJSIP/trunk/sip:{};npdi@sbc.example", "PJSIP/trunk/tel:{}", "SIP/trunk/*31#{}"]  # fmt: skip


async def test_asterisk_number_is_read_behind_a_prefix(gate: World, tmp_path: Path) -> None:
    """The extension may be an allowed number, but another one is dialled."""
    for number in OTHERS[:2]:
        await check_number(gate, number)
    for dest in DESTINATIONS:
        path = tmp_path / "Master.csv"
        path.write_text(
            master(OTHERS[0], dest.format(OTHERS[0])) + "\n" + master(OTHERS[1], dest.format(LISTED)) + "\n"
        )
        found = kinds(reconcile_file(gate, path, "asterisk", "Europe/Rome", TRUNKS))
        assert found == [(2, "undecided")], dest


TRUNKS = Trunks(names=("trunk",), incoming=("from-trunk",))


def cdr_row(app: str, data: str, a: str, b: str = "", **others: str) -> str:
    """Return a row as Asterisk 22.10.1 (cdr_csv) writes it, with times in UTC and channels `a` and `b`."""
    cells = {
        "accountcode": "", "src": CALLER, "dst": "s", "dcontext": "out", "clid": f'"" <{CALLER}>', "channel": a,
        "dstchannel": b, "lastapp": app, "lastdata": data, "start": "2026-11-24 09:00:02", "answer": "",
        "end": "2026-11-24 09:00:12", "duration": "10", "billsec": "0", "disposition": "ANSWERED",
        "amaflags": "DOCUMENTATION", "uniqueid": "1795510800.1", "userfield": "",
    } | others  # fmt: skip
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells.values())


def reconcile_asterisk(
    gate: World, path: Path, rows: list[str], trunks: Trunks | None = TRUNKS
) -> ReconciliationReport:
    path.write_text("\n".join(rows) + "\n")
    calls = cdr.read(path, "asterisk", Columns(), "UTC", "", trunks)
    nodes = Node.all(gate.app.config.data)
    return matching.reconcile([calls], nodes, home="IT", own=frozenset({LINE}), skew=5 * SECOND)


INTERNAL = [
    cdr_row("Dial", "PJSIP/1001,10", "PJSIP/dialer-00000001", "PJSIP/1001-00000002", dst="1001"),
    cdr_row("Dial", f"Local/{OTHERS[0]}@out/n", "PJSIP/dialer-00000003", "Local/9@out-00000001;1", dst=OTHERS[0]),
    cdr_row("Wait", "2", "Local/9@out-00000001;1", dst=OTHERS[0]),
    cdr_row("Dial", f"PJSIP/1001&PJSIP/{OTHERS[1]}@trunk", "PJSIP/dialer-00000005", "PJSIP/1001-00000006"),
    cdr_row("ConfBridge", "5", "PJSIP/agent-00000007", "PJSIP/trunk-00000010"),  # the first call of `CALLS`, later
    cdr_row("AGI", "agi://127.0.0.1/recall,it", "PJSIP/trunk-00000008", dcontext="from-trunk", dst=LINE),
]  # fmt: skip
CALLS = [
    cdr_row("Dial", f"PJSIP/{OTHERS[0]}@trunk,60", "Local/9@out-00000001;2", "PJSIP/trunk-00000010"),
    cdr_row("Dial", f"PJSIP/1001&PJSIP/{OTHERS[1]}@trunk", "PJSIP/dialer-00000005", "PJSIP/trunk-00000011"),
]


async def test_only_rows_with_the_trunk_are_calls(gate: World, tmp_path: Path) -> None:
    for number in OTHERS[:2]:
        await check_number(gate, number)
    report = reconcile_asterisk(gate, tmp_path / "Master.csv", [*CALLS, *INTERNAL])
    assert (kinds(report), report.calls, report.matched) == ([], 2, 2)


# As Asterisk 22.10.1 wrote them with chan_pjsip: a checked call, a call between telephones, and one originated at the trunk.
MASTER = f"""\
"","{CALLER}","{OTHERS[0]}","dialgate-out",""\""" <{CALLER}>","Local/{OTHERS[0]}@test-calls-00000001;2","PJSIP/trunk-00000000","Dial","PJSIP/{OTHERS[0]}@trunk,60,i","2026-11-24 09:00:10","2026-11-24 09:00:10","2026-11-24 09:00:11",1,1,"ANSWERED","DOCUMENTATION","1796129290.3"
"","","1001","int",""\""" <>","Local/1001@int-00000002;2","PJSIP/1001-00000001","Dial","PJSIP/1001,5","2026-11-24 09:00:14","2026-11-24 09:00:14","2026-11-24 09:00:15",1,1,"ANSWERED","DOCUMENTATION","1796129294.6"
"","","s","from-trunk",""\""" <>","PJSIP/trunk-00000003","","Wait","1","2026-11-24 09:00:22","2026-11-24 09:00:22","2026-11-24 09:00:23",1,1,"ANSWERED","DOCUMENTATION","1796129302.9"
"""


async def test_command_finds_the_originated_call_and_not_the_internal_one(
    gate: World, tmp_path: Path
) -> None:
    """Without the trunk's name neither could be told: an internal call was a bypass, an originated one was missed."""
    await check_number(gate, OTHERS[0])
    path = tmp_path / "Master.csv"
    path.write_text(MASTER)
    assert (await command(gate, str(path), "--format", "asterisk"))[0] == 2
    code, output = await command(gate, str(path), "--format", "asterisk", "--trunk", "trunk")
    found = [(finding["line"], finding["kind"]) for finding in output["findings"]]
    assert (code, found, output["calls"], output["allowed"]) == (1, [(3, "originated")], 2, 1)


BY_PASSES: list[tuple[list[str], list[tuple[int, str]]]] = [
    # Originated through the trunk for an application: the row has the trunk's own context, and no number at all.
    ([cdr_row("Wait", "1", "PJSIP/trunk-00000001", dcontext="from-trunk", src="")], [(1, "originated")]),
    # Continued in the dialplan, where it rings two agents in turn: one call.
    ([cdr_row("Dial", "PJSIP/1001", "PJSIP/trunk-00000001", "PJSIP/1001-00000002", dcontext="agents", dst="100"),
      cdr_row("Dial", "PJSIP/1002", "PJSIP/trunk-00000001", "PJSIP/1002-00000003", dcontext="agents", dst="100",
              start="2026-11-24 09:00:12")],
     [(1, "originated")]),
    # Continued to an allowed number: only the second call has an allow.
    ([cdr_row("Dial", f"PJSIP/{OTHERS[0]}@trunk", "PJSIP/trunk-00000001", "PJSIP/trunk-00000002", dst=OTHERS[0])],
     [(1, "originated")]),
    # A queue with a number at the trunk as member.
    ([cdr_row("Queue", "sales", "PJSIP/dialer-00000001", "PJSIP/trunk-00000002", dst="600")], [(1, "originated")]),
    ([cdr_row("RetryDial", "Retrying", "PJSIP/dialer-00000001", "PJSIP/trunk-00000002", dst=LISTED)], [(1, "undecided")]),
    # Each attempt of RetryDial is a call.
    ([cdr_row("RetryDial", "Retrying", "PJSIP/dialer-00000001", f"PJSIP/trunk-0000000{at}", dst=OTHERS[0],
              disposition="NO ANSWER") for at in (2, 3)],
     [(2, "twice")]),
    # No channel could be created.
    ([cdr_row("Dial", f"PJSIP/{LISTED}@trunk,60", "PJSIP/dialer-00000001", disposition="FAILED"),
      cdr_row("Dial", "PJSIP/1001", "PJSIP/dialer-00000002", disposition="FAILED")], [(1, "undecided")]),
    ([cdr_row("Dial", f"PJSIP/{OTHERS[0]}@trunk&PJSIP/{LISTED}@trunk", "PJSIP/dialer-00000001", "PJSIP/trunk-00000002")],
     [(1, "unreadable")]),
    # The same channel name after a restart, hours later, is another channel.
    ([CALLS[0], cdr_row("Wait", "1", "PJSIP/trunk-00000010", start="2026-11-24 12:00:00", end="2026-11-24 12:00:09")],
     [(2, "originated")]),
]  # fmt: skip


async def test_originated_call_is_found(gate: World, tmp_path: Path) -> None:
    await check_number(gate, OTHERS[0])
    for rows, found in BY_PASSES:
        assert kinds(reconcile_asterisk(gate, tmp_path / "Master.csv", rows)) == found, rows


async def test_trunk_is_named_by_its_endpoint(gate: World, tmp_path: Path) -> None:
    rows = [
        cdr_row("Dial", f"IAX2/me:secret@trunk/{LISTED},60", "PJSIP/dialer-1", "IAX2/trunk-13668"),
        cdr_row("Dial", f"DAHDI/g1/{LISTED}", "PJSIP/dialer-2", f"DAHDI/i1/{LISTED}-1f"),
        cdr_row("Dial", f"SIP/trunk/{LISTED}", "PJSIP/dialer-3", "SIP/trunk-0000002a"),
    ]
    for name, lines in {"trunk": [1, 3], "IAX2/trunk": [1], "DAHDI/i1": [2], "SIP/trunk": [3]}.items():
        report = reconcile_asterisk(gate, tmp_path / "Master.csv", rows, Trunks(names=(name,)))
        assert kinds(report) == [(line, "undecided") for line in lines], name


async def test_incoming_call_without_number_needs_its_context_named(gate: World, tmp_path: Path) -> None:
    rows = [cdr_row("AGI", "x", "PJSIP/trunk-00000001", dcontext="from-trunk", dst="s")]
    for incoming, found in (("from-trunk", [(1, "originated")]), ("from-trunk/s", [])):
        trunks = Trunks(names=("trunk",), incoming=(incoming,))
        assert kinds(reconcile_asterisk(gate, tmp_path / "Master.csv", rows, trunks)) == found


async def test_master_csv_with_any_optional_columns(gate: World, tmp_path: Path) -> None:
    """A call that tries two trunks counts once if the rows have its call id, otherwise twice."""
    await check_number(gate, OTHERS[0])
    rows = [
        cdr_row("Dial", f"PJSIP/{OTHERS[0]}@{trunk}", "PJSIP/dialer-00000001", f"PJSIP/{trunk}-00000002",
                disposition="NO ANSWER")
        for trunk in ("trunk", "other")
    ]  # fmt: skip
    cells = [row.split(",") for row in rows]
    for has_id, has_field, has_new in product((False, True), repeat=3):
        shown = [[*cell[:16], *cell[16:17] * has_id, *cell[17:] * has_field] for cell in cells]
        lines = [",".join([*item, *['"","1795510800.1",7'] * has_new]) for item in shown]
        report = reconcile_asterisk(gate, tmp_path / "Master.csv", lines, Trunks(names=("trunk", "other")))
        assert (kinds(report), report.legs) == (([], 1) if has_id else ([(2, "twice")], 0))


LOGGED = "Nov 24 09:00:01 sbc /usr/sbin/kamailio[77]: NOTICE: acc [acc.c:287]: acc_log_request(): ACC: transaction answered: timestamp={};method={};from_tag=a;to_tag=b;call_id={};code=200;reason=OK;src_user={};dst_user={}"  # fmt: skip


async def test_kamailio_log_and_table_are_read(gate: World, tmp_path: Path) -> None:
    for number in OTHERS[:4]:
        await check_number(gate, number)
    second = NOW // 1000 + 1
    path = tmp_path / "kamailio.log"
    path.write_text(
        "Nov 24 09:00:00 sbc kernel: something else\n"
        + LOGGED.format(second, "INVITE", "a", CALLER, OTHERS[0]) + "\n"
        + LOGGED.format(second, "BYE", "a", CALLER, "+390612999999") + "\n"
        + LOGGED.format(second, "INVITE", "b", CALLER, "+390612999999") + "\n"
    )  # fmt: skip
    assert kinds(reconcile_file(gate, path, "kamailio")) == [(4, "undecided")]
    path.write_text(
        '"id";"method";"from_tag";"to_tag";"callid";"sip_code";"sip_reason";"time";"src_user";"dst_user"\n'
        f'1;"INVITE";"a";"b";"c@x";"200";"OK";"2026-11-24 09:00:01";"{CALLER}";"{OTHERS[1]}"\n'
        f'2;"INVITE";"a";"b";"d@x";"200";"OK";"2026-11-24 09:00:01.5";"{CALLER}";"{LISTED}"\n'
    )
    assert kinds(reconcile_file(gate, path, "kamailio")) == [(3, "undecided")]


async def test_call_id_cannot_change_the_fields_of_a_logged_call(gate: World, tmp_path: Path) -> None:
    """A dialer chooses its Call-ID. Kamailio logs it unchanged, before the numbers."""
    await check_number(gate, OTHERS[0])
    second, path = NOW // 1000 + 1, tmp_path / "kamailio.log"
    path.write_text(
        LOGGED.format(second, "INVITE", "a;text=;time=;sip_code=", CALLER, OTHERS[0]) + "\n"
        + LOGGED.format(second, "INVITE", f"b;dst_user={LINE}", CALLER, "+390612999999") + "\n"
        + LOGGED.format(second, "INVITE", f"c;src_user={CALLER};dst_user={OTHERS[0]}", "1", LISTED) + "\n"
    )  # fmt: skip
    assert kinds(reconcile_file(gate, path, "kamailio")) == [(2, "undecided"), (3, "undecided")]


TIMES = [("1795510801", True), ("1795510801.5", True), ("2026-11-24T09:00:01Z", True), ("2026-11-24T10:00:01+01:00", True),
         ("2026-11-24 09:00:01", True), ("24/11/2026 09:00", False), ("", False)]  # fmt: skip


@pytest.mark.parametrize(("time", "known"), TIMES)
def test_times_are_read_in_the_formats_of_switches(tmp_path: Path, time: str, known: bool) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"start,dst,cli\n{time},1,2\n")
    names = Columns(time="start", called="dst", caller="cli")
    (at,) = (call.at for call in cdr.read(path, "csv", names, "UTC").calls)
    assert (at // SECOND == NOW // SECOND + 1) == known
    assert known or at == cdr.UNREADABLE


UNREADABLE: list[tuple[cdr.Format, str, str, Columns]] = [
    ("csv", "", "UTC", Columns()),
    ("csv", "a,b\n1,2\n", "UTC", Columns()),
    ("csv", "time,called,caller\n1,2\n", "UTC", Columns()),
    ("csv", "time,called,caller\n2026-11-24 09:00:01,+39061234,1\n", "Europe/Atlantis", Columns()),
    ("csv", "time,called,caller\n1,+39061234,3\n", "UTC", Columns(called="number")),
    ("csv", "time,called,caller\n1,+39061234,3\n", "UTC", Columns(only=(("trunk", "x"),))),
    ("csv", 'time,called,caller\n1,"+39061234,3\n1,+39061234,3\n1,2",3\n', "UTC", Columns()),  # hides a row
    ("asterisk", "time,called,caller\n1,2,3\n", "UTC", Columns()),
    ("asterisk", ",".join(["+39061234"] * 22), "UTC", Columns()),
]


@pytest.mark.parametrize(("format_", "text", "zone", "columns"), UNREADABLE)
def test_wrong_file_is_refused_without_showing_a_number(
    tmp_path: Path, format_: cdr.Format, text: str, zone: str, columns: Columns
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(CdrUnreadable) as refused:
        cdr.read(path, format_, columns, zone)
    assert "39061234" not in str(refused.value)


# ---- the command -----------------------------------------------------------------------------------------------------


async def command(gate: World, *words: str) -> tuple[int, Any]:
    given = ["reconcile", *words, "--config", str(gate.folder / "dialgate.yaml"), "--json"]
    done = await asyncio.to_thread(CliRunner().invoke, main.app, given)
    return done.exit_code, json.loads(done.stdout)


async def test_command_shows_numbers_only_with_a_purpose(gate: World, tmp_path: Path) -> None:
    await check_number(gate, OTHERS[0])
    rows = [Row(OTHERS[0], call_id=f"{OTHERS[0]}@x"), Row(LISTED, call_id=f"{LISTED}@x", caller=OTHERS[1])]
    path, metrics = str(write_calls(tmp_path, rows)), tmp_path / "out" / "reconcile.prom"
    code, output = await command(gate, path, "--format", "csv", "--textfile", str(metrics))
    assert (code, output["ok"], output["allowed"]) == (1, False, 1)
    (found,) = output["findings"]
    assert (found["kind"], found["line"], found["caller_id"]) == ("undecided", 3, "other")
    text = json.dumps(output) + metrics.read_text()
    assert not any(number[3:] in text for number in (LISTED, *OTHERS))
    assert 'dialgate_reconcile_findings{kind="undecided"} 1.0' in metrics.read_text()
    assert 'dialgate_reconcile_findings{kind="denied"} 0.0' in metrics.read_text()

    code, output = await command(gate, path, "--format", "csv", "--show")
    assert (code, output["error"]["field"]) == (2, "purpose")
    _, output = await command(
        gate, path, "--format", "csv", "--show", "--purpose", "a by-pass of 24 November"
    )
    assert output["findings"][0]["number"] == LISTED
    seen = await gate.app.subjects.lookups.find("acme", LISTED)
    assert [(item.what, item.purpose) for item in seen] == [("reconciliation", "a by-pass of 24 November")]


async def test_wrong_time_zone_is_detected(gate: World, tmp_path: Path) -> None:
    """With usegmtime=yes, the file has times in UTC, but the command gets `--timezone Europe/Rome`."""
    for number in OTHERS[:5]:
        await check_number(gate, number)
    path = tmp_path / "Master.csv"
    rows = [cdr_row("Dial", f"PJSIP/{number}@trunk", "PJSIP/a-1", "PJSIP/trunk-2") for number in OTHERS[:5]]
    path.write_text("\n".join(rows) + "\n")
    words = (str(path), "--format", "asterisk", "--trunk", "trunk")
    code, output = await command(gate, *words)
    assert (code, output["hints"]) == (0, [])
    code, output = await command(gate, *words, "--timezone", "Europe/Rome")
    assert (code, output["counts"]["undecided"]) == (1, 5)
    (hint,) = output["hints"]
    assert "differ by exactly 1 h" in hint
    assert "usegmtime" in hint
    _, output = await command(gate, *words, "--timezone", "America/New_York")
    assert "exactly 5 h" in output["hints"][0]


async def test_calls_without_a_decision_do_not_suggest_a_wrong_zone(gate: World, tmp_path: Path) -> None:
    await check_number(gate, OTHERS[0])
    rows = [Row(OTHERS[0], after=3_602), *(Row(number) for number in OTHERS[1:5])]
    _, output = await command(gate, str(write_calls(tmp_path, rows)), "--format", "csv")
    assert (output["counts"]["undecided"], output["counts"]["expired"], output["hints"]) == (4, 1, [])


async def test_command_lists_the_trunks(gate: World, tmp_path: Path) -> None:
    await check_number(gate, OTHERS[0])
    path = tmp_path / "Master.csv"
    rows = [
        *CALLS, *INTERNAL,
        cdr_row("Dial", "PJSIP/7@2", "PJSIP/a-2", f"PJSIP/{OTHERS[0][1:]}-00000001"),
        cdr_row("Wait", "1", "PJSIP/trunk-00000001", dcontext="agents"),
    ]  # fmt: skip
    path.write_text("\n".join(rows) + "\n")
    words = (str(path), "--format", "asterisk")
    code, output = await command(gate, *words)
    assert (code, output["error"]["code"]) == (2, "cdr.unreadable")
    assert "Name the trunk with --trunk" in output["error"]["message"]
    assert "PJSIP/trunk (5), PJSIP/dialer (4), PJSIP/1001 (2)" in output["error"]["message"]
    code, output = await command(gate, *words, "--trunk", "tunk")
    assert (code, output["error"]["code"]) == (2, "cdr.unreadable")
    assert "check --trunk" in output["error"]["message"]
    assert OTHERS[0][1:] not in output["error"]["message"]
    _, output = await command(gate, *words, "--trunk", "trunk", "--incoming", "from-trunk")
    assert output["counts"]["originated"] == 1
    assert "agents (1)" in output["hints"][0]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--format", "csv", "--trunk", "trunk"), "--trunk"),
        (("--format", "csv", "--incoming", "from-trunk"), "--incoming"),
        (("--format", "asterisk", "--incoming", "from-trunk"), "--incoming"),
    ],
)
def test_misused_trunk_options_are_named(tmp_path: Path, words: tuple[str, ...], named: str) -> None:
    path = write_calls(tmp_path, [Row(OTHERS[0])])
    result = CliRunner().invoke(main.app, ["reconcile", str(path), *words])
    assert result.exit_code == 2
    assert f"Invalid value for {named}: " in result.stderr


async def test_command_reports_that_all_calls_were_allowed(gate: World, tmp_path: Path) -> None:
    await check_number(gate, OTHERS[0])
    path = str(write_calls(tmp_path, [Row(OTHERS[0], after=20 * 60), Row(f"9{OTHERS[0]}", after=1)]))
    words = (path, "--format", "csv", "--skew", "600", "--only", f"called=9{OTHERS[0]}", "--strip", "9")
    assert (await command(gate, *words))[0] == 0
