"""The signature schemes of the shipped files, with the examples that vendors publish."""

import base64
import hmac
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct, structs

from dialgate.config import incoming_webhooks, yaml_file
from dialgate.config.incoming_webhooks import IncomingWebhook, SignedWebhook
from dialgate.interfaces.webhooks import signatures
from dialgate.interfaces.webhooks.message import WebhookMessage
from tests.support.paths import ROOT

EXAMPLES = ROOT / "config/webhooks/examples"


def webhook(name: str, secret: bytes, **changes: Any) -> SignedWebhook:
    data, _, _ = yaml_file.read(EXAMPLES / f"{name}.yaml")
    settings, faults = yaml_file.convert(data | changes, IncomingWebhook)
    assert settings is not None, faults
    return SignedWebhook(settings, secret)


class Case(Struct, frozen=True):
    """A message that is authentic at `at` (milliseconds). `timed` says whether it becomes too old."""

    webhook: SignedWebhook
    message: WebhookMessage
    at: int
    timed: bool = True


def message(body: str | bytes, headers: dict[str, str], query: str = "") -> WebhookMessage:
    raw = body.encode() if isinstance(body, str) else body
    return WebhookMessage(raw, query, {name.lower(): text for name, text in headers.items()}, 0)


def twilio() -> Case:
    # twilio-python, tests/unit/test_request_validator.py: token, URL, parameters and signature.
    form = "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309"
    signed = message(form, {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="}, "foo=1&bar=2")
    made = webhook("twilio", b"12345", url="https://mycompany.com/myapp.php")
    return Case(made, signed, 0, timed=False)


def twilio_json() -> Case:
    # The same file: a JSON body, whose hash is in the signed URL.
    body = '{"property": "value", "boolean": true}'
    query = "foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
    signed = message(body, {"X-Twilio-Signature": "a9nBmqA0ju/hNViExpshrM61xv4="}, query)
    return Case(webhook("twilio", b"12345", url="https://mycompany.com/myapp.php"), signed, 0, timed=False)


def retell() -> Case:
    # retell-python-sdk, tests/test_webhook_auth.py: key, body, time and digest.
    digest = "07024cabe7dd8f6d1c6e4a8324ca92c812e6ad4a7ee506c04f7e462e3321823e"
    signed = message('{"event":"call_ended"}', {"X-Retell-Signature": f"v=1700000000000,d={digest}"})
    return Case(webhook("retell", b"test-api-key"), signed, 1_700_000_000_000)


def hubspot() -> Case:
    # hubspot-api-python, tests/spec/utils/test_signature.py: secret, URL, body, time and signature (v3).
    headers = {
        "X-HubSpot-Signature-v3": "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=",
        "X-HubSpot-Request-Timestamp": "15000000",
    }
    made = webhook(
        "hubspot", b"yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy", url="https://www.example.com/webhook_uri"
    )
    return Case(made, message("{'example_field':'example_value'}", headers), 15_000_000_000)


def standard_webhooks() -> Case:
    # standard-webhooks, libraries/python/tests/test_webhooks.py: secret, id, time, payload and signature.
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = incoming_webhooks.secret_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "hmac-sha256")
    return Case(
        webhook("standard-webhooks", secret), message('{"test": 2432232314}', headers), 1_614_265_330_000
    )


def telnyx() -> Case:
    # Telnyx publishes no fixed signature: its SDKs' tests sign with a new key. This is the payload of telnyx-python's
    # tests, signed as they do, over time|payload with the first key of RFC 8032, 7.1. telnyx 4.189.0 accepts it.
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    body = '{"record_type": "event", "id": "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0", "event_type": "call_initiated"}'
    signature = base64.b64encode(key.sign(f"1700000000|{body}".encode())).decode()
    headers = {"Telnyx-Signature-Ed25519": signature, "Telnyx-Timestamp": "1700000000"}
    return Case(webhook("telnyx", bytes.fromhex(public)), message(body, headers), 1_700_000_000_000)


VONAGE_SECRET = b"qwertyuiopasdfghjklzxcvbnm123456"


def vonage() -> Case:
    body = '{"from":"447700900000","text":"STOP"}'
    claims = {"iat": 1_587_494_962, "iss": "Vonage", "payload_hash": sha256(body.encode()).hexdigest()}
    headers = {"Authorization": f"Bearer {token(claims, VONAGE_SECRET)}"}
    return Case(webhook("vonage", VONAGE_SECRET), message(body, headers), 1_587_494_962_000)


def token(claims: dict[str, Any], secret: bytes, algorithm: str = "HS256") -> str:
    parts = [json.dumps(part).encode() for part in ({"typ": "JWT", "alg": algorithm}, claims)]
    head = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    signed = base64.urlsafe_b64encode(hmac.digest(secret, head.encode(), "sha256")).rstrip(b"=").decode()
    return f"{head}.{signed}"


def zoho() -> Case:
    # zoho.com/crm/developer/docs/api/v7/notifications/enable.html: the token and the channel come back in the body.
    body = "token=TOKEN_FOR_VERIFICATION_OF_1000000068001&channel_id=1000000068001&Do_Not_Call=true"
    return Case(
        webhook("zoho", b"TOKEN_FOR_VERIFICATION_OF_1000000068001"), message(body, {}), 0, timed=False
    )


def key_in_header() -> Case:
    signed = message('{"events": []}', {"X-Webhook-Key": "a-key-of-the-operator"})
    return Case(webhook("generic", b"a-key-of-the-operator"), signed, 0, timed=False)


CASES = [twilio, twilio_json, retell, hubspot, standard_webhooks, telnyx, vonage, zoho, key_in_header]
SIGNED = [twilio, twilio_json, retell, hubspot, standard_webhooks, telnyx, vonage]


@pytest.mark.parametrize("make", CASES)
def test_the_published_example_is_authentic(make: Callable[[], Case]) -> None:
    case = make()
    assert signatures.verify(case.webhook, case.message, case.at) == ""


@pytest.mark.parametrize("make", SIGNED)
def test_each_changed_byte_of_the_body_is_refused(make: Callable[[], Case]) -> None:
    case = make()
    body = case.message.body
    for at in range(len(body)):
        changed = structs.replace(case.message, body=body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        assert signatures.verify(case.webhook, changed, case.at), at


@pytest.mark.parametrize("make", CASES)
def test_another_secret_is_refused(make: Callable[[], Case]) -> None:
    case = make()
    other = structs.replace(case.webhook, secret=case.webhook.secret[:-1] + b"\x01")
    assert signatures.verify(other, case.message, case.at)


@pytest.mark.parametrize("make", CASES)
def test_a_message_without_its_signature_is_refused(make: Callable[[], Case]) -> None:
    case = make()
    place = case.webhook.settings.signature.place.removeprefix("header.").lower()
    headers = {name: text for name, text in case.message.headers.items() if name != place}
    body = b"" if place.startswith("body") else case.message.body
    assert signatures.verify(case.webhook, structs.replace(case.message, headers=headers, body=body), case.at)


@pytest.mark.parametrize("make", SIGNED)
def test_an_old_or_future_time_is_refused(make: Callable[[], Case]) -> None:
    case = make()
    for minutes, is_valid in ((5, True), (-5, True), (6, not case.timed), (-6, not case.timed)):
        reason = signatures.verify(case.webhook, case.message, case.at + minutes * 60_000)
        assert (reason == "") is is_valid, (minutes, reason)


def test_another_url_is_refused() -> None:
    for case in (twilio(), hubspot()):
        for changed in (
            structs.replace(case.message, query="foo=2"),
            structs.replace(case.message, query="x=1&bar=2"),
        ):
            assert signatures.verify(case.webhook, changed, case.at)


def test_a_json_body_in_the_place_of_a_form_is_refused() -> None:
    case = twilio()
    assert signatures.verify(case.webhook, structs.replace(case.message, body=b'{"From": "+1"}'), 0)


def test_a_wrong_channel_is_refused() -> None:
    case = zoho()
    body = case.message.body.replace(b"channel_id=1000000068001", b"channel_id=1")
    assert "channel_id" in signatures.verify(case.webhook, structs.replace(case.message, body=body), 0)


def test_the_token_that_vonage_publishes_is_signed_but_for_no_body() -> None:
    # vonage-python-sdk, jwt/tests/test_verify_jwt.py. Its claims lack payload_hash, so anyone could exchange the body.
    published = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJPbmxpbmUgSldUIEJ1aWxkZXIiLCJpYXQiOjE2OTc2MzQ2ODAsImV4cCI6MzMyNTQ1NDA4MjgsImF1ZCI6IiIsInN1YiI6IiJ9.88vJc3I2HhuqEDixHXVhc9R30tA6U_HQHZTC29y6CGM"
    claims = signatures.token_claims(published, VONAGE_SECRET)
    assert claims is not None
    assert claims["iss"] == "Online JWT Builder"
    assert signatures.token_claims(published, b"asdf") is None
    signed = message("{}", {"Authorization": f"Bearer {published}"})
    assert "payload_hash" in signatures.verify(webhook("vonage", VONAGE_SECRET), signed, 1_697_634_680_000)


@pytest.mark.parametrize("algorithm", ["none", "HS512", "RS256"])
def test_a_token_with_another_algorithm_is_refused(algorithm: str) -> None:
    assert signatures.token_claims(token({"iat": 1}, VONAGE_SECRET, algorithm), VONAGE_SECRET) is None


@pytest.mark.parametrize("sent_at", [None, [], {}, "now"])
def test_a_token_without_a_time_is_refused(sent_at: Any) -> None:
    claims = {"iat": sent_at, "payload_hash": sha256(b"{}").hexdigest()}
    signed = message("{}", {"Authorization": f"Bearer {token(claims, VONAGE_SECRET)}"})
    assert "no time" in signatures.verify(webhook("vonage", VONAGE_SECRET), signed, 0)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "..", "eyJ9.eyJ9.eyJ9"])
def test_no_token_is_refused(text: str) -> None:
    assert signatures.token_claims(text, VONAGE_SECRET) is None


def test_the_examples_are_valid_and_named_in_their_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    for path in sorted(Path(EXAMPLES).glob("*.yaml")):
        data, _, problems = yaml_file.read(path)
        settings, faults = yaml_file.convert(data, IncomingWebhook)
        assert settings is not None, faults
        assert (problems, list(incoming_webhooks.faults(settings))) == ([], [])
        assert f"`{path.name}`" in readme
