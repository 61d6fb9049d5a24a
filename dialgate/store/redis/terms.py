"""The terms of attempts in Redis: the texts that many attempts share (`subject_codec.Term`)."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from dialgate.store import StoreUnavailable
from dialgate.store.redis import subject_codec
from dialgate.store.redis.commands import RedisCommands
from dialgate.store.redis.subject_codec import TERM_BYTES, Term

_decode: Final = msgspec.json.Decoder(Term).decode


class AttemptTerms:
    """The terms that this process has read, by id."""

    def __init__(self, commands: RedisCommands) -> None:
        self._commands = commands
        self.known: Mapping[int, Term] = {}

    async def of(self, values: Iterable[bytes]) -> Mapping[int, Term]:
        """Return a mapping with the terms of all attempts in these values of subjects."""
        ids = list(set[int]().union(*map(subject_codec.term_ids, values)) - self.known.keys())
        if ids:
            fields = [term_id.to_bytes(TERM_BYTES) for term_id in ids]
            bodies = await self._commands.run("HMGET", self._commands.of_terms, *fields)
            if None in bodies:
                raise StoreUnavailable(
                    "Redis: attempts lack their campaign, because the hash of terms is incomplete: restore the store"
                )
            self.known = {**self.known, **dict(zip(ids, map(_decode, bodies), strict=True))}
        return self.known
