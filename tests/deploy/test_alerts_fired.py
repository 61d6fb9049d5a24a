"""Every alert fires on a real fault in a real gate, and no other alert fires with it.

These tests evaluate real scrapes at chosen times. In `test_alerts.py`, a running Prometheus evaluates the rules.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Semaphore
from typing import Any

import msgspec
import pytest
from msgspec import Struct, structs
from typer.testing import CliRunner

from dialgate.config import loader
from dialgate.config.listeners import Listen
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, HOUR, MINUTE
from dialgate.gate.upkeep import Pulse
from dialgate.interfaces.cli import main
from dialgate.interfaces.http import certificates
from dialgate.runtime.clock import wall_clock
from dialgate.shipping.status import write_metrics
from dialgate.shipping.target import TargetFolder
from tests.interfaces.webhooks import test_incoming as incoming
from tests.interfaces.webhooks.test_stop_notices import listening, telling, until
from tests.observability.test_metrics import LINE, change_controller
from tests.shipping.test_shipping import shipping
from tests.support import redis_servers, world, yaml_files
from tests.support.damage import flip
from tests.support.fired_alerts import fires
from tests.support.running_gate import serving
from tests.support.scrapes import Scrapes
from tests.support.shipping_world import both, list_closed_segments, write_log
from tests.support.world import (
    CALL,
    CALLER,
    CLEAR,
    KEY,
    LIST,
    LISTED,
    NOW,
    SCOPES,
    World,
    client,
    publish_answers,
    write_folder,
)

pytestmark = pytest.mark.torture

MANY = [f"+3906123{at:05}" for at in range(40_000, 40_200)]


class Watch(Struct):
    """A gate with its scraped metrics. `pass_` advances the clock before each scrape."""

    made: World
    scrapes: Scrapes

    @property
    def folder(self) -> Path:
        return self.made.folder

    async def scrape(self) -> None:
        await self.made.app.tick()
        await self.scrapes.gate(self.made.hand.at, self.made.port)

    async def pass_(self, minutes: int, every: int = 1) -> None:
        for _ in range(0, minutes, every):
            self.made.hand.at += every * MINUTE
            await self.scrape()

    def expect(self, *expected: str) -> None:
        self.scrapes.expect(*expected)

    async def ask(self, numbers: Sequence[str], **changes: str) -> list[str]:
        """Check these numbers and return the decision ids."""
        calls = [{**CALL, "to": number, **changes} for number in numbers]
        response = await self.made.post("/v1/checks", {"calls": calls}, 200)
        return [item["decision_id"] for item in response["answers"]]

    async def post(self, path: str, body: dict[str, Any], status: int = 200) -> None:
        await self.made.post(path, body, status)


@asynccontextmanager
async def watching(made: World) -> AsyncIterator[Watch]:
    """Watch a gate that has been running for 16 minutes without an alert."""
    publish_answers(made.app.config.data, dict.fromkeys(MANY, False), NOW - DAY)
    watch = Watch(made, Scrapes(made.hand.at))
    await watch.post("/v1/lists", LIST | {"numbers": [CLEAR, LISTED, *MANY]}, 201)
    await watch.scrape()
    await watch.ask([CLEAR])
    await watch.pass_(16, every=4)
    watch.expect()
    yield watch


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    clients = [client("tests", KEY, *SCOPES, "subjects")]
    async with world.running(tmp_path, clients=clients) as made, watching(made) as start:
        yield start


# ---- the gate --------------------------------------------------------------------------------------------------------


@fires("DialgateDown")
async def test_down_after_the_gate_ends(tmp_path: Path) -> None:
    async with world.running(tmp_path) as made, watching(made) as watch:
        pass
    for minutes in range(1, 4):
        await watch.scrapes.gate(made.hand.at + minutes * MINUTE, made.port)
    watch.expect("DialgateDown")


@fires("DialgateLogUncovered")
async def test_log_uncovered_after_a_change_of_the_log_file(watch: Watch) -> None:
    await watch.ask([LISTED])
    log = max((watch.made.app.config.data / "log").glob("0*.ndjson"))
    whole = log.read_bytes()
    head, last = whole[: whole[:-1].rindex(b"\n") + 1], whole[whole[:-1].rindex(b"\n") + 1 :]
    log.write_bytes(head + last.replace(b'"seq":', b'"seq":9', 1))
    await watch.pass_(24, every=4)
    watch.expect("DialgateLogUncovered")


@fires("DialgateNodesDisagreeOnLaw")
async def test_nodes_disagree_if_one_has_another_law(tmp_path: Path) -> None:
    async with (
        world.running(tmp_path / "one") as made,
        world.running(tmp_path / "two") as other,
        watching(made) as watch,
    ):
        await watch.scrapes.gate(made.hand.at, other.port, "gate-2")
        with (tmp_path / "two" / "countries" / "it.yaml").open("a") as law:
            law.write("# the law of tomorrow\n")
        other.app.reload(loader.load(tmp_path / "two" / "dialgate.yaml"))
        await other.app.tick()
        for _ in range(12):
            await watch.pass_(1)
            await watch.scrapes.gate(made.hand.at, other.port, "gate-2")
        watch.expect("DialgateNodesDisagreeOnLaw")


@fires("DialgateReplicasUnasked")
async def test_replicas_unasked_after_one_was_added_to_the_store(tmp_path: Path) -> None:
    watched = redis_servers.sentinels(0, info_period=100)
    store = {"url": watched.url(), "patience": 5}
    async with world.running(tmp_path, store=store) as made, watching(made) as watch:
        port = watched.nodes[0].port
        redis_servers.linked(redis_servers.node(replicaof=f"127.0.0.1 {port}"))
        async with asyncio.timeout(20):
            while made.app.metrics.replicas_unasked._value.get() != 1:
                await watch.pass_(1)
        await watch.pass_(8, every=2)
        watch.expect("DialgateReplicasUnasked")


@fires("DialgateRetentionPostponed")
async def test_retention_postponed_if_holds_are_unreadable(watch: Watch) -> None:
    holds = watch.made.app.config.data / "holds.json"
    holds.write_text("{")
    watch.scrapes.minutes = 4
    await watch.pass_(48 * 60, every=60)
    await watch.pass_(124, every=4)
    watch.expect("DialgateRetentionPostponed")
    holds.unlink()
    await watch.pass_(61, every=61)
    removing = watch.made.app.subjects._removing
    if removing is not None:
        await removing
    await watch.pass_(2)
    watch.expect()


@fires("DialgateUpkeepSlow")
async def test_upkeep_slow_if_the_last_round_is_older_than_two_seconds(watch: Watch) -> None:
    pulse = watch.made.app._upkeep.pulse = Pulse(iter((0.0, *[2.5] * 1000)).__next__)
    pulse.start()
    for minutes in range(1, 4):
        await watch.scrapes.gate(watch.made.hand.at + minutes * MINUTE, watch.made.port)
    watch.expect("DialgateUpkeepSlow")


@fires("DialgateCertificateEnding")
async def test_certificate_ending_before_expiry(watch: Watch) -> None:
    """The scrapes use plain HTTP, so the certificate is loaded from a separate configuration."""
    days = int((watch.made.hand.at / 1000 - datetime(2026, 1, 1, tzinfo=UTC).timestamp()) // 86_400) + 15
    listen = msgspec.convert(world.write_certificate(watch.folder, days=days), Listen)
    config = watch.made.app.config
    secured = structs.replace(config, settings=structs.replace(config.settings, listen=listen))
    certificates.show(certificates.load(secured), watch.made.app.metrics)
    await watch.pass_(8, every=4)
    watch.expect()
    watch.scrapes.minutes = 4
    await watch.pass_(26 * 60, every=30)
    await watch.pass_(64, every=4)
    watch.expect("DialgateCertificateEnding")


@fires("DialgateDiskFilling", "DialgateDiskNearlyFull")
async def test_disk_filling_and_then_nearly_full(small_disk: Path) -> None:
    async with world.running(small_disk / "gate") as made, watching(made) as watch:
        room, ballast = shutil.disk_usage(small_disk).total, small_disk / "ballast"
        for share, expected in (
            (0.06, {"DialgateDiskFilling"}),
            (0.02, {"DialgateDiskFilling", "DialgateDiskNearlyFull"}),
        ):
            with ballast.open("ab") as file:
                file.write(b"\0" * int(shutil.disk_usage(small_disk).free - share * room))
            await watch.pass_(12)
            watch.scrapes.expect(*expected)


@pytest.fixture
def stalling_disk() -> Iterator[Path]:
    """Mount a real file system that can be frozen. Needs root, like `small_disk`."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    with TemporaryDirectory() as folder:
        image, disk = Path(folder, "image"), Path(folder, "disk")
        image.write_bytes(b"")
        os.truncate(image, 32 << 20)
        disk.mkdir()
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
        yield disk
        subprocess.run(["umount", "--lazy", disk], check=True)


