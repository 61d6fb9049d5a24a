"""The endpoints for messages that platforms and CRMs send, and for those that wait because they could not be applied."""

import asyncio
from typing import Annotated, Final

from aiohttp import web
from msgspec import Struct, structs

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.config.incoming_webhooks import IncomingWebhook, SignedWebhook
from dialgate.core.refusal import Refused
from dialgate.core.responses import when
from dialgate.core.text_formats import Timestamp
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.concurrency_limits import Turns
from dialgate.interfaces.http.connection import connection_of
from dialgate.interfaces.http.endpoint import BODY_ERRORS, NDJSON, EndpointGroup, Media, Parameter
from dialgate.interfaces.http.errors import FAILURES, Fault, Problem, fault_of, response
from dialgate.interfaces.http.operations import APP
from dialgate.interfaces.webhooks.message import WebhookMessage
from dialgate.interfaces.webhooks.operations import (
    PERMITTING,
    Operation,
    Translation,
    execute,
    given_at,
    problem_of,
    request_of,
)
from dialgate.interfaces.webhooks.signatures import verify
from dialgate.ledger.dead_letters import DeadLetter
from dialgate.ledger.schemas import described

DELIVERIES: Final = web.AppKey("deliveries", Turns)  # one message of a webhook at a time
AT_ONCE: Final = 64
_SHOWN: Final = 100
INCOMING: Final = EndpointGroup(
    "Incoming webhooks",
    "Messages of platforms and CRMs, as files in config/webhooks define them, and those that could not be applied.",
)
_PATH: Final = "/v1/webhooks/in/{name:[a-z0-9_.-]+}"
_FAILS: Final = ("store.unavailable", "gate.unavailable")


class WebhookReceipt(Struct, frozen=True):
    """How many operations were recorded, now or before, and how many are kept because they could not be applied."""

    recorded: int
    kept: int


class TrialRun(Struct, frozen=True):
    """What a message would record, and why parts of it could not be applied."""

    operations: list[Operation]
    problems: list[Problem]


class WaitingMessage(Struct, frozen=True):
    """A message that waits, and why. `body` usually contains personal data."""

    id: str
    webhook: str
    received_at: Timestamp
    problem: Problem
    body: str


class DeadLetterList(Struct, frozen=True):
    letters: list[WaitingMessage]


class _Applied(Struct):
    """How many operations of a message are recorded or skipped, and why others are not."""

    recorded: int = 0
    skipped: int = 0
    problems: list[Refused] = []


class ReplayRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    drop: Annotated[
        tuple[str, ...],
        described("Messages to remove instead, after a person has read them and recorded any stop in them."),
    ] = ()


class ReplayReport(Struct, frozen=True):
    """How many messages were applied or dropped, and are gone, and those that still cannot be applied, without bodies.

    `skipped` counts consents, contracts and call requests of people whose data were erased after they had arrived.
    """

    gone: int
    letters: list[WaitingMessage]
    skipped: int


async def _receive(request: web.Request) -> web.StreamResponse:
    app = request.app[APP]
    try:
        webhook = _webhook(app, request)
        limits = app.config.settings.limits
        message = _message(request, app, await http_body.small(request, limits, http_body.MESSAGE_BYTES))
        settings = webhook.settings
        if reason := verify(webhook, message, message.received_at):
            app.metrics.webhooks_received.labels(settings.id, "refused").inc()
            text = f"The message is not authentic: {reason}. Check `signature` in config/webhooks, and the secret."
            raise Fault(401, "webhook.unsigned", text)
        connection_of(request).admit(f"webhook {settings.id}")  # no client's name: names have no spaces
        receipt = await _record(request, app, settings, message)
    except FAILURES as error:
        return response(fault_of(error))
    if settings.reply:
        return web.Response(text=settings.reply, content_type=settings.reply_media)
    return http_body.reply_json(receipt, 202 if receipt.kept else 200)


_OF_NAME: Final = Parameter(
    name="name", about="`id` of the webhook in config/webhooks.", required=True, place="path"
)
INCOMING.add(
    method="POST",
    path=_PATH,
    name="sendWebhook",
    about=(
        "Receive a message of a platform or CRM: JSON, a form or XML. Its signature takes the place of a key. What it means is recorded as by the"
        " endpoints of the ledger; if it arrives again, or late, that changes nothing. An authentic message that cannot be read"
        " or applied is kept for `POST /v1/dead-letters/replay`, and acknowledged with 202."
    ),
    serve=_receive,
    parameters=(_OF_NAME,),
    ask=dict,
    answer=WebhookReceipt,
    other_statuses=((202, "Kept, because it could not be applied.", WebhookReceipt),),
    errors=(*BODY_ERRORS, "webhook.unknown", "webhook.unsigned", "webhook.full", *_FAILS),
)


