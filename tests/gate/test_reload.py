"""Which settings a reload applies, and which it refuses because a gate reads them only when it starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import structs

from dialgate.config.configuration import Config, ConfigError, fixed_at_start
from dialgate.config.listeners import FastAgi, Limits, Listen, Operations, Uploads
from dialgate.config.log_settings import TracesTo
from dialgate.config.settings import Settings, SharedStore
from tests.support import world

# Another value of each setting that is read only at a start.
FIXED: Final[dict[str, Any]] = {
    "data": Path("elsewhere"),
    "fastagi": FastAgi(),
    "operations": Operations(port=9465),
    "listen": Listen(port=8081),
    "uploads": Uploads(file_mb=4),
    "node": "another",
    "store": SharedStore(url="redis://localhost:6379/0"),
    "remember_hours": 25,
    "traces": TracesTo(endpoint="http://localhost:4318"),
    "log_segment_mb": 65,
    "log_segment_hours": 25,
    "checkpoint_seconds": 61,
    "timestamp_url": "http://localhost/tsa",
    "timestamp_url_file": "tsa.url",
    "timestamp_roots": "tsa.pem",
    "timestamp_seconds": 3601,
    "limits.header_bytes": 1024,
    "limits.first_byte_seconds": 6,
    "limits.read_seconds": 11,
    "limits.idle_seconds": 91,
    "limits.connections": 10,
}
APPLIED: Final = {
    *("countries", "accept_drafts", "controllers", "former_controllers", "webhooks", "clients", "subscribers", "peers"),
    *("hosts", "batch_calls", "answer_seconds", "upkeep_stale_seconds", "storage", "retention", "shipping", "shadow_until", "accounts"),
    *("snapshot_key", "snapshot_behind_minutes", "log_archive_hours", "service_log", "backup_days", "verify_log_nightly", "processor", "mail"),
    *("limits.body_bytes", "limits.batch_calls", "limits.streams", "limits.lists", "limits.lookups_an_hour"),
}  # fmt: skip


def _all_settings() -> Iterator[str]:
    for field in Settings.__struct_fields__:
        if field == "limits":
            yield from (f"limits.{name}" for name in Limits.__struct_fields__)
        else:
            yield field


def _change(config: Config, key: str) -> Config:
    value, settings = FIXED[key], config.settings
    if key == "data":
        return structs.replace(config, data=value)
    section, _, name = key.rpartition(".")
    if section:
        return structs.replace(
            config,
            settings=structs.replace(settings, limits=structs.replace(settings.limits, **{name: value})),
        )
    return structs.replace(config, settings=structs.replace(settings, **{key: value}))


async def test_a_reload_refuses_every_setting_that_only_a_start_reads(tmp_path: Path) -> None:
    async with world.running(tmp_path) as running:
        assert fixed_at_start(running.app.config).keys() == FIXED.keys()
        for key in FIXED:
            with pytest.raises(ConfigError) as refused:
                running.app.reload(_change(running.app.config, key))
            assert refused.value.problems == [
                f"dialgate.yaml: `{key}` cannot be changed while the gate runs; restart it"
            ]


def test_every_setting_is_refused_or_applied_by_a_reload() -> None:
    """Decide it for a new setting: whatever reads it only at a start belongs to `fixed_at_start`."""
    assert not APPLIED & FIXED.keys()
    assert {*_all_settings()} == APPLIED | FIXED.keys()