class Stopwatch:
    """A manual monotonic clock. Each reading releases the semaphore `read`."""

    def __init__(self) -> None:
        self.at = 1.0
        self.read = Semaphore(0)

    def __call__(self) -> float:
        self.read.release()
        return self.at


async def stalled(disk: Path, steady: Stopwatch, readings: int, meanwhile: Awaitable[Any]) -> None:
    """Await `meanwhile` on a frozen disk. After `readings` clock readings, add 1.3 s to the clock and thaw the disk.

    A thread thaws the disk, because a write to a frozen disk blocks the event loop.
    """

    def thaw() -> bool:
        read = all(steady.read.acquire(timeout=20) for _ in range(readings))
        steady.at += 1.3
        subprocess.run(["fsfreeze", "--unfreeze", disk], check=True)
        return read

    steady.read = Semaphore(0)
    subprocess.run(["fsfreeze", "--freeze", disk], check=True)  # noqa: ASYNC221 - the gate is idle
    thawing = asyncio.get_running_loop().run_in_executor(None, thaw)
    await meanwhile
    assert await thawing


@fires("DialgateLogSlow", "DialgateRevocationSlow", "DialgateSlow")
async def test_log_revocations_and_checks_are_slow_on_a_stalled_disk(stalling_disk: Path) -> None:
    """A check reads the clock on arrival, at the start of its batch and after the write. A revocation reads it once."""
    steady = Stopwatch()
    async with world.running(stalling_disk / "gate", steady=steady) as made, watching(made) as watch:
        for number in MANY[:2]:
            await stalled(stalling_disk, steady, 3, watch.ask([number], **{"from": "anonymous"}))
            stop = {"number": number, "channel": "call"}
            await stalled(stalling_disk, steady, 1, watch.post("/v1/revocations", stop, 201))
            await watch.pass_(4)
        watch.expect("DialgateLogSlow", "DialgateRevocationSlow", "DialgateSlow")


