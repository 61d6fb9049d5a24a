"""The cost of the gate for complete calls from SIPp to SIPp through Kamailio.

The baseline is a Kamailio that only relays. The other Kamailio has the shipped configuration and asks a real gate. All
features are on, and the gate syncs its log.
"""

import csv
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from tests.bench import COUNTRIES, ROOT, BenchError, Figure, compare, kamailio, servers, world
from tests.bench.kamailio import Site

SHIPPED: Final = ROOT / "deploy" / "kamailio"
_PROXY, _DIALER, _TRUNK = "127.0.0.6", "127.0.0.2", "127.0.0.3"
_CONCURRENT: Final = 40
_ALLOWED_AT_LEAST: Final = 0.98
_COUNTED: Final = re.compile(r'dialgate_calls ?\{result="(\w+)"\} (\d+)')

# The baseline: a Kamailio that only relays, without dialogs, identities or a gate.
_PLAIN: Final = """
listen=udp:{sip}
children=4
debug=0
log_stderror=no
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
request_route {{
    if (!mf_process_maxfwd_header("10")) exit;
    if (has_totag()) {{ loose_route(); t_relay(); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    t_check_trans();
    record_route();
    $du = "sip:{trunk}";
    t_relay();
}}
"""

_CALL: Final = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="dialer">
<send retrans="500"><![CDATA[
INVITE sip:[field0]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:{caller}@[local_ip]>;tag=[call_number]-[pid]
To: <sip:[field0]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:agent@[local_ip]:[local_port]>
Max-Forwards: 70
X-Dialgate-Campaign: {campaign}
Content-Length: 0

]]></send>
<recv response="100" optional="true"/>
<recv response="608" optional="true" next="1"/>
<recv response="200" rrs="true"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:{caller}@[local_ip]>;tag=[call_number]-[pid]
To: <sip:[field0]@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:{caller}@[local_ip]>;tag=[call_number]-[pid]
To: <sip:[field0]@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200" next="2"/>
<label id="1"/>
<send><![CDATA[
ACK sip:[field0]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch-1]
From: <sip:{caller}@[local_ip]>;tag=[call_number]-[pid]
To: <sip:[field0]@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<label id="2"/>
</scenario>
"""

# It answers at once and does not ring: messages without a pause between them may arrive in a different order.
_ANSWER: Final = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="trunk">
<recv request="INVITE"/>
<send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:line@[local_ip]:[local_port]>
Content-Length: 0

]]></send>
<recv request="ACK"/>
<recv request="BYE"/>
<send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
"""


class _Load(Struct, frozen=True):
    calls: int
    lost: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


class _Round(Struct, frozen=True):
    ours: _Load
    theirs: _Load


def run(
    calls: int = 2_000, rounds: int = 5, shipped: Path = SHIPPED, countries: Path = COUNTRIES
) -> Iterator[Figure]:
    """Measure `calls` per proxy and round, after one uncounted round.

    `shipped` is the folder of the configuration. Raises `BenchError` if Kamailio or SIPp is not installed, or if too many
    calls are denied.
    """
    for program in ("kamailio", "sipp"):
        if shutil.which(program) is None:
            raise BenchError(
                f"{program} is not installed: apt-get install kamailio kamailio-extra-modules sip-tester"
            )
    with tempfile.TemporaryDirectory() as made_in:
        folder = Path(made_in)
        made = world.build(folder, countries, calls * (rounds + 1) * 10 // 9 + 10)
        numbers = iter(made.callable)
        with servers.gate(made.config) as gate, _trunk(folder) as trunk:
            operations = _free("127.0.0.1", socket.SOCK_STREAM)
            site = _site(f"http://127.0.0.1:{gate.port}", made.key, trunk, operations)
            ours = kamailio.configure(shipped, folder / "ours", site), int(site.sip.rpartition(":")[2])
            theirs = _plain(folder / "theirs", trunk)
            with kamailio.standing(ours[0]), kamailio.standing(theirs[0]):
                done = [
                    _round(folder, ours[1], theirs[1], list(islice(numbers, calls)))
                    for _ in range(rounds + 1)
                ]
                share = _allowed(operations)
    yield from _figures(done[1:])
    yield Figure("sip.allowed", share, "share")


def _site(gate: str, key: str, trunk: str, operations: int) -> Site:
    return Site(
        sip=f"{_PROXY}:{_free(_PROXY)}",
        operations=operations,
        gate=gate,
        dialer=_DIALER,
        key=key,
        trunks=(trunk,),
        values={"calls": "1000000", "GATE_PATIENCE": "2000"},
    )


def _allowed(operations: int) -> float:
    """Return the share of calls that Kamailio counted as allowed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{operations}/metrics") as answer:
        metrics = answer.read().decode("ascii")
    counted = {name: int(value) for name, value in _COUNTED.findall(metrics)}
    share = counted.get("allow", 0) / max(sum(counted.values()), 1)
    if share < _ALLOWED_AT_LEAST:
        raise BenchError(
            f"only {share:.0%} of the calls were allowed, so the figures would not be representative"
        )
    return round(share, 3)


def _plain(folder: Path, trunk: str) -> tuple[Path, int]:
    folder.mkdir()
    port = _free(_PROXY)
    config = folder / "kamailio.cfg"
    config.write_text(_PLAIN.format(sip=f"{_PROXY}:{port}", trunk=trunk), "ascii")
    return config, port


def _free(host: str, kind: int = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


@contextmanager
def _trunk(folder: Path) -> Iterator[str]:
    """Start a SIPp that answers every call. Yields HOST:PORT."""
    port, scenario = _free(_TRUNK), folder / "answer.xml"
    scenario.write_text(_ANSWER, "ascii")
    words = ["sipp", "-sf", str(scenario), "-i", _TRUNK, "-p", str(port), "-nostdin"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            yield f"{_TRUNK}:{port}"
        finally:
            process.kill()


def _round(folder: Path, ours: int, theirs: int, numbers: list[int]) -> _Round:
    return _Round(_turn(folder, ours, numbers), _turn(folder, theirs, numbers))


def _turn(folder: Path, port: int, numbers: list[int]) -> _Load:
    dialled, scenario, statistics = folder / "numbers.csv", folder / "call.xml", folder / "statistics.csv"
    dialled.write_text("SEQUENTIAL\n" + "".join(f"+{number}\n" for number in numbers), "ascii")
    scenario.write_text(_CALL.format(caller=world.CALLER_ID, campaign=world.CAMPAIGN), "ascii")
    statistics.unlink(missing_ok=True)
    words = [
        "sipp",
        f"{_PROXY}:{port}",
        "-sf",
        str(scenario),
        "-inf",
        str(dialled),
        "-i",
        _DIALER,
        "-nostdin",
    ]
    words += ["-m", str(len(numbers)), "-l", str(_CONCURRENT), "-r", "100000", "-rp", "1000"]
    words += ["-trace_stat", "-stf", str(statistics), "-fd", "1", "-timeout", "120"]
    subprocess.run(
        words, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with statistics.open(encoding="ascii") as file:
        last = list(csv.DictReader(file, delimiter=";"))[-1]
    instants = [float(last[name].split("\t")[2]) for name in ("StartTime", "CurrentTime")]
    return _Load(
        calls=int(last["SuccessfulCall(C)"]),
        lost=len(numbers) - int(last["SuccessfulCall(C)"]),
        seconds=instants[1] - instants[0],
    )


def _figures(rounds: list[_Round]) -> Iterator[Figure]:
    yield compare("sip.calls", "1/s", [(turns.ours.rate, turns.theirs.rate) for turns in rounds])
    yield Figure(
        "sip.lost",
        sum(turns.ours.lost for turns in rounds),
        "calls",
        sum(turns.theirs.lost for turns in rounds),
    )
