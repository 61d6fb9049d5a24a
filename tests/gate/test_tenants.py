"""Two controllers on one gate: neither can see the data or the existence of the other.

The second controller's requests are sent to two gates: one that only it uses, and one that the first controller uses
at the same time, with the same numbers and ids. Every answer must be the same on both.
"""

import asyncio
import re
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from dialgate.core.model import HOUR, Call
from tests.support import world, yaml_files
from tests.support.world import CALLER, CLEAR, LIST, LISTED, NOW, World

SCOPES = (*world.SCOPES, "subjects")
NUMBERS = (CLEAR, LISTED, "+390612345671")
AT = "2026-11-20T10:00:00+01:00"
OWNERS = ("acme", "beta")
CAMPAIGNS = {"acme": "acme-fibre", "beta": "beta-fibre"}
SHOWN = {"acme": CALLER, "beta": "+390844123457"}

Answer: TypeAlias = tuple[int, str]


class Step(Struct, frozen=True):
    """A request of the controller `owner`.

    If the request needs an id from an earlier answer, `of` selects the id, where 0 is the newest. In other requests,
    `of` varies the id or the kind.
    """

    owner: str
    kind: str
    number: str
    of: int


KINDS = (
    "check", "simulate", "outcome", "outcome_foreign", "revoke", "lift", "lift_foreign", "consent", "withdraw", "contract", "end", "wish",
    "list", "lists", "one_list", "retire", "history", "foreign", "report", "portable", "ask", "open", "close",
    "close_foreign", "erase", "rectify",
)  # fmt: skip
CHANGES_LISTS = {"list", "retire", "erase"}
steps = st.builds(
    Step,
    owner=st.sampled_from(OWNERS),
    kind=st.sampled_from(KINDS),
    number=st.sampled_from(NUMBERS),
    of=st.integers(0, 2),
)