BROKEN = """
from dialgate.core import decision
from dialgate.interfaces.cli.main import app

def number_valid(facts, law):
    raise LookupError

decision.RULES = (("number_valid", number_valid), *decision.RULES[1:])
app()
"""


@fires("DialgateRuleError")
async def test_rule_error_with_a_failing_rule() -> None:
    with (
        TemporaryDirectory() as folder
    ):  # outside tmp_path: its decisions cannot be replayed at the end of the tests
        config, now = write_folder(Path(folder)), wall_clock()
        publish_answers(Path(folder, "data"), {CLEAR: False}, now - DAY)
        async with serving(config, (sys.executable, "-c", BROKEN)) as gate:
            scrapes, port = Scrapes(now), int(gate.ready["url"].rpartition(":")[2])
            await scrapes.gate(now, port)
            assert (await gate.post("/v1/check", CALL))["reasons"][0]["code"] == "gate.rule_error"
            await scrapes.gate(now + MINUTE, port)
        scrapes.expect(minute=0)
        scrapes.expect("DialgateRuleError")


# ---- the registry ----------------------------------------------------------------------------------------------------


@fires("DialgateNotReady", "DialgateSnapshotRejected")
async def test_snapshot_rejected_if_it_is_damaged(watch: Watch) -> None:
    publish_answers(watch.made.app.config.data, {LISTED: False}, NOW - HOUR)
    folder = watch.made.app.config.data / "snapshots"
    newest = max(folder.glob("*.numbers"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-1])
    await watch.pass_(2)
    watch.expect("DialgateNotReady", "DialgateSnapshotRejected")


# ---- campaigns -------------------------------------------------------------------------------------------------------


@fires("DialgateDenyShareJump")
async def test_deny_share_jumps_after_a_caller_id_is_withheld(watch: Watch) -> None:
    for at in range(0, 80, 20):
        await watch.ask(MANY[at : at + 20])
        await watch.pass_(5)
    watch.expect()
    for at in range(80, 200, 20):
        await watch.ask(MANY[at : at + 20], **{"from": "anonymous"})
        await watch.pass_(5)
    watch.expect("DialgateDenyShareJump")


