"""The rules for erasure (GDPR 17).

- Entries that permit calls are erased. An entry on which an allowed call was based is restricted instead: it is stored
  but not used, until the call can no longer lead to a legal claim.
- Entries that forbid calls are kept.
- The decision log is not changed. The log contains the number only as a keyed hash and as ciphertext, and the keys for
  each month are destroyed at the end of the retention period.
"""

import secrets
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from msgspec import structs

from dialgate.cluster.personal_data import FromRegistry, WaitingLetter
from dialgate.core.ledger_events import CallRequested, ConsentConfirmed, ConsentGiven, ContractMade, Entry
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, Attempt, Instant
from dialgate.core.request_deadlines import Done, Erased
from dialgate.decision_log.records import Record
from dialgate.lists import call_list, number_set
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.runtime.atomic_write import publish_file
from dialgate.store import CallList

# Why something is erased, restricted or kept, and by which law.
_ERASED = ("no call that may have to be proved was based on it", "GDPR art. 17(1)(b)-(c)")
_PROOF = (
    "a call was based on it and may have to be proved",
    "GDPR art. 17(3)(e), 18(2); L. 689/1981 art. 28",
)
_HELD = (
    "kept as evidence under a legal hold, and not used for calls; the daily retention run erases it after the hold is lifted",
    "GDPR art. 17(3)(e), 18(2)",
)
_POSTPONED = "these gates could not be asked whether it is evidence: {nodes}. Repeat the request; the number is already suppressed"
_FORBIDS = ("it blocks calls that would be permitted without it", "GDPR art. 17(3)(b), 21(3)")
_OFF_LIST = ("the number was removed, so it is not called from this list", "GDPR art. 17(1)(c)")
_CONSULTED = (
    "it proves that the registry was consulted before calls; the next consultation replaces it",
    "GDPR art. 17(3)(b); D.P.R. 26/2022 art. 8",
)
_DECIDED = (
    "each proves why a call was allowed or denied; its key is destroyed after the retention term",
    _PROOF[1],
)
_SHARED = (
    "it may contain a stop of another person; it goes when it is applied or dropped, and then permits no call to this number",
    _FORBIDS[1],
)
_REQUESTED = (
    "they prove what was requested, what was done and who saw the data; the number in them is encrypted",
    "GDPR art. 5(2), 12, 32",
)
_Reason: TypeAlias = tuple[str, str]


def basis_of(entry: Entry) -> str:
    """Return `consent:ID`, `contract:ID` or `request:ID`, or "" for an entry that permits nothing."""
    match entry.event:
        case ConsentGiven(id=name) | ConsentConfirmed(id=name):
            return f"consent:{name}"
        case ContractMade(id=name):
            return f"contract:{name}"
        case CallRequested(id=name):
            return f"request:{name}"
        case _:
            return ""


def last_used(records: Iterable[Record], attempts: Iterable[Attempt]) -> dict[str, Instant]:
    """Return the time of the newest allowed call for each legal basis.

    Attempts in the store are included, because an attempt is counted before its record is logged.
    """
    used: dict[str, Instant] = {}
    allowed = ((record.decision.basis, record.at) for record in records if record.decision.allow)
    for basis, at in chain(allowed, ((attempt.basis, attempt.at) for attempt in attempts)):
        used[basis] = max(at, used.get(basis, 0))
    return used


def split_entries(
    entries: Iterable[Entry], used: dict[str, Instant], now: Instant, days: int, *, is_held: bool
) -> tuple[list[Entry], list[tuple[Entry, Instant]]]:
    """Split the entries that permit calls into those to erase and those to restrict.

    Each restricted entry is returned with the time until which it is kept, or 0 if no call was based on it. Under a
    legal hold (`is_held`) no entry is erased. The hold itself adds no time, because its end is not known.
    """
    erased: list[Entry] = []
    restricted: list[tuple[Entry, Instant]] = []
    for entry in entries:
        if basis := basis_of(entry):
            last = used.get(basis, 0)
            until = last + days * DAY if last else 0
            if is_held or until > now:
                restricted.append((entry, until))
            else:
                erased.append(entry)
    return erased, restricted