class Party:
    """A controller's client, with the ids that the client has received so far."""

    def __init__(self, made: World, owner: str, other: "Party | None") -> None:
        self.made, self.owner, self.other = made, owner, other
        self.seqs: list[int] = []
        self.decisions: list[str] = []
        self.requests: list[str] = []

    async def ask(self, step: Step) -> Answer:
        method, path, body = self.request(step)
        async with self.made.client.request(
            method, path, json=body, headers={"Authorization": f"Bearer key-of-{self.owner}"}
        ) as answer:
            response = await answer.json()
            self.remember(response)
            return answer.status, self.plain(str(response))

    def remember(self, response: Any) -> None:
        self.seqs += [response["seq"]] if "seq" in response else []
        self.decisions += (
            [response["decision_id"]] if response.get("decision_id") and response.get("decision") else []
        )
        self.requests += [response["id"]] if "identified" in response else []

    def plain(self, text: str) -> str:
        """Return an answer with the gate's ids replaced by fixed words."""
        entries = re.compile(r"(?:'seq': |\bentry |'of': )(\d+)")
        assert all(int(found) >= 2**52 for found in entries.findall(text)), "it counts what others do"
        text = entries.sub("N", text)
        assert not re.search(r"\b[0-9a-f]{8}-\d+\b", text), "it counts what others do"
        text = re.sub(r"\b[k-z]{32}\b", "DECISION", text)
        return re.sub(r"\b[0-9a-f]{16}\b", "HEX", text)

    def request(self, step: Step) -> tuple[str, str, dict[str, Any] | None]:
        number, of, theirs = step.number, step.of, self.other or Party(self.made, "", None)
        campaign = CAMPAIGNS[self.owner]
        person, query = f"/v1/subjects/%2B{number[1:]}", f"?number=%2B{number[1:]}&purpose=abc"
        call = {"to": number, "from": SHOWN[self.owner], "campaign": campaign, "call_id": f"c{of}"}
        named = {"number": number, "id": f"id-{of}"}
        mistake, sent = {"ground": "error", "reason": "typed"}, {"outcome": "answered", "reason": "sent"}
        seq, request = pick(self.seqs, of, 10**6), pick(self.requests, of, "0" * 16)
        other = {"acme": "beta", "beta": "acme"}[self.owner]
        table: dict[str, tuple[str, dict[str, Any] | None]] = {
            "check": ("/v1/check", call),
            "simulate": ("/v1/simulate", call),
            "outcome": (
                "/v1/outcomes",
                {"decision_id": pick(self.decisions, of, "00000000-1"), "outcome": "answered"},
            ),
            "outcome_foreign": (
                "/v1/outcomes",
                {"decision_id": pick(theirs.decisions, of, "00000000-1"), "outcome": "opt_out"},
            ),
            "revoke": ("/v1/revocations", {"number": number}),
            "lift": (f"/v1/revocations/{seq}/lift", mistake),
            "lift_foreign": (f"/v1/revocations/{pick(theirs.seqs, of, 10**6)}/lift", mistake),
            "consent": (
                "/v1/consents",
                {
                    **named,
                    "collected_at": AT,
                    "purposes": ["sale"],
                    "goods": ["broadband"],
                    "call_types": ["agent"],
                },
            ),
            "withdraw": ("/v1/consents/withdraw", named),
            "contract": ("/v1/contracts", {**named, "starts": "2026-01-01"}),
            "end": ("/v1/contracts/end", {**named, "ends": "2026-11-01"}),
            "wish": (
                "/v1/call-requests",
                {**named, "requested_at": AT, "expires_at": "2026-12-20T10:00:00Z"},
            ),
            "list": (
                "/v1/lists",
                {
                    **LIST,
                    "id": f"list-{of}",
                    "origin": "public_directory",
                    "campaigns": [campaign],
                    "numbers": [number],
                },
            ),
            "lists": ("/v1/lists", None),
            "one_list": (f"/v1/lists/list-{of}", None),
            "retire": (f"/v1/lists/list-{of}/retire", {}),
            "history": (f"/v1/{('revocations', 'consents', 'contracts')[of]}{query}", None),
            "foreign": (f"/v1/consents{query}&controller={other}", None),
            "report": (f"{person}?purpose=abc", None),
            "portable": (f"{person}/portability?purpose=abc", None),
            "ask": (
                f"{person}/requests",
                {"kind": ("erasure", "rectification", "access")[of], "identified": "id card"},
            ),
            "open": ("/v1/subject-requests", None),
            "close": (f"/v1/subject-requests/{request}", sent),
            "close_foreign": (f"/v1/subject-requests/{pick(theirs.requests, of, '0' * 16)}", sent),
            "erase": (f"{person}/erasure", {"request": request}),
            "rectify": (
                f"{person}/rectification",
                {"request": request, "of": seq, "fields": {"goods": ["broadband"]}},
            ),
        }
        path, body = table[step.kind]
        return "GET" if body is None else "POST", path, body


def pick(found: list[Any], of: int, nobody: Any) -> Any:
    return found[-1 - of % len(found)] if found else nobody


def write_controllers(folder: Path) -> Path:
    """Write the example controller, and a copy with other names."""
    folder.mkdir(parents=True)
    text = yaml_files.read(world.CONFIG / "controllers" / "acme.yaml")
    for owner in OWNERS:
        campaign = {**text["campaigns"][0], "id": CAMPAIGNS[owner], "caller_ids": [SHOWN[owner]]}
        yaml_files.write(folder / f"{owner}.yaml", {**text, "id": owner, "campaigns": [campaign]})
    return folder


async def lived(folder: Path, sequence: list[Step], *, alone: bool) -> list[Answer]:
    """Send the requests to a new gate, and return the answers to the second controller.

    If `alone`, the first controller's requests are left out.
    """
    others = write_controllers(folder / "owners")
    clients = [
        {**world.client(owner, f"key-of-{owner}", *SCOPES), "controllers": [owner]} for owner in OWNERS
    ]
    answers = []
    async with world.running(folder, clients=clients, controllers=str(others)) as made:
        clear = dict.fromkeys(NUMBERS, False)
        world.publish_answers(made.app.config.data, clear, NOW - HOUR, controller="beta")
        await made.app.tick()
        first = Party(made, "acme", None)
        second = Party(made, "beta", None if alone else first)
        for step in sequence:
            if step.owner == "beta":
                answers.append(await second.ask(step))
            elif not alone:
                await first.ask(step)
            if step.kind in CHANGES_LISTS:
                await made.app.tick()
    return answers


