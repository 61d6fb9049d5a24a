"""Dialers with their own formats: FreeSWITCH modules, and webhooks by profile."""

import re
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode
from xml.etree import ElementTree as ET

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from dialgate.config import loader, yaml_file
from dialgate.config.configuration import ConfigError
from dialgate.config.listeners import Limits
from dialgate.config.webhook_dialects import Profile, faults
from dialgate.tools.conformance.freeswitch import FreeswitchCall, dialers_variables, read_leniently
from dialgate.tools.conformance.model import EmulatedCall
from tests.support import pbx, world
from tests.support.paths import ROOT
from tests.support.world import CALL, CALLER, CLEAR, CONFIG, KEY, LISTED, World

Fields = dict[str, Any]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[World]:
    """Run a gate with the shipped webhook profiles, and a client that is identified by its address."""
    shutil.copytree(CONFIG / "webhooks", tmp_path / "webhooks")
    clients = [world.client("tests", KEY, *world.SCOPES), pbx.PBX]
    async with world.running(tmp_path, clients=clients) as made:
        await world.load_list(made)
        yield made


async def post(made: World, path: str, status: int = 200, **given: Any) -> Any:
    async with made.client.post(path, **given) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def broken(made: World) -> None:
    """Close the store, so that no further call can be decided."""
    await made.app._store.close()


# ---- FreeSWITCH ------------------------------------------------------------------------------------------------------

HTTAPI, DIALPLAN = "/v1/freeswitch/httapi", "/v1/freeswitch/dialplan"


def query(to: str = CLEAR, **more: str) -> str:
    return urlencode({"to": to, "from": CALLER, "campaign": "acme-fibre", **more})


async def xml(made: World, method: str, url: str, **given: Any) -> ET.Element:
    async with made.client.request(method, url, **given) as answer:
        assert (answer.status, answer.content_type) == (200, "text/xml"), await answer.text()
        return ET.fromstring(await answer.text())


def work(document: ET.Element) -> tuple[str, str]:
    """Return the action in the `work` element of a mod_httapi document, and the decision that the document sets."""
    (done,) = list(document.find("work") or [])
    return done.tag, document.findtext("variables/dg_decision") or ""


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_httapi_continues_after_an_allow_and_hangs_up_otherwise(running: World, method: str) -> None:
    assert work(await xml(running, method, f"{HTTAPI}?{query()}")) == ("break", "allow")
    assert work(await xml(running, method, f"{HTTAPI}?{query(LISTED)}")) == ("hangup", "deny")


async def test_the_httapi_profile_permits_each_variable_of_the_answer(running: World) -> None:
    profile = ET.parse(ROOT / "deploy/freeswitch/httapi.conf.xml")
    permitted = {variable.get("name") for variable in profile.iter("variable")}
    answers = [await xml(running, "POST", f"{HTTAPI}?{query(to)}") for to in (CLEAR, LISTED)]
    answers.append(await xml(running, "POST", f"{HTTAPI}?x=%ff"))
    auto = {"to": CLEAR, "from": "auto", "campaign": "acme-fibre"}
    answers.append(await xml(running, "POST", f"{HTTAPI}?{urlencode(auto)}"))
    assert {variable.tag for answer in answers for variable in answer.findall("variables/*")} == permitted


async def test_an_httapi_answer_that_is_cut_off_allows_nothing(running: World) -> None:
    """mod_httapi also reads a document without its end. So an allow needs all of its elements."""
    async with running.client.post(f"{HTTAPI}?{query()}") as answer:
        text = await answer.text()
    whole = text.index("</dg_decision>")
    allowing = [
        length
        for length in range(len(text))
        if read_leniently(text[:length]).findtext("variables/dg_decision") == "allow"
    ]
    assert min(allowing) >= whole
    assert "<" not in text[whole:].replace("</dg_decision></variables></document>", "")


