"""The complete, checked configuration of a gate."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args

from msgspec import Struct, structs

from dialgate.config.clients import Client, Scope
from dialgate.config.controllers import ControllerFile, Line
from dialgate.config.fields import Network
from dialgate.config.incoming_webhooks import SignedWebhook
from dialgate.config.listeners import FastAgi
from dialgate.config.settings import Settings
from dialgate.config.shadow_mode import ShadowMode
from dialgate.config.shipping import S3, folder_of
from dialgate.config.storage import Storage, terms
from dialgate.config.webhook_dialects import Profile
from dialgate.config.webhook_targets import SubscriberAccess
from dialgate.core import periods
from dialgate.core.law import Law
from dialgate.core.model import DAY, Instant

_FIXED: Final = (
    *("listen", "operations", "uploads", "node", "store", "remember_hours", "traces"),
    *("log_segment_mb", "log_segment_hours", "checkpoint_seconds"),
    *("timestamp_url", "timestamp_url_file", "timestamp_roots", "timestamp_seconds"),
)
# The HTTP server keeps these for all its connections.
_FIXED_LIMITS: Final = ("header_bytes", "first_byte_seconds", "read_seconds", "idle_seconds", "connections")

# What each file contains, by the function that converted its data and the hash of its bytes.
FileValues: TypeAlias = dict[tuple[Callable[..., Any], str], Any]


class ConfigError(Exception):
    """Raised for an invalid configuration. Each of `problems` names the file and the setting."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Config(Struct, frozen=True, kw_only=True):
    """The checked content of all configuration files."""

    settings: Settings
    path: Path
    folder: Path
    data: Path
    laws: dict[str, Law]
    law_hash: dict[str, str]  # hash of each country's file
    controllers: dict[str, ControllerFile]
    lines: dict[str, Line]
    keys: dict[str, Client]
    networks: tuple[tuple[Network, Client], ...]
    profiles: dict[str, Profile]  # of dialers that send their own format, by id
    contents: dict[str, bytes]  # bytes of each file by hash, for the archive
    values: FileValues  # of each file, for the next configuration
    hash: str  # of the whole configuration (see `content_store`)
    incoming: dict[str, SignedWebhook] = {}  # webhooks that platforms send, by id
    subscribers: tuple[SubscriberAccess, ...] = ()
    proxies: tuple[Network, ...] = ()
    shadow: ShadowMode = ShadowMode()
    drafts: dict[str, Law] = {}  # laws that decide no call, because `accept_drafts` does not name them
    mail_password: bytes = b""  # at the mail server, from `mail.password_file`

    def storage(self, now: Instant) -> Storage:
        """Return the configured storage periods, extended where a law requires a longer period."""
        return terms(self.settings.storage, self.laws.values(), now)

    @property
    def attempts_kept(self) -> Instant:
        """How long attempts are kept: as configured, or as long as any country's `limits` count them, if longer."""
        lengths = (periods.parse(limit.per).length for law in self.laws.values() for limit in law.limits)
        counted = max(lengths, default=0) + 2 * DAY  # whole days begin after the day of the call
        return max(self.settings.storage.attempts_days * DAY, counted)

    @property
    def shipped(self) -> Path | None:
        """The folder with the logs that the gates on this store ship, or None without `shipping.to`."""
        shipping = self.settings.shipping
        if shipping is None or not shipping.to:
            return None
        return self.data / "shipped" if shipping.to.startswith(S3) else folder_of(shipping, self.folder)

    @property
    def shared(self) -> bool:
        """Whether several controllers share the gate. If so, no controller may see how many calls the others make."""
        return len(self.controllers) > 1

    def operator(self, name: str) -> Client:
        """Return the client for a person who may open the data folder: every controller and every scope."""
        return Client(name=name, controllers=tuple(self.controllers), scopes=get_args(Scope))

    def is_administrator(self, client: Client) -> bool:
        """Return whether a client may act on the gate as a whole: its log, its keys and the data of every controller."""
        return "admin" in client.scopes and self.has_every_controller(client)

    def has_every_controller(self, client: Client) -> bool:
        return set(self.controllers) <= set(client.controllers)

    def line_of(self, campaign: str, client: Client) -> Line | None:
        """Return the campaign if it exists and belongs to a controller of this client."""
        line = self.lines.get(campaign)
        return line if line is not None and line.controller.id in client.controllers else None

    def sectors_of(self, country: str) -> tuple[str, ...]:
        """Return the sectors permitted in contracts of a controller whose country is `country`.

        The result contains the sectors of all country files. If the file of `country` lists no sectors, the result is
        empty, and a contract can name any sector.
        """
        if not self.laws[country].sectors:
            return ()
        return tuple(dict.fromkeys(sector for law in self.laws.values() for sector in law.sectors))

    def campaigns_of(self, client: Client) -> list[str]:
        return [name for name, line in self.lines.items() if line.controller.id in client.controllers]


def missing_controllers(earlier: Iterable[str], config: Config) -> list[str]:
    """Return a problem for each earlier controller that is neither configured nor listed in `former_controllers`.

    Revocations are stored under the controller's id. Under a new id they would bind no call (GDPR art. 21(3), L. 5/2018
    art. 1 c. 11).
    """
    missing = {*earlier} - config.controllers.keys() - {*config.settings.former_controllers}
    return [
        f"{config.settings.controllers}: controller {name} is missing, so its revocations would bind no call. Restore its"
        f" file with this `id`. If the controller makes no more calls, add {name} to `former_controllers`"
        for name in sorted(missing)
    ]


def fixed_at_start(config: Config) -> dict[str, object]:
    """Return the settings that a gate reads only when it starts."""
    settings, fastagi = config.settings, config.settings.fastagi
    return {
        "data": config.data,
        "fastagi": fastagi and structs.replace(fastagi, deadline_seconds=FastAgi().deadline_seconds),
        **{name: getattr(settings, name) for name in _FIXED},
        **{f"limits.{name}": getattr(settings.limits, name) for name in _FIXED_LIMITS},
    }
