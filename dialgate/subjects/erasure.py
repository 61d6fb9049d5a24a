"""Erasure (GDPR 17): what permits a call goes, what forbids one stays, and what proves a call that was made is put out of
use until nobody can be held to account for it any longer.

The decision log is not touched: it holds the number as a keyed hash and a ciphertext only, and its month's keys are thrown
away when its time is over.
"""

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import structs

from dialgate.cluster.personal_data import FromRegistry
from dialgate.core.ledger_events import CallRequested, ConsentConfirmed, ConsentGiven, ContractMade, Entry
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, Attempt, Instant
from dialgate.crypto.keys import Sealer
from dialgate.decision_log.records import Record
from dialgate.lists import call_list, number_set
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.runtime.atomic_write import publish_file
from dialgate.store import CallList
from dialgate.store.sqlite_subjects import Restricted
from dialgate.subjects.schemas import Erased

PERMITS = (ConsentGiven, ConsentConfirmed, ContractMade, CallRequested)

_GONE = ("nothing that was done rests on it", "GDPR art. 17(1)(b)-(c)")
_PROOF = (
    "a call was allowed on it, which may have to be accounted for",
    "GDPR art. 17(3)(e), 18(2); L. 689/1981 art. 28",
)
_HELD = ("a legal hold keeps it as evidence; nobody may call on it", "GDPR art. 17(3)(e), 18(2)")
_UNHEARD = (
    "whether it is evidence could not be asked of: {nodes}. Ask again; the number may not be called meanwhile"
)
_FORBIDS = ("it forbids calls, and would be undone", "GDPR art. 17(3)(b), 21(3)")


def basis_of(entry: Entry) -> str:
    """`consent:…`, `contract:…`, `request:…`; empty for an entry that permits nothing."""
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
    """Of each basis, the newest call that was allowed on it: by a log, or by what the store counts, which may come first."""
    used: dict[str, Instant] = {}
    allowed = ((record.decision.basis, record.at) for record in records if record.decision.allow)
    for basis, at in chain(allowed, ((attempt.basis, attempt.at) for attempt in attempts)):
        used[basis] = max(at, used.get(basis, 0))
    return used


def split(
    entries: Iterable[Entry], used: dict[str, Instant], now: Instant, days: int, *, held: bool
) -> tuple[list[Entry], list[tuple[Entry, Instant]]]:
    """The entries that go, and those that are put out of use, each with the end of its time. Of a number under a legal
    hold none goes."""
    goes: list[Entry] = []
    restricted: list[tuple[Entry, Instant]] = []
    for entry in entries:
        if basis := basis_of(entry):
            last = max(used.get(basis, 0), now if held else 0)
            until = last + days * DAY if last else 0
            if until > now:
                restricted.append((entry, until))
            else:
                goes.append(entry)
    return goes, restricted


def sealed(entry: Entry, until: Instant, sealer: Sealer, nonce: bytes) -> Restricted:
    body = msgspec.json.encode(entry).decode()
    return Restricted(entry.seq, entry.controller, entry.subject, until, sealer.seal(body, nonce))


def opened(kept: Restricted, sealer: Sealer) -> Entry:
    return msgspec.json.decode(sealer.unseal(kept.body), type=Entry)


def told(
    entries: Iterable[Entry],
    restricted: Iterable[tuple[Entry, Instant]],
    shown: Callable[[Entry], str],
    *,
    held: bool,
) -> list[Erased]:
    """What became of each ledger entry; `shown` names it."""
    ends = {entry.seq: until for entry, until in restricted}
    found = []
    for entry in entries:
        kind = str(type(entry.event).__struct_config__.tag)
        name = shown(entry)
        if not isinstance(entry.event, PERMITS):
            found.append(Erased(what=kind, name=name, done="kept", why=_FORBIDS[0], law=_FORBIDS[1]))
        elif entry.seq in ends:
            why, law = _HELD if held else _PROOF
            until = rfc3339(ends[entry.seq])
            found.append(Erased(what=kind, name=name, done="restricted", why=why, law=law, until=until))
        else:
            found.append(Erased(what=kind, name=name, done="erased", why=_GONE[0], law=_GONE[1]))
    return found


def put_off(
    entries: Iterable[Entry], lists: Iterable[str], shown: Callable[[Entry], str], unheard: Iterable[str]
) -> list[Erased]:
    """Nothing was destroyed: gates that share the store were not heard, and may have allowed a call on it, or hold it."""
    why, law = _UNHEARD.format(nodes=", ".join(sorted(unheard))), _PROOF[1]
    found = [
        Erased(
            what=str(type(entry.event).__struct_config__.tag),
            name=shown(entry),
            done="kept",
            why=why,
            law=law,
        )
        for entry in entries
        if isinstance(entry.event, PERMITS)
    ]
    return found + [Erased(what="call list", name=name, done="kept", why=why, law=law) for name in lists]


def about_files(
    lists: Iterable[str], registries: Iterable[FromRegistry], decisions: int, *, held: bool
) -> list[Erased]:
    """What became of what is held beside the ledger."""
    found = [
        Erased(
            what="call list",
            name=name,
            done="restricted" if held else "erased",
            why=_HELD[0] if held else "nobody of it may call the number any more",
            law=_HELD[1] if held else "GDPR art. 17(1)(c)",
        )
        for name in lists
    ]
    found += [
        Erased(
            what="registry answer",
            name=each.registry,
            done="kept",
            why="it shows that the registry was asked before calls; a newer answer takes its place",
            law="GDPR art. 17(3)(b); D.P.R. 26/2022 art. 8",
        )
        for each in registries
    ]
    if decisions:
        found.append(
            Erased(
                what="decisions",
                name=str(decisions),
                done="restricted",
                why="each is the proof of why a call was made or not, under a key that is thrown away after its time",
                law=_PROOF[1],
            )
        )
    found.append(
        Erased(
            what="requests and look-ups",
            name="",
            done="kept",
            why="they show what was asked, what was done, and who saw it; the number stands in them encrypted",
            law="GDPR art. 5(2), 12, 32",
        )
    )
    return found


def without(record: CallList, folder: Path, number: str) -> CallList | None:
    """The list in a new file without this number; None where it is not on it. Reads and writes the whole file, which
    is durable on return; `drop` the old one once the record is replaced. Raises `DamagedFile`, `OSError`."""
    digits = int(number.removeprefix("+"))
    if call_list.sha256_of(folder / record.file) != record.sha256:
        raise DamagedFile(record.file, "it is not what was loaded")  # rewritten it would be the valid one
    held = NumberSet.open(folder / record.file)
    try:
        if held.tag(digits) < 0:
            return None
        numbers, tags = held.arrays()
    finally:
        held.close()
    stay = numbers != digits
    temporary = folder / f"{secrets.token_hex(8)}.new"
    number_set.write(temporary, [numbers[stay]], meta=b"{}", tags=None if tags is None else tags[stay])
    digest = call_list.sha256_of(temporary)
    file = temporary.with_name(f"{record.controller}.{record.id}.{digest[:16]}.numbers")
    publish_file(temporary, file)
    return structs.replace(record, file=file.name, sha256=digest, numbers=int(stay.sum()))


def drop(file: Path) -> None:
    with suppress(FileNotFoundError):
        file.unlink()
