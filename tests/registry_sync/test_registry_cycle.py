"""The cycle with a registry that answers: what is asked, what is taken, what is said when something is wrong.

The clock is a value; the registry is simulated, on real files."""

import json
import zipfile
from datetime import date
from pathlib import Path

import msgspec
import pytest

from dialgate.core.ledger_events import ConsentsVoided
from dialgate.core.model import DAY, HOUR
from dialgate.ledger.schemas import ConsentRequest
from dialgate.lists.number_set import DamagedFile
from dialgate.runtime.instants import KeptInstants
from registry_sync import nightly_job
from registry_sync.import_checks import Refused
from registry_sync.run_report import Summary
from registry_sync.simulator import FAULTS, enrolled
from tests.support.registry_world import NUMBERS, Night, load_list, registrar
from tests.support.world import NOW, publish_answers

LISTED = [number for number in NUMBERS if enrolled(number[3:])]
CLEAR = [number for number in NUMBERS if not enrolled(number[3:])]


@pytest.fixture
async def night(tmp_path: Path) -> Night:
    made = Night(tmp_path)
    await load_list(made)
    return made


def kinds(part: Summary) -> set[str]:
    return {alarm.kind for alarm in part.alarms}


async def test_the_numbers_of_the_call_lists_are_asked_about_answered_and_published(night: Night) -> None:
    first = await night.part()
    assert (first.due, first.submitted, first.waiting, first.published) == (300, 300, 3, "")
    assert kinds(first) == set()
    night.hand.at += HOUR
    second = await night.night()
    assert (second.due, second.submitted, second.waiting, second.answered) == (0, 0, 0, 300)
    assert kinds(second) == set()
    assert night.answers() == dict.fromkeys(LISTED, "listed") | dict.fromkeys(CLEAR, "clear")
    assert set(night.registry.submitted.values()) == {1}
    assert {package.state for package in night.packages()} == {"answered"}


async def test_an_answer_is_as_old_as_its_question_and_bears_the_registrys_receipt(night: Night) -> None:
    """Trap 3: whatever the registry, or the job, takes of time is taken from the fifteen days."""
    await night.part()
    night.hand.at += 20 * HOUR
    await night.night()
    assert night.says(CLEAR[0]).consulted_at == NOW
    (package, *_) = night.packages()
    assert package.receipt == f"SIMULATED-{package.id[-8:]}"
    receipt = night.plan.work / "rpo.acme" / package.id / "receipt.txt"
    assert receipt.read_text().strip() == package.receipt


async def test_a_package_is_what_the_registry_takes(night: Night) -> None:
    """Trap 23: national form, the leading 0 kept, CRLF, each number once, in a zip with numbers.txt."""
    await night.part()
    (path, *_) = sorted((night.folder / "rpo" / "outbox").iterdir())
    with zipfile.ZipFile(path) as archive:
        text = archive.read("numbers.txt").decode("ascii")
    assert archive.namelist() == ["numbers.txt"]
    lines = text.removesuffix("\r\n").split("\r\n")
    assert len(lines) == len(set(lines)) == 100
    assert all(line.startswith("06") for line in lines)


async def test_nothing_is_asked_again_while_its_answer_is_good_for_long_enough(night: Night) -> None:
    await night.part()
    await night.night()
    for hours, due in [(1, 0), (11 * 24, 0), (12 * 24 - 1, 0), (12 * 24, len(CLEAR))]:
        night.hand.at = NOW + hours * HOUR
        assert (await night.part()).due == due
    assert sum(night.registry.submitted.values()) == 300  # the registry has not looked into its outbox since
    night.registry.work()
    assert [night.registry.submitted[number[3:]] for number in (CLEAR[0], LISTED[0])] == [2, 1]


async def test_one_who_is_listed_is_asked_about_again_after_its_own_time(night: Night) -> None:
    """Trap 6: opposition may be lifted; until then no call rests on the answer, so that it need not be fresh."""
    await night.part()
    await night.night()
    night.hand.at = NOW + 30 * DAY
    assert (await night.part()).due == 300


async def test_the_most_pressing_is_asked_about_first_where_spending_ends(tmp_path: Path) -> None:
    night = Night(tmp_path, numbers_a_run=150, numbers_a_year=320)
    await load_list(night)
    for submitted in (150, 150, 0):
        part = await night.night()
        assert part.submitted == submitted
    night.hand.at += 12 * DAY + HOUR
    part = await night.night()
    assert (part.due, part.submitted) == (len(CLEAR), 20)
    assert "spending_limit" in kinds(part)
    night.registry.work()
    assert all(night.registry.submitted[number[3:]] == 1 for number in LISTED)
    night.hand.at += 366 * DAY
    assert (await night.part()).submitted == 150


