"""The recall line, to which Asterisk connects people who call a caller ID back.

Return calls to a caller ID must be answered (L. 5/2018 art. 2 c. 1). AGCOM 156/18/CIR allows a machine to answer them
at any hour. The line announces the controller on whose behalf the call was placed, and records a revocation by key
press. The answered call is also a dated proof that the caller ID can be called back. Prompts are Asterisk files,
`dialgate/LANGUAGE/NAME`; config/prompts/ has the texts to record. The operator records `who-CONTROLLER`, which names
the controller.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core import phone
from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.interfaces.fastagi.protocol import (
    ANSWER,
    HANG_UP,
    AgiReply,
    Command,
    Environment,
    get_data,
    stream_file,
)
from dialgate.interfaces.http.errors import Fault
from dialgate.ledger.schemas import CallerIdProofRequest, RevocationRequest

_log = structlog.get_logger(__name__)

LANGUAGES: Final = ("it", "en")
_STOP: Final = "1"
_STOP_CODE: Final = str(ord(_STOP))  # the result of STREAM FILE for this key
_OK: Final = 200
_ATTEMPTS: Final = 2  # number of times the menu is read out
_KEY_TIMEOUT_MS: Final = 5_000
_LONGEST_COUNTRY_CODE: Final = 3

Say = Callable[[Command], Awaitable[AgiReply]]


class Recall:
    """The dialogue with a caller on the recall line."""

    def __init__(self, app: App, client: Client, say: Say) -> None:
        self._app, self._client, self._say = app, client, say

    async def speak(self, environment: Environment) -> None:
        """Answer a call. Raises `Fault` before answering if the dialled number is not one of the client's caller IDs."""
        values = environment.values
        called_number = _parse_number(values.get("dnid", "")) or _parse_number(values.get("extension", ""))
        caller_ids = self._caller_ids(called_number)
        if not caller_ids:
            raise Fault(
                404,
                "controller.unknown",
                "The dialled number is not one of this client's caller IDs. Add it to a campaign's `caller_ids`.",
            )
        language = _language((*environment.arguments, values.get("language", "")))
        evidence = f"recall:{values.get('uniqueid', '')}"[:256]
        caller = _parse_number(values.get("callerid", ""))
        if not _worked(await self._say(ANSWER)):
            return
        is_stopped: bool | None = None  # None: no key was pressed
        played: set[str] = set()
        for prompt in ("welcome", *(f"who-{controller}" for controller in caller_ids)):
            reply = await self._play(language, prompt, _STOP if caller and is_stopped is None else "")
            if prompt == "welcome" and not _worked(reply):
                return
            if _worked(reply):
                played.add(prompt)
            if reply.result == _STOP_CODE:
                is_stopped = await self._record_stop(caller, caller_ids, evidence)
        announced = {name: called for name, called in caller_ids.items() if f"who-{name}" in played}
        await self._record_proof(announced, evidence)
        if is_stopped is None:
            is_stopped = await self._offer(language, caller, caller_ids, evidence)
        if is_stopped is not None:
            await self._play(language, "stopped" if is_stopped else "failed")
        await self._play(language, "goodbye")
        await self._say(HANG_UP)

    def _caller_ids(self, called_number: str) -> dict[str, str]:
        """Return the client's controllers that use the called number, each with the caller ID that it configured."""
        return {
            line.controller.id: caller_id
            for line in self._app.config.lines.values()
            for caller_id in line.caller_ids
            if line.controller.id in self._client.controllers and _same(called_number, caller_id)
        }

    async def _play(self, language: str, name: str, keys: str = "") -> AgiReply:
        """Play a prompt. A key in `keys` ends it; Asterisk ignores other keys."""
        reply = await self._say(stream_file(f"dialgate/{language}/{name}", keys))
        if not _worked(reply):
            _log.warning(
                "a prompt was not played: the file is missing, or the call ended",
                prompt=f"{language}/{name}",
            )
        return reply

    async def _record_proof(self, caller_ids: dict[str, str], evidence: str) -> None:
        """Record proof that a return call was answered. Call this only after the controller has been announced."""
        for controller, caller_id in caller_ids.items():
            proof = CallerIdProofRequest(
                controller=controller, caller_id=caller_id, kind="probe", answered=True, evidence=evidence
            )
            try:
                await self._app.registrar.caller_ids.prove_caller_id(self._client, proof)
            except (Refused, Unavailable) as error:
                _log.warning(
                    "a call-back was answered but could not be recorded as proof", problem=str(error)
                )

    async def _offer(
        self, language: str, caller: str, caller_ids: dict[str, str], evidence: str
    ) -> bool | None:
        """Read out the menu. Return whether all revocations were recorded, or None if the caller did not revoke."""
        if not caller:
            await self._play(language, "withheld")
            return None
        for _ in range(_ATTEMPTS):
            reply = await self._say(get_data(f"dialgate/{language}/menu", _KEY_TIMEOUT_MS, 1))
            if reply.result == "-1":
                return None
            if reply.result == _STOP:
                return await self._record_stop(caller, caller_ids, evidence)
        return None

    async def _record_stop(self, caller: str, caller_ids: dict[str, str], evidence: str) -> bool:
        """Record a revocation for each controller, even after a hang-up. Return whether all were recorded."""
        is_done = True
        for controller, caller_id in caller_ids.items():
            revocation = RevocationRequest(
                controller=controller,
                number=_in_full(caller, caller_id),
                channel="recall",
                proof=evidence,
            )
            try:
                await self._app.registrar.revocations.revoke(self._client, revocation)
            except (Refused, Unavailable) as error:
                _log.error(
                    "a revocation by key press could not be recorded", problem=str(error), evidence=evidence
                )
                is_done = False
        return is_done


def _worked(reply: AgiReply) -> bool:
    return reply.code == _OK and reply.result != "-1"


def _parse_number(raw: str) -> str:
    """Return the number that Asterisk sent, or an empty string if it is not a telephone number."""
    return raw if sum(letter.isdigit() for letter in raw) > 2 else ""  # noqa: PLR2004 - `s`, `unknown`, an extension


def _in_full(caller: str, caller_id: str) -> str:
    """Return the caller's number in E.164, or unchanged if it is invalid.

    If the trunk omitted the country code, use the region of the dialled caller ID.
    """
    try:
        return phone.parse(caller, phone.parse_caller_id(caller_id).region).e164
    except phone.NotANumber:
        return caller


def _same(called_number: str, caller_id: str) -> bool:
    """Return whether both are the same number. The trunk may omit the country code, or the plus or 00 before it."""
    digits = "".join(letter for letter in called_number if letter.isdigit()).removeprefix("00")
    whole = caller_id.removeprefix("+")
    return bool(digits) and whole.endswith(digits) and len(whole) - len(digits) <= _LONGEST_COUNTRY_CODE


def _language(languages: tuple[str, ...]) -> str:
    return next(
        (language[:2].lower() for language in languages if language[:2].lower() in LANGUAGES), LANGUAGES[0]
    )
