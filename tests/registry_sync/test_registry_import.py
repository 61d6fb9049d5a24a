"""`registry-sync import`: files, published folder, exit status."""

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
from msgspec import structs
from typer.testing import CliRunner

from dialgate.core.model import DAY, RegistryAnswer
from dialgate.lists.manifest import Manifest
from dialgate.lists.snapshot import Snapshot
from registry_sync import manual_import
from registry_sync.cli import app
from registry_sync.formats.layout import LAYOUTS
from registry_sync.formats.table import TableFormat
from registry_sync.import_checks import ImportRefused
from registry_sync.publication import PublishTarget
from tests.support.damage import flip

EARLY, LATE, LATER = "2026-01-10T08:00:00+01:00", "2026-01-20T08:00:00+01:00", "2026-01-30T08:00:00Z"
AT = {EARLY: 1_768_028_400_000, LATE: 1_768_892_400_000, LATER: 1_769_760_000_000}
MOBILE, FIXED = "3331234567", "0612345678"


Result: TypeAlias = tuple[int, dict[str, Any]]
PROGRAM = (sys.executable, "-m", "registry_sync.cli")


class Operator:
    """The operator's folder of files, and the command, which runs in this process or in a new one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.snapshots = folder / "snapshots"
        self.tickets = 0

    def write(self, name: str, content: str | bytes) -> Path:
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
        }  # these tests use dates in the past
        options |= dict(zip(more[::2], more[1::2], strict=True))
        pairs = [part for option in options.items() for part in option if part]
        return ["import", "--json", *pairs]

    def run(self, command: list[str]) -> Result:
        done = CliRunner().invoke(app, command)
        return self.parse(done.exit_code, done.stdout, done.stderr)

    def run_process(self, command: list[str], limit: Callable[[], None] | None = None) -> Result:
        program = [*PROGRAM, *command]
        done = subprocess.run(program, capture_output=True, text=True, check=False, preexec_fn=limit)
        return self.parse(done.returncode, done.stdout, done.stderr)

    def parse(self, status: int, out: str, err: str) -> Result:
        assert not any(number in out + err for number in (MOBILE, FIXED)), "a clear number got out"
        return status, json.loads(out or "{}")

    def import_answers(self, answers: str, at: str, *more: str) -> Result:
        """Import `answers` as the answer to a request for exactly the same numbers."""
        numbers = "".join(line.split(",")[0] + "\r\n" for line in answers.split())
        request = self.write("request.txt", numbers)
        return self.run(self.command(request, self.write("answer.txt", answers), at, *more))

    def answer_for(self, national: str, controller: str = "acme") -> RegistryAnswer:
        return Snapshot.open(self.snapshots).answer("rpo", controller, int("39" + national))

    def published_files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.snapshots.glob("*.*[!k]")}


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def lines(*answers: str) -> str:
    return "".join(f"{answer}\r\n" for answer in answers)


def many(count: int, listed: Callable[[int], bool]) -> str:
    return lines(*(f"{3400000000 + n},{int(listed(n))}" for n in range(count)))


@pytest.mark.parametrize("suffix", ["txt", "zip"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_an_answer_is_published_with_its_proof(operator: Operator, suffix: str, end: str) -> None:
    """A leading 0 is kept, and a repeated line is counted. The last line needs no line ending."""
    request = operator.write(f"request.{suffix}", end.join([FIXED, MOBILE, MOBILE]))
    answer = operator.write(f"answer.{suffix}", end.join([MOBILE + ",1", FIXED + ",0", FIXED + ",0"]))
    status, report = operator.run_process(operator.command(request, answer, EARLY, "--answered-at", LATE))
    assert status == 0
    assert (report["outcome"], report["lines"], report["listed"], report["clear"]) == ("published", 3, 1, 1)
    assert report["valid_until"] - report["consulted_at"] == 15 * 24 * 3_600_000
    assert report["consulted_at"] == AT[EARLY]
    listed = operator.answer_for(MOBILE)
    assert (listed.answer, listed.consulted_at, listed.listed_at) == ("listed", AT[EARLY], AT[LATE])
    assert (listed.consultation, listed.snapshot) == (report["consultation"], report["version"])
    assert operator.answer_for(FIXED).answer == "clear"
    assert operator.answer_for("612345678").answer == "unknown"


def test_newer_consultation_wins_in_any_order_of_imports(operator: Operator) -> None:
    """A newer *clear* answer keeps the time of the last *listed* answer, which came within a day.

    The rules need this time, because a listing voids the consents given before it.
    """
    assert operator.import_answers(lines(MOBILE + ",0", FIXED + ",1"), LATE)[0] == 0
    status, report = operator.import_answers(lines(MOBILE + ",1", FIXED + ",0"), EARLY)
    assert (status, report["newly_listed"], report["newly_clear"]) == (0, 0, 0)
    mobile, fixed = operator.answer_for(MOBILE), operator.answer_for(FIXED)
    assert (mobile.answer, mobile.consulted_at, mobile.listed_at) == ("clear", AT[LATE], AT[EARLY] + DAY)
    assert (fixed.answer, fixed.consulted_at, fixed.listed_at) == ("listed", AT[LATE], AT[LATE] + DAY)


def test_importing_the_same_again_changes_nothing(operator: Operator) -> None:
    operator.import_answers(lines(MOBILE + ",0"), EARLY, "--receipt", "R")
    before = operator.published_files()
    status, report = operator.import_answers(lines(MOBILE + ",0"), EARLY, "--receipt", "R")
    assert (status, report["outcome"]) == (0, "already imported")
    assert operator.published_files() == before


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
def test_importing_an_old_answer_again_does_not_make_it_newer(operator: Operator, case: str) -> None:
    """The 15 days run from the consultation, not from the import."""
    operator.import_answers(lines(MOBILE + ",0"), EARLY, "--receipt", "R")
    before = operator.published_files()
    answers, more, fault = REFRESH[case]
    status, report = operator.import_answers(lines(*answers), LATE, *more)
    assert status == 1
    assert fault in report["error"]["message"]
    assert operator.published_files() == before


def test_new_consultation_with_the_same_answer_counts_if_stated(
    operator: Operator,
) -> None:
    operator.import_answers(lines(MOBILE + ",0"), EARLY)
    assert operator.import_answers(lines(MOBILE + ",0"), LATE, "--same-answer", "")[0] == 0
    assert operator.answer_for(MOBILE).consulted_at == AT[LATE]


SHORT, LONG = lines(MOBILE + ",0"), many(150, lambda n: n % 3 == 0)
FOREIGN = {
    "receipt and answer": (LONG, ("--receipt", "R"), "receipt R belongs to the consultation from"),
    "the receipt, with another answer": (SHORT, ("--receipt", "R"), "for controller acme"),
    "the receipt, stated": (LONG, ("--receipt", "R", "--same-answer", ""), "receipt R belongs"),
    "the answer, under a made-up receipt": (LONG, ("--receipt", "S"), "--same-answer"),
    "the answer, under another date": (LONG, ("--receipt", "S"), "for controller acme"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_answer_to_one_controller_is_refused_for_another(operator: Operator, case: str) -> None:
    assert operator.import_answers(LONG, EARLY, "--receipt", "R")[0] == 0
    before = operator.published_files()
    answers, more, fault = FOREIGN[case]
    at = LATE if case.endswith("date") else EARLY
    status, report = operator.import_answers(answers, at, "--controller", "beta", *more)
    assert status == 1
    assert fault in report["error"]["message"]
    assert operator.published_files() == before
    assert operator.import_answers(LONG, EARLY, "--receipt", "R")[1]["outcome"] == "already imported"


def test_answer_is_refused_for_another_controller_after_newer_imports_and_in_another_process(
    operator: Operator,
) -> None:
    operator.import_answers(LONG, EARLY, "--receipt", "R")
    for day in (21, 22):
        operator.import_answers(
            many(150, lambda n: n % 3 == 1),
            f"2026-01-{day}T08:00:00Z",
            "--same-answer",
            "",
            "--max-change",
            "100",
        )
    request = operator.write("request.txt", "".join(line.split(",")[0] + "\r\n" for line in LONG.split()))
    command = operator.command(
        request, operator.write("answer.txt", LONG), EARLY, "--controller", "beta", "--receipt", "R"
    )
    status, report = operator.run_process(command)
    assert (status, "receipt R belongs" in report["error"]["message"]) == (1, True)


def test_two_controllers_may_get_the_same_answer(operator: Operator) -> None:
    """Each controller needs its own receipt.

    If an answer of 100 lines or more equals another controller's answer, the import also needs `--same-answer`. Shorter
    answers can be identical by chance.
    """
    for name in ("acme", "beta"):
        assert operator.import_answers(SHORT, EARLY, "--controller", name)[0] == 0
    assert operator.import_answers(LONG, LATE)[0] == 0
    assert operator.import_answers(LONG, LATE, "--controller", "beta", "--same-answer", "")[0] == 0
    assert [operator.answer_for(MOBILE, name).answer for name in ("acme", "beta")] == ["clear", "clear"]


ASKED = lines(MOBILE, FIXED)
GOOD = lines(MOBILE + ",0", FIXED + ",0")
OTHER_FORM = (
    "the line does not have the form that the registry publishes (`line` in the layout). Is the file truncated, damaged, or from"
    " another source?"
)
ABROAD = "393401234567"  # a mobile with the country code
FAULTS: dict[str, tuple[str | bytes, str | bytes, str]] = {
    "other status": (ASKED, lines(MOBILE + ",0", FIXED + ",2"), "answer.txt, line 2: the status is none of 0, 1"),
    "no status": (ASKED, lines(MOBILE + ",0", FIXED), "answer.txt, line 2: the line has 1 columns, not 2. Is the file truncated?"),
    "truncated in a line": (ASKED, GOOD[:-3], "answer.txt, line 2: the status is none of 0, 1"),
    "truncated between lines": (ASKED, lines(MOBILE + ",0"), "request.txt, line 2: this number has no answer in answer.txt. Is the answer truncated?"),
    "empty": (ASKED, "", "answer.txt: the file is empty"),
    "two statuses": (ASKED, GOOD + lines(MOBILE + ",1"), "answer.txt, line 3: an earlier line has this number with a different status"),
    "not in the request": (ASKED, GOOD + lines("3401111111,0", "3401111112,0"), "answer.txt, line 3: this number is not in the request. Is this the answer to another request? (1 more lines like it)"),
    "no line at all": (ASKED, "0" * 3_000_000, "answer.txt, line 1: the line is not CSV (field larger than field limit (131072)). Is there an unclosed quotation mark?"),
    "plus": (lines("+" + MOBILE, FIXED), GOOD, "request.txt, line 1: the number contains something other than digits, spaces and - . / ( )"),
    "country code": (lines("39" + MOBILE, FIXED), GOOD, "answer.txt, line 1: this number is not in the request. Is this the answer to another request?"),
    "missing leading 0": (lines(FIXED[1:]), lines(FIXED[1:] + ",0"), "request.txt: most of its first 1 numbers are not valid. Check `country`, `number` and `numbers` in the layout"),
    "request for answer": (GOOD, GOOD, "request.txt, line 1: the number contains something other than digits, spaces and - . / ( )"),
    "more columns": (ASKED, lines(MOBILE + ",0,1", FIXED + ",0,1"), f"answer.txt, line 1: {OTHER_FORM}"),
    "status with a space": (ASKED, lines(MOBILE + ", 1", FIXED + ",0"), f"answer.txt, line 1: {OTHER_FORM}"),
    "number with a space": (ASKED, lines(MOBILE + ",0", FIXED + " ,0"), f"answer.txt, line 2: {OTHER_FORM}"),
    "quoted": (ASKED, lines(MOBILE + ',"0"', FIXED + ",0"), f"answer.txt, line 1: {OTHER_FORM}"),
    "country code in both": (lines(MOBILE, ABROAD), lines(MOBILE + ",0", ABROAD + ",0"), f"answer.txt, line 2: {OTHER_FORM}"),
    "missing leading 0 in both": (lines(MOBILE, FIXED[1:]), lines(MOBILE + ",0", FIXED[1:] + ",0"), f"answer.txt, line 2: {OTHER_FORM}"),
    "letters": (ASKED, lines(MOBILE + ",0", "06I2345678,0"), "answer.txt, line 2: the number contains something other than digits, spaces and - . / ( )"),
    "five digits": (ASKED, lines(MOBILE + ",0", "06123,0"), "answer.txt, line 2: no number in IT has 5 digits"),
    "thirteen digits": (ASKED, lines("0612345678901,0"), "answer.txt, line 1: no number in IT has 13 digits"),
    "empty line": (ASKED, lines(MOBILE + ",0", "", FIXED + ",0"), "answer.txt, line 2: the line is empty"),
    "only an empty line": (ASKED, "\n", "answer.txt, line 1: the line has no column 1, only 0. Check `separator` in the layout"),
    "mark": (ASKED, b"\xef\xbb\xbf" + GOOD.encode(), "answer.txt, line 1: the line is not ascii text. Check `encoding` in the layout"),
    "other digits": (ASKED, lines(MOBILE + ",0", "\u0660612345678,0"), "answer.txt, line 2: the line is not ascii text. Check `encoding` in the layout"),
    "UTF-16": (ASKED, GOOD.encode("utf-16"), "answer.txt, line 1: the line is not ascii text. Check `encoding` in the layout"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_faulty_file_is_refused_with_line_and_reason(operator: Operator, case: str) -> None:
    """The message never shows the number."""
    request, answer, fault = FAULTS[case]
    command = operator.command(
        operator.write("request.txt", request), operator.write("answer.txt", answer), EARLY
    )
    status, report = operator.run(command)
    assert (status, report["error"]) == (1, {"code": "refused", "message": fault, "field": ""})
    assert operator.published_files() == {}


def test_line_number_of_a_fault_is_correct_in_a_large_file(operator: Operator) -> None:
    """Line numbers continue across the chunks in which a file is read."""
    count = 120_000
    answers = many(count, lambda _: False).splitlines(keepends=True)
    answers[-2] = answers[-2].replace(",0", ",3")
    request = operator.write("request.txt", "".join(line[:10] + "\r\n" for line in answers))
    status, report = operator.run(
        operator.command(request, operator.write("answer.txt", "".join(answers)), EARLY)
    )
    assert status == 1
    assert report["error"]["message"] == f"answer.txt, line {count - 1:,}: the status is none of 0, 1"


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
    flip(path, path.read_bytes().index(b",0") + 1)  # changes a 0 to a 1: well-formed, but wrong


ZIPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "two files": (_two_files, "a zip must contain exactly one file, a .txt or a .csv; this one has 2 files"),
    "bomb": (_bomb, "and a ratio of 200"),
    "wrong sum": (_stored_with_a_wrong_sum, "the zip is damaged or not supported: Bad CRC-32"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "the zip is damaged"),
    "not a zip": (lambda path: path.write_bytes(GOOD.encode()), "the zip is damaged"),
    "encrypted": (_encrypted, "the zip is encrypted"),
}


@pytest.mark.parametrize("case", ZIPS)
def test_invalid_zip_is_refused(operator: Operator, case: str) -> None:
    answer = operator.write("answer.zip", GOOD)
    spoil, fault = ZIPS[case]
    spoil(answer)
    status, report = operator.run(operator.command(operator.write("request.txt", ASKED), answer, EARLY))
    assert status == 1
    assert report["error"]["message"].startswith("answer.zip: ")
    assert fault in report["error"]["message"]
    assert operator.published_files() == {}


DATES = [
    ("2999-01-01T00:00:00Z", (), "is in the future"),
    (EARLY, ("--answered-at", "2999-01-01T00:00:00Z"), "is in the future"),
    (LATE, ("--answered-at", EARLY), "is before the consultation"),
]


@pytest.mark.parametrize(("at", "more", "fault"), DATES)
def test_impossible_dates_are_refused(operator: Operator, at: str, more: tuple[str, ...], fault: str) -> None:
    status, report = operator.import_answers(GOOD, at, *more)
    assert status == 1
    assert fault in report["error"]["message"]
    assert operator.published_files() == {}


MISUSE = """--consulted-at=2026-01-10T08:00:00 --consulted-at=yesterday --controller=a/b --controller=a.b --receipt=
    --registry=tps --answer=no-such-file.txt --max-change=101"""


@pytest.mark.parametrize("option", MISUSE.split())
def test_invalid_argument_ends_with_2(operator: Operator, option: str) -> None:
    command = operator.command(
        operator.write("request.txt", ASKED), operator.write("answer.txt", GOOD), EARLY
    )
    assert operator.run([*command, option])[0] == 2
    assert operator.published_files() == {}


def release(operator: Operator, name: str, actor: str) -> Result:
    return operator.run(["release", name, "--actor", actor, "--snapshots", str(operator.snapshots), "--json"])


@pytest.mark.parametrize(("turned", "status"), [(20, 0), (21, 1)])
def test_more_than_a_fifth_of_changed_answers_needs_a_release(
    operator: Operator, turned: int, status: int
) -> None:
    """Without this limit, inverted statuses would permit calls to every enrolled number."""
    operator.import_answers(many(100, lambda n: n < 50), EARLY)
    assert operator.import_answers(many(100, lambda n: turned <= n < 50), LATE)[0] == status
    assert operator.answer_for("3400000000").answer == ("listed" if status else "clear")


def test_held_answer_is_published_after_two_people_release_it(operator: Operator) -> None:
    operator.import_answers(many(100, lambda n: n < 50), EARLY)
    turned = (many(100, lambda _: False), LATE, "--receipt", "R")
    before = operator.published_files()
    status, report = operator.import_answers(*turned)
    assert (status, operator.published_files()) == (1, before)
    (held,) = (operator.snapshots / "held").iterdir()
    assert held.stem in report["error"]["message"]
    assert release(operator, held.stem, "maria")[0] == 0
    assert release(operator, held.stem, "maria")[0] == 1
    assert operator.import_answers(*turned)[0] == 1
    assert release(operator, held.stem, "paolo")[0] == 0
    # The release is for these answers only.
    assert operator.import_answers(many(100, lambda n: n == 1), LATE)[0] == 1
    assert operator.import_answers(*turned)[0] == 0
    assert operator.answer_for("3400000000").answer == "clear"
    assert not held.exists()
    assert release(operator, held.stem, "paolo")[0] == 1


def test_expired_answer_is_imported_only_with_expired_option(operator: Operator) -> None:
    command = operator.command(
        operator.write("request.txt", ASKED), operator.write("answer.txt", GOOD), EARLY
    )
    command.remove("--expired")
    status, report = operator.run(command)
    assert status == 1
    assert "expired on 2026-01-25T07:00:00Z" in report["error"]["message"]
    assert operator.published_files() == {}


def test_correct_changes_only_the_date(operator: Operator) -> None:
    """The date is corrected to an earlier date, then to a later one. Consents before the corrected date are void."""
    operator.import_answers(lines(MOBILE + ",1", FIXED + ",0"), LATE, "--receipt", "R")
    for right in (EARLY, LATER):
        again = (lines(MOBILE + ",1", FIXED + ",0"), right, "--receipt", "R", "--correct", "")
        assert operator.import_answers(*again)[0] == 0
        answer = operator.answer_for(MOBILE)
        assert (answer.answer, answer.consulted_at, answer.listed_at) == (
            "listed",
            AT[right],
            AT[right] + DAY,
        )
        assert operator.import_answers(*again)[1]["outcome"] == "already imported"


def test_correction_does_not_prolong_an_answer(operator: Operator) -> None:
    """The corrected date must not be later than the first import of the answer.

    Earlier corrections do not move this limit.
    """
    order = manual_import.AnswerImport(
        registry="rpo",
        controller="acme",
        request=operator.write("request.txt", lines(MOBILE)),
        answer=operator.write("answer.txt", lines(MOBILE + ",0")),
        submitted_at=AT[EARLY],
        answered_at=0,
        receipt="R",
        target=PublishTarget(folder=operator.snapshots),
        max_change=100,
        format=TableFormat(LAYOUTS["rpo"]),
        validity=15 * DAY,
    )

    def run(submitted_at: int, now: int, *, correct: bool = True) -> None:
        dated = structs.replace(order, submitted_at=submitted_at, correct=correct)
        manual_import.run(dated, lambda _name, _size: lambda _bytes: None, now)

    run(AT[EARLY], AT[EARLY] + 2, correct=False)
    run(AT[EARLY] - 1, AT[LATE])
    run(AT[EARLY] + 2, AT[LATE])
    with pytest.raises(ImportRefused, match="was imported on 2026-01-10T07:00:00Z, before"):
        run(AT[EARLY] + 3, AT[LATE])
    assert operator.answer_for(MOBILE).consulted_at == AT[EARLY] + 2


def test_date_is_not_corrected_past_another_consultation(operator: Operator) -> None:
    """If there is a consultation between the wrong and the corrected date, answers were merged in the wrong order."""
    operator.import_answers(lines(MOBILE + ",1"), EARLY, "--receipt", "first")
    operator.import_answers(lines(MOBILE + ",0"), LATE, "--receipt", "second")
    before = operator.published_files()
    status, report = operator.import_answers(
        lines(MOBILE + ",1"), LATER, "--receipt", "first", "--correct", ""
    )
    assert status == 1
    assert "receipt second" in report["error"]["message"]
    assert operator.import_answers(lines(MOBILE + ",0"), LATER, "--receipt", "third", "--correct", "")[0] == 1
    assert operator.published_files() == before


def test_dry_run_reports_changes_and_publishes_nothing(operator: Operator) -> None:
    operator.import_answers(lines(MOBILE + ",1", FIXED + ",0"), EARLY)
    before = operator.published_files()
    status, report = operator.import_answers(lines(MOBILE + ",0", FIXED + ",1"), LATE, "--dry-run", "")
    assert (status, report["outcome"]) == (0, "would be published")
    assert (report["newly_listed"], report["newly_clear"]) == (1, 1)
    assert operator.published_files() == before


def test_full_disk_leaves_the_old_publication_and_no_temporary_files(operator: Operator) -> None:
    operator.import_answers(GOOD, EARLY)
    before = operator.published_files()
    request = operator.write("request.txt", many(20_000, lambda _: False).replace(",0", ""))
    command = operator.command(request, operator.write("answer.txt", many(20_000, lambda _: False)), LATE)

    def no_file_over_10_kb() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    status, report = operator.run_process(command, no_file_over_10_kb)
    assert status == 1
    assert "File too large" in report["error"]["message"]
    assert operator.published_files() == before
    assert operator.run(command)[0] == 0


def test_second_import_is_refused_during_an_import_and_a_killed_import_blocks_none(
    operator: Operator,
) -> None:
    operator.import_answers(GOOD, EARLY)
    pipe = operator.folder / "pipe.txt"
    os.mkfifo(pipe)
    command = operator.command(operator.write("request.txt", ASKED), pipe, LATE)
    with (
        subprocess.Popen([*PROGRAM, *command], stdout=subprocess.PIPE) as waiting,
        pipe.open("wb"),
    ):  # opens when both sides are connected
        status, report = operator.import_answers(GOOD, LATE)
        assert status == 1
        assert "another import is running in" in report["error"]["message"]
        waiting.kill()
    (operator.snapshots / "rpo.acme.tmp").write_bytes(b"half")  # a process killed while writing leaves this
    assert operator.import_answers(lines(MOBILE + ",1", FIXED + ",0"), LATE)[0] == 0
    assert not list(operator.snapshots.glob("*.tmp"))
    assert operator.answer_for(MOBILE).answer == "listed"


def test_last_three_manifests_and_their_files_are_kept(operator: Operator) -> None:
    for day in range(10, 16):
        assert (
            operator.import_answers(
                lines(f"{MOBILE},{day % 2}"), f"2026-01-{day}T08:00:00Z", "--same-answer", ""
            )[0]
            == 0
        )
    manifests = sorted(path.name for path in operator.snapshots.glob("manifest*"))
    assert manifests == ["manifest.3.json", "manifest.4.json", "manifest.5.json", "manifest.json"]
    named = {
        file.file
        for name in manifests
        for file in msgspec.json.decode((operator.snapshots / name).read_bytes(), type=Manifest).files
    }
    assert named == {path.name for path in operator.snapshots.glob("*.numbers")}
    assert len(named) == 4


def test_table_shows_the_changes(operator: Operator) -> None:
    operator.import_answers(lines(MOBILE + ",0", FIXED + ",1"), EARLY)
    request = operator.write("request.txt", ASKED)
    answer = operator.write("answer.txt", lines(MOBILE + ",1", FIXED + ",1"))
    command = [part for part in operator.command(request, answer, LATE) if part != "--json"]
    done = CliRunner().invoke(app, command)
    rows = [line.strip("│").split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    parse = {
        name.strip(): value.strip() for name, value in rows if name.strip()
    }  # a long path continues on the next row
    assert parse["clear before, listed now"] == "1"
    assert parse["valid until"] == "2026-02-04 07:00:00+00:00"
    again = CliRunner().invoke(app, [*command, "--receipt", "T1"])
    assert again.exit_code == 1
    assert again.stdout == ""
    assert again.stderr.startswith(
        "refused: receipt T1 belongs to the consultation from 2026-01-10T07:00:00Z"
    )
