"""`registry-sync import`, as the operator runs it: a process, files, a folder, an exit code."""

import json
import os
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from typer.testing import CliRunner

from dialgate.core.model import RegistryAnswer
from dialgate.lists.snapshot import Manifest, Snapshot
from registry_sync.cli import app
from tests.support.damage import flip

EARLY, LATE, LATER = "2026-01-10T08:00:00+01:00", "2026-01-20T08:00:00+01:00", "2026-01-30T08:00:00Z"
AT = {EARLY: 1_768_028_400_000, LATE: 1_768_892_400_000, LATER: 1_769_760_000_000}
MOBILE, FIXED = "3331234567", "0612345678"


Told: TypeAlias = tuple[int, dict[str, Any]]
PROGRAM = (sys.executable, "-m", "registry_sync.cli")


class Desk:
    """An operator's desk: a folder with the files, and the command, run as a process where that is what matters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.snapshots = folder / "snapshots"
        self.tickets = 0

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        data = content.encode() if isinstance(content, str) else content
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("numbers.txt", data)
        else:
            path.write_bytes(data)
        return path

    def command(self, request: Path, answer: Path, at: str, *more: str) -> list[str]:
        self.tickets += 1
        options = {"--registry": "rpo", "--controller": "acme", "--snapshots": str(self.snapshots)}
        options |= {"--request": str(request), "--answer": str(answer), "--consulted-at": at}
        options |= {
            "--receipt": f"T{self.tickets}",
            "--expired": "",
        }  # the dates of these tests are long past
        options |= dict(zip(more[::2], more[1::2], strict=True))
        pairs = [part for option in options.items() for part in option if part]
        return ["import", "--json", *pairs]

    def run(self, command: list[str]) -> Told:
        done = CliRunner().invoke(app, command)
        return self.told(done.exit_code, done.stdout, done.stderr)

    def run_process(self, command: list[str], limit: Callable[[], None] | None = None) -> Told:
        program = [*PROGRAM, *command]
        done = subprocess.run(program, capture_output=True, text=True, check=False, preexec_fn=limit)
        return self.told(done.returncode, done.stdout, done.stderr)

    def told(self, status: int, out: str, err: str) -> Told:
        assert not any(number in out + err for number in (MOBILE, FIXED)), "a clear number got out"
        return status, json.loads(out or "{}")

    def take(self, answers: str, at: str, *more: str) -> Told:
        """Imports `answers` as the reply to a request for just those numbers."""
        asked = "".join(line.split(",")[0] + "\r\n" for line in answers.split())
        request = self.file("request.txt", asked)
        return self.run(self.command(request, self.file("answer.txt", answers), at, *more))

    def says(self, national: str, controller: str = "acme") -> RegistryAnswer:
        return Snapshot.open(self.snapshots).answer("rpo", controller, int("39" + national))

    def held(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.snapshots.glob("*.*[!k]")}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def lines(*answers: str) -> str:
    return "".join(f"{answer}\r\n" for answer in answers)


def many(count: int, listed: Callable[[int], bool]) -> str:
    return lines(*(f"{3400000000 + n},{int(listed(n))}" for n in range(count)))


@pytest.mark.parametrize("suffix", ["txt", "zip"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_an_answer_is_published_with_its_proof(desk: Desk, suffix: str, end: str) -> None:
    """Leading zero kept, a repeated line of the same status counted, the last line without its end taken."""
    request = desk.file(f"request.{suffix}", end.join([FIXED, MOBILE, MOBILE]))
    answer = desk.file(f"answer.{suffix}", end.join([MOBILE + ",1", FIXED + ",0", FIXED + ",0"]))
    status, report = desk.run_process(desk.command(request, answer, EARLY, "--answered-at", LATE))
    assert status == 0
    assert (report["outcome"], report["lines"], report["listed"], report["clear"]) == ("published", 3, 1, 1)
    assert report["valid_until"] - report["consulted_at"] == 15 * 24 * 3_600_000
    assert report["consulted_at"] == AT[EARLY]
    said = desk.says(MOBILE)
    assert (said.answer, said.consulted_at, said.listed_at) == ("listed", AT[EARLY], AT[EARLY])
    assert (said.consultation, said.snapshot) == (report["consultation"], report["version"])
    assert desk.says(FIXED).answer == "clear"
    assert desk.says("612345678").answer == "unknown"


def test_of_two_consultations_the_newer_wins_in_whatever_order_they_come(desk: Desk) -> None:
    """Trap 3. And that a number was listed once stays known under a newer clear, for the consents before it."""
    assert desk.take(lines(MOBILE + ",0", FIXED + ",1"), LATE)[0] == 0
    status, report = desk.take(lines(MOBILE + ",1", FIXED + ",0"), EARLY)
    assert (status, report["newly_listed"], report["newly_clear"]) == (0, 0, 0)
    mobile, fixed = desk.says(MOBILE), desk.says(FIXED)
    assert (mobile.answer, mobile.consulted_at, mobile.listed_at) == ("clear", AT[LATE], AT[EARLY])
    assert (fixed.answer, fixed.consulted_at, fixed.listed_at) == ("listed", AT[LATE], AT[LATE])


def test_of_two_answers_of_one_instant_listed_wins(desk: Desk) -> None:
    desk.take(lines(MOBILE + ",1", FIXED + ",0"), EARLY)
    assert desk.take(lines(MOBILE + ",0", FIXED + ",1"), EARLY)[0] == 0
    assert [desk.says(number).answer for number in (MOBILE, FIXED)] == ["listed", "listed"]


def test_a_zero_today_may_be_a_one_tomorrow_and_what_was_not_asked_again_stays_as_old_as_it_was(
    desk: Desk,
) -> None:
    """Trap 6: nothing extends a 0."""
    desk.take(lines(MOBILE + ",0", FIXED + ",0"), EARLY)
    status, report = desk.take(lines(MOBILE + ",1"), LATE)
    assert (status, report["known"], report["newly_listed"], report["numbers"]) == (0, 1, 1, 2)
    assert desk.says(MOBILE).answer == "listed"
    assert desk.says(FIXED).consulted_at == AT[EARLY]


def test_one_controllers_answers_never_serve_another(desk: Desk) -> None:
    """Trap 5."""
    desk.take(lines(MOBILE + ",0"), EARLY)
    desk.take(lines(MOBILE + ",1"), LATE, "--controller", "beta")
    assert [desk.says(MOBILE, name).answer for name in ("acme", "beta", "gamma")] == [
        "clear",
        "listed",
        "unknown",
    ]


def test_importing_the_same_again_changes_nothing(desk: Desk) -> None:
    desk.take(lines(MOBILE + ",0"), EARLY, "--receipt", "R")
    before = desk.held()
    status, report = desk.take(lines(MOBILE + ",0"), EARLY, "--receipt", "R")
    assert (status, report["outcome"]) == (0, "already imported")
    assert desk.held() == before


REFRESH = {
    "the same file under a later date": ((MOBILE + ",0",), ("--receipt", "new"), "does not make it newer"),
    "the same receipt under a later date": ((MOBILE + ",1",), ("--receipt", "R"), "receipt R belongs"),
    "the same receipt, stated": (
        (MOBILE + ",0",),
        ("--receipt", "R", "--same-answer", ""),
        "receipt R belongs",
    ),
}


@pytest.mark.parametrize("case", REFRESH)
def test_an_old_answer_is_not_made_newer_by_importing_it_again(desk: Desk, case: str) -> None:
    """Trap 3: the fifteen days run from the consultation."""
    desk.take(lines(MOBILE + ",0"), EARLY, "--receipt", "R")
    before = desk.held()
    answers, more, fault = REFRESH[case]
    status, report = desk.take(lines(*answers), LATE, *more)
    assert status == 1
    assert fault in report["error"]["message"]
    assert desk.held() == before


def test_a_new_consultation_with_the_very_same_answer_counts_when_it_is_said_to_be_one(desk: Desk) -> None:
    desk.take(lines(MOBILE + ",0"), EARLY)
    assert desk.take(lines(MOBILE + ",0"), LATE, "--same-answer", "")[0] == 0
    assert desk.says(MOBILE).consulted_at == AT[LATE]


SHORT, LONG = lines(MOBILE + ",0"), many(150, lambda n: n % 3 == 0)
FOREIGN = {
    "receipt and answer": (LONG, ("--receipt", "R"), "receipt R belongs to the consultation of"),
    "the receipt, with another answer": (SHORT, ("--receipt", "R"), "for controller acme"),
    "the receipt, stated": (LONG, ("--receipt", "R", "--same-answer", ""), "receipt R belongs"),
    "the answer, under a made-up receipt": (LONG, ("--receipt", "S"), "--same-answer"),
    "the answer, under another date": (LONG, ("--receipt", "S"), "for controller acme"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_an_answer_to_one_controller_is_refused_for_another(desk: Desk, case: str) -> None:
    """Trap 5: one controller's answers never serve another."""
    assert desk.take(LONG, EARLY, "--receipt", "R")[0] == 0
    before = desk.held()
    answers, more, fault = FOREIGN[case]
    at = LATE if case.endswith("date") else EARLY
    status, report = desk.take(answers, at, "--controller", "beta", *more)
    assert status == 1
    assert fault in report["error"]["message"]
    assert desk.held() == before
    assert desk.take(LONG, EARLY, "--receipt", "R")[1]["outcome"] == "already imported"