async def test_a_repeated_httapi_request_of_a_channel_counts_once(running: World) -> None:
    data = {"session_id": "u-1", "hostname": "fs", "Caller-Destination-Number": "1", "to": LISTED}
    ids = set()
    for _ in range(2):
        response = await xml(running, "POST", f"{HTTAPI}?{query()}", data=data)
        ids.add(response.findtext("variables/dg_decision_id"))
    assert len(ids) == 1
    response = await xml(running, "POST", f"{HTTAPI}?{query()}", data={**data, "exiting": "true"})
    assert work(response) == ("break", "")


AMISS = [
    ("", {}),
    (f"{query()}&to={quote(LISTED)}", {}),
    (query(call_type="loud"), {}),
    (f"{query()}&x=%ff", {}),
    (f"{query()}&token=x", {}),
    (query(), {"headers": {"Authorization": "Bearer wrong"}}),
    (query(campaign="no-such"), {}),
]


@pytest.mark.parametrize(("asked", "given"), AMISS)
async def test_freeswitch_hangs_up_after_any_error(running: World, asked: str, given: Fields) -> None:
    """The status is 200, because FreeSWITCH continues the call after any other status."""
    assert work(await xml(running, "POST", f"{HTTAPI}?{asked}", **given)) == ("hangup", "deny")
    url = f"{DIALPLAN}?bridge=sofia/gateway/trunk&{asked}"
    response = actions(await xml(running, "POST", url, data={"section": "dialplan"}, **given))
    assert response[-1][0] == "hangup"
    assert "bridge" not in [name for name, _ in response]


# The address of a call, and how FreeSWITCH refuses it: the status that mod_sofia sends, or the cause that it maps to one
# (CALL_REJECTED to 603, OUTGOING_CALL_BARRED to 403, NORMAL_TEMPORARY_FAILURE to 503).
REFUSED = [
    (query(LISTED), ("hangup", "CALL_REJECTED")),
    (query(campaign="no-such"), ("hangup", "OUTGOING_CALL_BARRED")),
    (query(**{"from": "+390600000000"}), ("hangup", "OUTGOING_CALL_BARRED")),
    ("x=%ff", ("respond", "500 Server Internal Error")),
    (f"{query()}&to={quote(LISTED)}", ("respond", "500 Server Internal Error")),
]


@pytest.mark.parametrize(("asked", "refusal"), REFUSED)
async def test_freeswitch_refuses_according_to_the_reason_class(
    running: World, asked: str, refusal: tuple[str, str]
) -> None:
    url = f"{DIALPLAN}?bridge=sofia/gateway/trunk&{asked}"
    response = actions(await xml(running, "POST", url, data={"section": "dialplan"}))
    assert next(action for action in response if action[0] != "set") == refusal
    document = await xml(running, "POST", f"{HTTAPI}?{asked}")
    (hangup,) = document.iter("hangup")
    status = document.findtext("variables/last_bridge_proto_specific_hangup_cause")
    expected = (refusal[1], None) if refusal[0] == "hangup" else ("NORMAL_TEMPORARY_FAILURE", "sip:500")
    assert (hangup.get("cause"), status) == expected


async def test_freeswitch_may_retry_an_undecided_call_and_never_gets_503(running: World) -> None:
    """After a 503, a dialer tries its next server, which could be the trunk."""
    await broken(running)
    document = await xml(running, "POST", f"{HTTAPI}?{query()}")
    assert [element.get("cause") for element in document.iter("hangup")] == ["NORMAL_TEMPORARY_FAILURE"]
    assert document.findtext("variables/last_bridge_proto_specific_hangup_cause") == "sip:500"
    assert document.findtext("variables/sip_rh_Retry-After") == "5"
    url = f"{DIALPLAN}?{query()}&bridge=sofia/gateway/trunk"
    response = actions(await xml(running, "POST", url, data={"section": "dialplan"}))
    assert response[-3:] == [
        ("set", "sip_rh_Retry-After=5"),
        ("respond", "500 Server Internal Error"),
        ("hangup", "NORMAL_TEMPORARY_FAILURE"),
    ]


