"""The cycle with a registry that hands out everybody who is listed (UK TPS and CTPS, US National DNC).

What is subscribed is cut into areas, each with a version of its own: one that was not refreshed grows old alone (16 CFR
310.4(b)(3)(iv): the age is that of the version, not of the import). A file that is faulty, of another area, or a gap in
the chain of changes leaves its area as it was, with an alarm; the others go on.

The set is read and written in runs, so that a list of any size takes little memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from dialgate.core.model import DAY, Instant
from dialgate.lists.number_set import NumberSet
from dialgate.lists.snapshot import Contents, Entry, read_contents
from dialgate.runtime.atomic_write import publish_file, remove_on_exit, write_file
from registry_sync import full_list_areas, import_checks, publication, release_holds
from registry_sync.config import Listed
from registry_sync.formats import dnc, tps
from registry_sync.formats.text import FaultyFile, Numbers
from registry_sync.full_list_areas import Bar, File, Update
from registry_sync.import_checks import Refused, utc
from registry_sync.publication import Press
from registry_sync.run_report import Alarm, Kind, Summary
from registry_sync.sources import Source, SourceFailed

SHOWN = 5
FAULT = ".fault"


class Cycle:
    def __init__(
        self, listed: Listed, press: Press, work: Path, clock: Callable[[], Instant], bar: Bar
    ) -> None:
        self._listed, self._press, self._clock, self._bar = listed, press, clock, bar
        self._folder = work / listed.registry
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._areas = [full_list_areas.area_of(prefix, listed.format) for prefix in sorted(listed.coverage)]
        self._alarms: list[Alarm] = []

    async def run(self, source: Source, *, dry: bool = False) -> Summary:
        """`dry`: what came is fetched and judged, nothing published. Raises Refused, DamagedFile, OSError; then nothing
        was published."""
        summary = Summary(registry=self._listed.registry, controller="")
        with ExitStack() as stack:
            old = self._open(stack)
            contents = _contents(old, self._listed.registry)
            updates = await self._updates(old, contents, source, dry=dry)
            summary = _told(summary, updates)
            dropped = set(contents.coverage) - set(self._listed.coverage)
            if (updates or dropped) and not dry:
                contents, version = self._publish(old, contents, updates)
                summary = msgspec.structs.replace(summary, published=version)
        return self._judged(summary, contents)

    async def _updates(
        self, old: NumberSet | None, contents: Contents, source: Source, *, dry: bool
    ) -> list[Update]:
        found: list[Update] = []
        try:
            marks = await source.names()
            for chain in self._plan(contents, marks):
                update = await self._update(chain, old, marks, source)
                if update is not None and (dry or self._may(update, old)):
                    found.append(update)
        except SourceFailed as failed:
            self._alarm("source_failed", str(failed))
        return found

    # ---- what is to be done ------------------------------------------------------------------------------------------

    def _entry(self) -> Entry | None:
        return publication.entry_of(publication.published(self._press.folder), self._listed.registry, "")

    def _open(self, stack: ExitStack) -> NumberSet | None:
        """Raises DamagedFile: on a damaged set nothing is built."""
        entry = self._entry()
        if entry is None:
            return None
        opened = NumberSet.open(self._press.folder / entry.file)
        stack.callback(opened.close)
        opened.verify()
        return opened

    def _plan(self, contents: Contents, names: Iterable[str]) -> Iterator[list[File]]:
        """For each area that has news the files to take, oldest first: a full one and what changed since, or what
        changed since the version that is held."""
        held = full_list_areas.versions(contents)
        files = [file for name in names for file in self._files(name)]
        for area in self._areas:
            mine = [file for file in files if file.prefix == area.prefix]
            chosen = full_list_areas.chain(held.get(area.prefix, 0), mine)
            end = chosen[-1].version if chosen else held.get(area.prefix, 0)
            if beyond := [file for file in mine if file.version > end]:
                self._alarm("file_faulty", full_list_areas.gap(area.prefix, end, beyond))
            if chosen:
                yield chosen

    def _files(self, name: str) -> Iterator[File]:
        prefixes, day, since = [area.prefix for area in self._areas], tps.version(name), None
        if self._listed.format == "us_dnc":
            told = dnc.named(name)
            prefixes, day, since = ([told.prefix], told.version, told.since) if told else ([], None, None)
        if day is None:
            return
        if full_list_areas.version_of(day) > self._clock():
            # Its age would be counted from a day that has not come.
            self._alarm("file_faulty", f"{name}: its version is of a day that has not come")
            return
        for prefix in prefixes:
            yield File(
                name,
                prefix,
                full_list_areas.version_of(day),
                full_list_areas.version_of(since) if since else None,
            )

    # ---- what the files say ------------------------------------------------------------------------------------------

    async def _update(
        self, chain: list[File], old: NumberSet | None, marks: Mapping[str, str], source: Source
    ) -> Update | None:
        """What the files make of an area, up to the first that is faulty."""
        area = next(area for area in self._areas if area.prefix == chain[0].prefix)
        while chain:
            try:
                taken = [(file, await self._fetch(file.name, marks, source)) for file in chain]
                update = full_list_areas.read(area, self._listed.format, taken, old, self._bar)
            except FaultyFile as error:
                self._alarm("file_faulty", str(error))
                at = [str(error).startswith(file.name) for file in chain].index(True)
                self._note_fault(chain[at].name, marks[chain[at].name], str(error))
                chain = chain[:at]
            else:
                dated = msgspec.structs.replace(update.consultation, imported_at=self._clock())
                return update._replace(consultation=dated)
        return None

    async def _fetch(self, name: str, marks: Mapping[str, str], source: Source) -> Path:
        """Raises FaultyFile where it was found faulty and is still the same."""
        path = self._folder / name
        fault = self._folder / (name + FAULT)
        if fault.exists() and marks[name]:
            mark, _, text = fault.read_text("utf-8").partition("\n")
            if mark == marks[name]:
                raise FaultyFile(text)
        if not path.exists():
            with remove_on_exit(self._folder / f".{name}") as new:
                await source.fetch(name, new)
                publish_file(new, path)
        return path

    def _note_fault(self, name: str, mark: str, text: str) -> None:
        """A large file is not fetched again and again to find the same fault; a better one of the same name is."""
        (self._folder / name).unlink(missing_ok=True)
        write_file(self._folder / (name + FAULT), f"{mark}\n{text}".encode())

    def _may(self, update: Update, old: NumberSet | None) -> bool:
        """Whether it changes no more than is usual, or was released."""
        area = next(area for area in self._areas if area.prefix == update.prefix)
        before = sum(old.count(begin, end) for begin, end in area.ranges) if old else 0
        limits = self._listed.max_added, self._listed.max_removed
        why = import_checks.size_change(update.added, update.removed, before, *limits)
        if why:
            subject = (self._listed.registry, "", update.prefix, update.consultation.answer_sha256)
            try:
                release_holds.demand(
                    self._press.folder, subject, f"area {update.prefix}: {why}", self._clock()
                )
            except release_holds.Held as held:
                self._alarm("held", str(held))
                return False
        return True

    # ---- publishing --------------------------------------------------------------------------------------------------

    def _publish(
        self, old: NumberSet | None, contents: Contents, updates: list[Update]
    ) -> tuple[Contents, str]:
        new = {update.prefix: update for update in updates}
        contents = full_list_areas.renewed(contents, new, self._listed.coverage)
        total = (len(old) if old else 0) + sum(update.added - update.removed for update in updates)
        done = self._bar(f"writing {self._listed.registry}", total)
        chunks = _watched(full_list_areas.everything(self._areas, old, new, set(contents.coverage)), done)
        with publication.locked(self._press.folder):
            before = self._entry()
            if (before.sha256 if before else "") != (old.sha256 if old else ""):
                raise Refused(
                    f"{self._listed.registry}: published by somebody else meanwhile: run this again"
                )
            entry = publication.write_set(self._press.folder, contents, chunks, None)
            version = publication.publish_entry(self._press, entry, self._clock()).version
        release_holds.forget_all(self._press.folder, self._listed.registry, "")
        for path in self._folder.iterdir():
            path.unlink()
        return contents, version

    # ---- judging -----------------------------------------------------------------------------------------------------

    def _judged(self, summary: Summary, contents: Contents) -> Summary:
        held, now = full_list_areas.versions(contents), self._clock()
        oldest = min((held.get(prefix, 0) for prefix in self._listed.coverage), default=0)
        limit = (self._listed.max_age_days - self._listed.warning_days) * DAY
        old = [prefix for prefix in self._listed.coverage if now - held.get(prefix, 0) > limit]
        if old:
            named = ", ".join(old[:SHOWN]) + (f" and {len(old) - SHOWN} more" if len(old) > SHOWN else "")
            since = utc(oldest) if oldest else "never"
            self._alarm("version_old", f"areas {named}: the oldest version is of {since}: get new files")
        entry = self._entry()
        return msgspec.structs.replace(
            summary,
            consulted_at=oldest,
            numbers=entry.numbers if entry else 0,
            alarms=tuple(self._alarms),
        )

    def _alarm(self, kind: Kind, text: str) -> None:
        self._alarms.append(Alarm(registry=self._listed.registry, controller="", kind=kind, text=text))


def _contents(old: NumberSet | None, registry: str) -> Contents:
    if old is None:
        return Contents(registry=registry, controller="", mode="full_list", consultations=(), states=())
    return read_contents(old, Path(registry))


def _watched(chunks: Iterable[Numbers], done: Callable[[int], None]) -> Iterator[Numbers]:
    for chunk in chunks:
        yield chunk
        done(len(chunk))


def _told(summary: Summary, updates: list[Update]) -> Summary:
    return msgspec.structs.replace(
        summary,
        added=sum(update.added for update in updates),
        removed=sum(update.removed for update in updates),
        refreshed=len(updates),
    )