def test_an_answer_is_refused_for_another_controller_after_newer_ones_and_by_another_process(
    desk: Desk,
) -> None:
    desk.take(LONG, EARLY, "--receipt", "R")
    for day in (21, 22):
        desk.take(
            many(150, lambda n: n % 3 == 1),
            f"2026-01-{day}T08:00:00Z",
            "--same-answer",
            "",
            "--max-change",
            "100",
        )
    request = desk.file("request.txt", "".join(line.split(",")[0] + "\r\n" for line in LONG.split()))
    command = desk.command(
        request, desk.file("answer.txt", LONG), EARLY, "--controller", "beta", "--receipt", "R"
    )
    status, report = desk.run_process(command)
    assert (status, "receipt R belongs" in report["error"]["message"]) == (1, True)


def test_two_controllers_that_asked_the_same_are_both_answered(desk: Desk) -> None:
    """Each under its own receipt: of a few numbers as they come, of many where the operator says that both asked."""
    for name in ("acme", "beta"):
        assert desk.take(SHORT, EARLY, "--controller", name)[0] == 0
    assert desk.take(LONG, LATE)[0] == 0
    assert desk.take(LONG, LATE, "--controller", "beta", "--same-answer", "")[0] == 0
    assert [desk.says(MOBILE, name).answer for name in ("acme", "beta")] == ["clear", "clear"]


