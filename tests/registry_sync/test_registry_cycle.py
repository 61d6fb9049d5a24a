"""The cycle with a registry that answers queries: submissions, accepted answers and alarms.

The clock is set by hand. A simulated registry exchanges real files with the job.
"""

import asyncio
import json
import os
import zipfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dialgate.config.clients import Client
from dialgate.core.ledger_events import ConsentsVoided
from dialgate.core.local_time import midnight
from dialgate.core.model import DAY, HOUR
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import ConsentRequest
from dialgate.lists import release_holds
from dialgate.lists.number_set import DamagedFile
from dialgate.runtime.instants import KeptInstants
from registry_sync import gate_requests, nightly_job
from registry_sync.import_checks import ImportRefused
from registry_sync.simulator import FAULTS, is_enrolled
from tests.support import yaml_files
from tests.support.registry_world import NUMBERS, JobWorld, alarm_kinds, gate_of, load_list, registrar
from tests.support.world import NOW, publish_answers

NEW_YEAR = midnight("Europe/Rome", date(2027, 1, 1))
LISTED = [number for number in NUMBERS if is_enrolled(number[3:])]
CLEAR = [number for number in NUMBERS if not is_enrolled(number[3:])]


@pytest.fixture
async def job(tmp_path: Path) -> JobWorld:
    world = JobWorld(tmp_path)
    await load_list(world)
    return world


async def test_numbers_on_call_lists_are_submitted_answered_and_published(job: JobWorld) -> None:
    first = await job.run_once()
    assert (first.due, first.submitted, first.waiting, first.published) == (300, 300, 3, "")
    assert alarm_kinds(first) == set()
    job.clock.at += HOUR
    second = await job.answer_and_run()
    assert (second.due, second.submitted, second.waiting, second.answered) == (0, 0, 0, 300)
    assert alarm_kinds(second) == set()
    assert job.answers() == dict.fromkeys(LISTED, "listed") | dict.fromkeys(CLEAR, "clear")
    assert set(job.registry.submitted.values()) == {1}
    assert {package.state for package in job.packages()} == {"answered"}


async def test_age_of_an_answer_counts_from_its_query_and_the_receipt_is_stored(job: JobWorld) -> None:
    """An answer is valid for 15 days from its query. The processing time counts towards the 15 days."""
    await job.run_once()
    job.clock.at += 20 * HOUR
    await job.answer_and_run()
    assert job.answer_for(CLEAR[0]).consulted_at == NOW
    (package, *_) = job.packages()
    assert package.receipt == f"SIMULATED-{package.id[-8:]}"
    receipt = job.plan.work / "rpo.acme" / package.id / "receipt.txt"
    assert receipt.read_text().strip() == package.receipt


async def test_package_has_the_registrys_format(job: JobWorld) -> None:
    """National form with the leading 0, CRLF, no duplicates, in a zip with numbers.txt."""
    await job.run_once()
    (path, *_) = sorted((job.folder / "rpo" / "outbox").iterdir())
    with zipfile.ZipFile(path) as archive:
        text = archive.read("numbers.txt").decode("ascii")
    assert archive.namelist() == ["numbers.txt"]
    lines = text.removesuffix("\r\n").split("\r\n")
    assert len(lines) == len(set(lines)) == 100
    assert all(line.startswith("06") for line in lines)


async def test_number_is_not_submitted_again_before_its_answer_nears_its_end(job: JobWorld) -> None:
    await job.run_once()
    await job.answer_and_run()
    for hours, due in [(1, 0), (11 * 24, 0), (12 * 24 - 1, 0), (12 * 24, len(CLEAR))]:
        job.clock.at = NOW + hours * HOUR
        assert (await job.run_once()).due == due
    assert sum(job.registry.submitted.values()) == 300  # the registry has not emptied its outbox since
    job.registry.work()
    assert [job.registry.submitted[number[3:]] for number in (CLEAR[0], LISTED[0])] == [2, 1]


async def test_listed_number_is_submitted_again_at_its_own_interval(job: JobWorld) -> None:
    """No call uses the answer, so it need not be fresh. The job asks again in case the opposition was withdrawn."""
    await job.run_once()
    await job.answer_and_run()
    job.clock.at = NOW + 30 * DAY
    assert (await job.run_once()).due == 300


