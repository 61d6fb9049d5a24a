"""Registries that hand out everybody who is listed: both British layouts, American full and change files, their age, their
coverage, and every way in which a file may be wrong. Clocks are values, files are real."""

import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.core.model import DAY, HOUR
from registry_sync import full_list_areas, nightly_job
from registry_sync.full_list_areas import Area, Everybody, Patch
from registry_sync.run_report import Summary
from tests.support.registry_world import Night

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


class Shop(Night):
    """A job that takes in full lists only."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        super().__init__(folder)
        (folder / "inbox").mkdir()
        self.listed = US | changes
        self.configure(asked=[], listed=[self.listed])
        self.hand.at = DAY_ZERO + DAY

    def offer(self, name: str, text: str | bytes) -> Path:
        path = self.folder / "inbox" / name
        data = text.encode() if isinstance(text, str) else text
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("list.txt", data)
        else:
            path.write_bytes(data)
        return path

    def said(self, number: int, registry: str = "us_dnc") -> tuple[str, int]:
        answer = self.says(f"+{number}", "acme", registry)
        return answer.answer, (answer.consulted_at - DAY_ZERO) // DAY


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def american(area: int, *numbers: int) -> str:
    return "".join(f"{area},{number:07}\r\n" for number in numbers)


def kinds(part: Summary) -> set[str]:
    return {alarm.kind for alarm in part.alarms}


async def begun(shop: Shop) -> None:
    shop.offer("2026-11-20_321_ab-12.txt.zip", american(321, *range(5550000, 5550010)))
    shop.offer("2026-11-20_407_ab-12.txt.zip", american(407, *range(5550000, 5550010)))
    assert kinds(await shop.part()) == set()


async def test_absence_is_clear_inside_the_coverage_only(shop: Shop) -> None:
    """Trap 31: an area code that is not subscribed is unscreened, not clear."""
    await begun(shop)
    assert [shop.said(number) for number in (14075550000, 14075559999, 13215550009)] == [
        ("listed", 0),
        ("clear", 0),
        ("listed", 0),
    ]
    assert shop.said(13055550000)[0] == "uncovered"


async def test_an_area_that_is_not_refreshed_grows_old_alone(shop: Shop) -> None:
    """16 CFR 310.4(b)(3)(iv): the age is that of the version. The clock of one area code does not move another's."""
    await begun(shop)
    shop.offer("2026-11-25_407_changes-since-2026-11-20.txt", "NoChanges\r\n")
    shop.hand.at = DAY_ZERO + 29 * DAY
    part = await shop.part()
    assert shop.said(14075559999) == ("clear", 5)
    assert shop.said(13215559999) == ("clear", 0)
    assert [(alarm.kind, "areas 1321:" in alarm.text) for alarm in part.alarms] == [("version_old", True)]


def changes(*records: str) -> str:
    return "".join(f"{record}\r\n" for record in records)


async def test_changes_apply_in_the_order_of_time_not_of_the_file(shop: Shop) -> None:
    """A number may go and come again within one file; of one instant's A and D the one that forbids stands."""
    await begun(shop)
    shop.offer(
        "2026-11-22_407_changes-since-2026-11-20_x1.txt.zip",
        changes(
            "4075550001,2026-11-21T10:00:00,A",
            "4075550001,2026-11-21T09:00:00,D",
            "4075550002,2026-11-21T09:00:00,D",
            "4075550003,2026-11-21T09:00:00,D",
            "4075550003,2026-11-21T09:00:00,A",
            "4075559990,2026-11-21T09:00:00,A",
            "4075559991,2026-11-21T09:00:00,D",
        ),
    )
    shop.hand.at += DAY
    part = await shop.part()
    assert (part.added, part.removed, kinds(part)) == (1, 1, set())
    said = shop.say([f"+{number}" for number in range(14075550000, 14075560000)], registry="us_dnc")
    listed = {int(number) for number, answer in said.items() if answer.answer == "listed"}
    assert listed == {*range(14075550000, 14075550010), 14075559990} - {14075550002}


