"""Tests of the recipes on the page "Check in your own code", with the platforms' real SDKs.

A local server is in the platform's place. In front of each call is a real gate, or one that fails in one way. `make torture` installs the SDKs.
"""

import asyncio
import json
import os
import shutil
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.project.test_docs import PAGES, blocks
from tests.support import world
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.world import CALLER, CLEAR, KEY, LISTED, NOW, World

pytestmark = pytest.mark.torture

PAGE: Final = PAGES["docs/how-to/check-in-code.md"]
PYTHON_SDKS: Final = ("twilio==9.13.0", "telnyx==4.189.0", "vonage-voice==1.5.1", "livekit-api==1.2.2")
NODE_SDKS: Final = (
    "twilio@6.3.1", "telnyx@7.24.0", "@vonage/auth", "@vonage/voice@1.21.0", "livekit-server-sdk@2.19.2", "@jambonz/sdk@0.10.1",
)  # fmt: skip
# The requests of the real gate, with the failure of the platform or the event that each case has.
ALLOWED: Final = ("allow", "platform-500", "platform-hangs-up")
ANSWER: Final = {
    "sid": "CA1",
    "uuid": "1",
    "status": "started",
    "direction": "outbound",
    "conversation_uuid": "1",
    "data": {"call_control_id": "1"},
}
SECRETS: Final = {
    "TWILIO_ACCOUNT_SID": f"AC{'0' * 32}",
    "TWILIO_AUTH_TOKEN": "token",
    "TELNYX_API_KEY": "key",
    "TELNYX_CONNECTION_ID": "1",
    "VONAGE_APPLICATION_ID": "5d3a1a2e-8d40-4e4a-9a0b-3f1f0c6b7a10",
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": "a secret of the tests, which is long enough for HMAC",
    "LIVEKIT_TRUNK": "ST_1",
    "JAMBONZ_ACCOUNT_SID": "1",
    "JAMBONZ_API_KEY": "key",
}


class Recipe(NamedTuple):
    """`title` is the heading on the page, `requests` what the SDK sends if the platform answers 500, and if it hangs up."""

    title: str
    language: str
    requests: tuple[int, int]
    secure: bool = False


RECIPES: Final = [
    Recipe("Twilio", "python", (1, 1)),
    Recipe("Telnyx", "python", (3, 3)),
    Recipe("Vonage", "python", (1, 1), secure=True),
    Recipe("LiveKit", "python", (1, 1)),
    Recipe("Twilio", "js", (1, 1)),
    Recipe("Telnyx", "js", (3, 3)),
    Recipe("Vonage", "js", (1, 1)),
    Recipe("LiveKit", "js", (1, 1)),
    Recipe("jambonz", "js", (1, 1)),
]

# Other requests of Twilio's SDK: in each case, what the program does in place of `dial`.
TWILIO_PYTHON: Final = "\nasync def dial(to, from_):\n    return await twilio."
TWILIO_JS: Final = "\nexport const instead = (to, from) => client."
TWILIO: Final = {
    "python": {
        "reads-a-call": TWILIO_PYTHON + 'calls("CA1").fetch_async()',
        "ends-a-call": TWILIO_PYTHON + 'calls("CA1").update_async(status="completed")',
        "sends-twiml": TWILIO_PYTHON + 'calls("CA1").update_async(twiml="<Response/>")',
        "runs-a-flow": TWILIO_PYTHON + 'studio.v2.flows("FW1").executions.create_async(to=to, from_=from_)',
        "calls-for-a-conference": TWILIO_PYTHON
        + 'conferences("CF1").participants.create_async(to=to, from_=from_)',
    },
    "js": {
        "reads-a-call": TWILIO_JS + 'calls("CA1").fetch();',
        "ends-a-call": TWILIO_JS + 'calls("CA1").update({ status: "completed" });',
        "sends-twiml": TWILIO_JS + 'calls("CA1").update({ twiml: "<Response/>" });',
        "runs-a-flow": TWILIO_JS + 'studio.v2.flows("FW1").executions.create({ to, from });',
        "calls-for-a-conference": TWILIO_JS + 'conferences("CF1").participants.create({ to, from });',
    },
}


class Platform:
    """A server in the platform's place, which also receives the name of the case that begins, and failing gates."""

    def __init__(self, gate: World) -> None:
        self.gate = gate
        self.case = ""
        self.requests: dict[str, list[str]] = {}
        self.ended = asyncio.Event()
        self.application = web.Application()
        self.application.router.add_get("/begin/{case}", self.begin)
        self.application.router.add_post("/gate/{fault}/v1/check", self.fail)
        self.application.router.add_route("*", "/{path:.*}", self.answer)

    async def begin(self, request: web.Request) -> web.Response:
        self.case = request.match_info["case"]
        self.requests[self.case] = []
        if self.case == "stop":
            await self.gate.post("/v1/revocations", {"number": CLEAR, "channel": "call"})
        return web.Response()

    async def fail(self, request: web.Request) -> web.Response:
        """Answer like a failing gate."""
        call = await request.json()
        allow = {"decision": "allow", "decision_id": "1-1", "to": call["to"], "from": call["from"]}
        allow["valid_until"] = "2026-11-24T09:15:00.000Z"
        match request.match_info["fault"]:
            case "slow":
                await self.ended.wait()
            case "500":
                return web.json_response(allow, status=500)
            case "nonsense":
                return web.Response(text="allow")
            case "other-number":
                return web.json_response(allow | {"to": LISTED})
        return web.json_response(allow)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests[self.case].append(unquote_plus(body.decode("utf-8", "replace")))
        if self.case == "platform-hangs-up" and request.transport is not None:
            request.transport.abort()
        if self.case == "platform-500":
            return web.json_response({}, status=500)
        if request.content_type == "application/protobuf":
            return web.Response()
        return web.json_response(ANSWER, status=201 if "Accounts" in request.path else 200)


