"""Any content of a message has a meaning or an error; none raises another exception."""

import json
from contextlib import suppress
from functools import cache
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dialgate.config.incoming_webhooks import IncomingWebhook
from dialgate.core.refusal import Refused
from dialgate.interfaces.webhooks.message import WebhookMessage
from dialgate.interfaces.webhooks.operations import Operation, Translation, request_of
from tests.interfaces.webhooks.test_signatures import EXAMPLES, webhook

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(
        ["STOP", "stop", "true", "false", "consent", "busy", "user_busy", "+393281234567", "2026-11-24", "0001-01-01", "1e400", "nan"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@cache
def shipped(name: str) -> IncomingWebhook:
    return webhook(name, b"").settings


def filled(name: str, values: list[Any]) -> Any:
    """Return content with a value at each place in the body that a webhook reads."""
    settings, left = shipped(name), iter(values)
    places = {
        place.removeprefix("base64:")
        for reading in settings.read
        for place in (*reading.value, *reading.when)
    }
    places |= {
        place.removeprefix("base64:")
        for fields in settings.write.values()
        for of in fields.values()
        for place in of
    }
    content: dict[str, Any] = {}
    event: dict[str, Any] = {}
    for place in sorted(places):
        kind, *path = place.split(".")
        if kind in {"body", "event"}:
            inner = event if kind == "event" else content
            for part in path[:-1]:
                inner = inner.setdefault(part, {})
            if isinstance(inner, dict):
                inner[path[-1]] = next(left, None)
    for part in reversed(settings.events.split(".")[1:]):
        event = {part: event}
    return content | (event if settings.events else {})


@given(
    name=st.sampled_from(NAMES),
    values=st.lists(_VALUES, min_size=10, max_size=24),
    query=st.text(max_size=20),
)
def test_any_json_has_a_meaning_or_an_error(name: str, values: list[Any], query: str) -> None:
    check(name, json.dumps(filled(name, values)).encode(), query)


@given(name=st.sampled_from(NAMES), body=st.binary() | st.text().map(str.encode), query=st.text())
def test_any_bytes_have_a_meaning_or_an_error(name: str, body: bytes, query: str) -> None:
    check(name, body, query)


def check(name: str, body: bytes, query: str) -> None:
    message = WebhookMessage(body, query, {}, 1_700_000_000_000)
    for item in Translation(shipped(name), message).operations():
        if isinstance(item, Operation):
            with suppress(Refused):
                request_of(item)