async def test_most_urgent_numbers_come_first_when_a_spending_limit_applies(tmp_path: Path) -> None:
    job = JobWorld(tmp_path, numbers_a_run=150)
    await load_list(job)
    for submitted in (150, 150, 0):
        part = await job.answer_and_run()
        assert part.submitted == submitted
    job.clock.at += 12 * DAY + HOUR
    part = await job.answer_and_run()
    assert (part.due, part.submitted) == (len(CLEAR), 150)
    assert "spending_limit" in alarm_kinds(part)
    job.registry.work()
    assert all(job.registry.submitted[number[3:]] == 1 for number in LISTED)


async def test_a_band_counts_the_distinct_numbers_of_the_calendar_year(tmp_path: Path) -> None:
    """To verify a number again is free. The year is the registry's: it begins at midnight in Rome."""
    job = JobWorld(tmp_path, numbers_a_year=320)
    await load_list(job)
    assert (await job.answer_and_run()).submitted == 300
    job.clock.at = NOW + 17 * DAY
    part = await job.answer_and_run()  # publishes the answers, and asks again about the clear ones
    part = await job.answer_and_run()
    assert (part.year_numbers, part.year_needed, part.year_limit) == (300, 300, 320)
    assert job.registry.submitted[CLEAR[0][3:]] == 2
    assert alarm_kinds(part) == set()
    await load_list(job, [f"+3902{12340000 + n}" for n in range(50)], name="milan")
    part = await job.answer_and_run()
    assert (part.due, part.submitted) == (50, 20)
    assert alarm_kinds(part) >= {"spending_limit", "band_short"}
    (text,) = [alarm.text for alarm in part.alarms if alarm.kind == "band_short"]
    assert "need 350 numbers this year; numbers_a_year is 320 and ends on 2026-12-11" in text
    job.clock.at = NEW_YEAR - 1
    part = await job.answer_and_run()
    assert (part.submitted, part.due - part.submitted) == (len(NUMBERS) + 13, 30)  # 13 of the 20 are clear
    job.clock.at = NEW_YEAR
    part = await job.answer_and_run()
    assert (part.year_numbers, part.submitted) == (0, 30)
    assert job.metric("registry_sync_year_needed_numbers", controller="acme", registry="rpo") == 350


async def test_a_forecast_names_the_day_on_which_a_later_campaign_ends_the_band(job: JobWorld) -> None:
    """The answers for a campaign are asked three days and one day before it begins."""
    owner = yaml_files.read(job.folder / "controllers/acme.yaml")
    (fibre,) = owner["campaigns"]
    later = fibre | {"id": "acme-later", "starts": date(2026, 12, 20)}
    yaml_files.write(job.folder / "controllers/acme.yaml", owner | {"campaigns": [fibre, later]})
    job.asked["numbers_a_year"] = 330
    job.configure()
    await load_list(job, [f"+3902{12340000 + n}" for n in range(31)], name="milan", campaigns=["acme-later"])
    part = await job.run_once()
    assert (part.submitted, part.year_needed) == (300, 331)
    (text,) = [alarm.text for alarm in part.alarms if alarm.kind == "band_short"]
    assert "ends on 2026-12-16" in text


async def test_consultations_of_the_year_are_limited(tmp_path: Path) -> None:
    job = JobWorld(tmp_path, consultations_a_year=2)
    await load_list(job)
    part = await job.run_once()
    assert (part.due, part.submitted) == (300, 200)
    assert "spending_limit" in alarm_kinds(part)
    assert (await job.answer_and_run()).submitted == 0


LISTS = {
    "retired": 0,
    "of a paused campaign": 0,
    "of an ended campaign": 0,
    "of a campaign that begins after the look-ahead": 0,
    "of a campaign that begins within the look-ahead": 300,
    "of a campaign the registry does not cover": 0,
}


