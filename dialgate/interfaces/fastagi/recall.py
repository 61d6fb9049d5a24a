"""The recall line: the caller ID that a person saw must lead to someone who answers (L. 5/2018 art. 2 c. 1; AGCOM
156/18/CIR: a machine may, at any hour), so Asterisk sends what comes in on it here.

The line says who called and on whose behalf, takes a stop by key press, and is itself the proof, dated, that the number
is called back and answered. A prompt is a file of Asterisk's, `dialgate/LANGUAGE/NAME`, with nothing of the machine in
its name; config/prompts/ holds the texts to record. `who-CONTROLLER` names the controller, and is the operator's own.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.interfaces.fastagi.protocol import (
    ANSWER,
    HANG_UP,
    Command,
    Environment,
    Reply,
    get_data,
    stream_file,
)
from dialgate.interfaces.http.errors import Fault
from dialgate.ledger.schemas import CallerIdProofRequest, RevocationRequest

_log = structlog.get_logger(__name__)

LANGUAGES: Final = ("it", "en")
_STOP: Final = "1"
_STOP_CODE: Final = str(ord(_STOP))  # how STREAM FILE reports the key
_OK: Final = 200
_ATTEMPTS: Final = 2  # readings of the menu
_PATIENCE_MS: Final = 5_000
_LONGEST_COUNTRY_CODE: Final = 3

Say = Callable[[Command], Awaitable[Reply]]


class Recall:
    def __init__(self, app: App, client: Client, say: Say) -> None:
        self._app, self._client, self._say = app, client, say

    async def speak(self, environment: Environment) -> None:
        """Raises `Fault` where the dialled number is none of the client's caller IDs: nothing is said then."""
        values = environment.values
        called_number = _parse_number(values.get("dnid", "")) or _parse_number(values.get("extension", ""))
        caller_ids = self._caller_ids(called_number)
        if not caller_ids:
            raise Fault(404, "controller.unknown", "The dialled number is no caller ID of this client.")
        language = _language((*environment.arguments, values.get("language", "")))
        evidence = f"recall:{values.get('uniqueid', '')}"[:256]
        caller, controllers = _parse_number(values.get("callerid", "")), list(caller_ids)
        if not _worked(await self._say(ANSWER)):
            return
        is_stopped: bool | None = None  # None: no key was pressed yet
        for prompt in ("welcome", *(f"who-{controller}" for controller in controllers)):
            reply = await self._play(language, prompt, _STOP if caller and is_stopped is None else "")
            if prompt == "welcome" and not _worked(reply):
                return
            if reply.result == _STOP_CODE:
                is_stopped = await self._record_stop(caller, controllers, evidence)
        await self._record_proof(caller_ids, evidence)
        if is_stopped is None:
            is_stopped = await self._offer(language, caller, controllers, evidence)
        if is_stopped is not None:
            await self._play(language, "stopped" if is_stopped else "failed")
        await self._play(language, "goodbye")
        await self._say(HANG_UP)

    def _caller_ids(self, called_number: str) -> dict[str, str]:
        """The client's controllers whose caller ID was dialled, and the caller ID as it is shown."""
        return {
            line.controller.id: caller_id
            for line in self._app.config.lines.values()
            for caller_id in line.caller_ids
            if line.controller.id in self._client.controllers and _same(called_number, caller_id)
        }

    async def _play(self, language: str, name: str, keys: str = "") -> Reply:
        """Play a prompt. Asterisk drops a key pressed meanwhile, unless `keys` has it: then it ends the prompt."""
        reply = await self._say(stream_file(f"dialgate/{language}/{name}", keys))
        if not _worked(reply):
            _log.warning(
                "a prompt was not played: no such file, or the call ended", prompt=f"{language}/{name}"
            )
        return reply

    async def _record_proof(self, caller_ids: dict[str, str], evidence: str) -> None:
        """Record the proof after the announcement: somebody called, was answered, and was told who it is."""
        for controller, caller_id in caller_ids.items():
            ask = CallerIdProofRequest(
                controller=controller, caller_id=caller_id, kind="probe", answered=True, evidence=evidence
            )
            try:
                await self._app.registrar.caller_ids.prove_caller_id(self._client, ask)
            except (Refused, Unavailable) as error:
                _log.warning(
                    "a call back was answered and could not be recorded as proof", problem=str(error)
                )

    async def _offer(self, language: str, caller: str, controllers: list[str], evidence: str) -> bool | None:
        """Read the menu. Returns whether a stop was recorded; None if none was wanted."""
        if not caller:
            await self._play(language, "withheld")
            return None
        for _ in range(_ATTEMPTS):
            pressed = await self._say(get_data(f"dialgate/{language}/menu", _PATIENCE_MS, 1))
            if pressed.result == "-1":
                return None
            if pressed.result == _STOP:
                return await self._record_stop(caller, controllers, evidence)
        return None

    async def _record_stop(self, caller: str, controllers: list[str], evidence: str) -> bool:
        """Also after the person hung up: the key was pressed."""
        is_done = True
        for controller in controllers:
            ask = RevocationRequest(controller=controller, number=caller, channel="recall", proof=evidence)
            try:
                await self._app.registrar.revocations.revoke(self._client, ask)
            except (Refused, Unavailable) as error:
                _log.error("a stop by key press could not be recorded", problem=str(error), evidence=evidence)
                is_done = False
        return is_done


def _worked(reply: Reply) -> bool:
    return reply.code == _OK and reply.result != "-1"


def _parse_number(raw: str) -> str:
    """A number as Asterisk has it, or nothing where it has none."""
    return raw if sum(letter.isdigit() for letter in raw) > 2 else ""  # noqa: PLR2004 - `s`, `unknown`, an extension


def _same(called_number: str, caller_id: str) -> bool:
    """The trunk may have left out the country code, or the plus, or written 00 for it."""
    digits = "".join(letter for letter in called_number if letter.isdigit()).removeprefix("00")
    whole = caller_id.removeprefix("+")
    return bool(digits) and whole.endswith(digits) and len(whole) - len(digits) <= _LONGEST_COUNTRY_CODE


def _language(languages: tuple[str, ...]) -> str:
    return next(
        (language[:2].lower() for language in languages if language[:2].lower() in LANGUAGES), LANGUAGES[0]
    )
