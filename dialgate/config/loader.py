"""The loader of dialgate.yaml and the files that it names. It reports every problem, not only the first."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from dialgate.config import clients, decision_retention, url_secrets, webhook_targets, yaml_file
from dialgate.config.configuration import Config, ConfigError
from dialgate.config.controllers import NO_COUNTRY, ControllerFile, Line, build_lines
from dialgate.config.controllers import STAND_INS as CONTROLLER_STAND_INS
from dialgate.config.countries import convert_law, law_faults, unknown_holidays
from dialgate.config.settings import Settings, SharedStore
from dialgate.config.settings import faults as settings_faults
from dialgate.config.shipping import faults as shipping_faults
from dialgate.config.webhook_dialects import Profile
from dialgate.config.webhook_dialects import faults as webhook_faults
from dialgate.config.webhook_targets import Hook
from dialgate.core.law import Law

_T = TypeVar("_T")
_ID: Final = re.compile(rb"^id:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
_STAND_INS: Final = {**clients.STAND_INS, **CONTROLLER_STAND_INS}


def load(path: Path) -> Config:
    """Load the configuration from a dialgate.yaml file. Raises `ConfigError` with every problem."""
    return _Reader(path).config()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.resolve().parent
        self.problems: list[str] = []
        self.contents: dict[str, bytes] = {}
        self.entries: list[bytes] = []
        # An invalid file may define the law or controller that another file names, so no name is reported as missing.
        self.laws_whole = self.controllers_whole = True
        self.refused_controllers: set[str] = set()
        self.countries_folder = ""
        self.drafts: dict[str, Law] = {}

    def config(self) -> Config:
        settings = self._read(self.path, Settings)
        if settings is None:
            self._read_the_rest()
            raise ConfigError(self.problems)
        laws, hashes = self._laws(self.folder / settings.countries)
        laws = self._without_drafts(laws, settings.accept_drafts)
        self.problems.extend(
            f"{self.countries_folder}: {law.country}: {fault}"
            for law in laws.values()
            for fault in unknown_holidays(law)
        )
        controllers = self._controllers(self.folder / settings.controllers, laws)
        lines = self._lines(controllers, laws)
        index = clients.ClientIndex(settings.clients, self.folder, self._ids(controllers))
        self.problems.extend(index.faults)
        proxies, faults = clients.parse_networks(settings.listen.trusted_proxies)
        self.problems.extend(f"listen: trusted_proxies {fault}" for fault in faults)
        webhooks = self._webhooks(self.folder / settings.webhooks)
        self._check_dependent_settings(settings, laws)
        hooks = tuple(self._hooks(settings, controllers))
        if self.problems:
            raise ConfigError(self.problems)
        entries = {_digest(entry): entry for entry in self.entries}
        digest = _digest(listing := "\n".join(sorted(entries)).encode())
        return Config(
            settings=settings,
            path=self.path.resolve(),
            folder=self.folder,
            data=(self.folder / settings.data).resolve(),
            laws=laws,
            law_hash={country: hashes[country] for country in laws},
            controllers=controllers,
            lines=lines,
            keys=index.keys,
            networks=tuple(index.networks),
            proxies=tuple(proxies),
            webhooks=webhooks,
            contents={**self.contents, **entries, digest: listing},
            hash=digest,
            hooks=hooks,
            drafts=self.drafts,
        )

    def _check_dependent_settings(self, settings: Settings, laws: dict[str, Law]) -> None:
        self.problems.extend(settings_faults(settings))
        self.problems.extend(f"{self.path.name}: {fault}" for fault in url_secrets.faults(settings))
        self.problems.extend(decision_retention.faults(settings.retention, laws | self.drafts))
        store = settings.store or SharedStore()
        self.problems.extend(shipping_faults(settings.shipping, (store.url, store.url_file)))

    def _read_the_rest(self) -> None:
        """Collect the problems in the other files after dialgate.yaml itself proved invalid."""
        data = yaml_file.read(self.path)[0]
        if isinstance(data, dict):
            names = {
                name: str(data.get(name, getattr(Settings(), name)))
                for name in ("countries", "controllers", "webhooks")
            }
            laws, _ = self._laws(self.folder / names["countries"])
            self._lines(self._controllers(self.folder / names["controllers"], laws), laws)
            self._webhooks(self.folder / names["webhooks"])

    def _load(self, path: Path) -> tuple[Any, str] | None:
        data, raw, problems = yaml_file.read(path)
        self.problems.extend(f"{self._displayed_path(path)}: {problem}" for problem in problems)
        if raw is None:
            return None
        digest = _digest(raw)
        self.contents[digest] = raw
        self.entries.append(f"{path.name} {digest}".encode())
        return data, digest

    def _read(self, path: Path, kind: type[_T]) -> _T | None:
        loaded = self._load(path)
        if loaded is None:
            return None
        read, faults = yaml_file.convert(loaded[0] or {}, kind)
        self.problems.extend(f"{self._displayed_path(path)}: {fault}" for fault in faults)
        name = "" if path == self.path else _placeholder_id(path)
        return yaml_file.salvage(loaded[0] or {}, kind, _STAND_INS, name) if faults else read

    def _displayed_path(self, path: Path) -> str:
        """Return `path` as messages show it: relative to the folder of dialgate.yaml if the file is in that folder."""
        full = path.resolve()
        return str(full.relative_to(self.folder)) if full.is_relative_to(self.folder) else str(path)

    def _files(self, folder: Path) -> list[Path]:
        paths = sorted(folder.glob("*.yaml"))
        if not paths:
            self.problems.append(f"{folder.name}/: no *.yaml file in this folder")
        return paths

    def _laws(self, folder: Path) -> tuple[dict[str, Law], dict[str, str]]:
        self.countries_folder = self._displayed_path(folder)
        laws: dict[str, Law] = {}
        hashes: dict[str, str] = {}
        for path in self._files(folder):
            loaded = self._load(path)
            if loaded is None:
                self.laws_whole = False
                continue
            law, faults = convert_law(loaded[0])
            self.problems.extend(f"{self._displayed_path(path)}: {fault}" for fault in faults)
            if law is None:
                self.laws_whole = False
                continue
            if law.country in laws:
                self.problems.append(
                    f"{self._displayed_path(path)}: another file already contains the law of {law.country}"
                )
            self.problems += (
                f"{self._displayed_path(path)}: {other.country} covers {region} too; remove it from the `regions` of one file"
                for other in laws.values()
                for region in law.covered
                if region in other.covered and other.country != law.country
            )
            laws[law.country] = law
            hashes[law.country] = loaded[1]
        return laws, hashes

    def _without_drafts(self, laws: dict[str, Law], accepted: tuple[str, ...]) -> dict[str, Law]:
        """Return the laws, except drafts that the settings do not accept. Store those drafts in `drafts`."""
        for country in accepted:
            faults = law_faults(country, laws, self.countries_folder, whole=self.laws_whole)
            self.problems.extend(f"{self.path.name}: accept_drafts: {fault}" for fault in faults)
        self.drafts = {country: law for country, law in laws.items() if law.draft and country not in accepted}
        return {country: law for country, law in laws.items() if country not in self.drafts}

    def _controllers(self, folder: Path, laws: dict[str, Law]) -> dict[str, ControllerFile]:
        controllers: dict[str, ControllerFile] = {}
        for path in self._files(folder):
            read = self._read(path, ControllerFile)
            if read is None or read.id == _placeholder_id(path):
                self._note_refused(path)
            if read is None:
                continue
            name = self._displayed_path(path)
            if read.id in controllers:
                self.problems.append(f"{name}: another file already defines the controller {read.id}")
            if read.country in self.drafts:
                self.problems.append(
                    f"{name}: the country file of {read.country} is a draft; add {read.country} to `accept_drafts` "
                    "in dialgate.yaml to use it"
                )
            elif read.country != NO_COUNTRY:
                faults = law_faults(read.country, laws, self.countries_folder, whole=self.laws_whole)
                self.problems.extend(f"{name}: country {fault}" for fault in faults)
            self.problems.extend(
                f"{name}: {says} {trait!r}, which is not among the `traits` of any country"
                for says, traits in (("adheres to", read.adheres_to), ("has the trait", read.traits))
                for trait in traits
                if self.laws_whole and not any(trait in law.traits for law in (laws | self.drafts).values())
            )
            controllers[read.id] = read
        return controllers

    def _note_refused(self, path: Path) -> None:
        """Remember the controller's id in an invalid file. References to this id are then not reported as errors."""
        with suppress(OSError):
            if found := _ID.search(path.read_bytes()):
                self.refused_controllers.add(found[1].decode("utf-8", "replace"))
                return
        self.controllers_whole = False

    def _webhooks(self, folder: Path) -> dict[str, Profile]:
        """Return the webhook profiles by id. The folder need not exist."""
        profiles: dict[str, Profile] = {}
        for path in self._files(folder) if folder.is_dir() else []:
            loaded = self._load(path)
            if loaded is None:
                continue
            name = self._displayed_path(path)
            profile, faults = yaml_file.convert(loaded[0] or {}, Profile)
            if profile is not None:
                faults.extend(webhook_faults(profile))
            self.problems.extend(f"{name}: {fault}" for fault in faults)
            if profile is None or faults:
                continue
            if profile.id in profiles:
                self.problems.append(f"{name}: another file already defines the profile {profile.id}")
            profiles[profile.id] = profile
        return profiles

    def _lines(self, controllers: dict[str, ControllerFile], laws: dict[str, Law]) -> dict[str, Line]:
        lines, faults = build_lines(controllers.values(), laws.values())
        self.problems.extend(faults)
        return lines

    def _ids(self, controllers: dict[str, ControllerFile]) -> set[str] | None:
        """Return the ids of all controllers, including those in invalid files, or None if an id cannot be read."""
        return controllers.keys() | self.refused_controllers if self.controllers_whole else None

    def _hooks(self, settings: Settings, controllers: dict[str, ControllerFile]) -> Iterator[Hook]:
        names = [hook.name for hook in settings.subscribers]
        for hook in settings.subscribers:
            faults = [*clients.missing_controllers(hook.controllers, self._ids(controllers))]
            if names.count(hook.name) > 1:
                faults.append("is defined twice; give each subscriber a unique name")
            faults += filter(None, [webhook_targets.fault_of(hook)])
            try:
                secret = (self.folder / hook.secret_file).read_text("ascii")
                yield Hook(hook, webhook_targets.secret_of(secret, hook.kind))
            except (OSError, UnicodeDecodeError):
                faults.append(f"cannot read {hook.secret_file}; check `secret_file` and the file's owner")
            except ValueError as error:
                faults.append(str(error))
            self.problems.extend(f"subscriber {hook.name}: {fault}" for fault in faults)


def _placeholder_id(path: Path) -> str:
    return f"{path.stem}-yaml"


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
