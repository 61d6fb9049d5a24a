"""Call lists, caller-ID proofs and webhook deliveries in Redis: one hash for each kind."""

import msgspec
from msgspec import structs

from dialgate.core.model import Instant
from dialgate.store import CallerIdProof, CallList, Delivery
from dialgate.store.redis.commands import RedisCommands, encoded, pairs

_call_list = msgspec.json.Decoder(CallList)
_proof = msgspec.json.Decoder(CallerIdProof)
_delivery = msgspec.json.Decoder(Delivery)


class RedisCallLists:
    def __init__(self, commands: RedisCommands) -> None:
        self._commands = commands

    async def lists(self) -> list[CallList]:
        bodies = pairs(await self._commands.run("HGETALL", self._commands.key("lists")))
        return [_call_list.decode(bodies[field]) for field in sorted(bodies)]

    async def add_list(self, call_list: CallList) -> bool:
        field = f"{call_list.controller}\0{call_list.id}"
        return bool(
            await self._commands.run("HSETNX", self._commands.key("lists"), field, encoded(call_list))
        )

    async def replace_list(self, call_list: CallList, sha256: str) -> bool:
        key, field = self._commands.key("lists"), f"{call_list.controller}\0{call_list.id}"
        while True:
            body = await self._commands.run("HGET", key, field)
            if body is None or (current := _call_list.decode(body)).sha256 != sha256:
                return False
            # Keep other changes to the list, such as its retirement.
            fresh = structs.replace(
                current, file=call_list.file, sha256=call_list.sha256, numbers=call_list.numbers
            )
            if await self._commands.script("retire", [key], [field, body, encoded(fresh)]):
                return True

    async def retire_list(self, controller: str, name: str, at: Instant) -> CallList | None:
        key, field = self._commands.key("lists"), f"{controller}\0{name}"
        while True:
            body = await self._commands.run("HGET", key, field)
            if body is None:
                return None
            current = _call_list.decode(body)
            retired = structs.replace(current, retired_at=current.retired_at or at)
            if await self._commands.script("retire", [key], [field, body, encoded(retired)]):
                return retired

    async def proofs(self) -> list[CallerIdProof]:
        bodies = pairs(await self._commands.run("HGETALL", self._commands.key("proofs")))
        return [_proof.decode(body) for body in bodies.values()]

    async def put_proof(self, proof: CallerIdProof) -> None:
        """Store a proof unless a later one exists.

        Of two proofs with the same time, keep the one stored last.
        """
        key, field = self._commands.key("proofs"), f"{proof.controller}\0{proof.caller_id}"
        while True:
            body = await self._commands.run("HGET", key, field)
            if body is None and await self._commands.run("HSETNX", key, field, encoded(proof)):
                return
            if body is not None and (
                _proof.decode(body).at > proof.at
                or await self._commands.script("retire", [key], [field, body, encoded(proof)])
            ):
                return

    async def deliveries(self) -> list[Delivery]:
        bodies = pairs(await self._commands.run("HGETALL", self._commands.key("deliveries")))
        return [_delivery.decode(body) for body in bodies.values()]

    async def put_delivery(self, delivery: Delivery) -> None:
        await self._commands.run(
            "HSET", self._commands.key("deliveries"), delivery.webhook, encoded(delivery)
        )
