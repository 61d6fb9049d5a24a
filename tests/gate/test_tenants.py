"""Two controllers on one gate: neither can see the data or the existence of the other.

The second controller's requests are sent to two gates: one that only it uses, and one that holds an entry of the first
controller about the same number. Every answer must be the same on both. `tests/properties/test_last_word.py` compares
random histories.
"""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from dialgate.core.model import HOUR, Call
from tests.support import world, yaml_files
from tests.support.world import CALLER, CLEAR, LIST, NOW, World

SCOPES = (*world.SCOPES, "subjects")
OWNERS = ("acme", "beta")
CAMPAIGNS = {"acme": "acme-fibre", "beta": "beta-fibre"}
SHOWN = {"acme": CALLER, "beta": "+390844123457"}
NO_SEQ, NO_DECISION, NO_REQUEST = 10**6, "00000000-1", "0" * 16
PERSON, QUERY = f"/v1/subjects/%2B{CLEAR[1:]}", f"?number=%2B{CLEAR[1:]}&purpose=abc"
NAMED = {"number": CLEAR, "id": "id-0"}
CONSENT = {
    **NAMED, "collected_at": "2026-11-20T10:00:00+01:00", "purposes": ["sale"], "goods": ["broadband"], "call_types": ["agent"],
}  # fmt: skip


class Party:
    """A controller's client, with the ids in the last answers to it."""

    def __init__(self, made: World, owner: str) -> None:
        self.made, self.owner = made, owner
        self.seq, self.decision, self.request = NO_SEQ, NO_DECISION, NO_REQUEST

    async def send(self, kind: str, other: "Party | None" = None) -> tuple[int, str]:
        """Send a request, which may name ids of another party. Return the status and the answer without ids."""
        path, body = self.requests(other or Party(self.made, ""))[kind]
        headers = {"Authorization": f"Bearer key-of-{self.owner}"}
        method = "GET" if body is None else "POST"
        async with self.made.client.request(method, path, json=body, headers=headers) as answer:
            response = await answer.json()
        self.seq = response.get("seq", self.seq)
        self.decision = (
            response.get("decision_id", self.decision) if "decision" in response else self.decision
        )
        self.request = response["id"] if "identified" in response else self.request
        return answer.status, without_ids(str(response))

    def requests(self, theirs: "Party") -> dict[str, tuple[str, dict[str, Any] | None]]:
        campaign, other = CAMPAIGNS[self.owner], {"acme": "beta", "beta": "acme"}[self.owner]
        call = {"to": CLEAR, "from": SHOWN[self.owner], "campaign": campaign, "call_id": "c0"}
        call_list = {
            **LIST, "id": "list-0", "origin": "public_directory", "campaigns": [campaign], "numbers": [CLEAR],
        }  # fmt: skip
        mistake, sent = {"ground": "error", "reason": "typed"}, {"outcome": "answered", "reason": "sent"}
        return {
            "check": ("/v1/check", call),
            "simulate": ("/v1/simulate", call),
            "outcome": ("/v1/outcomes", {"decision_id": theirs.decision, "outcome": "opt_out"}),
            "revoke": ("/v1/revocations", {"number": CLEAR}),
            "lift": (f"/v1/revocations/{theirs.seq}/lift", mistake),
            "consent": ("/v1/consents", CONSENT),
            "withdraw": ("/v1/consents/withdraw", NAMED),
            "contract": ("/v1/contracts", {**NAMED, "starts": "2026-01-01"}),
            "end": ("/v1/contracts/end", {**NAMED, "ends": "2026-11-01"}),
            "list": ("/v1/lists", call_list),
            "one_list": ("/v1/lists/list-0", None),
            "retire": ("/v1/lists/list-0/retire", {}),
            "revocations": (f"/v1/revocations{QUERY}", None),
            "consents": (f"/v1/consents{QUERY}", None),
            "foreign": (f"/v1/consents{QUERY}&controller={other}", None),
            "report": (f"{PERSON}?purpose=abc", None),
            "ask": (f"{PERSON}/requests", {"kind": "erasure", "identified": "id card"}),
            "open": ("/v1/subject-requests", None),
            "close": (f"/v1/subject-requests/{theirs.request}", sent),
        }


