"""The access report as a page that a citizen can read, print and keep, in Italian and English. No scripts, no links out.

What was recorded in somebody's own words stands as it was recorded; everything around it is translated.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from html import escape
from typing import Any, Final, Literal, TypeAlias, get_args

from dialgate import texts
from dialgate.cluster.personal_data import Why
from dialgate.core import local_time
from dialgate.ledger.schemas import HistoryEntry
from dialgate.subjects.schemas import Report

Language: TypeAlias = Literal["it", "en"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

# Lines break between words. Only a word wider than any column (a hash, an address) is broken.
_STYLE: Final = (
    "@page{size:A4;margin:18mm 15mm}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}"
    "address{font-style:normal;margin:0 0 2rem}h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.15rem;break-after:avoid}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem;font-size:.9rem;line-height:1.4}"
    "th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #999}"
    ".long{overflow-wrap:anywhere}.time{white-space:nowrap}"
    "@media print{body{margin:0;padding:0;max-width:none;font-size:10.5pt}table{font-size:8.5pt}tr{break-inside:avoid}}"
)
_LONG: Final = re.compile(r"\S{21,}")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")

_RIGHTS_IT: Final = """\
Può chiedere la rettifica, la cancellazione, la limitazione e la portabilità dei dati (artt. 16-20 GDPR) e opporsi in ogni
momento alle chiamate (art. 21 GDPR). La revoca vale subito. Può proporre reclamo al Garante per la protezione dei dati
personali (art. 77 GDPR) o ricorrere al giudice (art. 79 GDPR). Una chiamata è permessa o negata da regole fisse di legge,
elencate per ogni decisione; nessun profilo viene creato."""
_RIGHTS_EN: Final = """\
You may ask for rectification, erasure, restriction and portability (GDPR art. 16-20), and object to calls at any time (GDPR
art. 21). A revocation binds at once. You may complain to the supervisory authority (GDPR art. 77) or go to court (GDPR
art. 79). A call is allowed or denied by fixed rules of law, shown for each decision; no profile is made."""

# Each text in Italian, then in English.
TEXTS: Final[dict[str, tuple[str, str]]] = {
    "title": ("I Suoi dati presso", "Your data held by"),
    "intro": (
        "Risposta alla richiesta di accesso (art. 15 GDPR) per il numero",
        "Answer to the request for access (GDPR art. 15) for the number",
    ),
    "made": ("Preparata il", "Made on"),
    "zone": ("Gli orari sono quelli di", "Times are those of"),
    "controller": ("Titolare del trattamento", "Controller"),
    "officer": ("Responsabile della protezione dei dati", "Data protection officer"),
    "purpose": (
        "Questi dati servono a decidere, prima di ogni chiamata commerciale, se la legge la permette, e a provarlo dopo.",
        "This data is used to decide before each commercial call whether the law permits it, and to prove that later.",
    ),
    "missing": (
        "Non è stato possibile consultare tutte le registrazioni. Non hanno risposto:",
        "Not everything could be looked up. Not heard:",
    ),
    "nothing": ("Nulla.", "Nothing."),
    "decisions": ("Chiamate chieste e decise", "Calls that were asked for, and decided"),
    "ledger": ("Consensi, contratti, richieste e revoche", "Consents, contracts, requests and revocations"),
    "restricted": (
        "Dati limitati: conservati solo per la difesa di un diritto (art. 18 GDPR)",
        "Restricted data: kept for legal claims alone (GDPR art. 18)",
    ),
    "lists": (
        "Elenchi su cui si trova il numero, e da dove vengono",
        "Lists that the number is on, and where they come from",
    ),
    "registries": (
        "Risposte del registro delle opposizioni",
        "Answers of the opposition registry",
    ),
    "lookups": ("Chi ha consultato questi dati", "Who looked at this data"),
    "requests": ("Le Sue richieste", "Your requests"),
    "storage": (
        "Per quanto tempo, dopo la fine dell'uso, in giorni",
        "For how long after its use is over, in days",
    ),
    "when": ("Quando", "When"),
    "what": ("Che cosa", "What"),
    "who": ("Chi", "Who"),
    "why": ("Perché", "Why"),
    "details": ("Dettagli", "Details"),
    "how": ("Come", "How"),
    "answer": ("Esito", "Outcome"),
    "campaign": ("Campagna", "Campaign"),
    "shown": ("Numero mostrato", "Number shown"),
    "basis": ("Base", "Basis"),
    "origin": ("Raccolti da", "Collected by"),
    "until": ("Entro il", "Due by"),
    "days": ("Giorni", "Days"),
    "rights_title": ("I Suoi diritti", "Your rights"),
    "rights": (_RIGHTS_IT, _RIGHTS_EN),
    "allow": ("permessa", "allowed"),
    "deny": ("negata", "denied"),
    "listed": ("iscritto", "enrolled"),
    "clear": ("non iscritto", "not enrolled"),
    "access": ("accesso", "access"),
    "portability": ("portabilità", "portability"),
    "rectification": ("rettifica", "rectification"),
    "erasure": ("cancellazione", "erasure"),
    "revoked": ("revoca", "revocation"),
    "lifted": ("revoca ritirata", "revocation lifted"),
    "consent": ("consenso", "consent"),
    "consent_confirmed": ("consenso confermato", "consent confirmed"),
    "consent_withdrawn": ("consenso revocato", "consent withdrawn"),
    "consents_voided": (
        "consensi annullati dall'iscrizione al registro",
        "consents voided by enrolment with the registry",
    ),
    "contract": ("contratto", "contract"),
    "contract_ended": ("contratto finito", "contract ended"),
    "call_request": ("richiesta di chiamata", "request to be called"),
    "number_confirmed": ("numero confermato", "number confirmed"),
    "directory": ("elenco telefonico", "directory"),
    "request": ("richiesta", "request"),
    "open": ("aperta", "open"),
    "refused": ("respinta", "refused"),
    "answered": ("risposta data", "answered"),
    "not_dialled": ("non composta", "not dialled"),
    "no_answer": ("nessuna risposta", "no answer"),
    "busy": ("occupato", "busy"),
    "abandoned": ("abbandonata", "abandoned"),
    "opt_out": ("opposizione durante la chiamata", "objected during the call"),
    "wrong_number": ("numero sbagliato", "wrong number"),
    "pending": ("non ancora noto", "not yet known"),
    "everything": ("tutti i dati", "everything"),
    "account": ("decisioni, consensi e revoche", "decisions, consents and revocations"),
    "evidence": ("prova di una decisione", "evidence of a decision"),
    "simulation": ("simulazione di una chiamata", "simulation of a call"),
    "consents": ("consensi", "consents"),
    "contracts": ("contratti", "contracts"),
    "call_requests": ("richieste di chiamata", "requests to be called"),
    "restricted_days": ("dati limitati, dopo l'ultima chiamata", "restricted data, after the last call"),
    "lists_days": ("elenchi ritirati", "retired lists"),
    "attempts": ("tentativi di chiamata", "attempts to call"),
    "lookups_days": ("consultazioni", "look-ups"),
    "subject_requests": ("richieste evase", "closed requests"),
    "detail.id": ("riferimento", "reference"),
    "detail.at": ("detto il", "said on"),
    "detail.collected_at": ("raccolto il", "collected on"),
    "detail.expires_at": ("scade il", "expires on"),
    "detail.requested_at": ("chiesta il", "asked on"),
    "detail.before": ("raccolti prima del", "collected before"),
    "detail.purposes": ("scopi", "purposes"),
    "detail.call_types": ("tipi di chiamata", "kinds of call"),
    "detail.goods": ("beni o servizi", "goods or services"),
    "detail.text_version": ("testo accettato", "text accepted"),
    "detail.artefact": ("prova conservata", "proof held"),
    "detail.artefact_sha256": ("impronta della prova (SHA-256)", "fingerprint of the proof (SHA-256)"),
    "detail.origin": ("provenienza", "origin"),
    "detail.collection_channel": ("raccolto tramite", "collected through"),
    "detail.profiling": ("profilazione", "profiling"),
    "detail.third_party": ("cessione a terzi", "cession to third parties"),
    "detail.double_opt_in": ("doppia conferma", "double opt-in"),
    "detail.registry": ("registro", "registry"),
    "detail.receipt": ("ricevuta", "receipt"),
    "detail.decision": ("decisione", "decision"),
    "detail.starts": ("dal", "from"),
    "detail.ends": ("fino al", "until"),
    "detail.sector": ("settore", "sector"),
    "detail.marketing": ("chiamate commerciali consentite", "commercial calls consented to"),
    "detail.own_interface": ("chiesta direttamente al titolare", "asked of the controller itself"),
    "detail.scope": ("vale per", "binds"),
    "detail.campaign": ("campagna", "campaign"),
    "detail.of": ("voce", "entry"),
    "detail.ground": ("motivo", "ground"),
    "detail.reason": ("spiegazione", "explanation"),
    "detail.consent": ("consenso", "consent"),
    "detail.collected_by": ("raccolto da", "collected by"),
    "detail.collected_on": ("raccolto il", "collected on"),
    "detail.source": ("fonte", "source"),
    "detail.transfers": ("cessioni", "cessions"),
    "detail.by": ("da", "from"),
    "detail.to": ("a", "to"),
    "detail.on": ("il", "on"),
    "detail.subjects_told": ("persone informate", "people informed"),
    "value.True": ("sì", "yes"),
    "value.False": ("no", "no"),
    "scope.campaign": ("una campagna", "one campaign"),
    "scope.controller": ("tutto il titolare", "the whole controller"),
    "scope.everyone": ("tutti i titolari", "every controller"),
    "ground.error": ("registrata per errore", "entered by mistake"),
    "ground.new_consent": ("nuovo consenso", "new consent"),
    "ground.confirmed": ("numero confermato dalla persona", "number confirmed by the person"),
}
_STORED: Final = {"restricted": "restricted_days", "lists": "lists_days", "lookups": "lookups_days"}


class _Page:
    def __init__(self, language: Language, zone: str) -> None:
        self._at = LANGUAGES.index(language)
        self._texts = texts.of(language)
        self._zone = zone
        self.parts: list[str] = []

    def say(self, key: str) -> str:
        """Translate; return the key where there is no translation: an id, a name, a kind that came later."""
        return TEXTS[key][self._at] if key in TEXTS else key

    def why(self, why: Why) -> str:
        text = self._texts.reasons.get(why.code, why.text)
        return f"{text} ({self._texts.law(why.law)})" if why.law else text

    def instant(self, at: str) -> str:
        """Return the time in the controller's country, to the minute: 24/11/2026 10:00 CET."""
        clock = local_time.clock_in(self._zone, datetime.fromisoformat(at))
        return f"{clock:%d/%m/%Y %H:%M} {clock.tzname()}"

    def table(self, title: str, columns: tuple[str, ...], rows: Iterable[Sequence[str]]) -> None:
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
        self.parts.append(f"<h2>{escape(self.say(title))}</h2>")
        if not body:
            self.parts.append(f"<p>{escape(self.say('nothing'))}</p>")
            return
        head = "".join(f'<th scope="col">{escape(self.say(name))}</th>' for name in columns)
        self.parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def history(self, title: str, entries: Iterable[HistoryEntry]) -> None:
        self.table(
            title,
            ("when", "what", "who", "how", "details"),
            (
                (
                    self.instant(each.at),
                    self.say(each.kind),
                    each.actor,
                    f"{each.channel}\n{each.proof}".strip(),
                    self.details(each.details),
                )
                for each in entries
            ),
        )

    def details(self, details: Mapping[str, object]) -> str:
        """Return a line for each field that is not empty."""
        return "\n".join(
            f"{self._named(name)}: {self._value(name, value)}"
            for name, value in details.items()
            if value not in (None, "", (), [])
        )

    def _named(self, name: str) -> str:
        return self.say(f"detail.{name}").removeprefix("detail.")

    def _value(self, name: str, value: object) -> str:
        if isinstance(value, Mapping):
            return ", ".join(
                f"{self._named(key)} {self._value(key, each)}"
                for key, each in value.items()
                if each not in (None, "", (), [])
            )
        if isinstance(value, list | tuple):
            return "; ".join(self._value(name, each) for each in value)
        if isinstance(value, bool):
            return self.say(f"value.{value}")
        text = str(value)
        if _INSTANT.fullmatch(text):
            return self.instant(text)
        if _DAY.fullmatch(text):
            return f"{date.fromisoformat(text):%d/%m/%Y}"
        tables: Any = {"purposes": self._texts.purposes, "call_types": self._texts.call_types}
        words = tables.get(name, {})
        return words.get(text) or self.say(f"{name}.{text}").removeprefix(f"{name}.")


