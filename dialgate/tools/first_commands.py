"""The commands to run after `dialgate init`: here, as a service of systemd, or in a container."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

from dialgate.config import advice
from dialgate.core.local_time import day_in
from dialgate.core.model import Basis
from dialgate.tools.first_configuration import VOLUME, SetupDraft, registries_of, url_of
from dialgate.tools.installation import CONFIG

_COMPOSE: Final = "docker compose"


def next_commands(draft: SetupDraft, program: str, config: Path | None) -> list[str]:
    """Return the commands to run before the first call. `config` is None for the default path."""
    line = draft.lines()[0]
    sections = advice.binding(draft.law, line, draft.now).legal_basis
    basis = next(name for name in get_args(Basis) if not sections or name in sections[0].accepts)
    folder = f"{VOLUME}/" if draft.in_container else ""
    load = f"{basis} import {folder}numbers.csv --proof FILE"
    if basis == "directory":
        load = (
            f"list load {folder}numbers.csv --id first --campaign {line.campaign.id} --basis directory --origin public_directory"
            f" --collected-by NAME --collected-on {day_in(draft.law.zone, draft.now)}"
        )
    call = json.dumps({"to": "NUMBER", "from": next(iter(line.caller_ids)), "campaign": line.campaign.id})
    check = f"curl -s {url_of(draft)}/v1/check -H \"Authorization: Bearer $DIALGATE_KEY\" -d '{call}'"
    run = _in_container if draft.in_container else _on_this_machine
    return [*run(draft, load, program, config), check]


def _on_this_machine(draft: SetupDraft, load: str, program: str, config: Path | None) -> Iterator[str]:
    if config == CONFIG:  # `dialgate install` puts commands on PATH that use this configuration
        yield "systemctl start dialgate"
        program, config = "dialgate", None
    else:
        yield f"{program} serve{f' --config {config}' if config else ''}"
    at = f" --config {config}" if config else ""
    yield f"{program} {load}{at}"
    if registries_of(draft):
        at = f" --registries {config.with_name('registries.yaml')}" if config else ""
        yield f"{Path(program).with_name('registry-sync')} run --once{at}"


def _in_container(draft: SetupDraft, load: str, _: str, __: Path | None) -> Iterator[str]:
    """Yield the commands for a container that has the new folder as `/etc/dialgate`, as in `deploy/container`."""
    yield f"{_COMPOSE} up -d"
    yield f"{_COMPOSE} exec -T gate tee {VOLUME}/numbers.csv < numbers.csv > /dev/null"
    yield f"{_COMPOSE} exec gate dialgate {load}"
    if registries_of(draft):
        yield f"{_COMPOSE} exec gate registry-sync run --once --registries /etc/dialgate/registries.yaml"
