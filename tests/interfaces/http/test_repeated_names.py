"""A body that repeats a name is refused, because parsers differ in which value they use, and large bodies stop no gate."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.ledger.repeated_names import find_repeated, find_repeated_at_top
from tests.support.world import CALL, World


class Members(list[tuple[str, object]]):
    """The members of an object: names and values, possibly repeated."""


NAMES = st.sampled_from(["to", "from", "a", "", 'qu"ote', "back\\slash", "é", "\n", "to\\", "a:b"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), NAMES,
    st.sampled_from(['{"to":1,"to":2}', '":{', "}}", ',"to":']),
)  # fmt: skip


def containers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.lists(inner, max_size=4), st.lists(st.tuples(NAMES, inner), max_size=5).map(Members))


DOCUMENTS = containers(st.recursive(SCALARS, containers, max_leaves=20))


def write_json(value: object, pad: str, *, ascii_only: bool) -> str:
    if isinstance(value, Members):
        members = (
            f"{json.dumps(name, ensure_ascii=ascii_only)}{pad}:{pad}{write_json(held, pad, ascii_only=ascii_only)}"
            for name, held in value
        )
        return "{" + f"{pad},{pad}".join(members) + "}"
    if isinstance(value, list):
        return "[" + f"{pad},".join(write_json(item, pad, ascii_only=ascii_only) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def repeated_names(value: object) -> set[str]:
    """Return the names that are repeated in one object, found by a simple search."""
    repeated = set()
    if isinstance(value, Members):
        names = [name for name, _ in value]
        repeated = {name for name in names if names.count(name) > 1}
        value = [held for _, held in value]
    if isinstance(value, list):
        repeated |= {name for item in value for name in repeated_names(item)}
    return repeated


@given(value=DOCUMENTS, pad=st.sampled_from(["", " ", "\n"]), ascii_only=st.booleans())
def test_exactly_the_repeated_names_are_found(value: object, pad: str, ascii_only: bool) -> None:
    text = write_json(value, pad, ascii_only=ascii_only)
    result, expected = find_repeated(text.encode()), repeated_names(value)
    assert result in expected if expected else result is None


@given(values=st.lists(DOCUMENTS, max_size=3), pad=st.sampled_from(["", " ", "\n"]), ascii_only=st.booleans())
def test_a_batch_may_name_its_calls_once(values: list[object], pad: str, ascii_only: bool) -> None:
    text = write_json(Members(("calls", value) for value in values), pad, ascii_only=ascii_only)
    assert find_repeated_at_top(text.encode()) == ("calls" if len(values) > 1 else None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (rb'{"to":"+39055","\u0074o":"+39066"}', "to"),
        (b"{%b}" % b",".join(b'"n%d":1' % n for n in (*range(100), 3)), "n3"),
        (b'{"a":' * 40 + b'{"to":1,"to":2}' + b"}" * 40, "to"),
        (b'{"a":' * 450 + b"1" + b"}" * 450, None),
        (b'{"to":%b,"to":1}' % (b"1" * 5_000), "to"),
        (b'[{"a":1,"a":1},1]', "a"),
        (b'{"a":{"b":1,"b":1}}', "b"),
        (b'{"a":":","b":":"}', None),
    ],
)
def test_names_are_compared_as_parsers_read_them(text: bytes, name: str | None) -> None:
    assert find_repeated(text) == name


# ---- large bodies ----------------------------------------------------------------------------------------------------


def members(count: int) -> str:
    """Return an object with `count` names, of which the last repeats the one before."""
    return "{" + ",".join(f'"n{number}":0' for number in (*range(count - 1), count - 2)) + "}"


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


LARGE: dict[str, tuple[str, Callable[[], str], int]] = {
    "many names": ("/v1/revocations", lambda: members(90_000), 413),
    "the most names": ("/v1/revocations", lambda: members(5_500), 400),
    "a call of many names": ("/v1/checks", lambda: f'{{"calls":[{members(90_000)}]}}', 200),
    "deep calls": ("/v1/checks", lambda: f'{{"calls":[{",".join([deep(60)] * 2_000)}]}}', 200),
    "the name of the calls": (
        "/v1/checks",
        lambda: f'{{"calls":[{",".join(["{}"] * 99)}],"calls":[]}}',
        400,
    ),
    "names of a check": ("/v1/check", lambda: members(90_000), 400),
}


@pytest.mark.parametrize(("path", "body", "status"), LARGE.values(), ids=LARGE)
async def test_a_large_body_does_not_stop_the_gate(
    running: World, path: str, body: Callable[[], str], status: int
) -> None:
    """A megabyte of names took 100 s, because each name was counted in all."""
    text = body()
    begun = time.process_time()
    async with running.client.post(path, data=text, headers={"Content-Type": "application/json"}) as response:
        answer: dict[str, Any] = await response.json()
    assert (response.status, time.process_time() - begun < 0.5) == (status, True), answer


async def test_an_open_ended_body_has_at_most_64_kib(running: World) -> None:
    for size, status in ((64 << 10, 201), ((64 << 10) + 1, 413)):
        body = json.dumps({"number": CALL["to"]})
        body += " " * (size - len(body))
        async with running.client.post("/v1/revocations", data=body) as response:
            assert response.status == status, await response.text()