@fires("DialgateCampaignSilent")
async def test_campaign_silent_while_another_campaign_calls(watch: Watch) -> None:
    path = watch.folder / "controllers" / "acme.yaml"
    settings = yaml_files.read(path)
    settings["campaigns"].append({**settings["campaigns"][0], "id": "acme-mobile"})
    yaml_files.write(path, settings)
    watch.made.app.reload(loader.load(watch.folder / "dialgate.yaml"))
    start = watch.made.hand.at
    for day in range(2):
        watch.made.hand.at = start + day * DAY
        await watch.ask([LISTED], campaign="acme-mobile")
        if not day:
            await watch.ask([LISTED])
        await watch.pass_(1)
        for _ in range(4):
            await watch.ask([LISTED] * 40, campaign="acme-mobile")
            if not day:
                await watch.ask([LISTED] * 40)
            await watch.pass_(20, every=4)
        watch.expect(*["DialgateCampaignSilent"] * day)


@fires("DialgateBypassed")
async def test_bypassed_if_the_switch_has_an_unchecked_call(watch: Watch) -> None:
    row = f"{rfc3339(NOW)},{MANY[0]},{CALLER},,200,"
    calls, textfile = watch.folder / "trunk.csv", watch.folder / "reconcile.prom"
    calls.write_text(f"time,called,caller,call_id,status,decision\n{row}\n")
    words = ("reconcile", str(calls), "--format", "csv", "--textfile", str(textfile))
    config = ("--config", str(watch.folder / "dialgate.yaml"))
    await asyncio.to_thread(CliRunner().invoke, main.app, [*words, *config])
    await watch.pass_(1)
    watch.scrapes.textfile(watch.made.hand.at, textfile)
    watch.expect("DialgateBypassed")


@fires(
    "DialgateAbandonedNearLimit",
    "DialgateAbandonedOverLimit",
    "DialgateCampaignNearPause",
    "DialgateCampaignPaused",
)
async def test_abandoned_near_the_limit_and_then_over_it(watch: Watch) -> None:
    ids = await watch.ask(MANY)
    for name in ids[3:113]:
        await watch.post("/v1/outcomes", {"decision_id": name, "outcome": "answered"})
    for name in ids[113:116]:
        await watch.post("/v1/outcomes", {"decision_id": name, "outcome": "abandoned"})
    await watch.pass_(7)
    watch.expect("DialgateAbandonedNearLimit", "DialgateCampaignNearPause")
    await watch.post("/v1/outcomes", {"decision_id": ids[116], "outcome": "abandoned"})
    await watch.pass_(7)
    watch.expect("DialgateAbandonedNearLimit", "DialgateAbandonedOverLimit", "DialgateCampaignPaused")


@fires("DialgateCallerIdProofEnding")
async def test_caller_id_proof_ending_and_then_over(watch: Watch) -> None:
    change_controller(watch.folder, caller_ids=[CALLER, LINE])
    watch.made.app.reload(loader.load(watch.folder / "dialgate.yaml"))
    probed = rfc3339(watch.made.hand.at - 30 * DAY + 2 * DAY)
    proof = {"caller_id": LINE, "kind": "probe", "evidence": "call back 1", "at": probed}
    await watch.post("/v1/caller-ids/proofs", proof, 204)
    await watch.pass_(7)
    watch.expect("DialgateCallerIdProofEnding")


@fires("DialgateShadowMode", "DialgateShadowModeEnding")
async def test_shadow_mode_on_with_two_days_left(watch: Watch) -> None:
    change_controller(watch.folder, shadow_until=date(2026, 11, 25))
    watch.made.app.reload(loader.load(watch.folder / "dialgate.yaml"))
    await watch.pass_(2)
    watch.expect("DialgateShadowMode", "DialgateShadowModeEnding")


# ---- people ----------------------------------------------------------------------------------------------------------


async def file_request(watch: Watch, days: int) -> None:
    """File a data subject request that was received `days` ago and is still open."""
    at = rfc3339(watch.made.hand.at - days * DAY)
    ask = {"kind": "access", "identified": "code read back", "channel": "pec", "received_at": at}
    await watch.post(f"/v1/subjects/{CLEAR}/requests", ask, 201)
    await watch.pass_(7)


@fires("DialgateSubjectRequestDue")
async def test_subject_request_due_a_week_before_the_month_ends(watch: Watch) -> None:
    await file_request(watch, 25)
    watch.expect("DialgateSubjectRequestDue")


