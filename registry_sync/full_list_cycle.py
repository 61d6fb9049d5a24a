"""One synchronisation with a registry that publishes full lists (UK TPS and CTPS, US National DNC).

The subscription is divided into areas. Each area has a version and an age. The age counts from the version's
date, not from the import (16 CFR 310.4(b)(3)(iv)).

If an area has a faulty file, the cycle raises an alarm and leaves this area as it is. The other areas are still
updated.

The number set is read and written in chunks, so memory use does not grow with the list.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import lru_cache
from pathlib import Path

import numpy as np

from dialgate.core.model import DAY, Instant
from dialgate.lists import release_holds
from dialgate.lists.manifest import ManifestEntry
from dialgate.lists.number_set import NumberSet
from dialgate.lists.snapshot import Contents, read_contents
from dialgate.runtime.atomic_write import publish_file, remove_on_exit, write_file
from registry_sync import full_list_areas, import_checks, publication
from registry_sync.config import FullListRegistry
from registry_sync.formats import dnc
from registry_sync.formats.number_files import FullFile
from registry_sync.formats.table import TableFormat
from registry_sync.formats.text import FaultyFile, Numbers, Progress
from registry_sync.full_list_areas import Area, File, FileContents, FullSet, Update
from registry_sync.full_list_names import parse_name
from registry_sync.import_checks import ImportRefused, utc
from registry_sync.publication import PublishTarget
from registry_sync.run_report import Alarm, Kind, Summary
from registry_sync.sources import Source, SourceFailed

SHOWN = 5
MARK = ".mark"  # suffix of a file's record: its change mark, a line feed, and its fault or nothing


class FullListCycle:
    def __init__(
        self,
        settings: FullListRegistry,
        target: PublishTarget,
        work: Path,
        clock: Callable[[], Instant],
        progress: Progress,
        zone: str,
    ) -> None:
        self._settings, self._target, self._clock, self._progress = settings, target, clock, progress
        self._folder = work / settings.registry
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._zone = zone if settings.layout else ""
        assert settings.plan is not None, "the configuration was checked"
        self._areas = {
            prefix: full_list_areas.build_area(prefix, settings.plan) for prefix in sorted(settings.coverage)
        }
        # One file may contain several areas; keep its contents while the areas are read.
        self._read_list = lru_cache(maxsize=1)(self._read_list_file)
        self._alarms: list[Alarm] = []

    async def run(self, source: Source, *, dry: bool = False) -> Summary:
        """Fetch, verify and publish new files. With `dry`, publish nothing.

        Raises Refused, DamagedFile and OSError. After Refused, nothing has been published. The other errors can also
        occur after the publication, for example while old files are deleted.
        """
        version = ""
        with ExitStack() as stack:
            old = self._open(stack)
            contents = _contents(old, self._settings.registry)
            updates = await self._updates(old, contents, source, dry=dry)
            dropped = set(contents.coverage) - set(self._settings.coverage)
            if (updates or dropped) and not dry:
                contents, version = self._publish(old, contents, updates)
        return self._summarize(updates, contents, version)

    async def _updates(
        self, old: NumberSet | None, contents: Contents, source: Source, *, dry: bool
    ) -> list[Update]:
        updates: list[Update] = []
        try:
            marks = await source.list_files()
            self._remove_outdated(marks)
            for file in self._plan(contents, marks):
                update = await self._update(file, old, marks, source)
                if update is not None and (dry or self._is_accepted(update, old)):
                    updates.append(update)
        except SourceFailed as failed:
            self._alarm("source_failed", str(failed))
        return updates

    # ---- planning ----------------------------------------------------------------------------------------------------

    def _entry(self) -> ManifestEntry | None:
        return publication.find_entry(
            publication.current_manifest(self._target.folder), self._settings.registry, ""
        )

    def _open(self, stack: ExitStack) -> NumberSet | None:
        """Open and verify the published number set.

        Raises DamagedFile if the set is damaged: a damaged set must not be updated.
        """
        entry = self._entry()
        if entry is None:
            return None
        opened = stack.enter_context(closing(NumberSet.open(self._target.folder / entry.file)))
        opened.verify()
        return opened

    def _plan(self, contents: Contents, names: Iterable[str]) -> Iterator[File]:
        """Yield the newest file of each area for which there is a newer one than the published version."""
        versions = full_list_areas.area_versions(contents)
        files = [file for name in names for file in self._parse_name(name)]
        for prefix in self._areas:
            version = versions.get(prefix, 0)
            fulls = [file for file in files if file.prefix == prefix and not file.is_change]
            newest = max(self._unambiguous(fulls, version), key=lambda file: file.version, default=None)
            end = max(version, newest.version if newest else 0)
            if changes := [
                file.name for file in files if file.prefix == prefix and file.version > end and file.is_change
            ]:
                self._alarm("file_faulty", f"{changes[0]}: change files are not read. Download the full list")
            if newest is not None and newest.version > version:
                yield newest

    def _unambiguous(self, files: list[File], version: Instant) -> list[File]:
        """Return the files of an area, except those of the same date.

        Two files with the same date may be parts of one list, a correction, or the lists of two registries. One of
        them alone would make the other's numbers look clear.
        """
        kept: list[File] = []
        for file in files:
            same = [other.name for other in files if other.version == file.version]
            if len(same) == 1:
                kept.append(file)
            elif file.version >= version and file.name == same[0]:
                self._alarm(
                    "file_faulty",
                    f"{file.name}: {same[1]} has the same date and area {file.prefix}. Keep one, with the whole list",
                )
        return kept

    def _parse_name(self, name: str) -> Iterator[File]:
        for file in parse_name(name, self._settings, self._zone):
            if file.version > self._clock():
                self._alarm("file_faulty", f"{name}: the version date in the file name is in the future")
                return
            yield file

    # ---- reading -----------------------------------------------------------------------------------------------------

    async def _update(
        self, file: File, old: NumberSet | None, marks: Mapping[str, str], source: Source
    ) -> Update | None:
        """Return the area's update, or None if the file is faulty."""
        area = self._areas[file.prefix]
        try:
            contents = self._read_full(area, file, await self._fetch(file.name, marks, source))
        except FaultyFile as error:
            self._alarm("file_faulty", str(error))
            self._record_fault(file.name, marks[file.name], str(error))
            return None
        return full_list_areas.build_update(area, file, contents, old, self._clock())

    def _read_full(self, area: Area, file: File, path: Path) -> FileContents:
        if self._settings.format == "us_dnc":
            dense = dnc.read_full(path, area.prefix, self._progress)
            bits = FullSet(area.ranges[0][0], dense.bits, full_list_areas.EMPTY)
            return FileContents(bits, dense.sha256, dense.lines)
        full = self._read_list(path, file.version)
        numbers = np.concatenate(
            [full_list_areas.slice_between(full.numbers, begin, end) for begin, end in area.ranges]
        )
        days = None if full.days is None else full.days[np.searchsorted(full.numbers, numbers)]
        return FileContents(FullSet(0, None, numbers, days), full.sha256, full.lines)

    def _read_list_file(self, path: Path, version: Instant) -> FullFile:
        assert self._settings.used_layout is not None, "the configuration was checked"
        day = full_list_areas.version_day(version, self._zone)
        return TableFormat(self._settings.used_layout).read_list(path, day, self._progress)

    async def _fetch(self, name: str, marks: Mapping[str, str], source: Source) -> Path:
        """Fetch a file into the work folder. Raises FaultyFile if the same file was faulty before."""
        path = self._folder / name
        if fault := self._read_record(name)[1]:
            raise FaultyFile(fault)
        if not path.exists():
            with remove_on_exit(self._folder / f".{name}") as new:
                await source.fetch(name, new)
                self._write_record(name, marks[name], "")
                publish_file(new, path)
        return path

    def _remove_outdated(self, marks: Mapping[str, str]) -> None:
        """Delete the copies and records of files that are gone from the source or may have changed in it."""
        current = {name for name, mark in marks.items() if mark and self._read_record(name)[0] == mark}
        for path in self._folder.iterdir():
            if path.name.removesuffix(MARK) not in current:
                path.unlink()

    def _read_record(self, name: str) -> tuple[str, str]:
        """Return the change mark of a fetched file and the file's fault. Each is "" if it is not recorded."""
        record = self._folder / (name + MARK)
        mark, _, fault = (record.read_text("utf-8") if record.exists() else "").partition("\n")
        return mark, fault

    def _record_fault(self, name: str, mark: str, text: str) -> None:
        """Record why a file is faulty. The file is fetched again only if `mark` changes (see `Source.list_files`)."""
        (self._folder / name).unlink(missing_ok=True)
        self._write_record(name, mark, text)

    def _write_record(self, name: str, mark: str, fault: str) -> None:
        write_file(self._folder / (name + MARK), f"{mark}\n{fault}".encode())

    def _is_accepted(self, update: Update, old: NumberSet | None) -> bool:
        """Return whether the update is within the configured limits or has been released by two people."""
        if not update.new.total():
            # A file of another area would make every number of this area look clear.
            self._alarm(
                "file_faulty",
                f"{update.consultation.receipt}: it contains no number of area {update.prefix}. If the file never contains this"
                " area, remove it from `coverage`; if each file has one area, set `file_name`",
            )
            return False
        area = self._areas[update.prefix]
        before = sum(len(run) for begin, end in area.ranges for run in old.spans(begin, end)) if old else 0
        limits = self._settings.max_added, self._settings.max_removed
        why = import_checks.list_size_problem(update.added, update.removed, before, *limits)
        if why:
            subject = (self._settings.registry, "", update.prefix, update.consultation.answer_sha256)
            try:
                release_holds.require_release(
                    self._target.folder, subject, f"area {area.prefix}: {why}", self._clock(), area.prefix
                )
            except release_holds.ReleaseRequired as held:
                self._alarm("held", str(held))
                return False
        return True

    # ---- publishing --------------------------------------------------------------------------------------------------

    def _publish(
        self, old: NumberSet | None, contents: Contents, updates: list[Update]
    ) -> tuple[Contents, str]:
        new = {update.prefix: update for update in updates}
        contents = full_list_areas.replace_areas(contents, new, self._settings.coverage)
        tags = None
        for update in updates:  # a list with days has one area
            if update.new.days is not None:
                contents, tags = full_list_areas.tag_days(contents, update.new.days, self._zone)
        total = (len(old) if old else 0) + sum(update.added - update.removed for update in updates)
        advance = self._progress(f"writing {self._settings.registry}", total)
        chunks = _report_progress(
            full_list_areas.merge_areas(self._areas.values(), old, new, set(contents.coverage)), advance
        )
        with publication.lock_folder(self._target.folder):
            before = self._entry()
            if (before.sha256 if before else "") != (old.sha256 if old else ""):
                raise ImportRefused(
                    f"{self._settings.registry}: the published number set changed during this run. Run this command again"
                )
            entry = publication.write_set(self._target.folder, contents, chunks, tags)
            version = publication.publish_entry(self._target, entry, self._clock()).version
        release_holds.remove_holds(self._target.folder, self._settings.registry, new)
        for path in self._folder.iterdir():
            if path.suffix != MARK:
                path.unlink()
        return contents, version

    # ---- alarms ------------------------------------------------------------------------------------------------------

    def _summarize(self, updates: list[Update], contents: Contents, published: str) -> Summary:
        """Return the summary, and raise an alarm if versions are too old."""
        versions, now = full_list_areas.area_versions(contents), self._clock()
        oldest = min((versions.get(prefix, 0) for prefix in self._settings.coverage), default=0)
        limit = (self._settings.max_age_days - self._settings.warning_days) * DAY
        old = [prefix for prefix in self._settings.coverage if now - versions.get(prefix, 0) > limit]
        if old:
            shown = ", ".join(old[:SHOWN]) + (f" and {len(old) - SHOWN} more" if len(old) > SHOWN else "")
            age = f"the oldest version is from {utc(oldest)}" if oldest else "some have no version yet"
            self._alarm("version_old", f"areas {shown}: {age}. Get new files")
        entry = self._entry()
        return Summary(
            registry=self._settings.registry,
            controller="",
            consulted_at=oldest,
            numbers=entry.numbers if entry else 0,
            refreshed=len(updates),
            added=sum(update.added for update in updates),
            removed=sum(update.removed for update in updates),
            published=published,
            alarms=tuple(self._alarms),
        )

    def _alarm(self, kind: Kind, text: str) -> None:
        self._alarms.append(Alarm(registry=self._settings.registry, controller="", kind=kind, text=text))


def _contents(old: NumberSet | None, registry: str) -> Contents:
    if old is None:
        return Contents(registry=registry, controller="", mode="full_list", consultations=(), states=())
    return read_contents(old, Path(registry))


def _report_progress(chunks: Iterable[Numbers], advance: Callable[[int], None]) -> Iterator[Numbers]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))