def actions(document: ET.Element) -> list[tuple[str, str]]:
    return [(element.get("application", ""), element.get("data", "")) for element in document.iter("action")]


async def test_the_dialplan_bridges_to_the_number_that_was_checked(running: World) -> None:
    url = f"{DIALPLAN}?campaign=acme-fibre&bridge=sofia/gateway/trunk"
    channel = {
        "section": "dialplan",
        "Caller-Destination-Number": "06 1234 5678",
        "Caller-Caller-ID-Number": CALLER,
        "Caller-Context": 'a"b',
        "Unique-ID": "u-1",
        **{f"variable_{at}": "x" for at in range(300)},
    }
    document = await xml(running, "POST", url, data=channel)
    assert [element.get("name") for element in document.iter("context")] == ['a"b']
    async with running.client.post(url, data=channel) as answer:
        call = FreeswitchCall(await answer.text(), dialers_variables())
    assert await call.run('a"b') == EmulatedCall(how=CLEAR)
    response = actions(await xml(running, "POST", url, data={**channel, "Caller-Destination-Number": LISTED}))
    assert response == [
        ("set", "dg_reason=registry.listed"),
        ("set", "dg_class=number"),
        ("hangup", "CALL_REJECTED"),
    ]


async def test_the_dialplan_is_for_the_context_in_its_url_only(running: World) -> None:
    """mod_xml_curl asks for every context, also for that of incoming calls."""
    url = f"{DIALPLAN}?context=dialgate&campaign=acme-fibre&bridge=sofia/gateway/trunk"
    channel = {"section": "dialplan", "Caller-Destination-Number": CALLER, "Caller-Caller-ID-Number": CLEAR}
    document = await xml(running, "POST", url, data={**channel, "Caller-Context": "public"})
    assert [element.get("status") for element in document.iter("result")] == ["not found"]
    document = await xml(running, "POST", url, data={**channel, "Caller-Context": "dialgate"})
    assert actions(document)[-1][0] == "hangup"
    (parameter,) = ET.parse(ROOT / "deploy/freeswitch/xml_curl.conf.xml").iterfind(
        ".//param[@name='gateway-url']"
    )
    assert "context=dialgate&" in (parameter.get("value") or "")


async def test_the_dialplan_checks_the_number_that_freeswitch_searches(running: World) -> None:
    """With `execute_extension`, the searched number and context differ from those of the channel."""
    url = f"{DIALPLAN}?context=dialgate&campaign=acme-fibre&bridge=sofia/gateway/trunk"
    channel = {
        "section": "dialplan", "Caller-Destination-Number": LISTED, "Caller-Context": "default",
        "Caller-Caller-ID-Number": CALLER, "Hunt-Destination-Number": CLEAR, "Hunt-Context": "dialgate",
        "Hunt-Caller-ID-Number": CALLER,
    }  # fmt: skip
    bridges = [
        data for name, data in actions(await xml(running, "POST", url, data=channel)) if name == "bridge"
    ]
    assert [data.rpartition("/")[2] for data in bridges] == [CLEAR]


@pytest.mark.parametrize("bridge", ["", "sofia/gateway/x,sofia/gateway/y", "{a=b}sofia/x", "x'y"])
async def test_the_bridge_parameter_allows_a_single_leg_only(running: World, bridge: str) -> None:
    url = f"{DIALPLAN}?{query(bridge=bridge)}"
    assert actions(await xml(running, "POST", url, data={"section": "dialplan"}))[-1][0] == "hangup"


async def test_a_request_for_another_section_is_not_found(running: World) -> None:
    document = await xml(running, "POST", f"{DIALPLAN}?{query()}", data={"section": "directory"})
    assert [element.get("status") for element in document.iter("result")] == ["not found"]