@fires("DialgateSubjectRequestLate")
async def test_subject_request_late_after_the_month(watch: Watch) -> None:
    await file_request(watch, 40)
    watch.expect("DialgateSubjectRequestLate")


@fires("DialgateLookupsThrottled")
async def test_lookups_throttled_after_too_many_look_ups(watch: Watch) -> None:
    for number in MANY:
        await watch.post("/v1/simulate", {**CALL, "to": number})
    await watch.post("/v1/simulate", CALL, 429)
    await watch.pass_(2)
    watch.expect("DialgateLookupsThrottled")


@fires("DialgateWebhookBehind", "DialgateWebhookDeadLetters")
async def test_webhook_behind_and_then_a_dead_letter(tmp_path: Path) -> None:
    async with (
        listening() as (receiver, url),
        telling(tmp_path, url, give_up_hours=1) as made,
        watching(made) as watch,
    ):
        receiver.statuses = [500] * 1_000_000
        await watch.post("/v1/revocations", {"number": MANY[0], "channel": "call"}, 201)
        await until(lambda: made.sample("dialgate_webhook_behind", webhook="crm") == 1, made)
        await watch.pass_(40, every=4)
        watch.expect("DialgateWebhookBehind")
        made.hand.at += HOUR
        await until(lambda: made.sample("dialgate_webhook_dead_letters", webhook="crm") == 1, made)
        await watch.pass_(2)
        watch.expect("DialgateWebhookDeadLetters")


@fires("DialgateDeadLetters", "DialgateWebhookRefused")
async def test_messages_of_a_platform_that_are_refused_and_that_wait(tmp_path: Path) -> None:
    async with incoming.gate(tmp_path, "generic") as made, watching(made) as watch:
        await watch.pass_(2)
        await incoming.post(made, "crm", (b"{}", {"X-Webhook-Key": "wrong"}), 401)
        await incoming.post(made, "crm", (b"{}", {"X-Webhook-Key": incoming.SECRET}), 202)
        await watch.pass_(10)
        watch.expect("DialgateDeadLetters", "DialgateWebhookRefused")


@fires("DialgateWebhookPullStopped")
async def test_a_pull_that_never_succeeded(tmp_path: Path) -> None:
    async with incoming.gate(tmp_path, "generic") as made, watching(made) as watch:
        await made.output("webhook", "pull", "--all", "--textfile", tmp_path / "pull.prom", code=1)
        watch.scrapes.minutes = 5
        await watch.pass_(1)
        made.hand.at += 2 * DAY
        for _ in range(20):
            await watch.pass_(1)
            watch.scrapes.textfile(made.hand.at, tmp_path / "pull.prom")
        watch.expect("DialgateWebhookPullStopped")


# ---- shipping --------------------------------------------------------------------------------------------------------


@fires(
    "DialgateShippingStopped", "DialgateShippingBehind", "DialgateShippingMissed", "DialgateShippingRefused"
)
async def test_shipping_stopped_then_behind_then_missed_then_refused(tmp_path: Path) -> None:
    data, share, textfile = tmp_path / "data", tmp_path / "share", tmp_path / "ship.prom"
    both(data)
    share.mkdir()
    start = wall_clock()  # the waiting time of a file starts when it is closed
    scrapes, made = Scrapes(start), shipping(data, TargetFolder(share))

    async def look(minute: int, *expected: str, works: bool = True) -> None:
        now = start + minute * MINUTE
        if works:
            made.round()
            write_metrics(
                {("segments", worker): standing for worker, standing in made.standings.items()}, now, textfile
            )
        scrapes.textfile(now, textfile)
        scrapes.expect(*expected)

    await look(0)
    for minute in (4, 8):
        await look(minute, works=False)
    await look(12, "DialgateShippingStopped", works=False)
    await look(13)
    share.rename(tmp_path / "away")
    write_log(data)
    for minute in (7 * 60, 7 * 60 + 4):
        await look(minute)
    await look(7 * 60 + 8, "DialgateShippingBehind")
    (tmp_path / "away").rename(share)
    await look(7 * 60 + 9)
    write_log(data)
    write_log(data)
    next(
        path for path in list_closed_segments(data / "log") if int(path.stem) > made.standings[1].last
    ).unlink()
    await look(7 * 60 + 10, "DialgateShippingMissed")
    write_log(data)
    flip(list_closed_segments(data / "log")[-1])
    await look(7 * 60 + 11, "DialgateShippingMissed", "DialgateShippingRefused")