# Without shrinking: each example opens two gates, and counter-examples are readable without it.
@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])
@given(sequence=st.lists(steps, min_size=30, max_size=60))
def test_nothing_of_one_controller_is_visible_to_another(
    tmp_path_factory: pytest.TempPathFactory, sequence: list[Step]
) -> None:
    folder = tmp_path_factory.mktemp("tenants")
    alone = asyncio.run(lived(folder / "alone", sequence, alone=True))
    among = asyncio.run(lived(folder / "among", sequence, alone=False))
    asked = [step for step in sequence if step.owner == "beta"]
    assert list(zip(asked, among, strict=True)) == list(zip(asked, alone, strict=True))


async def test_the_calls_of_one_controller_do_not_count_towards_anothers_limit(tmp_path: Path) -> None:
    clients = [
        {**world.client(owner, f"key-of-{owner}", *SCOPES), "controllers": [owner]} for owner in OWNERS
    ]
    controllers = str(write_controllers(tmp_path / "owners"))
    async with world.running(tmp_path / "gate", clients=clients, controllers=controllers) as made:
        world.publish_answers(made.app.config.data, {CLEAR: False}, NOW - HOUR, controller="beta")
        await made.app.tick()
        for owner in OWNERS:
            status, response = await Party(made, owner, None).ask(Step(owner, "list", CLEAR, 0))
            assert status == 201, response
        await made.app.tick()
        callers = dict(zip(OWNERS, made.app.config.settings.clients, strict=True))

        async def ask(*owners: str) -> list[str]:
            calls = [Call(to=CLEAR, from_=SHOWN[owner], campaign=CAMPAIGNS[owner]) for owner in owners]
            asked = zip(calls, owners, strict=True)
            answers = await asyncio.gather(
                *(made.app.gate.check(call, callers[owner]) for call, owner in asked)
            )
            return [answer.decision for answer in answers]

        assert await ask(*["acme"] * 6, "beta") == [*["allow"] * 5, "deny", "allow"]  # in one batch
        assert await ask("acme", *["beta"] * 5) == [
            "deny",
            *["allow"] * 4,
            "deny",
        ]  # as the store counted them


# An entry of the first controller, and a request of the second that refers to it.
FOREIGN = [
    (["revoke"], "lift_foreign"),
    (["list", "check"], "outcome_foreign"),
    (["ask"], "close_foreign"),
    (["consent"], "withdraw"),
    (["contract"], "end"),
    (["list"], "one_list"),
    (["list"], "retire"),
    (["list"], "list"),
    (["list"], "check"),
    (["consent", "revoke"], "history"),
    (["consent"], "foreign"),
    (["consent", "list", "check", "revoke", "ask"], "report"),
    (["ask"], "open"),
    (["revoke"], "check"),
    (["revoke"], "simulate"),
]


@pytest.mark.parametrize(("written", "asked"), FOREIGN, ids=[f"{row[1]} of {row[0][-1]}" for row in FOREIGN])
def test_data_of_another_controller_is_reported_as_unknown(
    tmp_path: Path, written: list[str], asked: str
) -> None:
    sequence = [*(Step("acme", kind, CLEAR, 0) for kind in written), Step("beta", asked, CLEAR, 0)]
    alone = asyncio.run(lived(tmp_path / "alone", sequence, alone=True))
    assert asyncio.run(lived(tmp_path / "among", sequence, alone=False)) == alone


def test_every_kind_of_request_can_succeed(tmp_path: Path) -> None:
    """Otherwise the property above would only compare refusals."""
    order = (
        "consent", "contract", "wish", "list", "lists", "one_list", "check", "simulate", "outcome", "history", "report",
        "portable", "withdraw", "end", "revoke", "lift", "open", "retire",
    )  # fmt: skip
    sequence = [Step("beta", kind, CLEAR, 0) for kind in order]
    sequence += [
        Step("beta", "consent", CLEAR, 1),
        Step("beta", "ask", CLEAR, 1),
        Step("beta", "rectify", CLEAR, 0),
        Step("beta", "ask", CLEAR, 0),
        Step("beta", "erase", CLEAR, 0),
        Step("beta", "ask", CLEAR, 2),
        Step("beta", "close", CLEAR, 0),
    ]
    answers = asyncio.run(lived(tmp_path / "alone", sequence, alone=True))
    refused = [
        (step.kind, response) for step, response in zip(sequence, answers, strict=True) if response[0] >= 300
    ]
    assert refused == []