@pytest.mark.parametrize("case", LISTS)
async def test_only_numbers_that_may_be_called_soon_are_submitted(job: JobWorld, case: str) -> None:
    """L. 5/2018 art. 1 c. 12 requires a consultation before every campaign, and every query costs money."""
    today = date(2026, 11, 24)
    changes = {
        "of a paused campaign": "paused: true",
        "of an ended campaign": f"ends: {today.replace(day=20)}",
        "of a campaign that begins after the look-ahead": f"starts: {today.replace(month=12)}",
        "of a campaign that begins within the look-ahead": f"starts: {today.replace(day=26)}",
        "of a campaign the registry does not cover": "purpose: service",
    }
    path = job.folder / "controllers" / "acme.yaml"
    if case in changes:
        text = path.read_text().replace(
            "    purpose: sale\n", "" if "purpose" in changes[case] else "    purpose: sale\n"
        )
        path.write_text(text.replace("  - id: acme-fibre\n", f"  - id: acme-fibre\n    {changes[case]}\n"))
        job.configure()
    else:
        async with registrar(job.plan.gate) as (ledger, client):
            await ledger.call_lists.retire_list(client, "rome")
    assert (await job.run_once()).due == LISTS[case]


async def test_numbers_outside_the_registry_are_not_submitted(job: JobWorld) -> None:
    """The registry contains neither foreign numbers nor San Marino's landlines (prefix 0549)."""
    await load_list(job, ["+33612345678", "+390549881234", "+393331234567"], name="more")
    part = await job.run_once()
    assert (part.due, part.foreign) == (301, 2)


async def record_consents(
    ledger: Registrar, client: Client, numbers: Sequence[str] = (LISTED[0], CLEAR[0])
) -> None:
    for number in numbers:
        ask = {
            "controller": "acme", "number": number, "channel": "web", "id": "c1", "purposes": ["sale"],
            "call_types": ["agent"], "collected_at": "2026-10-01T10:00:00Z", "artefact": "x",
            "artefact_sha256": "0" * 64,
        }  # fmt: skip
        await ledger.consents.record(client, msgspec.convert(ask, ConsentRequest))


async def test_enrolment_voids_earlier_consents_in_the_ledger_once(job: JobWorld) -> None:
    """Required by L. 5/2018 art. 1 c. 5. A consent given before the answer may be earlier than the enrolment."""
    async with gate_of(job) as (ledger, client):
        await record_consents(ledger, client)
        await job.run_once()
        job.clock.at += 5 * HOUR
        assert (await job.answer_and_run()).voided == 1
        job.clock.at += 31 * DAY
        await job.run_once()
        assert (await job.answer_and_run()).voided == 0
        entries = await ledger.views.history(client, "acme", LISTED[0], ("consents_voided",))
        assert [entry.details["before"] for entry in entries] == ["2026-11-24T14:00:00.000Z"]
        assert entries[0].proof.startswith("SIMULATED-")
        assert (entries[0].actor, entries[0].channel) == ("registry-sync", "registry")
        assert await ledger.views.history(client, "acme", CLEAR[0], ("consents_voided",)) == []
    assert ConsentsVoided.__struct_config__.tag == "consents_voided"


async def test_without_a_gate_the_answers_are_published_and_a_later_run_voids_the_consents(
    job: JobWorld,
) -> None:
    async with gate_of(job) as (ledger, client):
        await record_consents(ledger, client)
    await job.run_once()
    job.clock.at += 5 * HOUR
    part = await job.answer_and_run()
    assert (part.voided, alarm_kinds(part)) == (0, {"refused"})
    assert "Start it; the next run repeats this step" in part.alarms[0].text
    assert job.answer_for(LISTED[0]).answer == "listed"
    async with gate_of(job) as (ledger, client):
        assert (await job.run_once()).voided == 1
        entries = await ledger.views.history(client, "acme", LISTED[0], ("consents_voided",))
        assert len(entries) == 1


async def test_refused_batch_delays_no_other_batch(job: JobWorld) -> None:
    async with gate_of(job) as (ledger, client):
        await record_consents(ledger, client)
        enrolment = gate_requests.Enrolment(
            controller="acme", registry="rpo", listed_by=job.clock.at, receipt="r",
            numbers=[0] * 1_000 + [int(LISTED[0])],
        )  # fmt: skip
        with pytest.raises(gate_requests.GateRefused, match="the gate answered 4"):
            await asyncio.to_thread(
                gate_requests.void_consents, gate_requests.gate_address(job.plan.gate.data), enrolment
            )
        assert await ledger.views.history(client, "acme", LISTED[0], ("consents_voided",))


