"""Letters to data subjects (GDPR 12(1)) and to the authority (GDPR 33): one HTML template for each kind and language, also as PDF.

The templates are in the folder `letters` here. A file of the same name in the folder `letters` beside dialgate.yaml
replaces one. Letters have no scripts and no external links.
"""

import re
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct, structs

from dialgate.audit import explanation
from dialgate.audit.explanation import Account
from dialgate.core.model import Instant
from dialgate.core.periods import add_months
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import EXTENDED, Erased
from dialgate.ledger.view_schemas import HistoryEntry
from dialgate.runtime import templates
from dialgate.runtime.extras import CODE, require
from dialgate.subjects.breach_schemas import BreachFile, BreachTexts
from dialgate.subjects.letter_words import LetterWords
from dialgate.subjects.processing import ProcessingDocument, ProcessingSection, ProcessingStatement
from dialgate.subjects.schemas import LetterKind, Report
from dialgate.texts import LANGUAGES, Language

LETTER_KINDS: Final[tuple[LetterKind, ...]] = get_args(LetterKind)
TemplateKind: TypeAlias = LetterKind | Literal["breach", "authority", "processing"]
_KINDS: Final[tuple[TemplateKind, ...]] = (*LETTER_KINDS, "breach", "authority")
FOLDER: Final = "letters"
_FRAMES: Final = ("letter.html", "annex.html", "report.html", "processing.html")
_SAMPLE_DAY: Final[Instant] = 1_795_510_800_000  # 2026-11-24T09:00:00Z


class AskedNumber(Struct, frozen=True, kw_only=True):
    """A number of an authority's list, with its decisions, oldest first."""

    number: str
    accounts: tuple[Account, ...]


