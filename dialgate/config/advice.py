"""What a configuration that is sound still lacks: said by `dialgate config check`, and refused by nobody."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from msgspec import Struct

from dialgate.config import yaml_file
from dialgate.config.configuration import Config
from dialgate.config.controllers import Line
from dialgate.core import local_time
from dialgate.core.law import Binding, Hours
from dialgate.core.model import SECONDS_A_DAY, Campaign, Controller, Instant

if TYPE_CHECKING:
    from dialgate.core.model import Facts

Asked: TypeAlias = frozenset[
    tuple[str, str]
]  # registry and controller; of a full list the controller is empty
_WHOLE_DAY: Final = ((0, SECONDS_A_DAY),)


class _Case(Struct, frozen=True):
    """As much of a call's facts as decides which sections bind it."""

    today: date
    campaign: Campaign
    controller: Controller
    call_type: str


def warnings(config: Config, registries: Path, now: Instant) -> list[str]:
    """Return a sentence for each controller and campaign that could not call as it is, or could call whenever it likes.
    `registries`: the nightly job's file.
    """
    asked, faults = _asked(registries)
    found = [*faults]
    for controller in config.controllers.values():
        lines = [line for line in config.lines.values() if line.controller.id == controller.id]
        found += (
            f"controller {controller.id}: {text}"
            for text in _lacks(config, controller.id, controller.contact)
        )
        if not faults:
            missing = {name for line in lines for name in _unasked(config, line, asked, now)}
            found += (
                f"controller {controller.id}: {registries.name} has no entry for the registry {name}, so every number is "
                f"registry.unknown; add one, or import its answers by hand"
                for name in sorted(missing)
            )
        found += (
            f"campaign {line.campaign.id}: no hours bind it, so it may call by night; name a code in `adheres_to`, or set the "
            f"operator's hours in the file of {line.home}"
            for line in lines
            if not _binding(config, line, now).hours
        )
    return found


def open_always(config: Config, now: Instant) -> list[str]:
    """Return the campaigns that hours bind and that these hours never close."""
    return [
        name
        for name, line in config.lines.items()
        if (hours := _binding(config, line, now).hours) and all(map(_never_closes, hours))
    ]


def _lacks(config: Config, controller: str, contact: str) -> Iterator[str]:
    if not any(controller in client.controllers for client in config.settings.clients):
        yield f"no client may ask for it; add it to the `controllers` of one in {config.path.name}"
    if not contact:
        yield "it has no `contact`; access reports must say how to reach it (GDPR art. 13(1)(a))"


def _binding(config: Config, line: Line, now: Instant) -> Binding:
    law = config.laws[line.home]
    case = _Case(local_time.day_in(law.zone, now), line.campaign, line.controller, line.campaign.call_type)
    return law.binding(cast("Facts", case))


def _unasked(config: Config, line: Line, asked: Asked, now: Instant) -> Iterator[str]:
    for rule in _binding(config, line, now).registries:
        if (rule.id, line.controller.id if rule.mode == "answers" else "") not in asked:
            yield rule.id


def _never_closes(hours: Hours) -> bool:
    return all(windows == _WHOLE_DAY for windows in hours.windows.values())


def _asked(path: Path) -> tuple[Asked, list[str]]:
    data, raw, problems = yaml_file.read(path)
    if raw is None or not isinstance(data, dict):
        why = f" ({problems[0]})" if problems else ""
        return frozenset(), [
            f"{path.name} cannot be read{why}; name the nightly job's file with --registries"
        ]
    pairs = [
        (name, each)
        for name in ("asked", "listed")
        for each in data.get(name) or ()
        if isinstance(each, dict)
    ]
    return frozenset(
        (str(each.get("registry", "")), str(each.get("controller", "")) if name == "asked" else "")
        for name, each in pairs
    ), problems
