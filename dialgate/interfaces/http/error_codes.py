"""The table of error codes: what each means and what to do. docs/reference/errors.md is generated from it."""

from typing import Final

from msgspec import Struct


class ErrorCode(Struct, frozen=True):
    """A row in the error code table: HTTP status, what happened, and what to do."""

    status: int
    meaning: str
    advice: str


_CODES: Final[dict[str, tuple[int, str, str]]] = {
    "request.not_json": (
        400,
        "The body is not one JSON document in UTF-8.",
        "Send one JSON document in UTF-8, nested at most 64 levels deep.",
    ),
    "request.invalid": (
        400,
        "A field or parameter is missing, unknown, repeated, of the wrong type or out of range.",
        "Correct the one named in `field`; /openapi.json has the types, limits and allowed values.",
    ),
    "request.broken": (
        400,
        "The body is incomplete, or its encoding is damaged.",
        "Send the request again, with the number of bytes that `Content-Length` says.",
    ),
    "request.compressed": (
        415,
        "The body is compressed.",
        "Send the body without `Content-Encoding`.",
    ),
    "request.not_http": (400, "The request is not well-formed HTTP.", "Send HTTP/1.1 to this port."),
    "number.invalid": (
        400,
        "`number` is not a telephone number, so nothing can be recorded or looked up for it.",
        "Send `number` in E.164, for example +390612345678. `POST /v1/check` denies such a number instead.",
    ),
    "caller_id.invalid": (
        400,
        "`caller_id` is not a telephone number, so nothing can be proved about it.",
        "Send `caller_id` in E.164, for example +390844123456.",
    ),
    "list.unreadable": (
        400,
        "The call list is damaged, or no row contains a telephone number.",
        "Send a text, CSV or XLSX file, or `numbers`, with a telephone number in each row.",
    ),
    "auth.in_url": (
        400,
        "The URL contains a key. Proxies and servers log URLs, so this key is no longer secret.",
        "Replace the key with `dialgate key`, and send it as `Authorization: Bearer KEY`.",
    ),
    "auth.missing": (
        401,
        "The request has no key, and its source address is not in any client's `sources`.",
        "Send `Authorization: Bearer KEY`, or add the address to the client's `sources`.",
    ),
    "auth.unknown": (
        401,
        "No client has this key.",
        "Check the key, and its SHA-256 in `clients` of dialgate.yaml; `dialgate key` creates a new one.",
    ),
    "auth.key_expired": (
        401,
        "The last day of this key has passed.",
        "Use a new key: `dialgate key make NAME`, and give it to the program.",
    ),
    "auth.key_disabled": (
        401,
        "This key was disabled, and stays so. `dialgate key list` shows by whom.",
        "Use a new key: `dialgate key make NAME`, and give it to the program.",
    ),
    "auth.scope": (
        403,
        "The client lacks the scope that the endpoint needs.",
        "Add the scope named in the message to the client's `scopes` in dialgate.yaml.",
    ),
    "auth.web_page": (
        403,
        "The request has no key, and a web page of another site may have sent it: `Origin` or `Sec-Fetch-Site` names one, or `Host` no name of this gate.",
        "Send a key, or use the gate's IP address. Names of the gate are in the setting `hosts`.",
    ),
    "api_key.client_unknown": (
        404,
        "No client in dialgate.yaml has this name.",
        "Use a name from `GET /v1/clients`, or add the client to `clients` and reload the gate.",
    ),
    "api_key.unknown": (
        404,
        "The client has no key with this id.",
        "Use the `id` of a key from `GET /v1/clients`.",
    ),
    "api_key.two_valid": (
        409,
        "The client has two valid keys or more, so none can be made. Two are one in use, and one that replaces it.",
        "Look up which key is no longer used in `GET /v1/clients`, disable it, then make another.",
    ),
    "release.unknown": (
        404,
        "No import with this id waits for its release.",
        "Use an `id` from `GET /v1/registries/holds`.",
    ),
    "release.repeated": (
        409,
        "This client has released the import already. Two different people must.",
        "Leave it to another person: `GET /v1/registries/holds` shows who has released it.",
    ),
    "release.people_only": (
        403,
        "A key can be shared, so it does not count as a person, nor does an account that one operator made alone.",
        "Use the page Registries of the console with a confirmed account, or `registry-sync release`.",
    ),
    "release.unreadable": (
        500,
        "The held imports in the snapshot folder cannot be read or written. The message names the file.",
        "Correct the owner of the folder `snapshots` in the data folder, or remove the damaged file.",
    ),
    "account.unknown": (404, "No account has this name.", "Look up the name in `GET /v1/accounts`."),
    "account.exists": (
        409,
        "An account with this name exists, perhaps disabled.",
        "Use another `name`, or change the account that exists.",
    ),
    "account.own": (
        403,
        "People cannot change the role, the controllers or the state of their own account.",
        "Use `dialgate account` on the gate's machine, or leave the change to another operator.",
    ),
    "account.not_active": (
        409,
        "The person has not accepted the invitation yet, or the account is disabled.",
        "Wait until `GET /v1/accounts` shows the account as `active`, then confirm it.",
    ),
    "account.second_person": (
        403,
        "Two people answer for an account: the operator who sent the invitation, and another one. A key does not count.",
        "Leave it to another operator with a confirmed account, or use `dialgate account confirm` on the gate's machine.",
    ),
    "peer.refused": (
        403,
        "The request does not come from a gate with the same keys, `peers` and time.",
        "Use the same keys.json and `peers` on all gates, and synchronise their clocks.",
    ),
    "path.unknown": (404, "No endpoint has this path.", "Check the path; /docs lists all of them."),
    "controller.unknown": (
        404,
        "The controller does not exist, or is not one of this client's.",
        "Set `controller` to one of the client's `controllers` in dialgate.yaml.",
    ),
    "campaign.unknown": (
        404,
        "The controller has no such campaign.",
        "Use a campaign ID from the controller's file, controllers/NAME.yaml.",
    ),
    "decision.unknown": (
        404,
        "This client has no decision with this ID, or the decision did not allow a call. Of a denied call, only an `opt_out` is recorded.",
        "Send the `decision_id` of the check's response.",
    ),
    "ledger.unknown": (
        404,
        "The ledger has no entry with this id or `seq` for the number.",
        "Look up the number's entries, for example with `GET /v1/consents?number=…`, and send one of their ids.",
    ),
    "list.unknown": (404, "The client has no such call list.", "Use an `id` from `GET /v1/lists`."),
    "proof.unknown": (
        404,
        "This gate has no file with this SHA-256 that a consent of the number names.",
        "Send the request to the gate that received it. A file that no consent names is removed after a day: use `POST /v1/proofs` again.",
    ),
    "attachment.unknown": (
        404,
        "The data-subject request has no attachment with this SHA-256.",
        "Use a SHA-256 from `attachments` of `GET /v1/subject-requests/{id}`.",
    ),
    "revocation.unknown": (
        404,
        "The client has no revocation with this `seq`.",
        "Use a `seq` from the receipt or from `GET /v1/revocations?number=…`.",
    ),
    "subject.unknown": (
        404,
        "No open data-subject request has this id, or the request is of another kind or for another number.",
        "Use an `id` from `GET /v1/subject-requests`.",
    ),
    "breach.unknown": (404, "The client has no breach with this id.", "Use an `id` from `GET /v1/breaches`."),
    "node.unknown": (404, "The store has no node with this name.", "Use a name from `GET /v1/nodes`."),
    "webhook.unknown": (
        404,
        "No webhook profile, or no incoming webhook, has this name.",
        "Use the `id` of a file in config/webhooks.",
    ),
    "webhook.unreadable": (
        400,
        "A message of a platform cannot be read, or has a value without a meaning. It was kept.",
        "Correct config/webhooks, and run `dialgate webhook replay`.",
    ),
    "webhook.unsigned": (
        401,
        "The message of a platform has no valid signature, or was sent too long ago.",
        "Check that the secret, `signature` and `url` in config/webhooks are the platform's, and the clocks.",
    ),
    "webhook.full": (
        503,
        "Too many messages that could not be applied wait on this gate.",
        "Correct config/webhooks, and run `dialgate webhook replay`. The platform sends the message again.",
    ),
    "method.not_allowed": (
        405,
        "The path exists, but not with this method.",
        "Use one of the methods in the `Allow` header.",
    ),
    "request.timeout": (
        408,
        "The request did not arrive in time.",
        "Send it again, all at once. The limit is the setting `limits.read_seconds`.",
    ),
    "revocation.lifted": (
        409,
        "The revocation has already been lifted with a different `ground`, which remains in force.",
        "Leave it unchanged.",
    ),
    "hold.refused": (
        409,
        "The legal hold cannot be placed or lifted: the number has one already, or none, or `reason` contains the number.",
        "Check with `GET /v1/holds?number=…`, and name the case instead of the number.",
    ),
    "config.invalid": (
        409,
        "The configuration on the gate's disk cannot be loaded, or one that records refer to is missing.",
        "Correct what the message names; `dialgate config check` shows every problem.",
    ),
    "store.embedded": (
        409,
        "The gate has a store of its own, so there are no other nodes.",
        "Set `store` to use a shared store.",
    ),
    "node.at_work": (409, "The node is running.", "Check with `GET /v1/nodes`, and stop it first."),
    "evidence.missing": (
        409,
        "There is no evidence: no such decision in this gate's logs, or no checkpoint covers it yet.",
        "Check `decision`. After a new decision, repeat the request when the next checkpoint is signed.",
    ),
    "campaign.not_paused": (
        409,
        "The campaign is not paused, or for another reason.",
        "Check the id. `GET /v1/campaigns` shows which campaigns are paused.",
    ),
    "ledger.full": (
        409,
        "The ledger has 250 consents, contracts and call requests for this number.",
        "Check with `GET /v1/consents` why there are so many. Stops and withdrawals are still recorded.",
    ),
    "list.too_many": (
        409,
        "The controller has as many call lists in force as the setting `limits.lists` permits.",
        "Check with `GET /v1/lists` which lists are needed and retire another, or raise the setting.",
    ),
    "list.too_short": (
        409,
        "The call list is too short for a preview, whose counts would reveal the verdicts on single numbers.",
        "Use `POST /v1/simulate` for calls to single numbers.",
    ),
    "list.exists": (
        409,
        "A call list with this `id` exists. Retired lists keep their id.",
        "Send another `id`.",
    ),
    "outcome.known": (
        409,
        "The call already has an outcome that is at least as strict. That outcome remains in force.",
        "Leave it unchanged.",
    ),
    "subject.closed": (
        409,
        "The data-subject request is closed, or cannot be extended again.",
        "Record a new request with `POST /v1/subjects/{number}/requests` if the person asked again.",
    ),
    "breach.refused": (
        409,
        "The step contradicts an earlier one, or the notification is late and `delay` gives no reasons (GDPR art. 33(1)).",
        "Check the steps with `GET /v1/breaches/{id}`. Send `delay`, or record the step as `noted`.",
    ),
    "subject.premature": (
        409,
        "The letter would say that something was done, and it has not been done for this request.",
        "Send the request that does it, such as `POST /v1/subjects/{number}/erasure`. Then write the letter.",
    ),
    "attachment.too_many": (
        409,
        "The data-subject request has 20 attachments, which is the maximum.",
        "Send several pages as one file. `attachments` of the request lists those that it has.",
    ),
    "attachment.too_large": (
        413,
        "The attachment has more than 8 MiB.",
        "Send a scan with a lower resolution, or several files, each with its own `name`.",
    ),
    "request.too_large": (
        413,
        "The body, a line of it, or the file is larger than this gate accepts.",
        "Send it in parts. The settings `limits.body_bytes` and `uploads.file_mb` are the limits.",
    ),
    "batch.too_large": (
        413,
        "The batch has more calls than this gate accepts.",
        "Send fewer at once, or send one per line as application/x-ndjson. The setting `limits.batch_calls` is the limit.",
    ),
    "request.expectation": (
        417,
        "The `Expect` header is not `100-continue`.",
        "Leave the `Expect` header out.",
    ),
    "request.headers_too_large": (
        431,
        "The request line, a header or all of them together are longer than this gate accepts.",
        "Shorten them. The setting `limits.header_bytes` is the limit of each, and twice as much of all together.",
    ),
    "lookup.throttled": (
        429,
        "The client has looked up too many numbers.",
        "Repeat the request after the seconds in the `Retry-After` header.",
    ),
    "rate.exceeded": (
        429,
        "Too many checks per second.",
        "Wait for `Retry-After`, or raise `calls_per_second`.",
    ),
    "streams.too_many": (
        429,
        "The client has too many streams or batches in progress.",
        "Wait for one to end. The setting `limits.streams` is the limit.",
    ),
    "upload.busy": (
        429,
        "The client has too many uploads in progress.",
        "Wait for an upload to end, or at least as long as `Retry-After` says.",
    ),
    "gate.error": (
        500,
        "An unexpected error occurred in the gate. No call was allowed.",
        "Report the error with the traceback from the gate's service log.",
    ),
    "subject.template": (
        500,
        "A template in the gate's folder `letters` has a fault.",
        "Correct the template, or remove it from the folder. `dialgate config check` names the fault.",
    ),
    "proof.damaged": (
        500,
        "The file that proves a consent is damaged on the gate's disk.",
        "Send it again with `POST /v1/proofs`, or restore `proofs/` from a backup.",
    ),
    "attachment.damaged": (
        500,
        "The attachment of a data-subject request is damaged on the gate's disk.",
        "Replace the database of requests by the copy of `dialgate backup`.",
    ),
    "extra.missing": (
        501,
        "The gate was installed without the extra that this feature needs.",
        "Add it with the command in `message`, and restart the gate.",
    ),
    "upload.full": (
        503,
        "The gate is not accepting more uploads right now.",
        "Send the file again after the seconds in `Retry-After`.",
    ),
    "upload.failed": (
        503,
        "The process that reads the file ended unexpectedly. Nothing was loaded.",
        "Send the file again. If it fails again, raise the setting `uploads.memory_mb` or split the file.",
    ),
    "store.unavailable": (
        503,
        "The store cannot be reached. Nothing was written.",
        "Repeat the request. If it persists, check that Redis is running and `store.url` is correct.",
    ),
    "peer.unheard": (
        503,
        "This gate does not have the decision, and another gate that may have it cannot be reached.",
        "Repeat the request when the gates named in `message` are up.",
    ),
    "gate.unavailable": (
        503,
        "The gate is not ready: its log, its keys or its clock has a problem.",
        "Repeat the request. If it persists, `GET /readyz` names the cause.",
    ),
    "upload.no_space": (
        507,
        "The disk for uploads is nearly full. Nothing was loaded.",
        "Free space in the folder of the setting `uploads.folder`.",
    ),
}
CODES: Final = {code: ErrorCode(*row) for code, row in _CODES.items()}
