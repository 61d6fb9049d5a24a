"""Tests of registries that publish full lists: both UK layouts, and the full files of the US.

The tests cover the age of a list, its coverage and faulty files. The clock is set by hand; the files are real.
"""

import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dialgate.core.model import DAY, HOUR
from dialgate.lists import release_holds
from registry_sync import full_list_areas
from registry_sync.full_list_areas import Area, FullSet
from tests.support.registry_world import JobWorld, alarm_kinds

DAY_ZERO = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp()) * 1000 - HOUR
US: dict[str, Any] = {
    "registry": "us_dnc",
    "format": "us_dnc",
    "source": {"kind": "folder", "inbox": "inbox", "settle_seconds": 0},
    "coverage": ["1321", "1407"],
    "max_age_days": 31,
    "max_added": 50,
    "max_removed": 50,
}
UK = US | {"registry": "tps", "format": "tps", "coverage": ["44"], "max_age_days": 28}


class ListJob(JobWorld):
    """A job with full lists only."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        super().__init__(folder)
        (folder / "inbox").mkdir()
        self.listed = US | changes
        self.configure(asked=[], listed=[self.listed])
        self.clock.at = DAY_ZERO + DAY

    def put(self, name: str, text: str | bytes) -> Path:
        path = self.folder / "inbox" / name
        data = text.encode() if isinstance(text, str) else text
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("list.txt", data)
        else:
            path.write_bytes(data)
        return path

    def lookup(self, number: int, registry: str = "us_dnc") -> tuple[str, int]:
        answer = self.answer_for(f"+{number}", "acme", registry)
        return answer.answer, (answer.consulted_at - DAY_ZERO) // DAY


@pytest.fixture
def job(tmp_path: Path) -> ListJob:
    return ListJob(tmp_path)


def us_lines(area: int, *numbers: int) -> str:
    return "".join(f"{area},{number:07}\r\n" for number in numbers)


async def publish_first_lists(job: ListJob) -> None:
    job.put("2026-11-20_321_ab-12.txt.zip", us_lines(321, *range(5550000, 5550010)))
    job.put("2026-11-20_407_ab-12.txt.zip", us_lines(407, *range(5550000, 5550010)))
    assert alarm_kinds(await job.run_once()) == set()


async def test_missing_number_is_clear_inside_the_coverage_only(job: ListJob) -> None:
    """A number in an area code without a subscription is not clear."""
    await publish_first_lists(job)
    assert [job.lookup(number) for number in (14075550000, 14075559999, 13215550009)] == [
        ("listed", 0),
        ("clear", 0),
        ("listed", 0),
    ]
    assert job.lookup(13055550000)[0] == "uncovered"


async def test_each_area_has_its_own_age(job: ListJob) -> None:
    """16 CFR 310.4(b)(3)(iv): the age of a list is that of its version.

    A new version of the list for one area code does not renew the list for a different area code.
    """
    await publish_first_lists(job)
    job.put("2026-11-25_407_ab-13.txt", us_lines(407, *range(5550000, 5550010)))
    job.clock.at = DAY_ZERO + 29 * DAY
    part = await job.run_once()
    assert job.lookup(14075559999) == ("clear", 5)
    assert job.lookup(13215559999) == ("clear", 0)
    assert [(alarm.kind, "areas 1321:" in alarm.text) for alarm in part.alarms] == [("version_old", True)]


async def test_newest_full_file_is_read_and_a_change_file_raises_an_alarm(job: ListJob) -> None:
    await publish_first_lists(job)
    job.put("2026-11-21_407_a.txt", us_lines(407, 5550001))
    job.put("2026-11-22_407_a.txt", us_lines(407, 5550002))
    job.put("2026-11-23_407_changes-since-2026-11-22.txt", "4075550003,2026-11-23T09:00:00,A\r\n")
    job.clock.at += 3 * DAY
    part = await job.run_once()
    assert [job.lookup(number) for number in (14075550001, 14075550002, 14075550003)] == [
        ("clear", 2),
        ("listed", 2),
        ("clear", 2),
    ]
    assert [(alarm.kind, "change files are not read" in alarm.text) for alarm in part.alarms] == [
        ("file_faulty", True)
    ]
    job.put("2026-11-23_407_a.txt", us_lines(407, 5550003))
    assert alarm_kinds(await job.run_once()) == set()
    assert job.lookup(14075550003) == ("listed", 3)


GOOD = us_lines(407, *range(5550000, 5550010))
LATER = "2026-11-21_407_zz.txt"
DAMAGED: dict[str, tuple[str, str | bytes, str]] = {
    "cut in a line": (
        LATER,
        GOOD[:-5],
        "line 10: the line has a different length from the others. Is the file truncated?",
    ),
    "a line too long": (LATER, GOOD + "407,55500000\r\n", "line 11: the line has a different length"),
    "an empty line": (LATER, GOOD[:26] + "\r\n" + GOOD[26:], "line 3: the line has a different length"),
    "another area code": (LATER, GOOD + us_lines(321, 5550000), "line 11: the number has another area code"),
    "no digits": (LATER, GOOD.replace("5550004", "555000O"), "line 5: the line is not `AAA,NNNNNNN`"),
    "no comma": (LATER, GOOD.replace(",5550004", ";5550004"), "line 5: the line is not `AAA,NNNNNNN`"),
    "empty": (LATER, "", "the file is empty"),
    "UTF-16": (LATER, GOOD.encode("utf-16"), "line 1: the line is not plain ASCII"),
    "a byte order mark": (
        LATER,
        b"\xef\xbb\xbf" + GOOD.encode(),
        "line 1: the file begins with a byte order mark",
    ),
    "a cut zip": (LATER + ".zip", b"PK\x03\x04 cut", "the zip is damaged"),
}


@pytest.mark.parametrize("case", DAMAGED)
async def test_faulty_file_raises_an_alarm_and_leaves_its_area_unchanged(job: ListJob, case: str) -> None:
    """The alarm never shows a number. The next valid file clears the alarm."""
    await publish_first_lists(job)
    before = job.published_files()
    name, text, fault = DAMAGED[case]
    path = job.put(name, text)
    if case == "a cut zip":
        path.write_bytes(text if isinstance(text, bytes) else b"")
    for _ in range(2):  # the second run knows the fault without fetching the file again
        part = await job.run_once()
        assert [alarm.kind for alarm in part.alarms] == ["file_faulty"]
        assert part.alarms[0].text.startswith(name)
        assert fault in part.alarms[0].text
        assert "555" not in part.alarms[0].text
        assert job.alarm("file_faulty", "us_dnc", "everyone") == 1
        assert job.published_files() == before
    path.unlink()
    job.put(LATER, GOOD)
    assert alarm_kinds(await job.run_once()) == set()
    assert job.alarm("file_faulty", "us_dnc", "everyone") == 0
    assert job.lookup(14075559999) == ("clear", 1)


async def test_list_that_shrinks_too_much_needs_a_release_by_two_people(tmp_path: Path) -> None:
    job = ListJob(tmp_path, max_removed=20)
    job.put("2026-11-20_407_a.txt", us_lines(407, *range(1000)))
    job.put("2026-11-20_321_a.txt", us_lines(321, 1))
    await job.run_once()
    before = job.published_files()
    job.put("2026-11-21_407_a.txt", us_lines(407, *range(799)))
    part = await job.run_once()
    assert alarm_kinds(part) == {"held"}
    assert "201 of 1,000 numbers would be removed, more than 20 %" in part.alarms[0].text
    assert job.published_files() == before
    (held,) = (job.plan.snapshots / "held").iterdir()
    for actor in ("maria", "paolo"):
        release_holds.approve(job.plan.snapshots, held.stem, actor, job.clock.at)
    part = await job.run_once()
    assert (alarm_kinds(part), part.removed) == (set(), 201)


async def test_area_is_not_covered_after_its_subscription_ends(job: ListJob) -> None:
    await publish_first_lists(job)
    job.configure(asked=[], listed=[job.listed | {"coverage": ["1407"]}])
    await job.run_once()
    assert [job.lookup(number)[0] for number in (13215550000, 13215559999)] == ["uncovered", "uncovered"]
    assert job.lookup(14075550000) == ("listed", 0)


async def test_version_with_a_future_date_is_refused(job: ListJob) -> None:
    await publish_first_lists(job)
    job.put("2026-11-22_407_a.txt", GOOD)  # today is the 21st
    part = await job.run_once()
    assert [alarm.text for alarm in part.alarms] == [
        "2026-11-22_407_a.txt: the version date in the file name is in the future"
    ]
    assert job.lookup(14075559999) == ("clear", 0)


# ---- United Kingdom --------------------------------------------------------------------------------------------------

SPACED = ("01234 567890", "0208  1234567", "07700 900123", "01204  12345")
TIGHT = ("01234567890 ", "02081234567 ", "07700900123 ", "0120412345  ")
LISTED_UK = [441234567890, 442081234567, 447700900123, 44120412345]


def uk_lines(*rows: str) -> str:
    return "".join(f"{row}\r\n" for row in rows)


@pytest.mark.parametrize("layout", ["tps", "tps_spaced"])
async def test_both_uk_layouts_have_the_same_numbers(tmp_path: Path, layout: str) -> None:
    """One layout has fields of 5 and 7 characters, the other has one field of 12. Numbers have 9 or 10 digits after the 0."""
    job = ListJob(tmp_path, **(UK | {"format": layout}))
    rows = TIGHT if layout == "tps" else tuple(f"{row[:5]:5}{row[5:].strip():>7}" for row in SPACED)
    job.put("TPS_20261120_full.txt", uk_lines(*rows))
    part = await job.run_once()
    assert (alarm_kinds(part), part.added) == (set(), 4)
    assert [job.lookup(number, "tps") for number in LISTED_UK] == [("listed", 0)] * 4
    assert job.lookup(441234567891, "tps") == ("clear", 0)
    assert job.lookup(3531234567, "tps")[0] == "uncovered"


@pytest.mark.parametrize("removed", [0, 700])
async def test_days_without_changes_and_yearly_removals_raise_no_alarm(tmp_path: Path, removed: int) -> None:
    job = ListJob(tmp_path, **(UK | {"max_removed": 80}))
    rows = [f"0123456{n:04} " for n in range(1000)]
    job.put("2026-11-20.txt", uk_lines(*rows))
    await job.run_once()
    job.put("2026-11-21.txt", uk_lines(*rows[removed:]))
    part = await job.run_once()
    assert (alarm_kinds(part), part.removed, part.refreshed) == (set(), removed, 1)
    assert job.lookup(441999999999, "tps") == ("clear", 1)


OTHER_FORM = "the line does not have the form that the registry publishes"
BAD_BRITISH = {
    "cut": ("tps", uk_lines(*TIGHT)[:-4], f"line 4: {OTHER_FORM}"),
    "cut before the line break": ("tps", uk_lines(*TIGHT)[:-2], f"line 4: {OTHER_FORM}"),
    "cut in the line break": ("tps", uk_lines(*TIGHT)[:-1], f"line 4: {OTHER_FORM}"),
    "cut in a number": ("tps", uk_lines(*TIGHT)[:-9], "line 4: no number in GB has 4 digits"),
    "a lost digit": ("tps", uk_lines(*TIGHT, "0123456789 "), f"line 5: {OTHER_FORM}"),
    "a lost digit with spaces": ("tps_spaced", uk_lines("01234 567890", "01234 56789"), f"line 2: {OTHER_FORM}"),
    "LF alone": ("tps", uk_lines(*TIGHT).replace("\r\n", "\n"), f"line 1: {OTHER_FORM}"),
    "no leading 0": ("tps", uk_lines("1234567890  "), f"line 1: {OTHER_FORM}"),
    "a country code": ("tps", uk_lines("441234567890"), "line 1: no number in GB has 12 digits"),
    "a space in front": ("tps", uk_lines(" 01234567890"), f"line 1: {OTHER_FORM}"),
    "a space in the number": ("tps", uk_lines("01234 567890"), f"line 1: {OTHER_FORM}"),
    "another mark": ("tps_spaced", uk_lines("01234-567890"), f"line 1: {OTHER_FORM}"),
    "the layout with spaces": ("tps", uk_lines(f"{'0208':5}{'1234567':>7}"), f"line 1: {OTHER_FORM}"),
    "the layout without spaces": ("tps_spaced", uk_lines(*TIGHT), f"line 1: {OTHER_FORM}"),
    "a space in a dialling code": ("tps_spaced", uk_lines("02 081234567"), f"line 1: {OTHER_FORM}"),
    "a space in the rest": ("tps_spaced", uk_lines("02081 123 45"), f"line 1: {OTHER_FORM}"),
    "a letter": ("tps", uk_lines("0123456789O "), "line 1: the number contains something other than digits"),
    "too short": ("tps", uk_lines("012345678   "), "line 1: no number in GB has 8 digits"),
    "too short for the registry": ("tps", uk_lines(*TIGHT, "08001111    "), f"line 5: {OTHER_FORM}"),
    "empty": ("tps", "", "the file is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_BRITISH)
async def test_faulty_uk_file_is_refused(tmp_path: Path, case: str) -> None:
    """Otherwise a damaged line would list another number, and the enrolled one would be clear."""
    layout, text, fault = BAD_BRITISH[case]
    job = ListJob(tmp_path, **(UK | {"format": layout}))
    job.put("TPS-2026-11-20.txt", text)
    part = await job.run_once()
    assert part.published == ""
    assert fault in part.alarms[0].text


# ---- areas -----------------------------------------------------------------------------------------------------------


def test_dense_area_has_one_bit_for_each_number() -> None:
    present = np.zeros(10_000_000, np.bool_)
    present[[0, 7, 9_999_999]] = True
    area = Area("1407", ((14070000000, 14080000000),))
    packed = FullSet(area.ranges[0][0], np.packbits(present, bitorder="little"), full_list_areas.EMPTY)
    assert packed.all().tolist() == [14070000000, 14070000007, 14079999999]


async def test_full_files_with_the_same_date_are_not_published(tmp_path: Path) -> None:
    """They may be two parts of a list: one part would make the numbers of the other look clear."""
    job = ListJob(tmp_path, **UK)
    job.put("TPS_20261120_part1.txt", uk_lines(*TIGHT[:2]))
    job.put("TPS_20261120_part2.txt", uk_lines(*TIGHT[2:]))
    part = await job.run_once()
    assert (part.published, alarm_kinds(part)) == ("", {"file_faulty", "version_old"})
    assert "TPS_20261120_part2.txt has the same date and area 44" in part.alarms[0].text
    (job.folder / "inbox" / "TPS_20261120_part2.txt").unlink()
    job.put("TPS_20261120_part1.txt", uk_lines(*TIGHT))
    assert alarm_kinds(await job.run_once()) == set()
    assert [job.lookup(number, "tps") for number in LISTED_UK] == [("listed", 0)] * 4
    job.put("TPS_20261120_corrected.txt", uk_lines(*TIGHT, "01234567899 "))
    assert alarm_kinds(await job.run_once()) == {"file_faulty"}
