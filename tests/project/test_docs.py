"""Tests that the documentation matches the code: generated pages are current, and every name on a page exists."""

import re
import shlex
import tomllib
from datetime import date
from typing import Any, get_args

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from dialgate import __version__
from dialgate.config.controllers import ControllerFile
from dialgate.config.incoming_webhooks import IncomingWebhook
from dialgate.config.settings import Settings
from dialgate.core.law import Law
from dialgate.core.model import DayCount, Deny
from dialgate.core.reasons import REASONS
from dialgate.interfaces import http_application
from dialgate.interfaces.http import openapi
from dialgate.interfaces.http.error_codes import CODES
from dialgate.shipping.status import metrics_of
from docs import reference_pages
from docs.packages_picture import PICTURE, packages_picture
from docs.reference_pages import COMMANDS, PROGRAMS, exposed
from registry_sync.config import Registries
from registry_sync.run_report import Kind
from tests.support import yaml_files
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")
WRITTEN = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "config/**/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md" and path.parent.name != "decisions"
)
PAGES = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in WRITTEN}
ENDINGS = {
    "csv",
    "db",
    "durable",
    "json",
    "lock",
    "md",
    "png",
    "sock",
    "url",
}  # a word with one of these is a file
PREFIX = re.compile(
    r"^(?:sudo )?(?:-u dialgate )?(?:\.venv/bin/|/opt/dialgate/bin/)?(?=dialgate |registry-sync )"
)


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of one language, dedented if they are in a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def typed_commands(text: str) -> list[list[str]]:
    """Return the words of each `dialgate` and `registry-sync` command in a page's shell blocks."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    ours = [shlex.split(PREFIX.sub("", line), comments=True) for line in lines if PREFIX.match(line)]
    return [words[: words.index("|")] if "|" in words else words for words in ours]


def shipping_metrics() -> set[str]:
    """Return the names of the metrics that `dialgate ship` writes."""
    return {family.name for family in metrics_of({}, 0).collect()}


def options(name: str) -> set[str]:
    return {option for parameter in COMMANDS[name].params for option in parameter.opts} | {"--help"}


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_generated_page_is_current(name: str) -> None:
    written = (reference_pages.FOLDER / f"{name}.md").read_text("utf-8")
    assert written == reference_pages.render(name), "run `make reference`"


def test_picture_of_the_packages_is_current() -> None:
    assert PICTURE.read_text("utf-8") == packages_picture(), "run `make reference`"


def test_commands_on_a_page_exist_with_their_options() -> None:
    for words in [words for text in PAGES.values() for words in typed_commands(text)]:
        name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
        assert name, words
        allowed = options(name) | (options("dialgate init") | {"--"} if "--" in words else set())
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= allowed, words


def test_pages_with_commands_are_found() -> None:
    assert sum(len(typed_commands(text)) for text in PAGES.values()) > 110


def test_settings_shown_on_a_page_are_valid() -> None:
    """A YAML block is part of dialgate.yaml, registries.yaml, or a file of a controller, country or incoming webhook.

    A block with `numbers` is a case book and is skipped: `tests/core/test_made_up_country.py` decides its cases.
    """
    for block in [block for text in PAGES.values() for block in blocks(text, "yaml")]:
        shown = yaml.load(block, yaml.CSafeLoader)
        if "numbers" in shown:
            continue
        types: dict[str, Any] = {}
        for file in (Law, ControllerFile, Registries, Settings, IncomingWebhook):
            for field in msgspec.structs.fields(file):
                types[field.encode_name] = types.get(field.encode_name, field.type) | field.type
        assert shown.keys() <= types.keys(), block
        for key, value in shown.items():
            try:
                msgspec.convert(value, types[key])
            except msgspec.ValidationError as error:
                error.add_note(block)
                raise


def test_pages_with_settings_are_found() -> None:
    assert sum(len(blocks(text, "yaml")) for text in PAGES.values()) >= 6


def test_codes_on_a_page_exist() -> None:
    families = {code.partition(".")[0] for code in (*REASONS, *CODES)}
    for page, text in PAGES.items():
        named = set(re.findall(r"(?<![/\w.])([a-z_]+\.[a-z_]+)\b(?![/.])", text))
        codes = {
            name
            for name in named
            if name.partition(".")[0] in families and name.partition(".")[2] not in ENDINGS
        }
        assert codes <= {*REASONS, *CODES}, page


def test_metrics_on_a_page_exist() -> None:
    suffixes = re.compile("_(?:bucket|sum|count)$")
    known = exposed().keys() | {
        *("dialgate_reconcile_findings", "dialgate_webhook_pull_success_timestamp_seconds"),
        *("dialgate_campaign", "dialgate_from"),  # channel variables of FreeSWITCH
        *shipping_metrics(),
    }
    for page, text in PAGES.items():
        metrics = set(re.findall(r"\bdialgate_[a-z_]+(?![a-z_]*[.:/])", text))
        assert {suffixes.sub("", name) for name in metrics} <= known, page


def test_make_targets_on_a_page_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for page, text in PAGES.items():
        assert {*re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)} <= targets, page


def test_endpoints_on_a_page_exist() -> None:
    served = {(endpoint.method, openapi.plain(endpoint.path)) for endpoint in http_application.EVERY}
    for page, text in PAGES.items():
        named = re.findall(r"`(GET|POST|DELETE) (/[a-z][^`\s?]*)", text)
        assert set(named) <= served, page


def test_every_alarm_of_the_nightly_job_has_advice() -> None:
    page = PAGES["docs/how-to/ask-the-registry.md"].partition("\n## Alarms\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \| .+ \|$", page, re.MULTILINE) == list(get_args(Kind))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_that_its_options_allow(name: str) -> None:
    program, *words = name.split()
    shown = CliRunner().invoke(PROGRAMS[program], [*words, "--help"])
    assert shown.exit_code == 0
    wanted = f"{name} "
    examples = [text for text in (COMMANDS[name].help or "").split("\n\n") if f"{text} ".startswith(wanted)]
    examples += re.findall(rf"Example: ({re.escape(name)}[^\0]*)", COMMANDS[name].help or "")
    assert examples
    for example in examples:
        assert set(re.findall(r"(?<!\S)--[a-z0-9-]+", example)) <= options(name), example
        for line in example.splitlines():  # unbroken at 80 columns, so it can be copied
            assert line in shown.stdout, line


def test_the_record_format_shows_how_arrays_begin() -> None:
    page = (ROOT / "docs/reference/record-format.md").read_text("utf-8")
    for array in (Deny("hours.outside", "too late"), DayCount(date(2026, 11, 24), 9, 1)):
        first = msgspec.json.decode(msgspec.json.encode(array))[0]
        name = array.__struct_fields__[0]
        shown = f'["{first}", {name}, ' if first == "deny" else f"[{name}, "
        assert (
            f"Encoded as an array: `{shown}"
            in page.partition(f"### {type(array).__name__}")[2].partition("###")[0]
        )


def test_readme_is_a_front_page() -> None:
    assert len(README.splitlines()) <= 200


def test_the_readme_names_both_commands_and_every_draft() -> None:
    """A stranger needs both commands, and must know in which countries every call is denied."""
    assert {"make run", "make test"} <= {
        line for block in blocks(README, "sh") for line in block.splitlines()
    }
    drafts = [
        path for path in (ROOT / "config/countries").glob("*.yaml") if yaml_files.read(path).get("draft")
    ]
    (row,) = [line for line in README.splitlines() if "accept_drafts" in line]
    assert row.startswith(f"| {len(drafts)} more: ")


def test_the_changelog_lists_versions_newest_first_with_one_line_for_each_change() -> None:
    first, *released = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert first.startswith("Unreleased\n")
    titles = [part.splitlines()[0] for part in released]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", title) for title in titles)
    days = [title.partition(" - ")[2] for title in titles]
    assert days == sorted(days, reverse=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert titles[0].partition(" - ")[0] == project["version"] == __version__
    for part in released:
        kinds = re.findall(r"^### (.+)", part, re.MULTILINE)
        known = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
        assert kinds == [kind for kind in known if kind in kinds]
        assert re.findall(r"^ .*|^.{166,}", part, re.MULTILINE) == []


def test_pre_commit_runs_the_tools_of_make_lint() -> None:
    hooks = yaml_files.read(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    recipe = re.search(r"^lint:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert recipe
    tools = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in hooks] == tools


def test_the_architecture_page_names_files_that_exist() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_.]+)?)`", page)
    assert len(named) > 30
    assert [
        name for name in named if not ((ROOT / name).exists() or (ROOT / "dialgate" / name).exists())
    ] == []