class Letter(Struct, frozen=True, kw_only=True):
    """The values that a template can use.

    - `addressee` is the person's name and address, in lines. If it is empty, the letter is addressed to the holder of `number`.
    - `received_at` is when the request arrived, or 0 for an access report without a request.
    - `reasons` are those of a refusal or an extension.
    - `report` has the data about the number (kinds `access` and `why`).
    - `items` are the results of an erasure, and `entries` the ledger entries that carried out the request.
    - `accounts` has the sentences that explain each decision (kind `why`).
    - `breach` is the breach of which the authority is notified (kind `breach`).
    - `asked` has the numbers of an authority's list, `files` the enclosed files with their SHA-256, and `key` the name of the key
      that signed the evidence (kind `authority`). `reasons` is then the purpose.
    - `processing` is the record of processing activities or the assessment (kind `processing`).
    - `bars_all` is false if the controller lets calls about a contract or a debt continue after an objection.
    """

    kind: TemplateKind
    language: Language
    controller_name: str
    number: str
    made_at: Instant
    controller_contact: str = ""
    officer: str = ""
    country: str = ""
    zone: str = "UTC"
    addressee: str = ""
    place: str = ""
    protocol: str = ""
    request_kind: str = ""
    received_at: Instant = 0
    reasons: str = ""
    report: Report | None = None
    items: tuple[Erased, ...] = ()
    entries: tuple[HistoryEntry, ...] = ()
    accounts: tuple[tuple[str, ...], ...] = ()
    bars_all: bool = True
    breach: BreachFile | None = None
    asked: tuple[AskedNumber, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    key: str = ""
    processing: ProcessingDocument | None = None

    @property
    def template(self) -> str:
        return "processing.html" if self.processing else f"{self.kind}.{self.language}.html"

    @property
    def extended_to(self) -> Instant:
        """The last day for the answer after an extension (GDPR 12(3))."""
        return add_months(self.received_at, EXTENDED)


def render(letter: Letter, own: Path | None = None, template: str = "") -> str:
    """Return the letter as HTML, or what another `template` makes of its values.

    `own` is the operator's folder of templates. Raises `Refused` if one has a fault.
    """
    try:
        return _render(letter, own, template)
    except templates.TemplateError as error:
        text = f"The template of this letter has a fault: {_fault(error)}. Correct it, or remove it from `letters`."
        raise Refused("subject.template", text, "kind", 500) from error


def _render(letter: Letter, own: Path | None, template: str = "") -> str:
    words = LetterWords(letter.language, letter.zone)
    environment = templates.environment(__package__, FOLDER, own if own and own.is_dir() else None)
    environment.filters |= words.filters()
    retired = letter.report.retired_months if letter.report else []
    return environment.get_template(template or letter.template).render(
        letter=letter,
        report=letter.report,
        language=letter.language,
        say=words.say,
        notices=explanation.notices(letter.language, retired, {}, {}, nothing=False),
    )


def pdf(html: str) -> bytes:
    """Return a letter as PDF. Nothing outside of the letter is read. Raises `MissingExtra`, and `Refused` without Pango."""
    require("letters", "A letter as PDF")
    try:
        from weasyprint import HTML, URLFetcher  # noqa: PLC0415 - an extra
    except OSError as error:
        text = "A letter as PDF needs Pango. Install it (Debian: libpango-1.0-0, libpangoft2-1.0-0), or choose `html`."
        raise Refused(CODE, text, status=501) from error
    document: bytes = HTML(string=html, url_fetcher=URLFetcher(allowed_protocols=())).write_pdf()
    return document


# ---- the operator's templates --------------------------------------------------------------------------------------


def template_names() -> list[str]:
    """Return the names of all templates, which the operator's folder can replace."""
    return sorted([*_FRAMES, *(f"{kind}.{language}.html" for kind in _KINDS for language in LANGUAGES)])


def template_text(name: str) -> str:
    return files(__package__).joinpath(FOLDER, name).read_text("utf-8")


def template_faults(own: Path) -> list[str]:
    """Return a message for each fault of the operator's templates. Every letter is rendered with sample data."""
    found = sorted(path.name for path in own.glob("*")) if own.is_dir() else []
    names = template_names()
    faults = [
        f"{FOLDER}/{name}: no letter has this template; use one of {', '.join(names)}"
        for name in found
        if name not in names
    ]
    for sample in _samples() if found else ():
        try:
            _render(sample, own)
            _render(sample, own, "report.html")
        except templates.TemplateError as error:
            faults.append(f"{FOLDER}/{sample.template}: {_fault(error)}")
    return faults


def _fault(error: templates.TemplateError) -> str:
    name, line = getattr(error, "name", None), getattr(error, "lineno", None)
    place = f" ({name}, line {line})" if name and line else ""
    return re.sub(r"\s+", " ", str(error)) + place


def _samples() -> list[Letter]:
    """Return a letter of each kind and language, with and without the data that it may lack."""
    report = Report(
        number="+390612345678", controller="acme", controller_name="Acme", made_at="2026-11-24T09:00:00.000Z",
        ledger=[], restricted=[], lists=[], registries=[], decisions=[], retired_months=[], lookups=[], requests=[],
        days_of_storage={"consents": 1826},
    )  # fmt: skip
    entry = HistoryEntry(
        seq=1, at=report.made_at, kind="consent", controller="acme", actor="", channel="pec", proof="",
        details={"id": "c1", "rectify": ["goods"], "goods": ["broadband"]},
    )  # fmt: skip
    item = Erased(what="consent", name="c1", done="kept", why="", law="GDPR art. 17")
    breach = BreachFile(
        id="1", controller="acme", aware_at=report.made_at, due_at=report.made_at, hours_left=0, since=report.made_at,
        until=report.made_at, client="", node="", opened_at=report.made_at, texts=BreachTexts(),
    )  # fmt: skip
    full = Letter(
        kind="access", language="it", controller_name="Acme", number=report.number, made_at=_SAMPLE_DAY, addressee="Anna Esempio",
        place="Roma", protocol="1", request_kind="access", received_at=_SAMPLE_DAY, reasons="reason", report=report,
        items=(item,), entries=(entry,), accounts=(("sentence",),), breach=breach,
    )  # fmt: skip
    bare = structs.replace(
        full, addressee="", place="", protocol="", received_at=0, items=(), entries=(), accounts=()
    )
    statement = ProcessingStatement(name="officer", label="DPO", setting="officer", proof="/console/keys")
    section = ProcessingSection(title="Controller", statements=(statement,))
    record = ProcessingDocument(
        kind="record", controller="acme", name="Acme", title="Record", open=1, sections=(section,)
    )
    return [
        structs.replace(letter, kind=kind, language=language)
        for kind in _KINDS
        for language in LANGUAGES
        for letter in (full, bare)
    ] + [structs.replace(bare, kind="processing", processing=record)]