@INCOMING.endpoint(
    "POST",
    f"{_PATH}/batch",
    parameters=(_OF_NAME,),
    scope="ledger",
    also_asks=(Media(name=NDJSON, kind=bytes, lines=(dict,)),),
    errors=(*BODY_ERRORS, "webhook.unknown", "webhook.full", *_FAILS),
)
async def send_webhook_batch(request: web.Request, app: App, client: Client) -> WebhookReceipt:
    """Receive many messages of a webhook, one per line in JSON. The client's key takes the place of their signatures.

    `dialgate webhook pull` sends what it reads from the CRM. Each message has the effect of one that the platform sends. If the
    request fails, send all messages again.
    """
    settings, total = _own_webhook(app, request, client), WebhookReceipt(0, 0)
    async for lines in http_body.lines(request, app.config.settings.limits):
        for line in filter(bytes.strip, lines):
            message = WebhookMessage(line, "", {}, app.gate.now())
            receipt = await _record(request, app, settings, message)
            total = WebhookReceipt(total.recorded + receipt.recorded, total.kept + receipt.kept)
    return total


@INCOMING.endpoint(
    "POST",
    f"{_PATH}/test",
    parameters=(_OF_NAME,),
    scope="ledger",
    ask=dict,
    errors=(*BODY_ERRORS, "webhook.unknown"),
)
async def simulate_webhook(request: web.Request, app: App, client: Client) -> TrialRun:
    """Show what a message would record, without its signature. Nothing is recorded."""
    settings = _own_webhook(app, request, client)
    trial = TrialRun([], [])
    body = await http_body.whole(request, app.config.settings.limits)
    for item in Translation(settings, _message(request, app, body)).operations():
        if not isinstance(item, Refused):
            trial.operations.append(item)
        if problem := problem_of(item):
            trial.problems.append(fault_of(problem).problem)
    return trial


@INCOMING.endpoint("GET", "/v1/dead-letters", scope="admin", errors=_FAILS)
async def list_dead_letters(_: web.Request, app: App, client: Client) -> DeadLetterList:
    """Return the 100 oldest messages that wait on this gate because they could not be applied.

    A look-up is recorded for each number in them.
    """
    letters = (await _letters(app, client))[:_SHOWN]
    for _name, letter in letters:
        if owner := app.config.controllers.get(letter.controller):
            numbers = await asyncio.to_thread(letter.numbers, owner.dial_regions())
            await app.subjects.lookups.record_disclosure(
                client, app.config.settings.node, owner.id, numbers, f"dead letters of {letter.webhook}"
            )
    return DeadLetterList([_waiting(*item) for item in letters])


@INCOMING.endpoint(
    "POST",
    "/v1/dead-letters/replay",
    scope="admin",
    errors=("webhook.unknown", "webhook.unreadable", *_FAILS),
)
async def replay_dead_letters(
    request: web.Request, app: App, client: Client, *, ask: ReplayRequest
) -> ReplayReport:
    """Apply the messages that wait, after config/webhooks was corrected. Each is then gone, or stays with its reason."""
    letters, waiting, skipped = await _letters(app, client), list[WaitingMessage](), 0
    for name, letter in letters:
        applied = _Applied() if name in ask.drop else await _replay(request, app, letter)
        skipped += applied.skipped
        if not applied.problems:
            await asyncio.to_thread(app.registrar.dead_letters.remove, name)
            continue
        kept = structs.replace(letter, **_reason(applied.problems[0]))
        if kept.controller:  # otherwise it cannot be read, and must not be overwritten
            await asyncio.to_thread(app.registrar.dead_letters.keep, kept, name)
        waiting.append(_waiting(name, structs.replace(kept, body=b"")))
    return ReplayReport(len(letters) - len(waiting), waiting, skipped)


async def _replay(request: web.Request, app: App, letter: DeadLetter) -> _Applied:
    webhook = app.config.incoming.get(letter.webhook)
    if not letter.controller:
        return _Applied(problems=[Refused(letter.code, letter.message)])
    if webhook is None or webhook.settings.controller != letter.controller:
        text = "The controller has no webhook with this name any more. Add it again, or drop the message."
        return _Applied(problems=[Refused("webhook.unknown", text, "webhook", 404)])
    message = WebhookMessage(letter.body, letter.query, letter.headers, letter.received_at)
    async with request.app[DELIVERIES].hold(letter.webhook):
        return await _apply(app, webhook.settings, message)


