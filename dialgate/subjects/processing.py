"""The record of processing activities (GDPR art. 30) and the description for an impact assessment (art. 35), from the configuration.

A statement is either true of this configuration or the operator's own text. What nobody has stated is shown as not stated, with the
setting that would state it.
"""

from collections.abc import Collection, Iterator
from functools import cache
from itertools import chain
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct, structs

from dialgate import texts
from dialgate.config import decision_retention
from dialgate.config.configuration import Config
from dialgate.config.controllers import CampaignFile, ControllerFile
from dialgate.config.processing_texts import Provider
from dialgate.core.law import Law
from dialgate.core.law_scope import Scope, known_sector
from dialgate.core.law_sections import LegalBasis
from dialgate.core.local_time import day_in
from dialgate.core.model import DAY, EPOCH, Instant
from dialgate.subjects.letter_words import LetterWords
from dialgate.texts import Language, law_words

DocumentKind: TypeAlias = Literal["record", "assessment", "processor_record"]
_OWN_ASSESSMENT: Final = ("risks", "measures", "views", "advice", "conclusion")
_Groups: TypeAlias = dict[str, list["ProcessingStatement"]]


class ProcessingStatement(Struct, frozen=True, kw_only=True):
    """A statement about the processing.

    `setting` is what to set if nothing is stated (`text` is then empty), or if a measure is not in use. `proof` is the page, command or
    setting that shows it.
    """

    name: str
    label: str
    text: str = ""
    setting: str = ""
    proof: str = ""


class ProcessingSection(Struct, frozen=True, kw_only=True):
    title: str
    statements: tuple[ProcessingStatement, ...]


class ProcessingDocument(Struct, frozen=True, kw_only=True):
    """A controller's record (art. 30(1)) or assessment (art. 35), or the record of the company that runs the gate (art. 30(2)).

    `controller` is empty for the latter. `open` is the number of statements with a `setting`.
    """

    kind: DocumentKind
    controller: str
    name: str
    title: str
    open: int
    sections: tuple[ProcessingSection, ...]


class ProcessingRecords(Struct, frozen=True):
    documents: list[ProcessingDocument]


class _Words(Struct, frozen=True, forbid_unknown_fields=True):
    """Titles of documents and sections, and the label and text of each statement. Values replace the `{name}` placeholders."""

    documents: dict[DocumentKind, str]
    sections: dict[str, str]
    statements: dict[str, tuple[str, str]]


@cache
def _words(language: Language) -> _Words:
    return texts.load(f"processing.{language}.yaml", _Words)


def write_documents(
    config: Config, controllers: Collection[str], language: Language, now: Instant, *, has_person: bool
) -> list[ProcessingDocument]:
    """Return the documents of these controllers. `has_person` is whether people sign in with accounts."""
    owners = [config.controllers[name] for name in controllers if name in config.controllers]
    writers = [_Writer(config, owner, language, now, has_person=has_person) for owner in owners]
    found = [make for writer in writers for make in (writer.record(), writer.assessment())]
    if writers and config.settings.processor:
        found.append(writers[0].processor_record(config.settings.processor, owners))
    return found