ASKED = lines(MOBILE, FIXED)
GOOD = lines(MOBILE + ",0", FIXED + ",0")
FAULTS: dict[str, tuple[str | bytes, str | bytes, str]] = {
    "other status": (ASKED, lines(MOBILE + ",0", FIXED + ",2"), "answer.txt, line 2: the status is neither 0 nor 1"),
    "status with a space": (ASKED, lines(MOBILE + ", 1", FIXED + ",0"), "answer.txt, line 1: the status is neither 0 nor 1"),
    "no status": (ASKED, lines(MOBILE + ",0", FIXED), "answer.txt, line 2: no status follows the number: is the file cut short, or is it the request?"),
    "cut in a line": (ASKED, GOOD[:-3], "answer.txt, line 2: the status is neither 0 nor 1"),
    "cut between lines": (ASKED, lines(MOBILE + ",0"), "request.txt, line 2: this number has no answer in answer.txt: is the answer cut short?"),
    "empty": (ASKED, "", "answer.txt: it is empty"),
    "empty line": (ASKED, lines(MOBILE + ",0", "", FIXED + ",0"), "answer.txt, line 2: it is empty"),
    "only an empty line": (ASKED, "\n", "answer.txt, line 1: it is empty"),
    "two statuses": (ASKED, GOOD + lines(MOBILE + ",1"), "answer.txt, line 3: this number stands above with the other status"),
    "not asked about": (ASKED, GOOD + lines("3401111111,0", "3401111112,0"), "answer.txt, line 3: this number was not asked about: is it the answer to this request? (1 more like it)"),
    "no line at all": (ASKED, "0" * 3_000_000, "answer.txt, line 1: no status follows the number: is the file cut short, or is it the request?"),
    "letters": (ASKED, lines(MOBILE + ",0", "06I2345678,0"), "answer.txt, line 2: the number is not digits alone (no +39, no spaces)"),
    "plus": (lines("+" + MOBILE, FIXED), GOOD, "request.txt, line 1: the number is not digits alone (no +39, no spaces)"),
    "five digits": (ASKED, lines(MOBILE + ",0", "06123,0"), "answer.txt, line 2: a national number has 6 to 12 digits, not 5"),
    "thirteen digits": (ASKED, lines("0612345678901,0"), "answer.txt, line 1: a national number has 6 to 12 digits, not 13"),
    "country code": (lines("39" + MOBILE, FIXED), GOOD, "request.txt, line 1: the number seems to carry the country code 39: the registry's form is national"),
    "lost zero": (lines(MOBILE, FIXED[1:]), GOOD, "request.txt, line 2: no Italian number begins so: has a landline lost its 0?"),
    "request for answer": (GOOD, GOOD, "request.txt, line 1: more than a number: is it the answer?"),
    "mark": (ASKED, b"\xef\xbb\xbf" + GOOD.encode(), "answer.txt, line 1: the file begins with a byte order mark: save it as plain ASCII"),
    "UTF-16": (ASKED, GOOD.encode("utf-16"), "answer.txt, line 1: it is not plain ASCII"),
    "other digits": (ASKED, lines(MOBILE + ",0", "\u0660612345678,0"), "answer.txt, line 2: it is not plain ASCII"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_faulty_file_is_refused_whole_with_line_and_reason(desk: Desk, case: str) -> None:
    """Traps 1, 2, 23 and 32; the message never shows the number."""
    request, answer, fault = FAULTS[case]
    command = desk.command(desk.file("request.txt", request), desk.file("answer.txt", answer), EARLY)
    status, report = desk.run(command)
    assert (status, report["error"]) == (1, {"code": "refused", "message": fault, "field": ""})
    assert desk.held() == {}


def test_a_fault_deep_in_a_file_is_named_by_its_line(desk: Desk) -> None:
    """Line counts go on from one piece of the file to the next."""
    count = 120_000
    answers = many(count, lambda _: False).splitlines(keepends=True)
    answers[-2] = answers[-2].replace(",0", ",3")
    request = desk.file("request.txt", "".join(line[:10] + "\r\n" for line in answers))
    status, report = desk.run(desk.command(request, desk.file("answer.txt", "".join(answers)), EARLY))
    assert status == 1
    assert report["error"]["message"] == f"answer.txt, line {count - 1:,}: the status is neither 0 nor 1"


def _two_files(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("second.txt", GOOD)


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("numbers.txt", b"0" * 1_000_000)


def _encrypted(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def _stored_with_a_wrong_sum(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("numbers.txt", GOOD)
    flip(path, path.read_bytes().index(b",0") + 1)  # a 0 becomes a 1: well-formed, and wrong


ZIPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "two files": (_two_files, "a zip must hold exactly one file, a .txt; this holds 2"),
    "bomb": (_bomb, "are no list of numbers"),
    "wrong sum": (_stored_with_a_wrong_sum, "the zip is damaged or of an unknown kind: Bad CRC-32"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "the zip is damaged"),
    "not a zip": (lambda path: path.write_bytes(GOOD.encode()), "the zip is damaged"),
    "encrypted": (_encrypted, "it is encrypted"),
}


@pytest.mark.parametrize("case", ZIPS)
def test_a_zip_that_is_not_one_whole_list_is_refused(desk: Desk, case: str) -> None:
    """Trap 32."""
    answer = desk.file("answer.zip", GOOD)
    spoil, fault = ZIPS[case]
    spoil(answer)
    status, report = desk.run(desk.command(desk.file("request.txt", ASKED), answer, EARLY))
    assert status == 1
    assert report["error"]["message"].startswith("answer.zip: ")
    assert fault in report["error"]["message"]
    assert desk.held() == {}


DATES = [
    ("2999-01-01T00:00:00Z", (), "is in the future"),
    (EARLY, ("--answered-at", "2999-01-01T00:00:00Z"), "is in the future"),
    (LATE, ("--answered-at", EARLY), "is before it was consulted"),
]


@pytest.mark.parametrize(("at", "more", "fault"), DATES)
def test_dates_that_cannot_be_are_refused(desk: Desk, at: str, more: tuple[str, ...], fault: str) -> None:
    status, report = desk.take(GOOD, at, *more)
    assert status == 1
    assert fault in report["error"]["message"]
    assert desk.held() == {}


MISUSE = """--consulted-at=2026-01-10T08:00:00 --consulted-at=yesterday --controller=a/b --controller=a.b --receipt=
    --registry=tps --answer=no-such-file.txt --max-change=101"""


@pytest.mark.parametrize("option", MISUSE.split())
def test_misuse_ends_with_2(desk: Desk, option: str) -> None:
    command = desk.command(desk.file("request.txt", ASKED), desk.file("answer.txt", GOOD), EARLY)
    assert desk.run([*command, option])[0] == 2
    assert desk.held() == {}


def release(desk: Desk, name: str, actor: str) -> Told:
    return desk.run(["release", name, "--actor", actor, "--snapshots", str(desk.snapshots), "--json"])


@pytest.mark.parametrize(("turned", "status"), [(20, 0), (21, 1)])
def test_an_answer_that_turns_more_than_a_fifth_needs_a_human(desk: Desk, turned: int, status: int) -> None:
    """Trap 32; statuses the wrong way round would otherwise free everybody who is enrolled."""
    desk.take(many(100, lambda n: n < 50), EARLY)
    assert desk.take(many(100, lambda n: turned <= n < 50), LATE)[0] == status
    assert desk.says("3400000000").answer == ("listed" if status else "clear")


def test_what_is_held_is_published_once_two_different_people_have_released_it(desk: Desk) -> None:
    desk.take(many(100, lambda n: n < 50), EARLY)
    turned = (many(100, lambda _: False), LATE, "--receipt", "R")
    before = desk.held()
    status, report = desk.take(*turned)
    assert (status, desk.held()) == (1, before)
    (held,) = (desk.snapshots / "held").iterdir()
    assert held.stem in report["error"]["message"]
    assert release(desk, held.stem, "maria")[0] == 0
    assert release(desk, held.stem, "maria")[0] == 1
    assert desk.take(*turned)[0] == 1
    assert release(desk, held.stem, "paolo")[0] == 0
    # It was released for these answers, not for others.
    assert desk.take(many(100, lambda n: n == 1), LATE)[0] == 1
    assert desk.take(*turned)[0] == 0
    assert desk.says("3400000000").answer == "clear"
    assert not held.exists()
    assert release(desk, held.stem, "paolo")[0] == 1


def test_an_answer_on_which_no_call_may_rest_any_more_is_taken_only_on_request(desk: Desk) -> None:
    command = desk.command(desk.file("request.txt", ASKED), desk.file("answer.txt", GOOD), EARLY)
    command.remove("--expired")
    status, report = desk.run(command)
    assert status == 1
    assert "held until 2026-01-25T07:00:00Z" in report["error"]["message"]
    assert desk.held() == {}


def test_a_wrong_date_is_corrected_and_nothing_else(desk: Desk) -> None:
    """To the earlier and to the later; the consents before the right date are void, not those before the wrong one."""
    desk.take(lines(MOBILE + ",1", FIXED + ",0"), LATE, "--receipt", "R")
    for right in (EARLY, LATER):
        again = (lines(MOBILE + ",1", FIXED + ",0"), right, "--receipt", "R", "--correct", "")
        assert desk.take(*again)[0] == 0
        said = desk.says(MOBILE)
        assert (said.answer, said.consulted_at, said.listed_at) == ("listed", AT[right], AT[right])
        assert desk.take(*again)[1]["outcome"] == "already imported"


def test_a_date_is_not_corrected_past_another_consultation(desk: Desk) -> None:
    """What the one between said was then weighed against the wrong date."""
    desk.take(lines(MOBILE + ",1"), EARLY, "--receipt", "first")
    desk.take(lines(MOBILE + ",0"), LATE, "--receipt", "second")
    before = desk.held()
    status, report = desk.take(lines(MOBILE + ",1"), LATER, "--receipt", "first", "--correct", "")
    assert status == 1
    assert "receipt second" in report["error"]["message"]
    assert desk.take(lines(MOBILE + ",0"), LATER, "--receipt", "third", "--correct", "")[0] == 1
    assert desk.held() == before


def test_a_dry_run_tells_what_would_change_and_changes_nothing(desk: Desk) -> None:
    desk.take(lines(MOBILE + ",1", FIXED + ",0"), EARLY)
    before = desk.held()
    status, report = desk.take(lines(MOBILE + ",0", FIXED + ",1"), LATE, "--dry-run", "")
    assert (status, report["outcome"]) == (0, "would be published")
    assert (report["newly_listed"], report["newly_clear"]) == (1, 1)
    assert desk.held() == before


def test_a_full_disk_leaves_the_old_publication_and_no_litter(desk: Desk) -> None:
    desk.take(GOOD, EARLY)
    before = desk.held()
    request = desk.file("request.txt", many(20_000, lambda _: False).replace(",0", ""))
    command = desk.command(request, desk.file("answer.txt", many(20_000, lambda _: False)), LATE)

    def no_file_over_10_kb() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    status, report = desk.run_process(command, no_file_over_10_kb)
    assert status == 1
    assert "File too large" in report["error"]["message"]
    assert desk.held() == before
    assert desk.run(command)[0] == 0


def test_a_second_run_is_refused_while_one_is_at_work_and_a_killed_one_blocks_nothing(desk: Desk) -> None:
    desk.take(GOOD, EARLY)
    pipe = desk.folder / "pipe.txt"
    os.mkfifo(pipe)
    command = desk.command(desk.file("request.txt", ASKED), pipe, LATE)
    with (
        subprocess.Popen([*PROGRAM, *command], stdout=subprocess.PIPE) as waiting,
        pipe.open("wb"),
    ):  # opens once both are there
        status, report = desk.take(GOOD, LATE)
        assert status == 1
        assert "another import is at work here" in report["error"]["message"]
        waiting.kill()
    (desk.snapshots / "rpo.acme.tmp").write_bytes(b"half")  # as left by a kill in the middle of writing
    assert desk.take(lines(MOBILE + ",1", FIXED + ",0"), LATE)[0] == 0
    assert not list(desk.snapshots.glob("*.tmp"))
    assert desk.says(MOBILE).answer == "listed"


def test_nothing_is_built_on_a_damaged_set(desk: Desk) -> None:
    """Merging would carry the damage over, under a good checksum."""
    desk.take(GOOD, EARLY)
    (path,) = desk.snapshots.glob("*.numbers")
    flip(path, -1)
    status, report = desk.take(GOOD, LATE, "--same-answer", "")
    assert status == 1
    assert report["error"]["message"].endswith(f"{path.name}: body checksum differs")


def test_the_last_three_manifests_and_their_files_are_kept_and_no_more(desk: Desk) -> None:
    for day in range(10, 16):
        assert (
            desk.take(lines(f"{MOBILE},{day % 2}"), f"2026-01-{day}T08:00:00Z", "--same-answer", "")[0] == 0
        )
    manifests = sorted(path.name for path in desk.snapshots.glob("manifest*"))
    assert manifests == ["manifest.3.json", "manifest.4.json", "manifest.5.json", "manifest.json"]
    named = {
        file.file
        for name in manifests
        for file in msgspec.json.decode((desk.snapshots / name).read_bytes(), type=Manifest).files
    }
    assert named == {path.name for path in desk.snapshots.glob("*.numbers")}
    assert len(named) == 4


def test_the_table_for_people_says_what_changed(desk: Desk) -> None:
    desk.take(lines(MOBILE + ",0", FIXED + ",1"), EARLY)
    request = desk.file("request.txt", ASKED)
    answer = desk.file("answer.txt", lines(MOBILE + ",1", FIXED + ",1"))
    command = [part for part in desk.command(request, answer, LATE) if part != "--json"]
    done = CliRunner().invoke(app, command)
    rows = [line.strip("│").split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    told = {name.strip(): value.strip() for name, value in rows if name.strip()}  # a long path goes on below
    assert told["clear before, listed now"] == "1"
    assert told["valid until"] == "2026-02-04 07:00:00+00:00"
    again = CliRunner().invoke(app, [*command, "--receipt", "T1"])
    assert again.exit_code == 1
    assert again.stdout == ""
    assert again.stderr.startswith("refused: receipt T1 belongs to the consultation of 2026-01-10T07:00:00Z")
