"""Letters to data subjects, written by a running gate."""

import asyncio
import html
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dialgate import texts
from dialgate.core.model import DAY
from dialgate.interfaces.cli import main
from dialgate.subjects import erasure, letter
from dialgate.subjects.letter_words import LetterWords
from tests.subjects.test_subjects import CLIENTS, CONSENT, CONTRACT, PERSON, fill
from tests.support import world, yaml_files
from tests.support.world import CALL, CLEAR, World

ADDRESS = "Anna Esempio\nVia Prova 7\n00184 Roma"


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    def prepare(folder: Path) -> None:
        owner = yaml_files.read(folder / "controllers/acme.yaml")
        yaml_files.write(folder / "controllers/acme.yaml", owner | {"processors": ["Contatto S.r.l."]})

    async with world.running(tmp_path, clients=CLIENTS, prepare=prepare) as running:
        await world.load_list(running)
        yield running


async def open_request(gate: World, kind: str, **more: Any) -> str:
    body = {"kind": kind, "identified": "code read back", "channel": "pec", "addressee": ADDRESS, **more}
    case = await gate.post(f"/v1/subjects/{PERSON}/requests", body)
    assert "Anna" not in str(case)
    return str(case["id"])


async def write(gate: World, name: str, status: int = 200, **ask: Any) -> str:
    async with gate.client.post(f"/v1/subject-requests/{name}/letter", json=ask) as answer:
        body = await answer.text()
        assert answer.status == status, body
        return body


