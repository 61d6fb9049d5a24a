"""Shadow mode: parts of the configuration for which the gate decides and records calls, but lets refused calls through.

It always has a last day. How answers change is in `dialgate.core.shadow`.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Final, Literal

from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.config.controllers import ControllerFile
from dialgate.config.settings import Settings
from dialgate.core import local_time
from dialgate.core.law import Law
from dialgate.core.model import DAY, HOUR, Instant

_LONGEST_DAYS: Final = 92  # a trial of three months; a longer one is a gate that refuses nothing


class ShadowScope(Struct, frozen=True):
    """A part of the configuration with a last day of shadow mode, and the instant at which that day ends.

    `controllers` are the controllers whose calls it concerns. `name` is empty for the gate.
    """

    kind: Literal["gate", "client", "campaign"]
    name: str
    last_day: date
    ends: Instant
    controllers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


class ShadowMode(Struct, frozen=True):
    """Every scope of shadow mode in a configuration, also those that have ended."""

    scopes: tuple[ShadowScope, ...] = ()
    ends: dict[tuple[str, str], Instant] = {}  # of each scope, by kind and name

    def until(self, client: Client, campaign: str) -> Instant:
        """Return the end of shadow mode for a client's calls, or 0. `campaign` is empty if the client has no such campaign.

        A trunk is in shadow mode only by its own setting.
        """
        if not self.ends:
            return 0
        end = self.ends.get
        own = end(("client", client.name), 0)
        return own if client.trunk else max(own, end(("campaign", campaign), 0), end(("gate", ""), 0))

    def faults(self, now: Instant) -> Iterator[str]:
        """Yield a message for each scope that would last too long."""
        latest = now + (_LONGEST_DAYS + 1) * DAY + HOUR  # the last day itself, and a change of the clocks
        for scope in self.scopes:
            if scope.ends > latest:
                yield (
                    f"{scope}: shadow_until {scope.last_day} is more than {_LONGEST_DAYS} days ahead; set an earlier day. You can"
                    " set a later one again before it ends"
                )

    def warnings(self, now: Instant) -> Iterator[str]:
        """Yield a warning for each scope that has ended."""
        for scope in self.scopes:
            if scope.ends <= now:
                yield f"{scope}: shadow mode ended on {scope.last_day}, so its calls are refused; remove `shadow_until`"


def read_shadow_mode(
    settings: Settings, controllers: Mapping[str, ControllerFile], laws: Mapping[str, Law]
) -> ShadowMode:
    """Return the scopes of shadow mode. Each ends with its last day in the earliest time zone of its controllers."""
    dated: list[tuple[Literal["gate", "client", "campaign"], str, date | None, Iterable[str]]] = [
        ("gate", "", settings.shadow_until, controllers),
        *(("client", client.name, client.shadow_until, client.controllers) for client in settings.clients),
        *(
            ("campaign", campaign.id, campaign.shadow_until, (controller.id,))
            for controller in controllers.values()
            for campaign in controller.campaigns
        ),
    ]
    scopes = []
    for kind, name, last_day, named in dated:
        owners = tuple(owner for owner in named if owner in controllers) or tuple(controllers)
        zones = {
            laws[controllers[owner].country].zone for owner in owners if controllers[owner].country in laws
        }
        if last_day is not None and zones:
            ends = min(local_time.midnight(zone, last_day + timedelta(days=1)) for zone in zones)
            scopes.append(ShadowScope(kind, name, last_day, ends, owners))
    return ShadowMode(tuple(scopes), {(scope.kind, scope.name): scope.ends for scope in scopes})