LISTS = {
    "retired": 0,
    "of a paused campaign": 0,
    "of a campaign that is over": 0,
    "of a campaign that begins after the look-ahead": 0,
    "of a campaign that begins within it": 300,
    "of a campaign the registry is not about": 0,
}


@pytest.mark.parametrize("case", LISTS)
async def test_only_numbers_that_may_be_called_soon_are_asked_about(night: Night, case: str) -> None:
    """L. 5/2018 art. 1 c. 12: before every campaign; and every question costs money."""
    today = date(2026, 11, 24)
    changes = {
        "of a paused campaign": "paused: true",
        "of a campaign that is over": f"ends: {today.replace(day=20)}",
        "of a campaign that begins after the look-ahead": f"starts: {today.replace(month=12)}",
        "of a campaign that begins within it": f"starts: {today.replace(day=26)}",
        "of a campaign the registry is not about": "purpose: service",
    }
    path = night.folder / "controllers" / "acme.yaml"
    if case in changes:
        text = path.read_text().replace(
            "    purpose: sale\n", "" if "purpose" in changes[case] else "    purpose: sale\n"
        )
        path.write_text(text.replace("  - id: acme-fibre\n", f"  - id: acme-fibre\n    {changes[case]}\n"))
        night.configure()
    else:
        async with registrar(night.plan.gate) as (made, client):
            await made.call_lists.retire_list(client, "rome")
    assert (await night.part()).due == LISTS[case]


async def test_numbers_the_registry_does_not_hold_are_not_asked_about(night: Night) -> None:
    """Foreign ones, and San Marino's landlines under 0549 (trap 29)."""
    await load_list(night, ["+33612345678", "+390549881234", "+393331234567"], name="more")
    part = await night.part()
    assert (part.due, part.foreign) == (301, 2)


async def test_enrolment_voids_the_consents_before_it_in_the_ledger_once(night: Night) -> None:
    """L. 5/2018 art. 1 c. 5."""
    config = night.plan.gate
    async with registrar(config) as (made, client):
        for number in (LISTED[0], CLEAR[0]):
            ask = {
                "controller": "acme", "number": number, "channel": "web", "id": "c1", "purposes": ["sale"],
                "call_types": ["agent"], "collected_at": "2026-10-01T10:00:00Z", "artefact": "x",
                "artefact_sha256": "0" * 64,
            }  # fmt: skip
            await made.consents.record(client, msgspec.convert(ask, ConsentRequest))
    await night.part()
    assert (await night.night()).voided == 1
    night.hand.at += 31 * DAY
    await night.part()
    assert (await night.night()).voided == 0
    async with registrar(config) as (made, client):
        held = await made.views.history(client, "acme", LISTED[0], ("consents_voided",))
        assert [entry.details["before"] for entry in held] == ["2026-11-24T09:00:00.000Z"]
        assert held[0].proof.startswith("SIMULATED-")
        assert await made.views.history(client, "acme", CLEAR[0], ("consents_voided",)) == []
    assert ConsentsVoided.__struct_config__.tag == "consents_voided"


# Which alarm a fault raises; the two that look odd are no faults.
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
async def test_whatever_the_registry_does_wrong_the_old_answers_stay_and_the_alarm_says_why(
    night: Night, fault: str
) -> None:
    """Traps 1, 2 and 32. The next good run clears it."""
    await night.part()
    await night.night()
    night.hand.at += 12 * DAY + HOUR
    await night.part()
    before = night.published()
    night.registry.fault = fault
    night.hand.at += 25 * HOUR if fault == "late" else HOUR
    part = await night.night()
    wanted = RAISED[fault]
    assert kinds(part) == ({wanted} if wanted else set())
    text = " ".join(alarm.text for alarm in part.alarms)
    assert not any(number[3:] in text for number in NUMBERS)
    if not wanted:
        assert night.says(CLEAR[0]).consulted_at > NOW
        return
    assert night.alarm(wanted) == 1
    assert night.published() == before
    night.registry.fault = ""
    night.hand.at += 26 * HOUR
    await night.night()
    for package in night.packages():  # the registry is told, and sends what it should have sent
        if package.state == "submitted":
            night.registry.answer_again(night.plan.work / "rpo.acme" / package.id)
    await night.part()
    part = await night.night()
    assert (kinds(part), night.alarm(wanted)) == (set(), 0)
    assert night.answers() == dict.fromkeys(LISTED, "listed") | dict.fromkeys(CLEAR, "clear")


