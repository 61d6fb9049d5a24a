"""Mutation tests of Python code: `python -m tests.mutants.source`. `GROUPS` assigns tests to files."""

import argparse
import hashlib
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.mutants import operators, runner, survivors
from tests.mutants.operators import Change
from tests.mutants.survivors import Mutant
from tests.support.paths import ROOT


class Group(NamedTuple):
    """Source files, and the tests that must kill every mutant of these files, quickest tests first.

    `processes` are tests that run the files in child processes. `keywords` selects tests as pytest's `-k` does.
    `most` is the maximum number of mutants per file, selected by hash; 0 means all.
    """

    files: tuple[str, ...]
    tests: tuple[str, ...]
    processes: tuple[str, ...] = ()
    keywords: str = ""
    most: int = 0


_CASES = ("core/test_defaults", "core/test_law", "core/test_decision", "core/test_cases", "core/test_grid")
GROUPS = (
    Group(
        (
            "dialgate/core/rules/*.py",
            "dialgate/core/business_relation.py",
            "dialgate/core/exemptions.py",
            "dialgate/core/law.py",
            "dialgate/core/law_scope.py",
            "dialgate/core/law_sections.py",
            "dialgate/core/periods.py",
            "dialgate/core/decision.py",
            "dialgate/core/legal_basis.py",
            "dialgate/core/objections.py",
            "dialgate/core/abandonment.py",
            "dialgate/core/day_sets.py",
            "dialgate/core/change_of_holder.py",
            "dialgate/core/local_time.py",
            "dialgate/core/location.py",
            "dialgate/core/windows.py",
        ),
        (
            *_CASES,
            "core/test_archived",
            "core/test_entry_into_force",
            "core/test_periods",
            "core/test_vocabulary",
            "core/test_day_sets",
            "core/test_local_time",
            "core/test_location",
            "core/test_campaign_standing",
            "core/test_same_meaning",
        ),
    ),
    Group(("dialgate/core/law_migration.py",), ("core/test_law_migration",)),
    Group(
        ("dialgate/core/campaign_standing.py", "dialgate/core/consent_state.py"),
        ("core/test_defaults", "core/test_campaign_standing", "core/test_consent_state"),
    ),
    Group(
        ("dialgate/core/model.py",),
        ("core/test_defaults", "core/test_local_time", "core/test_decision", "core/test_vocabulary"),
    ),
    Group(("dialgate/gate/caller_ids.py",), ("gate/test_caller_ids",)),
    Group(("dialgate/native/fallback.py",), ("native/test_primitives",)),
    Group(
        ("dialgate/lists/number_set.py", "dialgate/lists/snapshot.py"),
        ("lists/test_snapshot", "lists/test_number_set"),
    ),
    Group(
        ("dialgate/gate/batch.py", "dialgate/gate/facts.py", "dialgate/gate/overlap.py"),
        ("gate/test_batch", "gate/test_overlap", "gate/test_facts"),
    ),
    Group(("dialgate/gate/counted_campaigns.py",), ("gate/test_counted_campaigns",)),
    Group(
        ("dialgate/gate/gate.py",),
        (
            "gate/test_gate",
            "observability/test_service_log_and_traces",
            "gate/test_restore",
            "gate/test_lists_in_use",
            "interfaces/http/test_http",
            "decision_log/test_call_id",
            "decision_log/test_swapped_numbers",
            "audit/test_decision_ids",
            "ledger/test_entry_ids",
            "audit/test_search",
            "gate/test_cases_through_gate",
            "store/test_shared_store",
        ),
        ("gate/test_pipeline",),
        most=20,
    ),
    Group(
        ("dialgate/store/sqlite/store.py",),
        ("store/test_sqlite_store", "store/test_store"),
        ("gate/test_pipeline",),
        keywords="not (redis or tls_engine or cluster_engine or sentinel_engine or valkey_engine)",
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.source", description=__doc__)
    parser.add_argument("--since", help="only lines changed since this commit")
    parser.add_argument(
        "--most", type=int, help="maximum number of mutants per file, 0 for all; default: as in `GROUPS`"
    )
    parser.add_argument("--matching", default="", help="only mutants whose name contains this text")
    parser.add_argument(
        "--quick",
        type=float,
        default=math.inf,
        metavar="SECONDS",
        help="only changes that need no new import, with at most this many seconds of tests each; the other tests may kill a survivor",
    )
    parser.add_argument("files", nargs="*", help="only these files")
    options = parser.parse_args()
    os.chdir(ROOT)
    runner.preload()
    survived: list[Mutant] = []
    tried: list[Mutant] = []
    known = survivors.index_entries(survivors.read())
    for group in GROUPS:
        changes = [
            change
            for path in chosen_files(group, options.files)
            for change in chosen(path, group, options.since, options.most)
            if options.matching in str(change.mutant)
            and (options.quick == math.inf or not change.needs_import)
        ]
        if changes:
            tried += [change.mutant for change in changes]
            survived += run(changes, group, known, options.quick)
    # Only mutants that were tried can be outdated: a file may have been tried in part.
    unlisted, _ = survivors.compare((), survived, known)
    outdated = sorted(set(tried) & known.keys() - set(survived))
    print(
        f"{len(tried)} mutants of Python, {len(survived)} survived, {len(unlisted)} of them without a judgement"
    )
    if unlisted:
        print(f"\nWrite a test for each, or add it with a judgement to {survivors.FILE.relative_to(ROOT)}:\n")
        print(survivors.as_entries(unlisted))
    for mutant in outdated:
        print(f"killed; remove it from {survivors.FILE.name}: {mutant}")
    return int(bool(unlisted or outdated))


def chosen_files(group: Group, only: list[str]) -> list[Path]:
    paths = [path for pattern in group.files for path in sorted(ROOT.glob(pattern))]
    return [path for path in paths if not only or str(path.relative_to(ROOT)) in only]


def chosen(path: Path, group: Group, since: str | None, most: int | None) -> list[Change]:
    """Return the mutants of a file. If there are too many, return those with the lowest hashes."""
    changed = changed_lines(path, since) if since else None
    selected = [
        change
        for change in operators.changes(path, ROOT)
        if changed is None or not changed.isdisjoint(change.lines)
    ]
    limit = group.most if most is None else most
    if limit and len(selected) > limit:
        print(f"{path.relative_to(ROOT)}: {limit} of {len(selected)} mutants")
        selected = sorted(selected, key=lambda change: hashlib.sha256(str(change.mutant).encode()).digest())[
            :limit
        ]
    return selected


def changed_lines(path: Path, since: str) -> set[int]:
    """Return the line numbers of a file that changed since a commit."""
    command = ["git", "diff", "--unified=0", since, "--", str(path)]
    lines = set[int]()
    for line in subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.splitlines():
        if line.startswith("@@"):
            begin, _, count = line.split("+")[1].split(" ")[0].partition(",")
            lines.update(range(int(begin), int(begin) + int(count or 1)))
    return lines


def run(
    changes: list[Change], group: Group, known: Iterable[Mutant], most_seconds: float
) -> Iterator[Mutant]:
    """Yield the surviving mutants.

    Changes that need a new import are tried in a copy of the repository. Survivors that are not in `known` are tried
    again in the copy if `most_seconds` is infinite.
    """
    tests, processes = ([f"tests/{name}.py" for name in names] for names in (group.tests, group.processes))
    again = [(change, tests + processes) for change in changes if change.needs_import]
    inside = [change for change in changes if not change.needs_import]
    listed, selected = set(known), ["-k", group.keywords] if group.keywords else []
    for change, outcome in (
        runner.run_collected(tests + selected, inside, ROOT, most_seconds) if inside else ()
    ):
        executing = [file for file in tests if any(name.startswith(f"{file}::") for name in outcome.tests)]
        if outcome.status == runner.KILLED:
            pass
        elif change.mutant in listed or most_seconds < math.inf or not executing + processes:
            yield change.mutant
        else:
            again.append((change, executing + processes))
        _report(change, outcome)
    if not again:
        return
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = runner.Copy(ROOT, Path(folder))
        usual = copy.run(tests + processes + selected, None, 1800)
        if usual.status != runner.SURVIVED:
            raise RuntimeError(f"a test fails without a mutant: {usual.by}")
        for change, files in again:
            outcome = copy.run(files + selected, change, 10 + 4 * usual.seconds)
            _report(change, outcome)
            if outcome.status == runner.SURVIVED:
                yield change.mutant


def _report(change: Change, outcome: runner.Outcome) -> None:
    word = {runner.KILLED: "killed", runner.SURVIVED: "SURVIVED", runner.UNTESTED: "untested"}[outcome.status]
    print(f"{word:9} {outcome.seconds:6.2f} s  {change.mutant}  {outcome.by}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