async def test_a_chain_of_changes_is_followed_and_a_gap_is_not_jumped(shop: Shop) -> None:
    """Traps 31 and 32."""
    await begun(shop)
    shop.offer("2026-11-21_407_changes-since-2026-11-20.txt", changes("4075551111,2026-11-20T09:00:00,A"))
    shop.offer("2026-11-22_407_changes-since-2026-11-21.txt", changes("4075551111,2026-11-21T09:00:00,D"))
    shop.offer("2026-11-24_407_changes-since-2026-11-23.txt", changes("4075552222,2026-11-23T09:00:00,A"))
    shop.hand.at = DAY_ZERO + 4 * DAY
    part = await shop.part()
    assert shop.said(14075551111) == ("clear", 2)
    assert shop.said(14075552222) == ("clear", 2)
    assert [alarm.kind for alarm in part.alarms] == ["file_faulty"]
    assert "a gap in the changes of area 1407" in part.alarms[0].text
    shop.offer("2026-11-23_407_zz.txt", american(407, 5550000))
    part = await shop.part()
    assert shop.said(14075552222) == ("listed", 4)
    assert (kinds(part), shop.said(14075550009)) == (set(), ("clear", 4))


async def test_of_a_chain_the_files_before_the_faulty_one_count(shop: Shop) -> None:
    """And a better one of its name is taken when it comes."""
    shop.offer("2026-11-20_321_a.txt", american(321, 1))
    shop.offer("2026-11-20_407_a.txt", american(407, 5550000))
    shop.offer("2026-11-21_407_changes-since-2026-11-20.txt", "cut")
    part = await shop.part()
    assert (kinds(part), shop.said(14075551111)) == ({"file_faulty"}, ("clear", 0))
    shop.offer("2026-11-21_407_changes-since-2026-11-20.txt", changes("4075551111,2026-11-20T09:00:00,A"))
    part = await shop.part()
    assert (kinds(part), shop.said(14075551111), shop.said(14075550000)) == (
        set(),
        ("listed", 1),
        ("listed", 1),
    )


async def test_changes_without_a_full_file_are_nothing(shop: Shop) -> None:
    """Trap 32."""
    shop.offer("2026-11-21_407_changes-since-2026-11-20.txt", changes("4075551111,2026-11-20T09:00:00,A"))
    part = await shop.part()
    assert part.published == ""
    assert kinds(part) == {"file_faulty", "version_old"}
    assert "changes without a full file" in part.alarms[0].text


GOOD = american(407, *range(5550000, 5550010))
LATER = "2026-11-21_407_zz.txt"
CHANGED = "2026-11-21_407_changes-since-2026-11-20.txt"
DAMAGED: dict[str, tuple[str, str | bytes, str]] = {
    "cut in a line": (
        LATER,
        GOOD[:-5],
        "line 10: it is shorter or longer than the others: is the file cut short?",
    ),
    "a line too long": (LATER, GOOD + "407,55500000\r\n", "line 11: it is shorter or longer than the others"),
    "an empty line": (LATER, GOOD[:26] + "\r\n" + GOOD[26:], "line 3: it is shorter or longer"),
    "another area code": (LATER, GOOD + american(321, 5550000), "line 11: of another area code"),
    "no digits": (LATER, GOOD.replace("5550004", "555000O"), "line 5: not `AAA,NNNNNNN`"),
    "no comma": (LATER, GOOD.replace(",5550004", ";5550004"), "line 5: not `AAA,NNNNNNN`"),
    "empty": (LATER, "", "it is empty"),
    "UTF-16": (LATER, GOOD.encode("utf-16"), "line 1: it is not plain ASCII"),
    "a byte order mark": (
        LATER,
        b"\xef\xbb\xbf" + GOOD.encode(),
        "line 1: the file begins with a byte order mark",
    ),
    "a cut zip": (LATER + ".zip", b"PK\x03\x04 cut", "the zip is damaged"),
    "changes: empty": (CHANGED, "", "no changes are told by the one line NoChanges"),
    "changes: another word": (
        CHANGED,
        changes("4075551111,2026-11-20T09:00:00,X"),
        "line 1: not `AAANNNNNNN,",
    ),
    "changes: no such day": (
        CHANGED,
        changes("4075551111,2026-02-30T09:00:00,A"),
        "a time that does not exist",
    ),
    "changes: no time": (CHANGED, changes("4075551111,2026-02-20 09:00:00,A"), "line 1: its time is not"),
    "changes: cut": (CHANGED, changes("4075551111,2026-11-20T09:00:00,A")[:-6], "line 1: it is shorter"),
    "changes: another area": (CHANGED, changes("3215551111,2026-11-20T09:00:00,A"), "of another area code"),
    "changes: a request that is pending": (CHANGED, "RequestPending", "line 1: it is shorter"),
}