class _Writer:
    """The statements about one controller in one language."""

    def __init__(
        self, config: Config, owner: ControllerFile, language: Language, now: Instant, *, has_person: bool
    ) -> None:
        self._config, self._owner, self._now, self._has_person = config, owner, now, has_person
        self._texts, self._law_words = texts.texts_in(language), law_words.words_in(language)
        self._words, self._letter_words = _words(language), LetterWords(language, "UTC")
        dialled = {owner.country, *(campaign.dial_region for campaign in owner.campaigns)}
        self._laws = {country: law for country, law in config.laws.items() if country in dialled}

    # ---- documents ---------------------------------------------------------------------------------------------------

    def record(self) -> ProcessingDocument:
        return self._document("record", self._owner.id, self._owner.name, {
            "a": [*self._party(self._owner), *self._own("joint_controllers", "representative")],
            "b": [self._say("compliance"), *self._campaigns(), *self._bases()],
            "c": self._categories(),
            "d": self._recipients(),
            "e": [*self._own("transfers"), self._trunks()],
            "f": self._terms(),
            "g": [*chain(*self._measures().values()), *self._own("measures")],
        })  # fmt: skip

    def assessment(self) -> ProcessingDocument:
        about = [self._say("compliance"), self._say("automated"), *self._campaigns(), *self._categories(), *self._recipients()]  # fmt: skip
        return self._document("assessment", self._owner.id, self._owner.name, {
            "description": [*self._party(self._owner), *about],
            "necessity": [*self._bases(), *self._terms(), *self._own("necessity")],
            **self._measures(),
            "opinion": self._own(*_OWN_ASSESSMENT),
        })  # fmt: skip

    def processor_record(self, provider: Provider, owners: list[ControllerFile]) -> ProcessingDocument:
        served = [
            self._say("served", name=owner.name, value=_joined(owner.contact, owner.officer))
            for owner in owners
        ]
        return self._document("processor_record", "", provider.name, {
            "processor_a": [*self._party(provider, "processor."), *served],
            "processor_b": [self._say("on_behalf")],
            "processor_c": [self._state("transfers", provider.transfers, "processor.transfers")],
            "processor_d": [*chain(*self._measures().values()), self._state("measures", provider.measures, "processor.measures")],
        })  # fmt: skip

    def _document(
        self, kind: DocumentKind, controller: str, name: str, groups: _Groups
    ) -> ProcessingDocument:
        sections = tuple(
            ProcessingSection(title=self._words.sections[key], statements=tuple(found))
            for key, found in groups.items()
        )
        count = sum(bool(statement.setting) for statement in chain(*groups.values()))
        title = self._words.documents[kind]
        return ProcessingDocument(
            kind=kind, controller=controller, name=name, title=title, open=count, sections=sections
        )

    def _say(self, key: str, /, setting: str = "", proof: str = "", **values: object) -> ProcessingStatement:
        label, text = (part.format(**values) for part in self._words.statements[key])
        return ProcessingStatement(name=key, label=label, text=text, setting=setting, proof=proof)

    def _state(self, name: str, value: str, setting: str) -> ProcessingStatement:
        """Return a text of the operator, or that it is not stated."""
        return self._say(name, value=value, setting="" if value else setting)

    def _own(self, *names: str) -> list[ProcessingStatement]:
        own = self._owner.processing
        return [self._state(name, getattr(own, name), f"processing.{name}") for name in names]

    def _choose(
        self, key: str, used: object, setting: str, proof: str, **values: object
    ) -> ProcessingStatement:
        """Return that a measure is in use, or that it is not and which setting would change that."""
        name = key if used else f"{key}_off"
        return self._say(name, "" if used else setting, proof if used else "", **values)

    def _value(self, name: str) -> str:
        return self._law_words.values.get(name, name.replace("_", " "))

    def _country(self, code: str) -> str:
        law = self._config.laws.get(code)
        return self._law_words.countries.get(code, law.name if law else code)

    # ---- statements --------------------------------------------------------------------------------------------------

    def _party(self, party: ControllerFile | Provider, prefix: str = "") -> list[ProcessingStatement]:
        details = [self._state(name, getattr(party, name), prefix + name) for name in ("contact", "officer")]
        return [self._say("party", value=party.name), *details]

    def _campaigns(self) -> Iterator[ProcessingStatement]:
        for campaign in self._owner.campaigns:
            purpose = self._texts.purposes[campaign.purpose]
            what = _joined(purpose, self._value(campaign.sector), campaign.goods)
            yield self._say(
                "campaign", name=campaign.id, speaker=self._value(campaign.call_type), callee=self._value(campaign.callee),
                purpose=what[:1].upper() + what[1:],
            )  # fmt: skip
            if campaign.profiling:
                yield self._say("profiling", name=campaign.id)
            if campaign.balancing:
                yield self._say("balancing", name=campaign.id, value=campaign.balancing)

    def _bases(self) -> Iterator[ProcessingStatement]:
        for campaign in self._owner.campaigns:
            law = self._laws.get(campaign.dial_region or self._owner.country)
            found = _legal_bases(law, self._owner, campaign, self._now) if law else []
            bases = [
                f"{_joined(*map(self._value, section.accepts))} ({self._texts.law(section.source)})"
                for section in found
            ]
            yield self._say("bases", name=campaign.id, value="; ".join(bases), proof="/console/law")

    def _categories(self) -> list[ProcessingStatement]:
        agents = "agents" if self._owner.record_agents else "agents_off"
        return [
            *(self._say(name) for name in ("people", "staff", "data", "files", agents)),
            *self._own("categories"),
        ]

    def _recipients(self) -> list[ProcessingStatement]:
        settings, owner = self._config.settings, self._owner
        provider, shipping = settings.processor, settings.shipping
        stream = shipping.stream if shipping else None
        named = {
            "processors": _joined(*owner.processors),
            "programs": "; ".join(
                f"{client.name} ({_joined(*client.scopes)})" for client in settings.clients if owner.id in client.controllers
            ),
            "shipping": _joined(shipping.to, (stream.url or stream.url_file) if stream else "") if shipping else "",
        }  # fmt: skip
        registries = dict.fromkeys(
            (country, section.id, section.mode)
            for country, law in self._laws.items()
            for section in law.registries
            if section.is_in_force(day_in(law.zone, self._now))
        )
        return [
            *(self._say(f"registry_{mode}", name=name.upper(), country=self._country(country)) for country, name, mode in registries),
            self._state("provider", _joined(provider.name, provider.contact) if provider else "", "processor"),
            *(self._say(name, value=value) for name, value in named.items() if value),
            *(
                self._say("subscriber", name=target.name, host=urlsplit(target.url).hostname, events=_joined(*target.events) or "stop, lift")
                for target in settings.subscribers
                if owner.id in target.controllers
            ),
            *self._own("recipients"),
        ]  # fmt: skip

    def _trunks(self) -> ProcessingStatement:
        countries = dict.fromkeys(campaign.trunk_country for campaign in self._owner.campaigns)
        return self._say("trunks", value=_joined(*map(self._country, countries)))

    def _terms(self) -> list[ProcessingStatement]:
        say, config = self._letter_words, self._config
        kept = structs.asdict(config.storage(self._now)) | {"attempts_days": config.attempts_kept // DAY}
        months = decision_retention.terms(config.settings.retention, config.laws, self._now)
        return [
            *(
                self._say("term", kind=say.say(f"stored.{name.removesuffix('_days')}"), value=say.period(days))
                for name, days in kept.items()
                if name != "daily"
            ),
            *(
                self._say("decisions", country=self._country(term.country), allowed=term.allowed_months, refused=term.refused_months)
                for term in months
                if term.country in self._laws
            ),
            self._say("objections"),
            self._say("staff_term"),
        ]  # fmt: skip

    def _measures(self) -> _Groups:
        """Return the measures of this configuration, by the risk that they address."""
        say, choose, config, settings = self._say, self._choose, self._config, self._config.settings
        accounts, provider, store = settings.accounts, settings.accounts.openid, settings.store
        hours = {"hours": accounts.session_hours, "minutes": accounts.idle_minutes}
        stamps, evidence = settings.timestamp_url or settings.timestamp_url_file, "/console/evidence"
        shadows = [
            say(
                "shadow", name=str(scope), day=scope.last_day, setting="shadow_until", proof="/console/shadow"
            )
            for scope in config.shadow.scopes
            if scope.ends > self._now and self._owner.id in scope.controllers
        ]
        return {
            "calls": [
                *shadows,
                say("refusal", proof="/console/decisions"),
                say(f"stops_{self._owner.stops}", proof="/console/lookup"),
                say("limits", proof="/console/law"),
            ],
            "disclosure": [
                say("pseudonyms"),
                say("sealed"),
                say("clear"),
                choose("tls", settings.listen.tls_certificate, "listen.tls_certificate", "listen.tls_certificate", host=settings.listen.host),
                *([say("fastagi", host=settings.fastagi.host)] if settings.fastagi else []),
                *([choose("redis", store.url.startswith("rediss"), "store.url", "store.url")] if store else []),
            ],
            "misuse": [
                choose("accounts", self._has_person, "dialgate account add", "/console/accounts", **hours),
                *([say("openid", issuer=provider.issuer, proof="accounts.openid")] if provider else []),
                say("keys", proof="/console/keys"),
                say("lookups", count=settings.limits.lookups_an_hour, proof="/console/look-ups"),
            ],
            "storage": [
                choose("removal", settings.storage.daily, "storage.daily", "/console/retention"),
                say("months", proof="/console/retention"),
            ],
            "evidence": [
                say("log", seconds=f"{settings.checkpoint_seconds:g}", proof="dialgate log verify"),
                choose("verification", settings.verify_log_nightly, "verify_log_nightly", evidence),
                choose("stamps", stamps, "timestamp_url", evidence),
                choose("copies", settings.shipping, "shipping", "dialgate ship"),
                choose("backups", settings.backup_days, "backup_days", "dialgate backup", days=self._letter_words.period(settings.backup_days)),
            ],
        }  # fmt: skip


def _legal_bases(
    law: Law, owner: ControllerFile, campaign: CampaignFile, now: Instant
) -> Iterator[LegalBasis]:
    """Yield the sections that accept a basis for a campaign's calls today. Which of several applies depends on the called number."""
    today = day_in(law.zone, now).toordinal() - EPOCH
    scope = Scope(
        first=today, last=today, purpose=campaign.purpose, call_type=campaign.call_type, callee=campaign.callee,
        sector=known_sector(campaign.sector, law.sectors), profiling=campaign.profiling, dial_mode=campaign.dial_mode,
        sistan=owner.sistan and campaign.purpose == "statistics", traits=(*owner.adheres_to, *owner.traits),
        kind="unknown", region="", places=(),
    )  # fmt: skip
    for section in law.legal_basis:
        if section.binds(scope):
            yield section
            if section.surely_binds(scope):
                return


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
