"""Selection of the country whose law governs a call."""

from collections.abc import Sequence
from functools import cache

from dialgate.config.configuration import Config
from dialgate.core.model import Kind, Number
from dialgate.core.phone import Parsed


class BindingLaws:
    """The laws of a configuration, indexed by the regions that they cover."""

    def __init__(self, config: Config) -> None:
        self._countries = {region: law.country for law in config.laws.values() for region in law.covered}
        self._barred = {
            region: law.barred_prefixes
            for law in config.laws.values()
            for region in law.covered
            if law.barred_prefixes
        }
        self.prefixes = tuple(dict.fromkeys(p for barred in self._barred.values() for p in barred))
        self._problems = {
            region: f"the law of {region} on file is a draft, which the configuration does not accept"
            for law in config.drafts.values()
            for region in law.covered
        }

    def country_of(self, region: str, home: str) -> str:
        """Return the country whose law governs a call to a number in `region`.

        The law of the called person's country applies, wherever the caller is. If no law in the configuration covers
        `region`, the law of `home`, the controller's country, applies. In that case the rules deny the call, because
        the law of `home` does not cover `region`.
        """
        return self._countries.get(region, home)

    def number(self, number: Parsed) -> Number:
        barred = self._barred.get(number.region)
        prefix = next((prefix for prefix in barred if number.e164.startswith(prefix)), "") if barred else ""
        problem = self.problem_of(number.region)
        return _number(number.kind, number.region, problem, number.places, prefix)

    def problem_of(self, region: str) -> str:
        """Return why the law of a region cannot be used, or ""."""
        return self._problems.get(region, "")

    def possible_prefixes(self, number: Number, earlier: Sequence[str]) -> list[str]:
        """Return what the prefix of a number may be, if `number.prefix` is its longest one among `earlier`."""
        possible: list[str] = []
        for prefix in self._barred.get(number.region, ()):
            if number.prefix.startswith(prefix):
                return [*possible, prefix]
            excluded = (other for other in earlier if len(other) > len(number.prefix))
            if prefix.startswith(number.prefix) and not prefix.startswith(tuple(excluded)):
                possible.append(prefix)
        return [*possible, ""]


@cache
def _number(kind: Kind, region: str, problem: str, places: tuple[str, ...], prefix: str) -> Number:
    return Number(kind=kind, region=region, problem=problem, places=places, prefix=prefix)