def _describe(what: str, name: str, done: Done, reason: _Reason, until: str = "") -> Erased:
    why, law = reason
    return Erased(what=what, name=name, done=done, why=why, law=law, until=until)


def _kind(entry: Entry) -> str:
    return str(type(entry.event).__struct_config__.tag)


def describe_entries(
    entries: Iterable[Entry],
    restricted: Iterable[tuple[Entry, Instant]],
    name_of: Callable[[Entry], str],
    *,
    is_held: bool,
) -> list[Erased]:
    """Describe what the erasure did with each ledger entry."""
    ends = {entry.seq: until for entry, until in restricted}
    items = []
    for entry in entries:
        kind, name = _kind(entry), name_of(entry)
        if not basis_of(entry):
            items.append(_describe(kind, name, "kept", _FORBIDS))
        elif entry.seq in ends:
            until = rfc3339(ends[entry.seq]) if ends[entry.seq] else ""
            items.append(_describe(kind, name, "restricted", _HELD if is_held else _PROOF, until))
        else:
            items.append(_describe(kind, name, "erased", _ERASED))
    return items


def describe_postponed(
    entries: Iterable[Entry], lists: Iterable[str], name_of: Callable[[Entry], str], missing: Iterable[str]
) -> list[Erased]:
    """Describe the entries and call lists that are kept until the `missing` gates respond.

    One of these gates may need an entry as evidence.
    """
    reason = _POSTPONED.format(nodes=", ".join(sorted(missing))), _PROOF[1]
    kept = [(_kind(entry), name_of(entry)) for entry in entries if basis_of(entry)]
    kept += [("call list", name) for name in lists]
    return [_describe(what, name, "kept", reason) for what, name in kept]


def describe_files(
    lists: Iterable[str], registries: Iterable[FromRegistry], decisions: int, *, is_held: bool
) -> list[Erased]:
    """Describe what the erasure did with data outside the ledger."""
    done: Done = "restricted" if is_held else "erased"
    items = [_describe("call list", name, done, _HELD if is_held else _OFF_LIST) for name in lists]
    items += [_describe("registry answer", answer.registry, "kept", _CONSULTED) for answer in registries]
    if decisions:
        items.append(_describe("decisions", str(decisions), "restricted", _DECIDED))
    return [*items, _describe("requests and look-ups", "", "kept", _REQUESTED)]


def describe_letters(letters: Iterable[WaitingLetter], *, is_held: bool) -> list[Erased]:
    """Describe what the erasure did with messages that could not be applied."""
    items = []
    for letter in letters:
        done: Done = "restricted" if is_held else "erased" if letter.of_one else "kept"
        reason = _HELD if is_held else _ERASED if letter.of_one else _SHARED
        items.append(_describe("message", f"{letter.webhook} {letter.received_at}", done, reason))
    return items


def copy_without(record: CallList, folder: Path, number: str) -> CallList | None:
    """Write a copy of the list without this number, and return the copy's record.

    Return None if the number is not on the list. This reads and writes the whole file, and the copy is
    durable on return. The caller must then replace the list's record, and after that delete the old file.
    Raises `DamagedFile` and `OSError`.
    """
    digits = int(number.removeprefix("+"))
    if call_list.sha256_of(folder / record.file) != record.sha256:
        raise DamagedFile(record.file, "SHA-256 differs from the record")  # a copy would get a valid checksum
    with closing(NumberSet.open(folder / record.file)) as old:
        if old.tag(digits) < 0:
            return None
        numbers, tags = old.arrays()
    kept = numbers != digits
    temporary = folder / f"{secrets.token_hex(8)}.new"
    number_set.write(temporary, [numbers[kept]], meta=b"{}", tags=None if tags is None else tags[kept])
    digest = call_list.sha256_of(temporary)
    file = temporary.with_name(f"{call_list.stem_of(record.file)}.{digest[:16]}.numbers")
    publish_file(temporary, file)
    return structs.replace(record, file=file.name, sha256=digest, numbers=int(kept.sum()))
