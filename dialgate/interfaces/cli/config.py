"""`dialgate config`: validation of the configuration, and the templates of letters."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

import registry_sync.config
from dialgate.config import advice, content_store, loader, warnings
from dialgate.config.configuration import Config, ConfigError, missing_controllers
from dialgate.config.shipping import S3
from dialgate.core.model import SECOND, Instant
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    reporting,
    unusable,
)
from dialgate.interfaces.http import certificates
from dialgate.report.law_page import change_days
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.extras import require
from dialgate.runtime.terminal import NO, show_json, show_table
from dialgate.store import factory
from dialgate.subjects import letter

app = typer.Typer()
config_app = typer.Typer(no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command("check")
def config_check(
    *,
    config: ConfigPath = DEFAULT_CONFIG,
    registries: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Nightly job configuration. Default: registries.yaml in the same folder.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the configuration as `serve` would read it, and report the problems within files together, then those between files.

    Nothing is changed. Run this before you send SIGHUP to a gate. Likely mistakes are reported as warnings. Examples
    are a controller without a contact, a campaign without calling hours, and a missing or wrong entry in
    registries.yaml. Warnings alone leave the exit code at 0.

    dialgate config check --config /etc/dialgate/dialgate.yaml
    """
    with reporting(as_json=as_json):
        now = wall_clock()
        try:
            loaded, problems = check(config, registries or config.parent / "registries.yaml", now)
        except ConfigError as error:
            raise unusable(config, error, NO) from None
        open_always = advice.open_always(loaded, now)
        if as_json:
            show_json(_summary(loaded) | {"warnings": problems, "open_always": open_always})
        else:
            _show_summary(loaded, open_always)
            for warning in problems:
                typer.echo(f"Warning: {warning}.", err=True)


def check(path: Path, registries: Path, now: Instant, *, with_tls: bool = True) -> tuple[Config, list[str]]:
    """Load a configuration as a gate does, and return it with its warnings.

    Raises `MissingExtra`, and `ConfigError` with all problems.
    """
    config = loader.load(path)
    factory.redis(config)
    _require_extras(config)
    with suppress(OSError):  # the data folder may be readable only for the gate
        if missing := missing_controllers(content_store.controllers(config.data / "kept"), config):
            raise ConfigError(missing)
    if faults := letter.template_faults(config.folder / letter.FOLDER):
        raise ConfigError(faults)
    problems = [
        *warnings.warnings(config),
        *advice.warnings(config, registries, now),
        *registry_sync.config.find_problems(registries, config),
    ]
    certificate = certificates.load(config) if with_tls else None
    if certificate is not None and certificate.expires * SECOND < now:
        problems.append("listen.tls_certificate: expired; renew it and send SIGHUP to the gate")
    return config, problems


def _require_extras(config: Config) -> None:
    if config.settings.accounts.openid:
        require("oidc", "The setting `accounts.openid`")
    if config.settings.traces:
        require("otel", "The setting `traces`")
    if config.settings.shipping and config.settings.shipping.to.startswith(S3):
        require("s3", "The setting `shipping.to`")
    if config.settings.mail:
        require("reports", "The setting `mail`")


def _summary(config: Config) -> dict[str, object]:
    return {
        "hash": config.hash,
        "data": str(config.data),
        "laws": {
            country: {
                "sha256": config.law_hash[country],
                "changes": change_days(law),
                "draft": law.draft,
                "missing": law.missing,
            }
            for country, law in config.laws.items()
        },
        "drafts": {country: law.missing for country, law in config.drafts.items()},
        "controllers": {
            controller.id: [campaign.id for campaign in controller.campaigns]
            for controller in config.controllers.values()
        },
        "clients": {client.name: list(client.scopes) for client in config.settings.clients},
        "shadow": {str(scope): str(scope.last_day) for scope in config.shadow.scopes},
    }


def _show_summary(config: Config, open_always: list[str]) -> None:
    show_table(
        "Laws",
        ("country", "changes on", "sha256"),
        [
            (law.name, " ".join(map(str, change_days(law))), config.law_hash[country][:16])
            for country, law in config.laws.items()
        ],
    )
    if config.drafts:
        names = ", ".join(f"{law.name} ({country})" for country, law in config.drafts.items())
        typer.echo(
            f"Drafts: {names}. Calls to these countries are denied, unless `accept_drafts` names the country. "
            "`dialgate country show` lists the rules that each file does not express."
        )
    show_table(
        "Campaigns",
        ("controller", "campaign", "purpose", "call type", "caller IDs"),
        [
            (controller.id, campaign.id, campaign.purpose, campaign.call_type, " ".join(campaign.caller_ids))
            for controller in config.controllers.values()
            for campaign in controller.campaigns
        ],
    )
    show_table(
        "Clients",
        ("client", "scopes", "controllers"),
        [
            (client.name, " ".join(client.scopes), " ".join(client.controllers))
            for client in config.settings.clients
        ],
    )
    keyed = {client.name for client in config.keys.values()}
    missing = (
        client.name for client in config.settings.clients if not client.sources and client.name not in keyed
    )
    if keyless := ", ".join(missing):
        typer.echo(
            f"No key in dialgate.yaml: {keyless}. Make one while the gate runs: `dialgate key make NAME`."
        )
    for scope in config.shadow.scopes:
        typer.echo(
            f"Shadow mode until {scope.last_day}: {scope}. Calls that should be refused go on, apart from stops."
        )
    if open_always:
        names = ", ".join(open_always)
        typer.echo(f"Campaigns that may call day and night: {names}. Check that this is intended.")
    typer.echo(f"The configuration is valid. Its hash: {config.hash}")


@config_app.command("letters")
def config_letters(
    *, out: Annotated[Path, typer.Argument(help="Folder `letters` beside dialgate.yaml.")]
) -> None:
    """Copy the templates of the letters to data subjects into a folder, to change them there. Existing files are kept.

    dialgate config letters /etc/dialgate/letters
    """
    with reporting(as_json=False):
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name in letter.template_names():
                if not (file := out / name).exists():
                    file.write_text(letter.template_text(name), "utf-8")
        except OSError as error:
            raise Failure("file.unwritable", f"{error.filename}: {error.strerror}") from None
    typer.echo(
        f"Change the templates in {out}, delete those that you leave as they are, then run `dialgate config check`."
    )