def _cell(text: str) -> str:
    kind = ' class="time"' if re.fullmatch(r"\d\d/\d\d/\d{4} \d\d:\d\d \S+", text) else ""
    return f"<td{kind}>{_marked(text)}</td>"


def _marked(text: str) -> str:
    """Return HTML that keeps the line ends, and may break only a word that is wider than a column."""
    parts = [
        f'<span class="long">{escape(part)}</span>' if _LONG.fullmatch(part) else escape(part)
        for part in re.split(r"(\s+)", text)
    ]
    return "".join(parts).replace("\n", "<br>")


def page(report: Report, language: Language) -> str:
    made = _Page(language, report.zone)
    _calls(made, report)
    made.history("ledger", report.ledger)
    made.history("restricted", report.restricted)
    _sources(made, report)
    _people(made, report)
    say = made.say
    title = f"{say('title')} {report.controller_name}"
    unheard = ", ".join(sorted(report.missing))
    missing = f"<p><strong>{escape(say('missing'))} {escape(unheard)}.</strong></p>" if unheard else ""
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body><main>{_sender(made, report)}<h1>{escape(title)}</h1>"
        f"<p>{escape(say('intro'))} <strong>{escape(report.number)}</strong>. {escape(say('made'))}"
        f" {escape(made.instant(report.made_at))}. {escape(say('zone'))} {escape(report.zone)}.</p>"
        f"<p>{escape(say('purpose'))}</p>{missing}"
        f"{''.join(made.parts)}<h2>{escape(say('rights_title'))}</h2><p>{escape(say('rights'))}</p></main></body></html>"
    )