async def test_answers_that_turn_too_much_wait_for_two_people(night: Night) -> None:
    await night.part()
    await night.night()
    night.hand.at += 31 * DAY
    await night.part()
    night.registry.fault = "turned_round"
    assert kinds(await night.night()) >= {"held"}
    for path in list((night.plan.snapshots / "held").iterdir()):
        for actor in ("maria", "paolo"):
            nightly_job.approve(night.plan.snapshots, path.stem, actor)
    part = await night.part()
    assert (part.answered, kinds(part)) == (300, set())
    assert night.says(LISTED[0]).answer == "clear"


async def test_a_package_without_an_answer_is_given_up_and_its_numbers_are_asked_about_again(
    night: Night,
) -> None:
    """And what then comes late is taken all the same, as old as it is."""
    night.registry.fault = "late"
    await night.part()
    night.hand.at += 97 * HOUR
    part = await night.night()
    assert "package_expired" in kinds(part)
    assert part.submitted == 300
    night.registry.fault = ""
    part = await night.night()
    assert part.answered == 600
    assert night.says(CLEAR[0]).consulted_at == NOW + 97 * HOUR
    assert {package.state for package in night.packages()} == {"answered"}


async def test_two_controllers_have_answers_of_their_own(night: Night) -> None:
    """Trap 5: one is never asked for, nor answered with, what another was told."""
    other = (night.folder / "controllers" / "acme.yaml").read_text()
    (night.folder / "controllers" / "beta.yaml").write_text(
        other.replace("id: acme", "id: beta").replace('"+390844123456"', '"+390844654321"')
    )
    night.configure()
    await load_list(night, NUMBERS[:10], name="theirs", controller="beta", campaigns=("beta-fibre",))
    night.configure(asked=[night.asked, night.asked | {"controller": "beta"}])
    await night.run()
    night.registry.work()
    acme, beta = (await night.run()).parts
    assert (acme.answered, beta.answered) == (300, 10)
    assert night.registry.submitted[NUMBERS[0][3:]] == 2
    assert night.says(NUMBERS[10], "beta").answer == "unknown"


async def test_nothing_of_an_ended_package_is_removed_while_the_clock_jumped(night: Night) -> None:
    await night.part()
    await night.night()
    kept = KeptInstants(night.plan.gate.data)
    kept.advance(night.hand.at)
    folders = [night.plan.work / "rpo.acme" / package.id for package in night.packages()]
    assert len(folders) == 3
    night.hand.at += 4_000 * DAY
    await night.part()
    assert all((folder / "numbers.zip").exists() for folder in folders)
    kept.confirm(night.hand.at, "anna", "the gate was off")
    await night.part()
    assert not any(folder.exists() for folder in folders)


async def test_a_receipt_of_another_controller_is_refused_until_it_is_put_right(night: Night) -> None:
    publish_answers(
        night.plan.gate.data, {NUMBERS[0]: False}, NOW - DAY, controller="beta"
    )  # receipt TICKET-1
    await night.part()
    night.registry.work()
    receipts = sorted((night.folder / "rpo" / "inbox").glob("*.receipt.txt"))
    right = receipts[0].read_text()
    receipts[0].write_text("TICKET-1\n")
    part = await night.part()
    assert part.answered == 200
    (alarm,) = (alarm for alarm in part.alarms if alarm.kind == "answer_faulty")
    assert (
        "receipt TICKET-1 belongs to the consultation of 2026-11-23T09:00:00Z for controller beta"
        in alarm.text
    )
    receipts[0].write_text(right)
    part = await night.part()
    assert (part.answered, kinds(part)) == (100, set())


async def test_the_months_duty_and_the_end_of_enrolment_are_alarms_of_their_own(night: Night) -> None:
    """Traps 4 and 47: the cache may look healthy while the registry has struck the operator off."""
    await night.part()
    await night.night()
    async with registrar(night.plan.gate) as (made, client):
        await made.call_lists.retire_list(client, "rome")
    for days, raised in [
        (29, set()),
        (31, {"no_consultation"}),
        (306, {"no_consultation", "enrolment_lapsing"}),
    ]:
        night.hand.at = NOW + days * DAY
        assert kinds(await night.part()) == raised