def plain(page: str) -> str:
    """Return the words of a letter, without its markup."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


async def history_of(gate: World) -> None:
    """Record what happens to a number, some of it by staff and by commands."""
    await fill(gate)
    await gate.post(
        "/v1/consents", {**CONSENT, "id": "zeros", "artefact_sha256": "0" * 64, "actor": "cli:root"}
    )
    allowed = await gate.post("/v1/check", CALL, 200)
    await gate.post("/v1/outcomes", {"decision_id": allowed["decision_id"], "outcome": "answered"}, 200)
    await gate.get(f"/v1/decisions?number={PERSON}&purpose=complaint%20of%20May")


@pytest.mark.parametrize("language", ["it", "en"])
async def test_an_access_letter_has_what_article_15_asks_for(gate: World, language: str) -> None:
    await history_of(gate)
    name = await open_request(gate, "access")
    words = plain(await write(gate, name, language=language, place="Roma"))
    common = [
        "Acme Telecomunicazioni S.p.A.",
        "dpo@acme.example",
        "Anna Esempio",
        "Via Prova 7",
        CLEAR,
        name,
        "rome",
        "Contatto S.r.l.",
        "RPO",
        "complaint of May",
    ]
    wanted = {
        "it": ["Roma, 24 novembre 2026", f"Prot. n. {name}", "Gentile signora, gentile signore,", "ricevuta il 24 novembre 2026", "5 anni", "Da dove provengono", "responsabili del trattamento", "Garante", "firma per il titolare"],
        "en": ["Roma, 24 November 2026", f"Our reference: {name}", "Dear Madam or Sir,", "received on 24 November 2026", "5 years", "Where the data comes from", "our processors", "supervisory authority", "signature for the controller"],
    }  # fmt: skip
    assert [text for text in [*common, *wanted[language]] if text not in words] == []
    unwanted = [
        "cli:root",
        "tests",
        "0" * 64,
        "1826",
        "detail.",
        "stored.",
        "look.",
        "channel.",
        "[hidden",
        "motivi di una chiamata",
        "reasons of a call",
        "None",
        "{{",
    ]
    assert [text for text in unwanted if text in words] == []


async def test_a_letter_is_recorded_as_a_look_up(gate: World) -> None:
    name = await open_request(gate, "access")
    await write(gate, name)
    await write(gate, name, kind="refusal", reasons="the number is not yours", purpose="answer to Anna")
    report = await gate.get(f"/v1/subjects/{PERSON}?purpose=check")
    assert [(lookup["what"], lookup["purpose"]) for lookup in report["lookups"]] == [
        ("everything", f"lettera per la richiesta {name}"),
        ("request", "answer to Anna"),
        ("everything", "check"),
    ]


async def test_a_name_and_address_are_stored_only_encrypted(gate: World) -> None:
    await open_request(gate, "access")
    stored = b"".join(path.read_bytes() for path in gate.app.config.data.glob("subjects.db*"))
    assert b"received_at" in stored
    assert b"Anna" not in stored


async def test_an_erasure_letter_says_what_went_what_stays_and_why(gate: World) -> None:
    await fill(gate)
    await gate.post("/v1/check", CALL, 200)
    name = await open_request(gate, "erasure")
    assert "subject.premature" in await write(gate, name, 409)
    await gate.post(f"/v1/subjects/{PERSON}/erasure", {"request": name}, 200)
    words = plain(await write(gate, name))
    for text in ("Che cosa abbiamo cancellato", "Che cosa conserviamo", "lista di chiamata rome", "artt. 17 par. 3 lett. b", "art. 17 par. 3 lett. e", "Nessuna chiamata a questo numero è più consentita"):  # fmt: skip
        assert text in words
    assert CONTRACT["id"] not in words  # the names of erased data are erased, too


async def test_a_controller_that_calls_about_contracts_does_not_promise_silence(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        owner = yaml_files.read(folder / "controllers/acme.yaml")
        yaml_files.write(folder / "controllers/acme.yaml", owner | {"stops": "marketing"})

    async with world.running(tmp_path, clients=CLIENTS, prepare=prepare) as gate:
        name = await open_request(gate, "erasure")
        await gate.post(f"/v1/subjects/{PERSON}/erasure", {"request": name}, 200)
        words = plain(await write(gate, name, language="en"))
    assert "No more marketing calls" in words
    assert "No more calls" not in words


async def test_a_rectification_letter_shows_the_corrected_data(gate: World) -> None:
    await fill(gate)
    history = await gate.get(f"/v1/consents?number={PERSON}&purpose=case%207")
    name = await open_request(gate, "rectification")
    assert "subject.premature" in await write(gate, name, 409)
    fields = {"request": name, "of": history["entries"][0]["seq"], "fields": {"goods": ["telephony"]}}
    await gate.post(f"/v1/subjects/{PERSON}/rectification", fields)
    words = plain(await write(gate, name))
    assert "beni o servizi: telephony" in words
    assert "broadband" not in words


async def test_a_refusal_and_an_extension_give_reasons_and_remedies(gate: World) -> None:
    name = await open_request(gate, "access")
    assert "reasons" in await write(gate, name, 400, kind="extension")
    step = {"outcome": "extended", "reason": "many records to read"}
    await gate.post(f"/v1/subject-requests/{name}", step, 200)
    gate.hand.at += 40 * DAY
    words = plain(await write(gate, name, kind="extension", language="en"))
    assert "many records to read" in words
    assert "by 24 February 2027 at the latest" in words
    assert "reasons" in await write(gate, name, 400, kind="refusal")
    await gate.post(f"/v1/subject-requests/{name}", {"outcome": "refused", "reason": "not the holder"}, 200)
    words = plain(await write(gate, name))
    for text in ("not the holder", "art. 12 par. 4", "art. 77", "art. 79", "Garante"):
        assert text in words


async def test_a_letter_explains_each_call_in_sentences(gate: World) -> None:
    await history_of(gate)
    name = await open_request(gate, "access")
    words = plain(await write(gate, name, kind="why"))
    assert "Ecco che cosa risulta" in words
    assert "Acme Telecomunicazioni S.p.A." in words
    assert "acme-fibre" in words
    assert "La base giuridica era il consenso form-+•••," in words


async def test_a_letter_is_for_the_controllers_clients_only(gate: World) -> None:
    name = await open_request(gate, "access")
    assert "subject.unknown" in await write(gate, "none", 404)
    async with gate.client.post(
        f"/v1/subject-requests/{name}/letter", json={}, headers={"Authorization": "Bearer other-key"}
    ) as answer:
        assert answer.status == 403


async def test_a_pdf_has_the_words_of_the_page(gate: World, tmp_path: Path) -> None:
    assert shutil.which("pdftotext"), "apt-get install poppler-utils"
    await history_of(gate)
    name = await open_request(gate, "access")
    out = tmp_path / "letter.pdf"
    options = ["--out", str(out), "--place", "Roma", "--config", str(gate.folder / "dialgate.yaml")]
    done = await asyncio.to_thread(CliRunner().invoke, main.app, ["subject", "letter", name, *options])
    assert done.exit_code == 0, done.output
    assert out.stat().st_mode & 0o777 == 0o600
    said = await asyncio.to_thread(subprocess.check_output, ["pdftotext", "-layout", str(out), "-"])
    words = re.sub(r"\s+", " ", said.decode())
    for text in ("Acme Telecomunicazioni S.p.A.", "Via Prova 7", f"Prot. n. {name}", CLEAR, "5 anni", "1/3"):
        assert text in words


# ---- the operator's templates --------------------------------------------------------------------------------------


async def test_an_operators_template_replaces_ours_at_once(gate: World) -> None:
    name = await open_request(gate, "access")
    own = gate.folder / "letters"
    own.mkdir()
    template = '{% extends "letter.html" %}{% block subject %}Egregio{% endblock %}{% block body %}<p>{{ letter.number }}</p>{% endblock %}'
    (own / "access.it.html").write_text(template, "utf-8")
    assert "Oggetto: Egregio" in plain(await write(gate, name))
    (own / "access.it.html").write_text("{{ letter.nunber }}", "utf-8")
    assert "subject.template" in await write(gate, name, 500)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("acces.it.html", "", "letters/acces.it.html: no letter has this template"),
        ("access.it.html", "{{ letter.nunber }}", "letters/access.it.html: "),
        ("access.it.html", "{% block body %}", "letters/access.it.html: "),
        ("letter.html", "{{ ().__class__.__mro__ }}", "unsafe"),
        ("access.it.html", "", ""),
    ],
)
def test_the_check_of_a_configuration_renders_every_letter(
    tmp_path: Path, name: str, text: str, fault: str
) -> None:
    config = world.write_folder(tmp_path)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / name).write_text(text, "utf-8")
    done = CliRunner().invoke(main.app, ["config", "check", "--config", str(config)])
    assert done.exit_code == (1 if fault else 0), done.output
    assert fault in re.sub(r"\s+", " ", done.output)


def test_copied_templates_are_valid_and_an_existing_file_is_kept(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path)
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "why.en.html").write_text("mine", "utf-8")
    assert CliRunner().invoke(main.app, ["config", "letters", str(folder)]).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == letter.template_names()
    assert (folder / "why.en.html").read_text("utf-8") == "mine"
    assert CliRunner().invoke(main.app, ["config", "check", "--config", str(config)]).exit_code == 0


# ---- words ---------------------------------------------------------------------------------------------------------


def test_both_languages_have_the_same_texts() -> None:
    italian, english = (texts.load(f"access.{language}.yaml", dict[str, str]) for language in ("it", "en"))
    assert italian.keys() == english.keys()


def test_every_reason_of_an_erasure_is_translated() -> None:
    """An item's reason is stored in English, and translated in the letter."""
    texts_of = texts.load("access.it.yaml", dict[str, str])
    reasons = [value for name, value in vars(erasure).items() if name.startswith("_") and isinstance(value, tuple) and len(value) == 2]  # fmt: skip
    assert len(reasons) >= 8
    assert [why for why, _ in reasons if why not in texts_of] == []


@pytest.mark.parametrize(
    ("days", "words"),
    [(1826, "5 years"), (3653, "10 years"), (365, "1 year"), (730, "2 years"), (30, "1 month"), (183, "6 months"), (90, "90 days"), (100, "100 days"), (1, "1 day")],
)  # fmt: skip
def test_a_period_is_in_years_or_months_if_it_is_about_that_long(days: int, words: str) -> None:
    assert LetterWords("en", "UTC").period(days) == words