async def _record(
    request: web.Request, app: App, webhook: IncomingWebhook, message: WebhookMessage
) -> WebhookReceipt:
    """Apply a message, and keep it if parts of it cannot be applied. Raises `Refused` and `Unavailable`."""
    async with request.app[DELIVERIES].hold(webhook.id):
        applied = await _apply(app, webhook, message)
        if applied.problems:
            letter = _letter(webhook, message, applied.problems[0])
            await asyncio.to_thread(app.registrar.dead_letters.keep, letter)
    result = "kept" if applied.problems else "recorded" if applied.recorded else "nothing"
    app.metrics.webhooks_received.labels(webhook.id, result).inc()
    return WebhookReceipt(applied.recorded, len(applied.problems))


async def _apply(app: App, webhook: IncomingWebhook, message: WebhookMessage) -> _Applied:
    """Execute the operations of a message, as a client that may write for one controller. Raises `Unavailable`.

    What would permit calls is skipped if the person's data were erased after it was given, or after the message arrived.
    """
    applied = _Applied()
    client = Client(
        name=f"webhook.{webhook.id}",
        controllers=(webhook.controller,),
        scopes=("revoke", "ledger", "outcome"),
    )
    for item in Translation(webhook, message).operations():
        try:
            if isinstance(item, Refused):
                raise item
            if item.write in PERMITTING:
                request = request_of(item)
                if await app.subjects.was_erased(client, request, given_at(request, message.received_at)):
                    applied.skipped += 1
                    continue
            await execute(app.registrar, client, item)
            applied.recorded += 1
        except Refused as error:
            if error.code == "outcome.known":  # of a call whose later event arrived first
                applied.recorded += 1
            else:
                applied.problems.append(error)
    return applied


def _webhook(app: App, request: web.Request) -> SignedWebhook:
    webhook = app.config.incoming.get(request.match_info["name"])
    if webhook is None:
        raise _unknown()
    return webhook


def _own_webhook(app: App, request: web.Request, client: Client) -> IncomingWebhook:
    """Return the webhook in a path if it writes for a controller of the client. Raises `Fault`."""
    settings = _webhook(app, request).settings
    if settings.controller not in client.controllers:
        raise _unknown()
    return settings


def _unknown() -> Fault:
    text = (
        "No incoming webhook has this name. Use the `id` of a file in config/webhooks with `direction: in`."
    )
    return Fault(404, "webhook.unknown", text, field="name")


def _message(request: web.Request, app: App, body: bytes) -> WebhookMessage:
    """Return a request as a message. Raises `Fault`."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Fault(415, "request.compressed", "The body is compressed. Send it without `Content-Encoding`.")
    return WebhookMessage(
        body=body,
        query=request.raw_path.partition("?")[2],
        headers={
            name.lower(): text.encode(errors="replace").decode() for name, text in request.headers.items()
        },
        received_at=app.gate.now(),
    )


def _letter(webhook: IncomingWebhook, message: WebhookMessage, problem: Refused) -> DeadLetter:
    """Return the letter that keeps a message. A secret in the message is not kept."""
    place = webhook.signature.place
    secret = place.removeprefix("header.").lower()
    return DeadLetter(
        webhook=webhook.id,
        controller=webhook.controller,
        received_at=message.received_at,
        body=message.without(place) if place.startswith("body.") else message.body,
        query=message.query,
        headers={name: text for name, text in message.headers.items() if name != secret},
        of_one=Translation(webhook, message).is_of_one(),
        **_reason(problem),
    )


def _reason(problem: Refused) -> dict[str, str]:
    return {"code": problem.code, "message": problem.message, "field": problem.field}


async def _letters(app: App, client: Client) -> list[tuple[str, DeadLetter]]:
    """Return the messages of the client's controllers, and those that cannot be read. Raises `OSError`."""
    letters = await asyncio.to_thread(lambda: list(app.registrar.dead_letters.read()))
    return [(name, letter) for name, letter in letters if letter.controller in {"", *client.controllers}]


def _waiting(name: str, letter: DeadLetter) -> WaitingMessage:
    problem = Problem(letter.code, letter.message, letter.field)
    body = letter.body.decode(errors="replace")
    return WaitingMessage(name, letter.webhook, when(letter.received_at), problem, body)
