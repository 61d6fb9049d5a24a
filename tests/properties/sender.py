"""A sender of requests about one number, which remembers the replies."""

import re
from typing import Any, Final

import msgspec

from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.ledger.schemas import EntriesRequest, RevocationsRequest
from tests.properties.histories import Owner
from tests.properties.house import AGENCY, House, Reply

# Endpoints that find the controller by the campaign or the decision.
_ABOUT_A_CALL: Final = frozenset({"/v1/checks", "/v1/outcomes", "/v1/simulate"})
# Ids that differ from answer to answer: of decisions, of requests, of entries, and hashes.
_IDS: Final = re.compile(r"\b(?:[k-z]{32}|[0-9a-f]{16}|[0-9a-f]{64}|[0-9]{16,19}|[0-9a-f]{8}-[0-9]+)\b")


class Sender:
    """The requests of a controller about a number. `client` and `gate` are those of the present turn.

    `heard` has the replies, without the number and ids.
    """

    def __init__(self, house: House, owner: Owner, number: str) -> None:
        self.house, self.owner, self.number = house, owner, number
        self.client, self.gate = str(owner), 0
        self.heard: list[str] = []
        self.seqs: list[int] = []  # of the entries

    @property
    def now(self) -> Instant:
        return self.house.now

    async def say(self, method: str, path: str, body: Any = None, **query: str) -> Reply:
        """Send a request as the client of this turn, and remember the reply."""
        shared = {"controller": self.owner} if self.client == AGENCY and path not in _ABOUT_A_CALL else {}
        if body is None:
            query = shared | query
        else:
            body = {name: value for name, value in (shared | body).items() if value not in ("", [])}
        reply = await self.house.request(self.gate, self.client, method, path, body, list(query.items()))
        self.hear(f"{path} {reply.status} {reply.text}")
        return reply

    def hear(self, text: str) -> None:
        """Remember a text without what must differ between two numbers. Equal ids stay equal."""
        digits = self.number.removeprefix("+")
        seen: dict[str, str] = {}
        text = re.sub(rf"\+?(?:%2B)?{digits}|\+\d\d •+{digits[-2:]}", "NUMBER", text)
        self.heard.append(_IDS.sub(lambda found: seen.setdefault(found[0], f"ID{len(seen)}"), text))

    async def write(self, path: str, body: dict[str, Any]) -> bool:
        """Send an entry, and return whether it was recorded."""
        reply = await self.say("POST", path, {"number": self.number, **body})
        if reply.status == 201:
            self.seqs.append(reply.body["seq"])
        assert reply.status in {201, 404, 400, 409}, reply
        return reply.status == 201

    async def bring(self, ask: EntriesRequest | RevocationsRequest, file: bytes) -> dict[str, Any]:
        """Import a file. Return the report, which is empty if the file was refused."""
        try:
            report = await self.house.import_file(self.gate, self.client, ask, file)
        except Refused as refused:
            self.hear(str(refused))
            return {}
        self.hear(report)
        content: dict[str, Any] = msgspec.json.decode(report)
        return content
