"""The loader of dialgate.yaml and the files that it names.

It reports all faults in the form of all files together or, if there are none, all contradictions between them.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from dialgate.config import (
    clients,
    decision_retention,
    incoming_webhooks,
    report_mail,
    url_secrets,
    webhook_targets,
    yaml_file,
)
from dialgate.config.configuration import Config, ConfigError, FileValues
from dialgate.config.controllers import ControllerFile, build_lines
from dialgate.config.countries import convert_law, law_faults, unknown_holidays
from dialgate.config.fields import Name
from dialgate.config.incoming_webhooks import IncomingWebhook, SignedWebhook
from dialgate.config.settings import Settings, SharedStore
from dialgate.config.settings import faults as settings_faults
from dialgate.config.shadow_mode import read_shadow_mode
from dialgate.config.shipping import faults as shipping_faults
from dialgate.config.validation_messages import plain
from dialgate.config.webhook_dialects import Profile
from dialgate.config.webhook_dialects import faults as webhook_faults
from dialgate.config.webhook_targets import SubscriberAccess
from dialgate.core.law import Law
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.garbage_collection import without_collector

_T = TypeVar("_T")


def load(path: Path, earlier: Config | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Load the configuration from a dialgate.yaml file. Raises `ConfigError`.

    A file with the same content as one of `earlier` is not parsed again: both configurations share its objects.
    """
    with without_collector():
        return _Reader(path, earlier, environment).config()