async def test_a_dry_run_shows_what_it_would_do_and_leaves_everything_as_it_was(night: Night) -> None:
    await night.part()
    night.registry.work()
    before = {path: path.stat().st_mtime_ns for path in night.plan.snapshots.rglob("*")}
    (part,) = (await night.run(dry=True)).parts
    assert (part.answered, part.published) == (300, "")
    assert {path: path.stat().st_mtime_ns for path in night.plan.snapshots.rglob("*.numbers")} == before
    assert {package.state for package in night.packages()} == {"submitted"}
    assert (await night.part()).answered == 300


async def test_a_dry_run_counts_what_it_would_submit(night: Night) -> None:
    (part,) = (await night.run(dry=True)).parts
    assert (part.due, part.submitted, night.packages()) == (300, 300, [])


async def test_a_second_run_is_refused_while_one_is_at_work(night: Night) -> None:
    with nightly_job.locked(night.plan.work), pytest.raises(Refused, match="another run is at work"):
        await night.run()


async def test_a_damaged_publication_is_not_built_upon(night: Night) -> None:
    await night.part()
    await night.night()
    (path,) = night.plan.snapshots.glob("*.numbers")
    path.write_bytes(path.read_bytes()[:-1])
    night.hand.at += 13 * DAY
    part = await night.part()
    assert kinds(part) == {"refused"}
    with pytest.raises(DamagedFile):
        night.says(CLEAR[0])


async def test_a_refused_package_rests_before_its_numbers_are_asked_about_again(night: Night) -> None:
    night.registry.fault = "refused"
    await night.part()
    assert (await night.night()).submitted == 0
    night.hand.at += 25 * HOUR
    assert (await night.part()).submitted == 300


async def test_numbers_go_after_weeks_and_receipts_stay_for_years(night: Night) -> None:
    """DPR 26/2022 art. 8 c. 5: the registry keeps its log for 24 months; nobody's number is kept that long here."""
    await night.part()
    await night.night()
    async with registrar(night.plan.gate) as (made, client):
        await made.call_lists.retire_list(client, "rome")
    folder = night.plan.work / "rpo.acme"
    night.hand.at += 61 * DAY
    await night.part()
    assert {path.name for path in folder.glob("*/*")} == {"package.json", "receipt.txt"}
    night.hand.at = NOW + 1831 * DAY
    await night.part()
    assert list(folder.iterdir()) == []


async def test_one_receipt_does_not_serve_two_packages(night: Night) -> None:
    """Each question has its own: the registry's log says so (DPR 26/2022 art. 8 c. 5)."""
    await night.part()
    night.registry.work()
    first, *others = sorted((night.folder / "rpo" / "inbox").glob("*.receipt.txt"))
    for path in others:
        path.write_bytes(first.read_bytes())
    part = await night.part()
    assert part.answered == 100
    assert {alarm.text.split(": ")[1] for alarm in part.alarms if alarm.kind == "answer_faulty"} == {
        f"this is the receipt of {night.packages()[0].id}"
    }


async def test_what_comes_after_the_numbers_are_gone_is_left_alone(night: Night) -> None:
    night.registry.fault = "late"
    await night.part()
    night.hand.at += 97 * HOUR
    await night.night()
    night.hand.at += 61 * DAY
    await night.night()
    night.registry.fault = ""
    assert "refused" not in kinds(await night.night())


async def test_a_refusal_that_quotes_a_number_does_not_carry_it_on(night: Night) -> None:
    await night.part()
    night.registry.fault = "refused"
    night.registry.work()
    for path in (night.folder / "rpo" / "inbox").glob("*.refused.txt"):
        path.write_text(f"no such number: {NUMBERS[0][3:]}\n")
    part = await night.part()
    assert "no such number: <number>" in part.alarms[0].text
    packages = list(night.plan.work.glob("*/*/package.json"))
    assert any("no such number: <number>" in path.read_text() for path in packages)
    assert not any(NUMBERS[0][3:] in path.read_text() for path in packages)


async def test_what_the_last_run_found_is_kept_for_whoever_asks(night: Night) -> None:
    done = await night.run()
    assert nightly_job.last(night.plan) == done
    assert night.metric("registry_sync_due_numbers", controller="acme", registry="rpo") == 300
    assert json.loads((night.plan.work / "last-run.json").read_bytes())["parts"][0]["due"] == 300
