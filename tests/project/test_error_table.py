"""Tests of the page of error codes: it is complete, and every text says what happened and what to do."""

import re
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from dialgate.config.validation_messages import MOST_CHOICES
from dialgate.interfaces import http_application
from dialgate.interfaces.http.error_codes import CODES
from dialgate.interfaces.http.errors import Fault, decode
from docs import error_messages, reference_pages

SECTIONS = dict(reference_pages.SETTINGS)
VERBS = re.compile(
    r"(?:Add|Check|Close|Correct|Free|Leave|Look up|Record|Repeat|Replace|Report|Send|Set|Shorten|Use|Wait) "
)
# A field, a setting, a command, an endpoint, a header, a file or a format.
NAMED = re.compile(r"`[^`]+`|/docs|/openapi\.json|\.(?:json|yaml)\b|HTTP/1\.1|UTF-8|service log")
NOTHING_TO_DO = {"revocation.lifted", "outcome.known"}
REQUESTS = sorted(
    {endpoint.ask for endpoint in http_application.EVERY if isinstance(endpoint.ask, type)} - {dict},
    key=lambda kind: kind.__name__,
)
ALLOWED = [(endpoint.ask, name, allowed) for endpoint, name, allowed in reference_pages.allowed_values()]
MOST_WORDS = 25


@pytest.fixture(scope="module")
def messages() -> list[error_messages.ErrorMessage]:
    return error_messages.collect()


def message_about(kind: type[Struct], field: str, value: Any) -> str:
    """Return the message about a field with a wrong value."""
    with pytest.raises(Fault) as raised:
        decode(msgspec.json.Decoder(kind), msgspec.json.encode({field: value}))
    assert raised.value.problem.code == "request.invalid"
    return raised.value.problem.message


def assert_is_plain(text: str) -> None:
    assert re.match(r"[A-Z`/…]", text), text
    assert text.endswith((".", "…")), text
    for sentence in re.split(r"(?<=[.;:]) ", text):
        assert len(sentence.split()) <= MOST_WORDS, sentence


def test_a_code_says_what_happened_and_what_to_do() -> None:
    for code, row in CODES.items():
        assert_is_plain(row.meaning)
        assert_is_plain(row.advice)
        assert VERBS.match(row.advice), code
        assert code in NOTHING_TO_DO or NAMED.search(row.advice), code


def test_a_message_has_a_code_of_the_table_and_its_status(
    messages: list[error_messages.ErrorMessage],
) -> None:
    for message in messages:
        assert CODES[message.code].status == message.status, message
        assert_is_plain(message.text)
        names_field = message.field or re.search("[Ff]ield|parameter", message.text)
        assert message.code != "request.invalid" or names_field, message


def test_the_messages_are_found(messages: list[error_messages.ErrorMessage]) -> None:
    """The messages include those of the API, the ledger and data-subject requests."""
    assert {"auth.scope", "ledger.unknown", "lookup.throttled", "subject.closed"} <= {
        message.code for message in messages
    }
    assert len(messages) > 70


def test_settings_in_a_text_exist(messages: list[error_messages.ErrorMessage]) -> None:
    texts = [
        *(f"{row.meaning} {row.advice}" for row in CODES.values()),
        *(message.text for message in messages),
    ]
    for text in texts:
        for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)`", text):
            kind = SECTIONS[f"`{section}`"]
            assert key in {field.encode_name for field in msgspec.structs.fields(kind)}, text


@pytest.mark.parametrize(("kind", "field", "allowed"), ALLOWED)
def test_a_message_lists_the_allowed_values(kind: type[Struct], field: str, allowed: tuple[str, ...]) -> None:
    message = message_about(kind, field, "?")
    if "a list" in message:
        message = message_about(kind, field, ["?"])
    assert len(allowed) > MOST_CHOICES or f"send one of {', '.join(allowed)}." in message


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_message_shows_the_form_of_a_field(kind: type[Struct]) -> None:
    """A message gives an example of a time, and never a regular expression."""
    for field in msgspec.structs.fields(kind):
        try:
            decode(msgspec.json.Decoder(kind), msgspec.json.encode({field.encode_name: "?"}))
        except Fault as fault:
            message = fault.problem.message
            assert "of the form" not in message
            assert "RFC" not in message
            assert "instant" not in message or "2026-" in message


def test_the_page_has_every_message(messages: list[error_messages.ErrorMessage]) -> None:
    page = reference_pages.render("errors")
    assert all(message.text.replace("|", "\\|") in page for message in messages)