@pytest.mark.parametrize("case", DAMAGED)
async def test_a_damaged_file_leaves_its_area_as_it_was_and_is_named(shop: Shop, case: str) -> None:
    """Trap 32. Nothing half-published, the number never shown, the next good file clears it."""
    await begun(shop)
    before = shop.published()
    name, text, fault = DAMAGED[case]
    path = shop.offer(name, text)
    if case == "a cut zip":
        path.write_bytes(text if isinstance(text, bytes) else b"")
    for _ in range(2):  # the second time it is known without fetching it again
        part = await shop.part()
        assert [alarm.kind for alarm in part.alarms] == ["file_faulty"]
        assert part.alarms[0].text.startswith(name)
        assert fault in part.alarms[0].text
        assert "555" not in part.alarms[0].text
        assert shop.alarm("file_faulty", "us_dnc", "everyone") == 1
        assert shop.published() == before
    path.unlink()
    shop.offer(LATER, GOOD)
    assert kinds(await shop.part()) == set()
    assert shop.alarm("file_faulty", "us_dnc", "everyone") == 0
    assert shop.said(14075559999) == ("clear", 1)


async def test_a_list_that_shrinks_too_much_waits_for_two_people(tmp_path: Path) -> None:
    """Trap 32; and trap 33: a mass removal is normal for those whose limit says so."""
    shop = Shop(tmp_path, max_removed=20)
    shop.offer("2026-11-20_407_a.txt", american(407, *range(1000)))
    shop.offer("2026-11-20_321_a.txt", american(321, 1))
    await shop.part()
    before = shop.published()
    shop.offer("2026-11-21_407_a.txt", american(407, *range(799)))
    part = await shop.part()
    assert kinds(part) == {"held"}
    assert "201 of 1,000 numbers would be removed, more than 20 %" in part.alarms[0].text
    assert shop.published() == before
    (held,) = (shop.plan.snapshots / "held").iterdir()
    for actor in ("maria", "paolo"):
        nightly_job.approve(shop.plan.snapshots, held.stem, actor)
    part = await shop.part()
    assert (kinds(part), part.removed) == (set(), 201)


async def test_an_area_that_is_no_longer_subscribed_is_no_longer_covered(shop: Shop) -> None:
    await begun(shop)
    shop.configure(asked=[], listed=[shop.listed | {"coverage": ["1407"]}])
    await shop.part()
    assert [shop.said(number)[0] for number in (13215550000, 13215559999)] == ["uncovered", "uncovered"]
    assert shop.said(14075550000) == ("listed", 0)


async def test_a_version_of_tomorrow_is_not_taken(shop: Shop) -> None:
    """Trap 35: its age would be counted from a day that has not been."""
    await begun(shop)
    shop.offer("2026-11-22_407_a.txt", GOOD)  # it is the 21st
    part = await shop.part()
    assert [alarm.text for alarm in part.alarms] == [
        "2026-11-22_407_a.txt: its version is of a day that has not come"
    ]
    assert shop.said(14075559999) == ("clear", 0)


# ---- Britain ---------------------------------------------------------------------------------------------------------

SPACED = ("01234 567890", "0208  1234567", "07700 900123", "01204  12345")
TIGHT = ("01234567890 ", "02081234567 ", "07700900123 ", "0120412345  ")
LISTED_UK = [441234567890, 442081234567, 447700900123, 44120412345]


def british(*rows: str) -> str:
    return "".join(f"{row}\r\n" for row in rows)