def without_ids(text: str) -> str:
    """Return an answer with the gate's ids replaced by fixed words. Fails if an id counts what others do."""
    entries = re.compile(r"(?:'seq': |\bentry |'of': )(\d+)")
    assert all(int(found) >= 2**52 for found in entries.findall(text)), "it counts what others do"
    text = entries.sub("N", text)
    assert not re.search(r"\b[0-9a-f]{8}-\d+\b", text), "it counts what others do"
    text = re.sub(r"\b[k-z]{32}\b", "DECISION", text)
    return re.sub(r"\b[0-9a-f]{16}\b", "HEX", text)


def write_controllers(folder: Path) -> Path:
    """Write the example controller, and a copy with other names."""
    folder.mkdir(parents=True)
    text = yaml_files.read(world.CONFIG / "controllers" / "acme.yaml")
    for owner in OWNERS:
        campaign = {**text["campaigns"][0], "id": CAMPAIGNS[owner], "caller_ids": [SHOWN[owner]]}
        yaml_files.write(folder / f"{owner}.yaml", {**text, "id": owner, "campaigns": [campaign]})
    return folder


async def answer_after(folder: Path, written: list[str], asked: str) -> tuple[int, str]:
    """Let the first controller write entries, and return the answer to the second."""
    clients = [
        {**world.client(owner, f"key-of-{owner}", *SCOPES), "controllers": [owner]} for owner in OWNERS
    ]
    controllers = str(write_controllers(folder / "owners"))
    async with world.running(folder, clients=clients, controllers=controllers) as made:
        world.publish_answers(made.app.config.data, {CLEAR: False}, NOW - HOUR, controller="beta")
        first, second = Party(made, "acme"), Party(made, "beta")
        for kind in written:
            status, response = await first.send(kind)
            assert status < 300, response
            await made.app.tick()
        await made.app.tick()
        return await second.send(asked, first if written else None)


async def test_the_calls_of_one_controller_do_not_count_towards_anothers_limit(tmp_path: Path) -> None:
    clients = [
        {**world.client(owner, f"key-of-{owner}", *SCOPES), "controllers": [owner]} for owner in OWNERS
    ]
    controllers = str(write_controllers(tmp_path / "owners"))
    async with world.running(tmp_path / "gate", clients=clients, controllers=controllers) as made:
        world.publish_answers(made.app.config.data, {CLEAR: False}, NOW - HOUR, controller="beta")
        await made.app.tick()
        for owner in OWNERS:
            status, response = await Party(made, owner).send("list")
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


# Entries of the first controller, and a request of the second that refers to them.
FOREIGN = [
    (["revoke"], "lift"),
    (["list", "check"], "outcome"),
    (["ask"], "close"),
    (["consent"], "withdraw"),
    (["contract"], "end"),
    (["list"], "one_list"),
    (["list"], "retire"),
    (["list"], "list"),
    (["list"], "check"),
    (["consent", "revoke"], "revocations"),
    (["consent", "revoke"], "consents"),
    (["consent"], "foreign"),
    (["consent", "list", "check", "revoke", "ask"], "report"),
    (["ask"], "open"),
    (["revoke"], "check"),
    (["revoke"], "simulate"),
]


@pytest.mark.parametrize(("written", "asked"), FOREIGN, ids=[f"{row[1]} of {row[0][-1]}" for row in FOREIGN])
async def test_data_of_another_controller_is_reported_as_unknown(
    tmp_path: Path, written: list[str], asked: str
) -> None:
    alone = await answer_after(tmp_path / "alone", [], asked)
    assert await answer_after(tmp_path / "among", written, asked) == alone