async def test_refused_package_delays_no_other_package(job: JobWorld) -> None:
    """Each of the three packages has a listed number with a consent. The gate refuses the first request."""
    holders = [next(number for number in LISTED if number >= NUMBERS[begin]) for begin in (0, 100, 200)]
    async with gate_of(job) as (ledger, client):
        await record_consents(ledger, client, holders)
    await job.run_once()
    job.clock.at += 5 * HOUR
    voided = list[str]()

    async def void(request: web.Request) -> web.Response:
        voided.extend((await request.json())["numbers"])
        return web.json_response({"voided": 1}, status=201 if len(voided) > 1 else 422)

    app = web.Application()
    app.router.add_post("/v1/consents/void", void)
    async with TestServer(app) as server:
        os.environ["DIALGATE_URL"] = str(server.make_url(""))
        try:
            part = await job.answer_and_run()
        finally:
            del os.environ["DIALGATE_URL"]
    assert (alarm_kinds(part), sorted(voided)) == ({"refused"}, holders)
    assert sorted(package.state for package in job.packages()) == ["answered", "answered", "submitted"]
    async with gate_of(job) as (ledger, client):
        assert (await job.run_once()).voided == 1
        assert await ledger.views.history(client, "acme", voided[0], ("consents_voided",))


# The alarm for each fault. The first two are unusual but valid.
RAISED = {
    "mixed_up_order": "",
    "duplicated": "",
    "partial": "answer_faulty",
    "contradictory": "answer_faulty",
    "wrong_controller": "answer_faulty",
    "other_status": "answer_faulty",
    "turned_round": "held",
    "empty": "answer_faulty",
    "late": "answer_overdue",
    "wrong_encoding": "answer_faulty",
    "cut": "answer_faulty",
    "no_receipt": "receipt_missing",
    "refused": "package_refused",
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_registry_fault_raises_an_alarm_and_keeps_the_old_answers(job: JobWorld, fault: str) -> None:
    """The next valid run clears the alarm."""
    await job.run_once()
    await job.answer_and_run()
    job.clock.at += 12 * DAY + HOUR
    await job.run_once()
    before = job.published_files()
    job.registry.fault = fault
    job.clock.at += 25 * HOUR if fault == "late" else HOUR
    part = await job.answer_and_run()
    wanted = RAISED[fault]
    assert alarm_kinds(part) == ({wanted} if wanted else set())
    text = " ".join(alarm.text for alarm in part.alarms)
    assert not any(number[3:] in text for number in NUMBERS)
    if not wanted:
        assert job.answer_for(CLEAR[0]).consulted_at > NOW
        return
    assert job.alarm(wanted) == 1
    assert job.published_files() == before
    job.registry.fault = ""
    job.clock.at += 26 * HOUR
    await job.answer_and_run()
    for package in job.packages():  # the registry sends correct replies
        if package.state == "submitted":
            job.answer_again(package)
    await job.run_once()
    part = await job.answer_and_run()
    assert (alarm_kinds(part), job.alarm(wanted)) == (set(), 0)
    assert job.answers() == dict.fromkeys(LISTED, "listed") | dict.fromkeys(CLEAR, "clear")


async def test_too_many_changed_answers_need_a_release_by_two_people(job: JobWorld) -> None:
    await job.run_once()
    await job.answer_and_run()
    job.clock.at += 31 * DAY
    await job.run_once()
    job.registry.fault = "turned_round"
    assert alarm_kinds(await job.answer_and_run()) >= {"held"}
    for path in list((job.plan.snapshots / "held").iterdir()):
        for actor in ("maria", "paolo"):
            release_holds.approve(job.plan.snapshots, path.stem, actor, job.clock.at)
    part = await job.run_once()
    assert (part.answered, alarm_kinds(part)) == (300, set())
    assert job.answer_for(LISTED[0]).answer == "clear"


async def test_numbers_of_an_expired_package_are_submitted_again(job: JobWorld) -> None:
    """A late answer is still accepted, with its true age."""
    job.registry.fault = "late"
    await job.run_once()
    job.clock.at += 97 * HOUR
    part = await job.answer_and_run()
    assert "package_expired" in alarm_kinds(part)
    assert part.submitted == 300
    job.registry.fault = ""
    part = await job.answer_and_run()
    assert part.answered == 600
    assert job.answer_for(CLEAR[0]).consulted_at == NOW + 97 * HOUR
    assert {package.state for package in job.packages()} == {"answered"}


async def test_each_controller_has_its_own_queries_and_answers(job: JobWorld) -> None:
    other = (job.folder / "controllers" / "acme.yaml").read_text()
    (job.folder / "controllers" / "beta.yaml").write_text(
        other.replace("id: acme", "id: beta").replace('"+390844123456"', '"+390844654321"')
    )
    job.configure()
    await load_list(
        job, NUMBERS[:10], name="theirs", controller="beta", collected_by="beta", campaigns=("beta-fibre",)
    )
    job.configure(asked=[job.asked, job.asked | {"controller": "beta"}])
    await job.run()
    job.registry.work()
    acme, beta = (await job.run()).parts
    assert (acme.answered, beta.answered) == (300, 10)
    assert job.registry.submitted[NUMBERS[0][3:]] == 2
    assert job.answer_for(NUMBERS[10], "beta").answer == "unknown"


async def test_ended_packages_are_kept_after_a_clock_jump_for_as_long_as_it_skipped(job: JobWorld) -> None:
    await job.run_once()
    await job.answer_and_run()
    kept = KeptInstants(job.plan.gate.data)
    kept.advance(job.clock.at)
    folders = [job.plan.work / "rpo.acme" / package.id for package in job.packages()]
    assert len(folders) == 3
    job.clock.at += 4_000 * DAY
    for days in (3_999, 1):
        await job.run_once()
        assert all((folder / "numbers.zip").exists() for folder in folders)
        for _ in range(days):
            kept.advance(job.clock.at)
            job.clock.at += DAY
    await job.run_once()
    assert not any(folder.exists() for folder in folders)


async def test_receipt_of_another_controller_is_refused_until_it_is_corrected(job: JobWorld) -> None:
    publish_answers(job.plan.gate.data, {NUMBERS[0]: False}, NOW - DAY, controller="beta")  # receipt TICKET-1
    await job.run_once()
    job.registry.work()
    receipts = sorted((job.folder / "rpo" / "inbox").glob("*.receipt.txt"))
    right = receipts[0].read_text()
    receipts[0].write_text("TICKET-1\n")
    part = await job.run_once()
    assert part.answered == 200
    (alarm,) = (alarm for alarm in part.alarms if alarm.kind == "answer_faulty")
    assert (
        "receipt TICKET-1 belongs to the consultation from 2026-11-23T09:00:00Z for controller beta"
        in alarm.text
    )
    receipts[0].write_text(right)
    part = await job.run_once()
    assert (part.answered, alarm_kinds(part)) == (100, set())


async def test_monthly_consultation_and_end_of_enrolment_have_their_own_alarms(job: JobWorld) -> None:
    """Without a call list the job submits nothing.

    In that case no other alarm warns of an overdue consultation or of an enrolment that is about to lapse.
    """
    await job.run_once()
    await job.answer_and_run()
    async with registrar(job.plan.gate) as (ledger, client):
        await ledger.call_lists.retire_list(client, "rome")
    for days, raised in [
        (29, set()),
        (31, {"no_consultation"}),
        (306, {"no_consultation", "enrolment_lapsing"}),
    ]:
        job.clock.at = NOW + days * DAY
        assert alarm_kinds(await job.run_once()) == raised


async def test_dry_run_reports_and_changes_nothing(job: JobWorld) -> None:
    await job.run_once()
    job.registry.work()
    before = {path: path.stat().st_mtime_ns for path in job.plan.snapshots.rglob("*")}
    (part,) = (await job.run(dry=True)).parts
    assert (part.answered, part.published) == (300, "")
    assert {path: path.stat().st_mtime_ns for path in job.plan.snapshots.rglob("*.numbers")} == before
    assert {package.state for package in job.packages()} == {"submitted"}
    assert (await job.run_once()).answered == 300


async def test_dry_run_counts_the_numbers_it_would_submit(job: JobWorld) -> None:
    (part,) = (await job.run(dry=True)).parts
    assert (part.due, part.submitted, job.packages()) == (300, 300, [])


async def test_second_run_is_refused_during_a_run(job: JobWorld) -> None:
    with (
        nightly_job.lock_work_folder(job.plan.work),
        pytest.raises(ImportRefused, match="another run is in progress"),
    ):
        await job.run()


async def test_damaged_publication_is_not_updated(job: JobWorld) -> None:
    await job.run_once()
    await job.answer_and_run()
    (path,) = job.plan.snapshots.glob("*.numbers")
    path.write_bytes(path.read_bytes()[:-1])
    job.clock.at += 13 * DAY
    part = await job.run_once()
    assert alarm_kinds(part) == {"refused"}
    with pytest.raises(DamagedFile):
        job.answer_for(CLEAR[0])


async def test_numbers_of_a_refused_package_are_submitted_again_after_a_pause(job: JobWorld) -> None:
    job.registry.fault = "refused"
    await job.run_once()
    assert (await job.answer_and_run()).submitted == 0
    job.clock.at += 25 * HOUR
    assert (await job.run_once()).submitted == 300


async def test_numbers_of_a_refused_package_are_submitted_again_after_their_deletion(tmp_path: Path) -> None:
    job = JobWorld(tmp_path, refused_hours=30 * 24, files_days=15)
    await load_list(job)
    job.registry.fault = "refused"
    await job.run_once()
    await job.answer_and_run()
    job.clock.at += 15 * DAY
    assert (await job.run_once()).submitted == 0
    job.clock.at += 1
    part = await job.run_once()
    assert (part.submitted, "refused" in alarm_kinds(part)) == (300, False)


async def test_numbers_are_deleted_after_weeks_and_receipts_after_years(job: JobWorld) -> None:
    """The registry keeps its log for 24 months (DPR 26/2022 art. 8 c. 5). The job keeps numbers for a shorter time."""
    await job.run_once()
    await job.answer_and_run()
    async with registrar(job.plan.gate) as (ledger, client):
        await ledger.call_lists.retire_list(client, "rome")
    folder = job.plan.work / "rpo.acme"
    job.clock.at += 61 * DAY
    await job.run_once()
    assert {path.name for path in folder.glob("*/*")} == {"package.json", "receipt.txt"}
    job.clock.at = NOW + 1831 * DAY
    await job.run_once()
    assert list(folder.iterdir()) == []


async def test_receipt_is_accepted_for_one_package_only(job: JobWorld) -> None:
    """The registry's log has one receipt for each query (DPR 26/2022 art. 8 c. 5)."""
    await job.run_once()
    job.registry.work()
    first, *others = sorted((job.folder / "rpo" / "inbox").glob("*.receipt.txt"))
    for path in others:
        path.write_bytes(first.read_bytes())
    part = await job.run_once()
    assert part.answered == 100
    assert {alarm.text.split(": ")[1] for alarm in part.alarms if alarm.kind == "answer_faulty"} == {
        f"the receipt belongs to package {job.packages()[0].id}"
    }


async def test_reply_after_deletion_of_the_numbers_is_ignored(job: JobWorld) -> None:
    job.registry.fault = "late"
    await job.run_once()
    job.clock.at += 97 * HOUR
    await job.answer_and_run()
    job.clock.at += 61 * DAY
    await job.answer_and_run()
    job.registry.fault = ""
    assert "refused" not in alarm_kinds(await job.answer_and_run())


async def test_number_in_a_refusal_is_masked(job: JobWorld) -> None:
    await job.run_once()
    job.registry.fault = "refused"
    job.registry.work()
    for path in (job.folder / "rpo" / "inbox").glob("*.refused.txt"):
        path.write_text(f"no such number: {NUMBERS[0][3:]}\n")
    part = await job.run_once()
    assert "no such number: <number>" in part.alarms[0].text
    packages = list(job.plan.work.glob("*/*/package.json"))
    assert any("no such number: <number>" in path.read_text() for path in packages)
    assert not any(NUMBERS[0][3:] in path.read_text() for path in packages)


async def test_result_of_the_last_run_is_stored(job: JobWorld) -> None:
    done = await job.run()
    assert nightly_job.read_last_run(job.plan) == done
    assert job.metric("registry_sync_due_numbers", controller="acme", registry="rpo") == 300
    assert json.loads((job.plan.work / "last-run.json").read_bytes())["parts"][0]["due"] == 300