@asynccontextmanager
async def serving(platform: Platform, folder: Path) -> AsyncIterator[tuple[int, int]]:
    """Serve the platform, and yield its ports for HTTP and for TLS."""
    runner = web.AppRunner(platform.application, shutdown_timeout=0)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    world.write_certificate(folder)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1], runner.addresses[1][1]
    finally:
        platform.ended.set()
        await runner.cleanup()


async def run(folder: Path, *words: str, given: str = "", **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *words, cwd=folder, env=os.environ | environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate(given.encode())
    assert process.returncode == 0, errors.decode() + output.decode()
    return output.decode()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the SDKs and our client for Node.js, and return the folder."""
    folder = tmp_path_factory.mktemp("sdks")
    uv = Path(sys.executable).parent / "uv"
    pip = [str(uv), "pip", "install", "-q", "--python", sys.executable, "--target", "python", *PYTHON_SDKS]
    asyncio.run(run(folder, *pip))
    client = str(ROOT / "deploy/clients/node")
    for name in ("recipe_runner.py", "recipe_runner.mjs"):  # modules are looked for beside the program
        shutil.copy(ROOT / "tests/support" / name, folder)
    asyncio.run(
        run(folder, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", client, *NODE_SDKS)
    )
    return folder


def code_of(recipe: Recipe, platform: str) -> str:
    """Return the page's code for a recipe, with the platform's address and the time of the tests."""
    section = PAGE.partition(f"\n## {recipe.title}\n")[2].partition("\n## ")[0]
    common = PAGE.partition("\n## Install\n")[2].partition("\n## ")[0]
    ((shared,), (own,)) = blocks(common, recipe.language), blocks(section, recipe.language)
    python = 'os.environ["DIALGATE_URL"], os.environ["DIALGATE_KEY"]'
    javascript = "process.env.DIALGATE_URL, process.env.DIALGATE_KEY"
    changes = {
        python: f"{python}, timeout=2, clock=lambda: {NOW / 1000}",
        javascript: f"{javascript}, {{ timeout: 2000, clock: () => {NOW} }}",
        '"https://api.nexmo.com"': f'"{platform}"',
        '"api.nexmo.com"': f'"{platform.partition("//")[2]}"',
        "https://project.livekit.cloud": platform,
        "https://jambonz.example": platform,
        "AsyncTelnyx(": f'AsyncTelnyx(base_url="{platform}", ',
        "new Telnyx({ ": f'new Telnyx({{ baseURL: "{platform}", ',
    }
    code = f"{shared}\n{own}"
    for text, replacement in changes.items():
        code = code.replace(text, replacement)
    return code


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.title}-{recipe.language}")
async def test_the_sdk_dials_only_after_an_allow(
    recipe: Recipe, installed: Path, running: World, tmp_path: Path
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    platform = Platform(running)
    async with serving(platform, tmp_path) as (port, secure_port):
        control = f"http://127.0.0.1:{port}"
        address = f"https://127.0.0.1:{secure_port}" if recipe.secure else control
        gate = f"http://127.0.0.1:{running.port}"
        gates = dict.fromkeys((*ALLOWED, "deny", "401", "list"), gate)
        gates |= {fault: f"{control}/gate/{fault}" for fault in ("500", "nonsense", "other-number", "slow")}
        gates |= {"down": f"http://127.0.0.1:{free_port()}", "stop": gate}
        numbers: dict[str, str | list[str]] = {"deny": LISTED, "list": [CLEAR, CLEAR]}
        others = TWILIO[recipe.language] if recipe.title == "Twilio" else {}
        gates |= dict.fromkeys(others, gate)
        numbers |= dict.fromkeys(others, LISTED)
        cases = [
            {
                "name": name,
                "gate": url,
                "key": "wrong" if name == "401" else KEY,
                "to": numbers.get(name, CLEAR),
                "code": others.get(name, ""),
            }
            for name, url in gates.items()
        ]
        plan = json.dumps(
            {
                "control": control,
                "platform": address,
                "recipe": recipe.title,
                "from": CALLER,
                "cases": cases,
                "code": code_of(recipe, address),
            }
        )
        environment = SECRETS | {
            "VONAGE_PRIVATE_KEY": key.decode(),
            "REQUESTS_CA_BUNDLE": str(tmp_path / "cert.pem"),
            "PYTHONPATH": f"{installed / 'python'}{os.pathsep}{ROOT}",
        }
        program = (
            (sys.executable, "recipe_runner.py")
            if recipe.language == "python"
            else ("node", "recipe_runner.mjs")
        )
        output = await run(installed, *program, given=plan, **environment)
    outcomes: dict[str, Any] = json.loads(output)
    counts = {name: len(requests) for name, requests in platform.requests.items()}
    print(recipe.title, recipe.language, counts, outcomes)  # noqa: T201 - for the page of platforms, with `pytest -s`
    passing = {"reads-a-call": 1, "ends-a-call": 1} if others else {}
    assert (
        counts == dict.fromkeys(gates, 0) | dict(zip(ALLOWED, (1, *recipe.requests), strict=True)) | passing
    )
    assert {name for name, outcome in outcomes.items() if outcome == "dialled"} == {"allow", *passing}
    for name in ALLOWED:
        for body in platform.requests[name]:
            assert CLEAR.removeprefix("+") in body
            assert CALLER.removeprefix("+") in body
        assert len(set(platform.requests[name])) == 1, "a repeated request is the same, with the same id"
    if recipe.title == "Telnyx":
        assert all('"command_id"' in body for name in ALLOWED for body in platform.requests[name])
