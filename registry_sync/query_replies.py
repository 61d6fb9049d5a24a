"""Collection and verification of a registry's replies to submitted packages.

The reply to a package NAME.zip consists of files whose names begin with `NAME.`:

    NAME.receipt.txt   the registry's receipt in its first line
    NAME.refused.txt   the registry's reason for refusing the package
    any other .txt, .csv or .zip   the answer
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from dialgate.core.model import Instant
from dialgate.crypto.masking import blank_logged
from dialgate.runtime.atomic_write import publish_file, remove_on_exit
from registry_sync.answer_merge import AnsweredConsultation
from registry_sync.config import QueriedRegistry
from registry_sync.consultations import RegistryQuery, read_consultation
from registry_sync.formats.text import FaultyFile
from registry_sync.query_packages import REQUEST, Package, PackageStore
from registry_sync.run_report import Kind
from registry_sync.sources import Source

RECEIPT: Final = "receipt.txt"
MAX_RECEIPT_LENGTH: Final = 256


class QueryReply(NamedTuple):
    package: Package
    answered: AnsweredConsultation


class ReplyCollector:
    def __init__(
        self,
        settings: QueriedRegistry,
        packages: PackageStore,
        clock: Callable[[], Instant],
        alarm: Callable[[Kind, str], None],
    ) -> None:
        self._settings, self._packages, self._clock, self._alarm = settings, packages, clock, alarm

    async def collect(self, source: Source) -> list[QueryReply]:
        """Return the verified replies in the source. Record refusals and faults in the packages' records."""
        marks = await source.list_files()
        replies = []
        for package in self._packages.all():
            start = f"{package.id}."
            files = {name.removeprefix(start): marks[name] for name in marks if name.startswith(start)}
            is_known_faulty = bool(package.faulty) and package.faulty == _fingerprint(files)
            accepts_reply = package.state in {"submitted", "expired"} and self._packages.has_numbers(package)
            if files and accepts_reply and not is_known_faulty:
                reply = await self._read_reply(package, files, source)
                if reply is not None:
                    replies.append(reply)
        return replies

    async def _read_reply(self, package: Package, files: dict[str, str], source: Source) -> QueryReply | None:
        """Return the verified reply, or None if there is no valid reply. Record a refusal or a fault.

        `files` maps file names (without the leading package id) to change marks from `Source.list_files`.
        """
        try:
            package = await self._read_receipt(package, files, source)
            answers = [name for name in files if name != RECEIPT and name.endswith((".txt", ".csv", ".zip"))]
            refusals = [name for name in answers if name.startswith("refused")]
            if refusals:
                await self._record_refusal(package, refusals[0], source)
                return None
            if not answers:
                return None
            if not package.receipt and self._settings.receipt == "required":
                self._alarm("receipt_missing", f"{package.id} has an answer but no {package.id}.{RECEIPT}")
                return None
            return await self._read_first_valid(package, answers, source)
        except (FaultyFile, UnicodeDecodeError) as error:
            fault = str(error) if isinstance(error, FaultyFile) else f"{package.id}: not plain text"
            self._packages.record(package, package.state, fault, faulty=_fingerprint(files))
            return None

    async def _read_receipt(self, package: Package, files: dict[str, str], source: Source) -> Package:
        if package.receipt or RECEIPT not in files:
            return package
        lines = (await self._read_text(package, RECEIPT, source)).split("\n")
        receipt = lines[0].strip()
        if not receipt or len(receipt) > MAX_RECEIPT_LENGTH or not receipt.isprintable():
            raise FaultyFile(f"{package.id}.{RECEIPT}: its first line is not a receipt")
        if others := [other.id for other in self._packages.all() if other.receipt == receipt]:
            raise FaultyFile(f"{package.id}.{RECEIPT}: the receipt belongs to package {others[0]}")
        return self._packages.record(package, package.state, receipt=receipt, fault=package.fault)

    async def _record_refusal(self, package: Package, name: str, source: Source) -> None:
        text = await self._read_text(package, name, source)
        reason = blank_logged(" ".join(text.split())[:200])
        self._packages.record(package, "refused", ended_at=self._clock(), fault=reason or "no reason given")

    async def _read_text(self, package: Package, name: str, source: Source) -> str:
        return (await self._fetch(package, name, source)).read_text("utf-8")

    async def _fetch(self, package: Package, name: str, source: Source) -> Path:
        path = self._packages.folder(package) / name
        with remove_on_exit(path.with_name(f".{name}")) as new:
            await source.fetch(f"{package.id}.{name}", new)
            publish_file(new, path)
        return path

    async def _read_first_valid(self, package: Package, names: list[str], source: Source) -> QueryReply:
        """Return the valid answer whose file name sorts last.

        The name of a corrected answer sorts after the name of the answer that it replaces. Raises FaultyFile if no
        answer is valid, with the first fault found.
        """
        fault: FaultyFile | None = None
        for name in sorted(names, reverse=True):
            try:
                return QueryReply(package, self._verify(package, await self._fetch(package, name, source)))
            except FaultyFile as error:
                fault = fault or error
        assert fault is not None, "there is at least one name"
        raise fault

    def _verify(self, package: Package, path: Path) -> AnsweredConsultation:
        request = self._packages.format.read_request(self._packages.folder(package) / REQUEST)
        if request.sha256 != package.sha256:
            raise FaultyFile(f"{package.id}/{REQUEST}: differs from the request that was submitted")
        now, settings = self._clock(), self._settings
        receipt = package.receipt or package.id
        query = RegistryQuery(
            settings.registry, settings.controller, receipt, package.submitted_at, now, package.since
        )
        return read_consultation(query, request, self._packages.format.read_answer(path), now)


def _fingerprint(files: dict[str, str]) -> str:
    """Return a hash of the file names and their change marks, or "" if a file has no mark.

    Without a mark, a change to the file could not be detected.
    """
    return sha256(msgspec.json.encode(sorted(files.items()))).hexdigest() if all(files.values()) else ""