# ---- HEAD ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/check.txt", "/v1/check.form"])
@pytest.mark.parametrize(("to", "status", "said"), [(CLEAR, 200, "allow"), (LISTED, 403, "deny")])
async def test_the_status_for_head_distinguishes_allow_and_deny(
    running: World, path: str, to: str, status: int, said: str
) -> None:
    async with running.client.head(f"{path}?{query(to)}") as answer:
        assert (answer.status, answer.headers["Dialgate-Decision"]) == (status, said)


def test_an_idle_connection_is_kept_longer_than_dialers_keep_it() -> None:
    """With servers that close connections after 250 ms, OpenSIPS failed calls every day (OpenSIPS issue 3544)."""
    assert Limits().idle_seconds >= 75


# ---- webhooks --------------------------------------------------------------------------------------------------------

PROFILES: dict[str, tuple[Fields, Callable[[Any], bool]]] = {
    "generic": ({"json": CALL}, lambda told: told["allowed"]),
    "genesys": ({"json": CALL}, lambda told: told["decision"] == "allow"),
    "cxone": ({"json": {**CALL, "contactId": 17}}, lambda told: told["suppress"] == "no"),
    "jambonz": (
        {"json": {"to": CLEAR, "from": CALLER, "call_sid": "s-1"}, "params": {"campaign": "acme-fibre"}},
        lambda told: told[0]["verb"] == "dial",
    ),
}


def to_listed(given: Fields) -> Fields:
    return {**given, "json": {**given["json"], "to": LISTED}}


@pytest.mark.parametrize("name", PROFILES)
async def test_every_profile_reports_the_decision(running: World, name: str) -> None:
    """Denied, malformed and undecided calls must not be reported as permitted."""
    given, allows = PROFILES[name]
    path = f"/v1/webhooks/{name}"
    assert allows(await post(running, path, **given))
    as_form = {**given, "json": None, "data": msgspec.json.encode(given["json"]), "headers": FORM}
    assert allows(await post(running, path, **as_form)), "`curl -d` and others send JSON with this type"
    assert not allows(await post(running, path, **to_listed(given)))
    assert not allows(await post(running, path, json={}))
    assert not allows(await post(running, path, data=b"{", headers={"Content-Type": "application/json"}))
    await broken(running)
    status = running.app.config.profiles[name].retry.status
    assert not allows(await post(running, path, status, **given))


GARBAGE = ['"', "a" * 4096, '"}], "allowed": true', "\u0000", "$(rU{rest.escape})", f"{CLEAR};{LISTED}"]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", PROFILES)
async def test_garbage_in_any_field_is_denied_in_the_dialers_format(
    running: World, name: str, garbage: str
) -> None:
    """The response contains the denial's reason class. Call ids are not tested, because any text is a valid call id."""
    given, allows = PROFILES[name]
    for field in ("to", "from"):
        response = await post(
            running, f"/v1/webhooks/{name}", **{**given, "json": {**given["json"], field: garbage}}
        )
        assert not allows(response)
        (found,) = re.findall(r"'(?:reason_class|reasonClass|X-Dialgate-Class)': '(\w+)'", str(response))
        assert found == ("gate" if len(garbage) > 256 else "call")


async def test_jambonz_dials_the_number_that_was_checked(running: World) -> None:
    given, _ = PROFILES["jambonz"]
    given = {**given, "json": {**given["json"], "to": "06 1234 5678"}}
    (verb,) = await post(running, "/v1/webhooks/jambonz", **given)
    assert (verb["callerId"], verb["target"]) == (CALLER, [{"type": "phone", "number": CLEAR}])


