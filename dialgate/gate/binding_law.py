"""The choice of the country whose law decides a call, and the facts of the number that depend on it."""

from functools import cache

from dialgate.config.configuration import Config
from dialgate.core.model import Kind, Number


class BindingLaws:
    """The laws of a configuration, indexed by the regions of the numbering plan that they cover."""

    def __init__(self, config: Config) -> None:
        self._countries = {region: law.country for law in config.laws.values() for region in law.covered}
        self._drafts = {region for law in config.drafts.values() for region in law.covered}

    def country_of(self, region: str, home: str) -> str:
        """Return the country whose law decides a call to a number of `region`.

        The law of the called person's country applies, regardless of who calls and from where. If no law covers the region,
        or only a draft that the configuration does not accept, the law of the controller's country (`home`) decides. It
        denies the call, because the number belongs to a different country.
        """
        return self._countries.get(region, home)

    def number(self, kind: Kind, region: str, places: tuple[str, ...]) -> Number:
        return _number(kind, region, places, is_draft=region in self._drafts)


@cache
def _number(kind: Kind, region: str, places: tuple[str, ...], *, is_draft: bool) -> Number:
    problem = f"the law of {region} on file is a draft, which the configuration does not accept"
    return Number(kind=kind, region=region, problem=problem if is_draft else "", places=places)
