"""`dialgate init` with and without a terminal, and a real gate that runs with the written configuration."""

import asyncio
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer import Typer
from typer.testing import CliRunner

from dialgate.interfaces.cli import main
from dialgate.runtime.clock import wall_clock
from dialgate.tools import first_configuration, installation
from dialgate.tools.first_commands import next_commands
from dialgate.tools.first_configuration import SetupDraft
from registry_sync import cli
from tests.project.test_docs import PAGES
from tests.project.test_first_minute import page_commands, shell
from tests.support import world, yaml_files
from tests.support.commands import Done, run_command
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.running_gate import program, serving
from tests.support.terminal import PATIENCE, Terminal, on_a_terminal

ANSWERS = {
    "name": "Zeta Servizi S.r.l.", "contact": "privacy@zeta.example", "country": "IT", "campaign": "zeta-insurance",
    "purpose": "sale", "sector": "insurance", "call-type": "agent", "caller-id": "+390844654321", "dialer": "http",
}  # fmt: skip
ALWAYS = {f"{day}-hours": "00:00-24:00" for day in ("weekday", "saturday", "sunday")}
CALL = {"to": "+390612340001", "from": "+390844654321", "campaign": "zeta-insurance"}


async def run(folder: Path, *words: object, name: str = "dialgate") -> Done:
    environment = {**os.environ, "COLUMNS": "200"}
    return await asyncio.to_thread(run_command, name, *words, folder=folder, environment=environment)


def init(folder: Path, *words: str, **answers: str) -> Done:
    """Run `dialgate init` in this process with `ANSWERS` and `answers` as options. Empty answers are left out."""
    given = {**ANSWERS, **{name.replace("_", "-"): text for name, text in answers.items()}}
    return invoke(folder, "init", *words, *(f"--{name}={text}" for name, text in given.items() if text))


def invoke(folder: Path, *words: str, app: Typer = main.app) -> Done:
    with chdir(folder):
        result = CliRunner().invoke(app, words)
    return Done(result.exit_code, result.stdout, result.stderr)


def read_files(folder: Path) -> dict[str, str]:
    """Return the text of each file in a folder, without the key's hash, which differs in each run."""
    texts = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return {name: re.sub("[0-9a-f]{64}", "HASH", text) for name, text in texts.items()}