class _Reader:
    def __init__(self, path: Path, earlier: Config | None, environment: Mapping[str, str]) -> None:
        self.path, self.earlier, self.environment = path, earlier, environment
        self.values: FileValues = {}
        self.folder = path.resolve().parent
        self.problems: list[str] = []
        self.contents: dict[str, bytes] = {}
        self.entries: list[bytes] = []

    def config(self) -> Config:
        read, _ = self._read(self.path, _convert_settings)
        data, settings = read or (None, None)
        if data is None:
            self._stop_at_problems()
        settings = settings and self._name_node(settings)
        countries, owners, webhooks = self._folders(data)
        law_files = [(path, *self._read(path, convert_law)) for path in self._files(countries)]
        owner_files = [(path, self._read(path, _convert_controller)[0]) for path in self._files(owners)]
        webhook_files = self._webhooks(webhooks)
        self._stop_at_problems()
        assert settings is not None
        laws, hashes = self._laws(law_files)
        drafts = self._drafts(laws, settings.accept_drafts, countries)
        laws = {country: law for country, law in laws.items() if country not in drafts}
        controllers = self._controllers(owner_files, laws, drafts, countries)
        lines, faults = build_lines(controllers, laws, self.earlier)
        self.problems.extend(faults)
        index = clients.ClientIndex(settings.clients, self.folder, controllers.keys())
        self.problems.extend(index.faults)
        proxies, faults = clients.parse_networks(settings.listen.trusted_proxies)
        self.problems.extend(f"listen: trusted_proxies {fault}" for fault in faults)
        self._check_dependent_settings(settings, laws | drafts)
        shadow = read_shadow_mode(settings, controllers, laws)
        self.problems.extend(shadow.faults(wall_clock()))
        subscribers = tuple(self._subscribers(settings, controllers))
        incoming = dict(self._incoming(webhook_files, controllers))
        mail_password = self._mail_password(settings, controllers)
        self._stop_at_problems()
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
            profiles={name: item for name, item in webhook_files.items() if isinstance(item, Profile)},
            incoming=incoming,
            contents={**self.contents, **entries, digest: listing},
            values=self.values,
            hash=digest,
            subscribers=subscribers,
            shadow=shadow,
            drafts=drafts,
            mail_password=mail_password,
        )

    def _stop_at_problems(self) -> None:
        if self.problems:
            raise ConfigError(self.problems)

    # ---- the form of each file ---------------------------------------------------------------------------------------

    def _folders(self, data: Any) -> Iterator[Path]:
        """Yield the folders of countries, controllers and webhooks, also if other settings are invalid."""
        for name in ("countries", "controllers", "webhooks"):
            value = data.get(name) if isinstance(data, dict) else None
            yield self.folder / (value if isinstance(value, str) else name)

    def _read(
        self, path: Path, convert: Callable[[Any], tuple[_T | None, list[str]]]
    ) -> tuple[_T | None, str]:
        """Return what `convert` makes of the data in a file, and the hash of the file.

        The value is None if the file is not YAML, or if `convert` returns None because of faults.
        """
        try:
            raw = path.read_bytes()
            digest = _digest(raw)
            value = self.earlier.values.get((convert, digest)) if self.earlier else None
            data, faults = yaml_file.parse(raw) if value is None else (None, [])
        except yaml_file.UNREADABLE as error:
            self._report(path, [yaml_file.explain(error)])
            return None, ""
        if value is None:
            value, more = convert(data)
            faults += more
        self._report(path, faults)
        self.contents[digest] = raw
        self.entries.append(f"{path.name} {digest}".encode())
        self.values[convert, digest] = value
        return value, digest

    def _report(self, path: Path, faults: Iterable[str]) -> None:
        self.problems.extend(f"{self._displayed_path(path)}: {fault}" for fault in faults)

    def _displayed_path(self, path: Path) -> str:
        """Return `path` as messages show it: relative to the folder of dialgate.yaml if the file is in that folder."""
        full = path.resolve()
        return str(full.relative_to(self.folder)) if full.is_relative_to(self.folder) else str(path)

    def _files(self, folder: Path) -> list[Path]:
        paths = sorted(folder.glob("*.yaml"))
        if not paths:
            self.problems.append(f"{folder.name}/: no *.yaml file in this folder")
        return paths

    def _webhooks(self, folder: Path) -> dict[str, Profile | IncomingWebhook]:
        """Return the webhook profiles and incoming webhooks by id. The folder need not exist."""
        webhooks: dict[str, Profile | IncomingWebhook] = {}
        for path in sorted(folder.glob("*.yaml")):
            webhook, _ = self._read(path, _convert_webhook)
            if not isinstance(webhook, Profile | IncomingWebhook):
                continue
            if webhook.id in webhooks:
                self._report(path, [f"another file already defines the webhook {webhook.id}"])
            webhooks[webhook.id] = webhook
        return webhooks

    def _name_node(self, settings: Settings) -> Settings:
        """Return the settings with the name that `node` takes from an environment variable.

        The archived file keeps the variable, because each record has the name.
        """
        if not settings.node.startswith("${"):
            return settings
        variable = settings.node[2:-1]
        try:
            return structs.replace(settings, node=msgspec.convert(self.environment.get(variable, ""), Name))
        except msgspec.ValidationError as error:
            fault = (
                plain(str(error))
                if variable in self.environment
                else "is not set; set it to this gate's name"
            )
            self._report(self.path, [f"node: the environment variable {variable} {fault}"])
            return settings

    # ---- contradictions between files --------------------------------------------------------------------------------

    def _laws(self, files: list[tuple[Path, Law | None, str]]) -> tuple[dict[str, Law], dict[str, str]]:
        laws: dict[str, Law] = {}
        hashes: dict[str, str] = {}
        for path, law, digest in files:
            assert law is not None
            name = self._displayed_path(path)
            if law.country in laws:
                self.problems.append(f"{name}: another file already contains the law of {law.country}")
            self.problems += (
                f"{name}: {other.country} covers {region} too; remove it from the `regions` of one file"
                for other in laws.values()
                for region in law.covered
                if region in other.covered and other.country != law.country
            )
            laws[law.country] = law
            hashes[law.country] = digest
        return laws, hashes

    def _drafts(self, laws: dict[str, Law], accepted: tuple[str, ...], folder: Path) -> dict[str, Law]:
        """Return the drafts that the settings do not accept."""
        for country in accepted:
            faults = law_faults(country, laws, self._displayed_path(folder))
            self.problems.extend(f"{self.path.name}: accept_drafts: {fault}" for fault in faults)
        drafts = {country: law for country, law in laws.items() if law.draft and country not in accepted}
        self.problems.extend(
            f"{self._displayed_path(folder)}: {law.country}: {fault}"
            for law in laws.values()
            if law.country not in drafts
            for fault in unknown_holidays(law)
        )
        return drafts

    def _controllers(
        self,
        files: list[tuple[Path, ControllerFile | None]],
        laws: dict[str, Law],
        drafts: dict[str, Law],
        folder: Path,
    ) -> dict[str, ControllerFile]:
        controllers: dict[str, ControllerFile] = {}
        traits = {trait for law in (laws | drafts).values() for trait in law.traits}
        for path, owner in files:
            assert owner is not None
            name = self._displayed_path(path)
            if owner.id in controllers:
                self.problems.append(f"{name}: another file already defines the controller {owner.id}")
            if owner.country in drafts:
                self.problems.append(
                    f"{name}: the country file of {owner.country} is a draft; add {owner.country} to `accept_drafts` "
                    "in dialgate.yaml to use it"
                )
            else:
                faults = law_faults(owner.country, laws, self._displayed_path(folder))
                self.problems.extend(f"{name}: country {fault}" for fault in faults)
            self.problems.extend(
                f"{name}: {says} {trait!r}, which is not among the `traits` of any country; write one of {', '.join(sorted(traits)) or 'none'}"
                for says, named in (("adheres to", owner.adheres_to), ("has the trait", owner.traits))
                for trait in named
                if trait not in traits
            )
            controllers[owner.id] = owner
        return controllers

    def _check_dependent_settings(self, settings: Settings, laws: dict[str, Law]) -> None:
        self.problems.extend(settings_faults(settings))
        self.problems.extend(f"{self.path.name}: {fault}" for fault in url_secrets.faults(settings))
        self.problems.extend(decision_retention.faults(settings.retention, laws))
        store = settings.store or SharedStore()
        self.problems.extend(shipping_faults(settings.shipping, (store.url, store.url_file)))

    def _subscribers(
        self, settings: Settings, controllers: dict[str, ControllerFile]
    ) -> Iterator[SubscriberAccess]:
        names = [subscriber.name for subscriber in settings.subscribers]
        for subscriber in settings.subscribers:
            faults = [*clients.missing_controllers(subscriber.controllers, controllers)]
            if names.count(subscriber.name) > 1:
                faults.append("is defined twice; give each subscriber a unique name")
            faults += filter(None, [webhook_targets.fault_of(subscriber)])
            read = partial(webhook_targets.secret_of, kind=subscriber.kind)
            secret = self._secret(subscriber.secret_file, read, "check `secret_file` and", faults)
            if secret is not None:
                yield SubscriberAccess(subscriber, secret)
            self.problems.extend(f"subscriber {subscriber.name}: {fault}" for fault in faults)

    def _incoming(
        self, webhooks: Mapping[str, Profile | IncomingWebhook], controllers: dict[str, ControllerFile]
    ) -> Iterator[tuple[str, SignedWebhook]]:
        for name, webhook in webhooks.items():
            if not isinstance(webhook, IncomingWebhook):
                continue
            faults = [*clients.missing_controllers([webhook.controller], controllers)]
            signature = webhook.signature
            read = partial(incoming_webhooks.secret_of, digest=signature.digest)
            secret = self._secret(
                signature.secret_file, read, "write the platform's secret to it, and check", faults
            )
            if secret is not None:
                yield name, SignedWebhook(webhook, secret)
            self.problems.extend(f"webhook {name}: {fault}" for fault in faults)

    def _mail_password(self, settings: Settings, controllers: dict[str, ControllerFile]) -> bytes:
        mail, password = settings.mail, None
        if mail is None:
            return b""
        faults = [*report_mail.faults(mail, controllers)]
        if mail.password_file:
            password = self._secret(mail.password_file, report_mail.password_of, "check", faults)
        if mail.roots and not (self.folder / mail.roots).is_file():
            faults.append(f"roots: there is no file {mail.roots}")
        self.problems.extend(f"mail: {fault}" for fault in faults)
        return password or b""

    def _secret(
        self, name: str, read: Callable[[str], bytes], advice: str, faults: list[str]
    ) -> bytes | None:
        """Return the secret in the file `name`, or None after adding to `faults`."""
        try:
            return read((self.folder / name).read_text("ascii"))
        except UnicodeDecodeError:
            faults.append(f"{name} contains a character that is not ASCII; only ASCII characters are allowed")
        except OSError:
            faults.append(f"cannot read {name}; {advice} the file's owner")
        except ValueError as error:
            faults.append(str(error))
        return None


def _convert_settings(data: Any) -> tuple[tuple[Any, Settings | None], list[str]]:
    settings, faults = yaml_file.convert(data or {}, Settings)
    return (data, settings), faults


def _convert_controller(data: Any) -> tuple[ControllerFile | None, list[str]]:
    return yaml_file.convert(data or {}, ControllerFile)


def _convert_webhook(data: Any) -> tuple[Profile | IncomingWebhook | None, list[str]]:
    if isinstance(data, dict) and "direction" in data:
        webhook, faults = yaml_file.convert(data, IncomingWebhook)
        if webhook is not None:
            faults.extend(incoming_webhooks.faults(webhook))
        return None if faults else webhook, faults
    profile, faults = yaml_file.convert(data or {}, Profile)
    if profile is not None:
        faults.extend(webhook_faults(profile))
    return None if faults else profile, faults


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