def test_every_shipped_profile_is_tested() -> None:
    assert {path.stem for path in (CONFIG / "webhooks").glob("*.yaml")} == set(PROFILES)


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PLAIN = """
id: plain
about: a form, and a form back
to: [body.n]
from: ["=+390844123456"]
campaign: [query.c, "=acme-fibre"]
allow: {form: true, body: {r: "1", n: "{to}"}}
deny: {form: true, body: {r: "0", why: "{reason}"}}
retry: {form: true, status: 503, body: {r: "0", why: "{reason}"}}
"""


async def test_a_profile_may_use_forms_and_fixed_values(running: World) -> None:
    profile = msgspec.convert(yaml.safe_load(PLAIN), Profile)
    running.app.reload(replace(running.app.config, profiles={"plain": profile}))
    for to, response in (
        (CLEAR, {"r": ["1"], "n": [CLEAR]}),
        (LISTED, {"r": ["0"], "why": ["registry.listed"]}),
    ):
        async with running.client.post("/v1/webhooks/plain", data={"n": to}) as answer:
            assert parse_qs(await answer.text()) == response


async def test_a_repeated_number_is_refused(running: World) -> None:
    """It is unclear which of the numbers the dialer would call. Fields outside the profile may be repeated."""
    profile = msgspec.convert(yaml.safe_load(PLAIN), Profile)
    running.app.reload(replace(running.app.config, profiles={"plain": profile}))
    twice = {
        "/v1/webhooks/plain": f"n={LISTED}&n={CLEAR}",
        "/v1/webhooks/plain?c=a&c=acme-fibre": f"n={CLEAR}",
    }
    for path, sent in twice.items():
        async with running.client.post(path, data=sent.replace("+", "%2B"), headers=FORM) as answer:
            assert parse_qs(await answer.text()) == {"r": ["0"], "why": ["request.invalid"]}
    other = f"n={CLEAR}&tag=a&tag=b".replace("+", "%2B")
    async with running.client.post("/v1/webhooks/plain", data=other, headers=FORM) as answer:
        assert parse_qs(await answer.text())["r"] == ["1"]


async def test_an_unknown_profile_is_refused(running: World) -> None:
    assert (await post(running, "/v1/webhooks/no-such", 404, json=CALL))["error"]["code"] == "webhook.unknown"


WRONG = [
    ({"to": []}, "at least one source for the value"),
    ({"to": ["=+390612345678"]}, "cannot be a constant"),
    ({"to": ["header.x"]}, "not of the form body.NAME"),
    ({"deny": {"body": {"r": "{number}"}}}, "is not one of decision"),
    ({"deny": {"body": {"r": "1", "n": "{to}"}}}, "must differ from those of"),
    ({"deny": {"body": "x", "status": 99}}, "is not between 200 and 599"),
    ({"deny": {"body": ["x"], "form": True}}, "object whose values are strings"),
    ({"id": "Plain"}, "lower-case letters"),
    ({"script": "x"}, "unknown key `script`"),
]


@pytest.mark.parametrize(("changes", "problem"), WRONG)
def test_an_unusable_profile_is_refused_with_the_reason(changes: Fields, problem: str) -> None:
    profile, found = yaml_file.convert(yaml.safe_load(PLAIN) | changes, Profile)
    if profile is not None:
        found.extend(faults(profile))
    assert problem in "; ".join(found)


def test_every_problem_of_every_profile_stops_the_start_and_names_its_file(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path)
    (tmp_path / "webhooks").mkdir()
    (tmp_path / "webhooks/a.yaml").write_text(PLAIN)
    (tmp_path / "webhooks/b.yaml").write_text(PLAIN)
    (tmp_path / "webhooks/c.yaml").write_text(PLAIN.replace("to: [body.n]", "to: [n]"))
    (tmp_path / "webhooks/d.yaml").write_text("id: [")
    with pytest.raises(ConfigError) as raised:
        loader.load(path)
    problems = raised.value.problems
    assert [problem.partition(":")[0] for problem in problems] == [
        "webhooks/b.yaml",
        "webhooks/c.yaml",
        "webhooks/d.yaml",
    ]
