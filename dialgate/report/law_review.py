"""What changed in the law lately, what changes soon, and which officer has read it."""

from collections.abc import Callable, Collection, Iterable
from datetime import date, timedelta
from typing import Annotated, Final, TypeAlias

from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.local_time import day_in, rfc3339
from dialgate.core.model import Instant, Phrase
from dialgate.core.refusal import Refused
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import Timestamp
from dialgate.ledger.schemas import Words, described
from dialgate.report.law_page import LawChange, change_days, changes
from dialgate.runtime import csv_text
from dialgate.store import OfficerDocuments
from dialgate.store.law_acknowledgements import LawAcknowledgement
from dialgate.texts import Language

_AROUND: Final = timedelta(days=90)


class LawReadBy(Struct, frozen=True, kw_only=True):
    """An officer's acknowledgement for one controller: of the file with the hash `law`, and its changes up to the day `until`."""

    controller: str
    country: str
    law: str
    until: date
    at: Timestamp
    by: str
    note: str


class LawReview(Struct, frozen=True, kw_only=True):
    """The changes of a country's law from 90 days ago to 90 days ahead, and who has read them.

    `law` is the hash of the country's file. `pending` names the controllers for which nobody has acknowledged the changes of this
    file. A new file is pending, too, if an earlier one was acknowledged.
    """

    country: str
    law: str
    since: date
    until: date
    changes: list[LawChange]
    pending: tuple[str, ...]
    read_by: list[LawReadBy]


class LawReviews(Struct, frozen=True):
    laws: list[LawReview]


class LawReadRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An acknowledgement that the changes of a country's law were read, for each of the client's controllers."""

    country: Annotated[str, described("Country of the law, such as IT.")]
    law: Annotated[str, described("`law` of the review that was read.")]
    note: Annotated[Words, described("What follows from it, for example which campaign was changed.")] = ""
    actor: Annotated[Phrase, described("Who has read it, if the key belongs to a program.")] = ""


_Documents: TypeAlias = list[LawAcknowledgement]


class LawReading:
    def __init__(
        self, store: OfficerDocuments, config: Callable[[], Config], clock: Callable[[], Instant]
    ) -> None:
        self._store, self._config, self._clock = store, config, clock

    async def review(
        self, controllers: Collection[str], language: Language = "en", country: str = ""
    ) -> LawReviews:
        """Return the reviews of the countries that these controllers call, or of one country."""
        config, found = self._config(), await self._store.law_acknowledgements()
        countries = [country] if country else sorted(_countries(config, controllers))
        return LawReviews(
            [
                self._review(config, name, controllers, found, language)
                for name in countries
                if name in config.laws
            ]
        )

    async def pending(self, controllers: Collection[str]) -> list[tuple[str, str]]:
        """Return each country with a controller for which its changes are not acknowledged."""
        config, found = self._config(), await self._store.law_acknowledgements()
        return [
            (country, owner)
            for owner in controllers
            for country in sorted(_countries(config, (owner,)))
            if country in config.laws and self._is_pending(config, country, owner, found)
        ]

    async def acknowledge(self, client: Client, ask: LawReadRequest) -> LawReviews:
        """Record that the client has read the changes, once for each of its controllers. Raises `Refused`."""
        config = self._config()
        if ask.law != config.law_hash.get(ask.country):
            text = "The gate has another file of this country's law. Read the changes again, and send their `law`."
            raise Refused("request.invalid", text, "law")
        _, until = self._window(config, ask.country)
        for owner in client.controllers:
            read = LawAcknowledgement(
                controller=owner, country=ask.country, law=ask.law, until=until, at=self._clock(),
                by=client.actor(ask.actor), note=ask.note,
            )  # fmt: skip
            await self._store.add_law_acknowledgement(read)
        return await self.review(client.controllers, country=ask.country)

    async def export(self, controllers: Collection[str]) -> str:
        """Return all acknowledgements as CSV, oldest first."""
        names, found = LawReadBy.__struct_fields__, await self._store.law_acknowledgements()
        rows = ([str(getattr(read, name)) for name in names] for read in _read_by(found, controllers))
        return csv_text.table([names, *rows])

    def _review(
        self,
        config: Config,
        country: str,
        controllers: Collection[str],
        found: _Documents,
        language: Language,
    ) -> LawReview:
        since, until = self._window(config, country)
        own = [read for read in found if read.country == country]
        return LawReview(
            country=country,
            law=config.law_hash[country],
            since=since,
            until=until,
            changes=changes(config.laws[country], since, until, language),
            pending=tuple(owner for owner in controllers if self._is_pending(config, country, owner, own)),
            read_by=_read_by(own, controllers),
        )

    def _window(self, config: Config, country: str) -> tuple[date, date]:
        today = day_in(config.laws[country].zone, self._clock())
        return today - _AROUND, today + _AROUND

    def _is_pending(self, config: Config, country: str, owner: str, found: _Documents) -> bool:
        since, until = self._window(config, country)
        own = [read for read in found if (read.country, read.controller) == (country, owner)]
        last = max((day for day in change_days(config.laws[country]) if since < day <= until), default=since)
        is_read = any(read.law == config.law_hash[country] and read.until >= last for read in own)
        return not is_read and (last > since or bool(own))


def _read_by(found: Iterable[LawAcknowledgement], controllers: Collection[str]) -> list[LawReadBy]:
    own = sorted(
        (read for read in found if read.controller in controllers), key=lambda read: (read.at, read.key)
    )
    return [copy_fields(read, LawReadBy, at=rfc3339(read.at)) for read in own]


def _countries(config: Config, controllers: Collection[str]) -> set[str]:
    """Return the countries of these controllers, and those whose numbers their campaigns dial."""
    owners = [config.controllers[name] for name in controllers if name in config.controllers]
    dialled = {campaign.dial_region for owner in owners for campaign in owner.campaigns}
    return {owner.country for owner in owners} | dialled - {""}