class Conversation:
    """The questions of `dialgate init` on a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.prompts: list[str] = []

    async def reply(self, text: str) -> str:
        """Wait for the next question, and answer it with `text`. Return the output since the previous answer."""
        (prompt,) = (await self.terminal.until(r"([^\n]*): \Z")).groups()
        shown, self.terminal.shown = self.terminal.shown, ""
        self.prompts.append(prompt)
        assert self.prompts.count(prompt) < 6, f"{prompt} is asked again and again:\n{shown}"
        self.terminal.type(f"{text}\n")
        return shown

    async def summary(self, answers: Callable[[str], str]) -> str:
        """Answer each question with the result of `answers`. Return the summary."""
        while True:
            (prompt,) = (await self.terminal.until(r"([^\n]*): \Z")).groups()
            if prompt.startswith("Write this?"):
                return self.terminal.shown
            await self.reply(answers(prompt))

    async def change(self, label: str, text: str) -> str:
        """Change the answer with this label.

        Return the terminal output since the last answer, which ends with the new summary.
        """
        (number,) = re.findall(rf"(\d+)  {label}[^\n]*: ", self.terminal.shown)
        await self.reply(number)
        await self.reply(text)
        return await self.summary(by_beginning({}))


def by_beginning(answers: dict[str, str]) -> Callable[[str], str]:
    """Return a function that finds the answer by the beginning of the question. Other questions get Enter."""
    return lambda prompt: next(
        (
            text
            for begins, text in answers.items()
            if prompt.removeprefix("zeta-insurance: ").startswith(begins)
        ),
        "",
    )


def test_without_a_terminal_all_missing_options_are_named_at_once(tmp_path: Path) -> None:
    done = invoke(tmp_path, "init", "--json", "--dialer", "asterisk", "--host", "0.0.0.0")
    assert done.code == 2
    assert done.json["error"] == {
        "code": "init.incomplete",
        "message": "missing options: --name, --contact, --country, --campaign, --purpose, --sector, --call-type, "
        "--caller-id, --tls-certificate",
        "field": "",
    }
    assert read_files(tmp_path) == {}


def test_invalid_options_get_the_messages_of_config_check_all_at_once(tmp_path: Path) -> None:
    done = init(tmp_path, "--json", sector="gold", caller_id="12")
    assert done.code == 2
    message = done.json["error"]["message"]
    for problem in (
        "caller ID '12' is not a telephone number; write it with its country code",
        "sector 'gold' is not one of the sectors of IT:",
    ):
        assert problem in message
    for answers, problem in (
        ({"port": "high"}, "dialgate.yaml: listen.port: must be a whole number, not text"),
        (
            {"redis_url_file": "none.url"},
            "none.url: No such file or directory. Name a file that contains the URL",
        ),
        ({"dialer": "pigeon"}, "dialer: 'pigeon' is not allowed; write one of http, webhook, asterisk"),
        ({"controller": "zeta.it"}, "controller: its id must not contain dots"),
        ({"weekday_hours": "9-20"}, "hours: '9-20' is not a time window; write it as 09:00-20:00"),
        (
            {"host": "8080"},
            "host: '8080' is no IP address, and no name that this machine finds; write 127.0.0.1",
        ),
        ({"country": "Italy"}, "country: 'Italy' is not allowed; write one of AT, "),
        (
            {"data": "/etc/passwd/data"},
            "data: '/etc/passwd/data' is in or is a file; write the path of a folder",
        ),
        ({"host": "10.0.0.5", "tls_certificate": "none.pem"}, "listen.tls_certificate: No such file"),
    ):
        done = init(tmp_path, "--json", **answers)
        assert done.code == 2
        assert problem in done.json["error"]["message"]
    assert read_files(tmp_path) == {}


@pytest.mark.parametrize("is_on_path", [True, False])
def test_next_commands_name_a_path_only_if_the_program_is_not_on_path(
    tmp_path: Path, *, is_on_path: bool
) -> None:
    folder = Path(sys.executable).parent
    options = [f"--{name}={text}" for name, text in ANSWERS.items()]
    environment = {**os.environ, "PATH": str(folder if is_on_path else tmp_path)}
    words = (str(folder / "dialgate"), "init", "--json", *options)
    serve, _, sync, _ = run_command(*words, folder=tmp_path, environment=environment).json["next"]
    prefix = "" if is_on_path else f"{folder}/"
    assert serve == f"{prefix}dialgate serve"
    assert sync == f"{prefix}registry-sync run --once"


@pytest.mark.parametrize("program_", ["dialgate", "/opt/dialgate/bin/dialgate"])
def test_next_commands_of_an_installed_service_name_its_unit_and_no_path(program_: str) -> None:
    draft = SetupDraft(
        first_configuration.laws(), wall_clock(), {name: [text] for name, text in ANSWERS.items()}
    )
    serve, load, sync, _ = next_commands(draft, program_, installation.CONFIG)
    assert serve == "systemctl start dialgate"
    assert load.startswith("dialgate list load numbers.csv ")
    assert sync == "registry-sync run --once"
    assert not any(word in f"{load} {sync}" for word in ("--config", "--registries"))


async def test_a_gate_on_the_new_configuration_refuses_then_allows(tmp_path: Path) -> None:
    port = free_port()
    done = init(tmp_path, "--json", port=str(port), **ALWAYS)
    assert done.code == 0, done
    result = done.json
    assert result["warnings"] == []
    keys = [result["key"], result["supervisor_key"]]
    hashes = re.findall("key_sha256: ([0-9a-f]{64})", (tmp_path / "config/dialgate.yaml").read_text())
    assert hashes == [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    assert not any(key in text for key in keys for text in read_files(tmp_path).values())
    checked = invoke(tmp_path, "config", "check", "--json")
    assert checked.json["warnings"] == []
    serve, load, sync, curl = result["next"]
    assert serve == "dialgate serve"
    assert f"http://127.0.0.1:{port}/v1/check" in curl
    (tmp_path / "numbers.csv").write_text("number\n+390612340001\n+390612340002\n")
    async with serving(tmp_path / "config/dialgate.yaml") as gate:
        key = {"Authorization": f"Bearer {result['key']}"}
        assert result["console"] == f"http://127.0.0.1:{port}/console"
        async with gate.client.post(
            "/console/login", data={"key": result["supervisor_key"]}, allow_redirects=False
        ) as page:
            assert (page.status, page.headers["Location"]) == (303, "/console"), await page.text()

        async def check(**call: str) -> list[str]:
            async with gate.client.post("/v1/check", json={**CALL, **call}, headers=key) as response:
                verdict = await response.json()
                return [reason["code"] for reason in verdict.get("reasons", ())] or [verdict["decision"]]

        assert await check() == ["registry.unknown", "list.unknown", "consent.missing"]
        loaded = await run(tmp_path, *load.replace("NAME", "me").split()[1:], "--yes")
        assert loaded.code == 0, loaded
        assert await check() == ["registry.unknown"]
        submitted = await run(tmp_path, *sync.split()[1:], name="registry-sync")
        assert submitted.code == 0, submitted
        assert len(list((tmp_path / ".data/rpo/outbox").iterdir())) == 1
        (tmp_path / "asked.txt").write_text("0612340001\n0612340002\n")
        (tmp_path / "answer.txt").write_text("0612340001,0\n0612340002,1\n")
        await import_answer(tmp_path)
        async with asyncio.timeout(60):
            while (codes := await check()) == ["registry.unknown"]:
                pass
        assert codes == ["allow"]
        assert await check(to="+390612340002") == ["registry.listed"]


async def import_answer(folder: Path) -> None:
    done = await run(
        folder, "import", "--registry", "rpo", "--controller", "zeta", "--request", "asked.txt", "--answer", "answer.txt",
        "--receipt", "T-1", "--consulted-at", "2026-11-27T08:00:00+01:00", name="registry-sync",
    )  # fmt: skip
    assert done.code == 0, done


@pytest.mark.parametrize("dialer", ["webhook", "asterisk", "vicidial", "freeswitch", "kamailio", "opensips"])
def test_the_files_of_a_dialer_have_its_own_values(tmp_path: Path, dialer: str) -> None:
    done = init(tmp_path, "--json", dialer=dialer, port="8123")
    assert [text[:23] for text in done.json["warnings"]] == ["campaign zeta-insurance"] * (
        dialer == "vicidial"
    )
    settings = yaml_files.read(tmp_path / "config/dialgate.yaml")
    text = "".join(path.read_text() for path in (tmp_path / "config/dialer").iterdir())
    for sample in ("acme-fibre", "127.0.0.1:8080", "put the key here"):
        assert sample not in text
    assert ("zeta-insurance" in text) == (dialer != "vicidial")  # its dialplan has the campaign in a variable
    with_key, supervisor, *dialplans = settings["clients"]
    assert supervisor["scopes"] == ["watch", "simulate", "revoke", "lists"]
    assert with_key["scopes"] == ["check", "outcome"]
    assert "sources" not in with_key
    assert [client["scopes"] for client in dialplans] == [["check"]] * (dialer not in {"webhook", "kamailio"})
    assert all("sources" in client and "key_sha256" not in client for client in dialplans)
    assert ("fastagi" in settings) == (dialer in {"asterisk", "vicidial"})
    assert (done.json["key"] in text) == (dialer == "kamailio")
    assert (tmp_path / "config/webhooks").exists() == (dialer == "webhook")
    checked = invoke(tmp_path, "config", "check", "--json")
    assert checked.json["warnings"] == []


async def test_several_campaigns_and_own_certificates(tmp_path: Path) -> None:
    tls = world.write_certificate(tmp_path)
    port = free_port()
    done = invoke(
        tmp_path, "init", "etc", "--json", *(f"--{name}={text}" for name, text in ANSWERS.items() if name not in {"sector", "campaign"}),
        "--campaign=one", "--campaign=two", "--sector=insurance", "--sector=retail", "--tls-certificate", tls["tls_certificate"],
        "--tls-key", tls["tls_key"], "--port", str(port),
    )  # fmt: skip
    assert done.code == 0, done
    controller = yaml_files.read(tmp_path / "etc/controllers/zeta.yaml")
    assert [(part["id"], part["sector"], part["purpose"]) for part in controller["campaigns"]] == [
        ("one", "insurance", "sale"),
        ("two", "retail", "sale"),
    ]
    assert f"https://127.0.0.1:{port}/v1/check" in done.json["next"][-1]
    assert "--config etc/dialgate.yaml" in done.json["next"][0]
    trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    async with (
        serving(tmp_path / "etc/dialgate.yaml"),
        aiohttp.ClientSession() as client,
        client.get(f"https://127.0.0.1:{port}/healthz", ssl=trust) as response,
    ):
        assert response.status == 200
    uneven = await run(
        tmp_path, "init", "x", "--campaign=a,b,c", "--purpose=sale", "--sector=gas", "--sector=gas"
    )
    assert uneven.code == 2
    assert "--sector: 2 values for 3 campaigns" in uneven.err


@pytest.mark.parametrize("country", first_configuration.laws())
def test_each_country_gives_a_configuration_without_an_avoidable_warning(
    tmp_path: Path, country: str
) -> None:
    law = first_configuration.laws()[country]
    answers = {"country": country, "sector": next(iter(law.sectors), "")}
    if law.draft:
        asked = init(tmp_path, "--json", **answers)
        assert asked.json["error"]["message"] == "missing options: --accept-draft"
        refused = init(tmp_path, "--json", accept_draft="no", **answers)
        assert f"the country file of {country} is a draft" in refused.json["error"]["message"]
        answers["accept_draft"] = "yes"
    done = init(tmp_path, "--json", **answers)
    assert done.code == 0, done
    # Lists in formats that the nightly job does not read, or by areas that the operator subscribes.
    others = {rule.id for rule in law.registries if rule.mode == "full_list"} - {"tps", "ctps"}
    unavoidable = ("under a draft", *(f"the registry {name}," for name in others))
    assert [text for text in done.json["warnings"] if not any(part in text for part in unavoidable)] == []
    job = ("run", "--dry-run", "--registries", "config/registries.yaml", "--json")
    planned = invoke(tmp_path, *job, app=cli.app)
    assert planned.code in {0, 1}, planned  # 1: it was never consulted
    tested = invoke(tmp_path, "policy", "test", "--json")
    assert (tested.code, tested.json["cases"], tested.json["red"]) == (0, 4, [])
    assert [path.name for path in (tmp_path / "config/countries").iterdir()] == [f"{country.lower()}.yaml"]


def test_hours_are_asked_only_where_the_law_sets_none() -> None:
    draft = SetupDraft(
        first_configuration.laws(), wall_clock(), {name: [text] for name, text in ANSWERS.items()}
    )
    assert "weekday-hours" in [question.name for question, _ in draft.questions()]
    draft.answers["code"] = ["codice_condotta_telemarketing"]
    assert "weekday-hours" not in [question.name for question, _ in draft.questions()]


async def test_on_a_terminal_each_answer_is_checked_and_can_be_changed(tmp_path: Path) -> None:
    done = init(tmp_path, "expected", officer="dpo@zeta.example", dialer="asterisk")
    assert done.code == 0, done
    caller_ids = iter(["0123", "+390844654321"])
    typed = {"Contact": "privacy@zeta.example", "Country": "IT", "Campaign ID": "zeta-insurance",
             "Sector": "insurance", "Dialer": "asterisk"}  # fmt: skip
    words = program("init", str(tmp_path / "config"), "--purpose", "debt")
    async with on_a_terminal(words, ROOT) as terminal:
        talk = Conversation(terminal)
        await talk.reply("")
        assert "This question needs an answer." in await talk.reply("Zeta Servizi S.r.l.")
        answers = by_beginning(typed)
        summary = await talk.summary(
            lambda prompt: next(caller_ids) if ": Caller IDs" in prompt else answers(prompt)
        )
        asked = " ".join(talk.prompts)
        assert asked.count("Caller IDs") == 2  # the first answer was invalid
        assert "Purpose" not in asked  # an option answered it
        assert "zeta-insurance: Purpose: debt" in summary
        assert "purpose: 'sail' is not allowed; write one of sale, " in await talk.change(".*Purpose", "sail")
        rejected = await talk.change("Controller ID", "ZETA")
        assert "  id: must be 1 to 64 lower-case letters" in rejected
        assert "no such controller" not in rejected  # a consequence of the same answer
        assert "zeta-insurance: Purpose: sale" in await talk.change(".*Purpose", "sale")
        await talk.change("Data protection officer", "dpo@zeta.example")
        assert not (tmp_path / "config").exists()
        await talk.reply("")
        await terminal.until(r"export DIALGATE_KEY=\S+")
        assert await terminal.wait_for_end() == 0
    assert read_files(tmp_path / "config") == read_files(tmp_path / "expected")


async def test_a_newcomer_corrects_wrong_answers_and_goes_back(tmp_path: Path) -> None:
    """Each wrong answer is refused where it is given, with what to enter, and `<` returns to the question before."""
    wrong = {  # the beginning of a question: a wrong answer, what is said about it, and then the right one
        "Country": ("Italy", "'Italy' is not allowed; write one of AT, AU, ", "it"),
        "Campaign ID": ("Zeta Insurance", "must be 1 to 64 lower-case letters", "zeta-insurance"),
        "Caller IDs": ("0123", "write it with its country code, for example +390844654321", "+390844654321"),
        "Calling hours from": ("9-20", "write it as 09:00-20:00", ""),
        "Dialer": ("pigeon", "write one of http, webhook, asterisk", "Asterisk"),
        "Address on": ("my office", "write 127.0.0.1 for programs on this machine only, 0.0.0.0 for", ""),
        "Port": ("99999", "must be at most 65535", ""),
    }
    async with on_a_terminal(program("init"), tmp_path) as terminal:
        talk, hints = Conversation(terminal), dict[str, str]()
        answers = {"Contact": "privacy@zeta.example", "Sector": "insurance"}

        def reply(prompt: str) -> str:
            prompt = prompt.removeprefix("zeta-insurance: ")
            asked = next((begins for begins in wrong if prompt.startswith(begins)), "")
            if asked in hints:
                assert hints[asked] in terminal.shown, terminal.shown
                return wrong[asked][2]
            if asked:
                hints[asked] = wrong[asked][1]
                return wrong[asked][0]
            return by_beginning(answers)(prompt)

        await talk.reply("Zeta")
        await talk.reply("")  # the controller's ID
        await talk.reply("<")
        assert "Controller ID [zeta]" in await talk.reply("zeta-2")
        summary = await talk.summary(reply)
        assert len(hints) == len(wrong)
        assert "Controller ID: zeta-2" in summary
        assert "Dialer; http is your own program, webhook a hosted service: asterisk" in summary
        await talk.reply("<")  # from the summary to the last question
        assert "Folder for all data" in (await terminal.until(r"([^\n]*): \Z"))[1]
        await talk.reply("")
        await talk.summary(by_beginning({}))
        await talk.reply("yes")
        await terminal.until(r"http://127.0.0.1:8080/console")
        assert await terminal.wait_for_end() == 0
    assert invoke(tmp_path, "config", "check", "--json").json["warnings"] == []


async def test_a_container_gets_its_addresses_and_paths(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "volume"
    done = init(tmp_path, "--json", container="yes", port=str(port), data=str(data))
    assert done.code == 0, done
    settings = yaml_files.read(tmp_path / "config/dialgate.yaml")
    assert settings["listen"] == {"host": "0.0.0.0", "port": port}
    assert settings["operations"]["host"] == "0.0.0.0"
    assert yaml_files.read(tmp_path / "config/registries.yaml")["work"] == f"{data}/registries"
    assert done.json["console"] == f"http://127.0.0.1:{port}/console"
    assert done.json["next"][0] == "docker compose up -d"
    default = init(tmp_path, "default", "--json", container="yes")
    assert yaml_files.read(tmp_path / "default/dialgate.yaml")["data"] == "/var/lib/dialgate"
    assert default.json["warnings"] == []


def test_a_mounted_folder_is_filled_and_not_renamed(tmp_path: Path) -> None:
    """In a container, the folder of the configuration is a volume."""
    folder = tmp_path / "volume"
    folder.mkdir()
    options = " ".join(f"--{name}='{text}'" for name, text in ANSWERS.items())
    line = f"mount -t tmpfs none {folder} && {' '.join(program('init'))} {folder} {options} && ls {folder}"
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", line]
    done = subprocess.run(
        words, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-5:] == [
        "controllers",
        "countries",
        "dialgate.yaml",
        "policy",
        "registries.yaml",
    ]


@pytest.mark.parametrize("reply", [pytest.param("no\n", marks=pytest.mark.torture), "\x03"])
async def test_a_conversation_that_ends_early_leaves_nothing(tmp_path: Path, reply: str) -> None:
    options = [f"--{name}={text}" for name, text in ANSWERS.items()]
    async with on_a_terminal(program("init", str(tmp_path / "config"), *options), tmp_path) as terminal:
        await Conversation(terminal).summary(by_beginning({}))
        end = asyncio.create_task(terminal.wait_for_end())
        terminal.type(reply)
        # Python notices an interrupt at the moment when readline begins to wait only at the next key.
        while not (await asyncio.wait([end], timeout=5))[0]:
            terminal.type(reply)
        assert end.result() == 1
        assert "Traceback" not in terminal.shown
    assert read_files(tmp_path) == {}


def test_files_are_kept_unless_force_moves_them_aside(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/mine").write_text("mine")
    (tmp_path / ".config.new").mkdir()  # of a run that was killed
    (tmp_path / ".config.new/half").write_text("half")
    refused = init(tmp_path, "--json")
    assert refused.code == 1
    assert refused.json["error"]["code"] == "init.exists"
    assert (tmp_path / "config/mine").read_text() == "mine"
    assert init(tmp_path, "--force").code == 0
    assert (tmp_path / "config/dialgate.yaml").exists()
    kept = {name: text for name, text in read_files(tmp_path).items() if not name.startswith("config/")}
    assert [text for name, text in kept.items() if re.fullmatch(r"config\.\d+/mine", name)] == ["mine"]
    assert len(kept) == 1


def test_nothing_changes_if_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/mine").write_text("mine")
    (tmp_path / ".config.new").write_text("a file where the new folder is made")
    failed = init(tmp_path, "--force", "--json")
    assert failed.code == 1
    assert failed.json["error"]["code"] == "init.unwritable"
    assert {name: text for name, text in read_files(tmp_path).items() if "new" not in name} == {
        "config/mine": "mine"
    }
    within = init(tmp_path, ".", "--json")
    assert within.json["error"]["code"] == "init.exists"


@pytest.mark.torture  # CI asks the same of a gate whose configuration was written with options
async def test_tutorial_leads_from_an_empty_folder_to_a_first_call(tmp_path: Path) -> None:
    page = PAGES["docs/tutorials/own-campaign.md"]
    typed = dict(
        re.findall(r"^\| (.+?) \| `(.+)` \|$", page.partition("\n## Start the gate")[0], re.MULTILINE)
    )
    assert len(typed) == 9
    port = free_port()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(program()[0]).parent)
    first, serve, _, *lines = page_commands("tutorials/own-campaign", port)
    async with on_a_terminal(first.split(), tmp_path) as terminal:
        talk = Conversation(terminal)
        await talk.summary(by_beginning({**typed, "Port": str(port)}))
        for question in typed:
            assert any(question in prompt for prompt in talk.prompts), question
        await talk.reply("")
        (key,) = (await terminal.until(r"export DIALGATE_KEY=(\S+)")).groups()
        assert await terminal.wait_for_end() == 0
    answers: list[dict[str, Any]] = []
    async with on_a_terminal(serve.split(), tmp_path) as terminal, asyncio.timeout(PATIENCE):
        await terminal.until(rf"listening .*127\.0\.0\.1:{port}|\"event\":\"listening\"")
        for line in lines:
            command = f"export DIALGATE_KEY={key}; {line.replace('127.0.0.1:8080', f'127.0.0.1:{port}')}"
            status, text = await shell(command, tmp_path)
            while len(answers) > 0 and "registry.unknown" in text:  # until the gate uses the new answers
                status, text = await shell(command, tmp_path)
            assert status == 0, text
            if line.startswith("curl"):
                answers.append(json.loads(text))
    codes = [[reason["code"] for reason in answer.get("reasons", ())] for answer in answers]
    assert codes == [["registry.unknown", "list.unknown", "consent.missing"], [], ["registry.listed"]]
    assert answers[1]["decision"] == "allow"


def test_every_resource_is_part_of_the_package() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    packaged = {
        path
        for pattern in setuptools["package-data"]["dialgate"]
        for path in (ROOT / "dialgate").glob(pattern)
    }
    resources = ROOT / "dialgate/resources"
    found = {path for folder in resources.iterdir() for path in folder.rglob("*") if path.is_file()}
    assert len(found) > 30
    assert found <= packaged
