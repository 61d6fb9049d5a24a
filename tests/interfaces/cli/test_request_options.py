"""Each field of a ledger request is described once, in its struct. OpenAPI, options and import columns use it."""

import json
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import pytest
import typer
from msgspec import Meta, structs
from typer.main import get_command
from typer.testing import CliRunner

from dialgate.interfaces.cli import main
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.request_options import options_of
from dialgate.interfaces.http.endpoints import ENDPOINTS
from dialgate.interfaces.http.openapi import document
from dialgate.ledger import bulk_import, schemas
from dialgate.ledger.request_fields import fields_of
from dialgate.ledger.schemas import Goods, Name, Request, Telephone, When
from dialgate.subjects import schemas as subject_schemas

REQUESTS = [
    kind
    for kind in vars(schemas).values()
    if isinstance(kind, type) and issubclass(kind, Request | schemas.OutcomeRequest)
] + [subject_schemas.CaseRequest, subject_schemas.ErasureRequest]


def test_revoke_add_has_an_option_for_each_field() -> None:
    """Its options are written by hand, because it records a revocation or lifts one."""
    group: Any = get_command(main.app)
    add = group.get_command(None, "revoke").commands["add"]
    options = {parameter.name: parameter for parameter in add.params}
    fields = {
        field.name: field
        for kind in (schemas.RevocationRequest, schemas.LiftRequest)
        for field in fields_of(kind)
    }
    assert fields.keys() <= options.keys()
    scope = options["scope"].metavar.split(
        "|"
    )  # any text, because a revocation with an unknown scope is recorded
    assert tuple(scope) == fields["scope"].choices


@pytest.mark.parametrize("kind", REQUESTS, ids=[kind.__name__ for kind in REQUESTS])
def test_every_field_has_a_description_that_openapi_shows(kind: type[Any]) -> None:
    assert all(field.description for field in fields_of(kind))
    schema = document(ENDPOINTS)["components"]["schemas"].get(kind.__name__)
    for field in fields_of(kind) if schema else ():
        assert schema["properties"][field.name]["description"] == field.description


def test_the_columns_of_a_file_are_the_fields_of_a_row() -> None:
    needed, others = bulk_import.columns_by_need(schemas.ConsentRequest)
    assert needed == ["id", "collected_at", "purposes", "call_types"]
    assert others[-1] == "proof"
    assert "origin" not in others
    assert "artefact_sha256" in others


class Sample(Request, frozen=True, kw_only=True):
    caller_id: Annotated[Telephone, Meta(description="A number.")]
    at: Annotated[When | None, Meta(description="When.")] = None
    day: Annotated[date, Meta(description="Which day.")]
    several: Annotated[tuple[Literal["b", "a"], ...], Meta(description="Which.")]
    goods: Goods = ()
    one: Annotated[Literal["y", "x"], Meta(description="Which one.")] = "y"
    off: Annotated[bool, Meta(description="Off.")] = False
    on: Annotated[bool, Meta(description="On.")] = True
    evidence: Annotated[Name, Meta(description="Where.")] = ""


def run(*words: str) -> Any:
    app, received = typer.Typer(), []

    @app.command()
    @command()
    @options_of(Sample, channel="crm", required={"evidence"}, fixed={"proof": "fixed"})
    def write(ask: Sample, *, controller: str) -> None:
        received.append((ask, controller))

    shown = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "DIALGATE_ACTOR": "anna"})
    return shown, received


NEEDED = ("+390612345678", "--day", "2026-11-24", "--several", "a", "--several", "b", "--evidence", "x")


def test_options_become_the_request() -> None:
    shown, received = run(
        *NEEDED, "--at", "2026-11-24T10:00:00+01:00", "--goods", "fibre", "--one", "x", "--off", "--no-on",
        "--controller", "acme",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert received == [
        (
            Sample(
                caller_id="+390612345678",
                at=datetime(2026, 11, 24, 9, tzinfo=UTC),
                day=date(2026, 11, 24),
                several=("a", "b"),
                goods=("fibre",),
                one="x",
                off=True,
                on=False,
                evidence="x",
                controller="acme",
                channel="crm",
                actor="anna",
                proof="fixed",
            ),
            "acme",
        )
    ]


def test_options_that_are_not_given_have_the_defaults_of_the_struct() -> None:
    _, received = run(*NEEDED)
    ask, controller = received[0]
    assert controller == ""
    assert structs.replace(ask, actor="", channel="api", proof="") == Sample(
        caller_id="+390612345678", day=date(2026, 11, 24), several=("a", "b"), evidence="x"
    )


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (("--several", "c"), "several[2]"),
        (("--day", "24.11."), "day"),
        (("--at", "2026-11-24T10:00:00"), "at"),
    ],
)
def test_a_value_out_of_limits_is_misuse_that_names_the_field(changed: tuple[str, ...], field: str) -> None:
    shown, received = run(*NEEDED, *changed, "--json")
    assert (shown.exit_code, received) == (2, [])
    error = json.loads(shown.output)["error"]
    assert (error["code"], error["field"]) == ("request.invalid", field)


def test_help_shows_each_description_and_form() -> None:
    shown, _ = run("--help")
    assert shown.exit_code == 0
    for text in ("A number. Use - to read it", "Which day. As in 2026-11-24.", "b|a", "--no-on"):
        assert text in shown.output
    assert "--no-off" not in shown.output
    assert "--proof" not in shown.output


@pytest.mark.parametrize("missing", ["--day", "--several", "--evidence"])
def test_a_field_without_a_default_is_a_required_option(missing: str) -> None:
    at = NEEDED.index(missing)
    words = [word for place, word in enumerate(NEEDED) if place not in {at, at + 1}]
    if missing == "--several":
        words = [word for word in words if word not in {"--several", "a", "b"}]
    shown, received = run(*words)
    assert (shown.exit_code, received) == (2, [])