@pytest.mark.parametrize("layout", ["tps", "tps_spaced"])
async def test_both_british_layouts_say_the_same(tmp_path: Path, layout: str) -> None:
    """Five and seven characters, or twelve; nine or ten digits after the 0."""
    shop = Shop(tmp_path, **(UK | {"format": layout}))
    rows = TIGHT if layout == "tps" else tuple(f"{row[:5]:5}{row[5:].strip():>7}" for row in SPACED)
    shop.offer("TPS_20261120_full.txt", british(*rows))
    part = await shop.part()
    assert (kinds(part), part.added) == (set(), 4)
    assert [shop.said(number, "tps") for number in LISTED_UK] == [("listed", 0)] * 4
    assert shop.said(441234567891, "tps") == ("clear", 0)
    assert shop.said(3531234567, "tps")[0] == "uncovered"


@pytest.mark.parametrize("removed", [0, 700])
async def test_days_without_changes_and_yearly_removals_are_normal(tmp_path: Path, removed: int) -> None:
    """Trap 33."""
    shop = Shop(tmp_path, **(UK | {"max_removed": 80}))
    rows = [f"0123456{n:04} " for n in range(1000)]
    shop.offer("2026-11-20.txt", british(*rows))
    await shop.part()
    shop.offer("2026-11-21.txt", british(*rows[removed:]))
    part = await shop.part()
    assert (kinds(part), part.removed, part.refreshed) == (set(), removed, 1)
    assert shop.said(441999999999, "tps") == ("clear", 1)


BAD_BRITISH = {
    "cut": (british(*TIGHT)[:-4], "line 4: it is not 12 characters and CRLF: is the file cut short?"),
    "LF alone": (british(*TIGHT).replace("\r\n", "\n"), "line 1: it is not 12 characters and CRLF"),
    "no leading 0": (british("1234567890  "), "line 1: no British number in the layout without spaces"),
    "the other layout": (british(f"{'0208':5}{'1234567':>7}"), "line 1: no British number in the layout"),
    "a letter": (british("0123456789O "), "line 1: no British number"),
    "too short": (british("012345678   "), "line 1: no British number"),
    "empty": ("", "it is empty"),
}


@pytest.mark.parametrize("case", BAD_BRITISH)
async def test_a_damaged_british_file_is_refused_whole(tmp_path: Path, case: str) -> None:
    shop = Shop(tmp_path, **UK)
    text, fault = BAD_BRITISH[case]
    shop.offer("TPS-2026-11-20.txt", text)
    part = await shop.part()
    assert part.published == ""
    assert fault in part.alarms[0].text


# ---- what areas are made of ------------------------------------------------------------------------------------------


@given(
    st.sets(st.integers(0, 300)),
    st.sets(st.integers(0, 300)),
    st.sets(st.integers(0, 300)),
    st.integers(0, 300),
)
def test_a_patched_area_is_what_set_arithmetic_says(
    old: set[int], added: set[int], removed: set[int], bound: int
) -> None:
    """Whatever comes or goes at the edges of a run."""
    come, go = sorted(added - old), sorted((removed & old) - added)
    patch = Patch(np.array(come, np.uint64), np.array(go, np.uint64))
    pieces = [each for run in ([*range(bound)], [*range(bound, 301)]) for each in _patched(old, run, patch)]
    assert pieces == sorted((old | set(come)) - set(go))


def _patched(old: set[int], run: list[int], patch: Patch) -> list[int]:
    mine = np.array(sorted(old & set(run)), np.uint64)
    if not run:
        return []
    begin, end = run[0], run[-1] + 1
    some = [full_list_areas.between(part, begin, end) for part in patch]
    found: list[int] = full_list_areas.apply(mine, *some).tolist()
    return found


def test_everybody_of_a_dense_area_is_kept_in_one_bit_each() -> None:
    present = np.zeros(10_000_000, np.bool_)
    present[[0, 7, 9_999_999]] = True
    area = Area("1407", ((14070000000, 14080000000),))
    packed = Everybody(area.ranges[0][0], np.packbits(present, bitorder="little"), full_list_areas.EMPTY)
    assert packed.all().tolist() == [14070000000, 14070000007, 14079999999]