def _sender(made: _Page, report: Report) -> str:
    """Name the controller and the data protection officer, with their contacts (GDPR 13(1)(a) and (b))."""
    controller = "\n".join(filter(None, (report.controller_name, report.controller_contact)))
    lines = [f"<strong>{escape(made.say('controller'))}</strong>: {_marked(controller)}"]
    if report.officer:
        lines.append(f"<strong>{escape(made.say('officer'))}</strong>: {_marked(report.officer)}")
    return f"<address>{'<br>'.join(lines)}</address>"


def _calls(made: _Page, report: Report) -> None:
    made.table(
        "decisions",
        ("when", "answer", "campaign", "shown", "basis", "why"),
        (
            (
                made.instant(each.at),
                " ".join(
                    filter(None, (made.say(each.decision), each.result and f"({made.say(each.result)})"))
                ),
                each.campaign,
                each.caller_id,
                _basis(made, each.basis),
                " ".join(made.why(why) for why in each.reasons),
            )
            for each in report.decisions
        ),
    )


def _basis(made: _Page, basis: str) -> str:
    kind, _, name = basis.partition(":")
    return f"{made.say(kind)} {name}".strip()


def _sources(made: _Page, report: Report) -> None:
    made.table(
        "lists",
        ("what", "campaign", "basis", "origin", "when"),
        (
            (
                each.list,
                ", ".join(each.campaigns),
                made.say(each.basis),
                " → ".join(
                    (
                        f"{each.origin.collected_by}, {each.origin.collected_on:%d/%m/%Y} {each.origin.source}".strip(),
                        *(f"{step.by} → {step.to}, {step.on:%d/%m/%Y}" for step in each.origin.transfers),
                    )
                ),
                made.instant(each.loaded_at),
            )
            for each in report.lists
        ),
    )
    made.table(
        "registries",
        ("when", "what", "answer"),
        (
            (made.instant(each.consulted_at), each.registry, made.say(each.answer))
            for each in report.registries
        ),
    )


def _people(made: _Page, report: Report) -> None:
    made.table(
        "lookups",
        ("when", "who", "what", "why"),
        ((made.instant(each.at), each.client, made.say(each.what), each.purpose) for each in report.lookups),
    )
    made.table(
        "requests",
        ("when", "what", "until", "answer"),
        (
            (
                made.instant(each.received_at),
                made.say(each.kind),
                made.instant(each.due_at),
                f"{made.say('refused' if each.refused else 'answered')}: {each.outcome}"
                if each.closed_at
                else made.say("open"),
            )
            for each in report.requests
        ),
    )
    made.table(
        "storage",
        ("what", "days"),
        ((made.say(_STORED.get(kind, kind)), str(days)) for kind, days in report.days_of_storage.items()),
    )
