"""The access report as a page that a citizen can read, print and keep, in Italian and English. No scripts, no links out.

What was recorded in somebody's own words stands as it was recorded; everything around it is translated.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, Literal, TypeAlias, get_args

from dialgate import texts
from dialgate.requests import HistoryEntry
from dialgate.subject_answers import Report, Why

Language: TypeAlias = Literal["it", "en"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}caption{text-align:left}"
    "th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #999;overflow-wrap:anywhere}"
    "@media print{body{margin:0;max-width:none}tr{break-inside:avoid}}"
)

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
}
_STORED: Final = {"restricted": "restricted_days", "lists": "lists_days", "lookups": "lookups_days"}


class _Page:
    def __init__(self, language: Language) -> None:
        self._at = LANGUAGES.index(language)
        self._texts = texts.of(language)
        self.parts: list[str] = []

    def say(self, key: str) -> str:
        """As it is where there is no translation: an id, a name, a kind that came later."""
        return TEXTS[key][self._at] if key in TEXTS else key

    def why(self, why: Why) -> str:
        text = self._texts.reasons.get(why.code, why.text)
        return f"{text} ({self._texts.law(why.law)})" if why.law else text

    def table(self, title: str, columns: tuple[str, ...], rows: Iterable[Sequence[str]]) -> None:
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
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
                    day(each.at),
                    self.say(each.kind),
                    each.actor,
                    f"{each.channel} {each.proof}",
                    _pairs(each.details),
                )
                for each in entries
            ),
        )


def page(report: Report, language: Language) -> str:
    made = _Page(language)
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
        f"<body><main><h1>{escape(title)}</h1>"
        f"<p>{escape(say('intro'))} <strong>{escape(report.number)}</strong>. {escape(say('made'))}"
        f" {escape(day(report.made_at))}.</p><p>{escape(say('purpose'))}</p>{missing}"
        f"{''.join(made.parts)}<h2>{escape(say('rights_title'))}</h2><p>{escape(say('rights'))}</p></main></body></html>"
    )


def _calls(made: _Page, report: Report) -> None:
    made.table(
        "decisions",
        ("when", "answer", "campaign", "shown", "basis", "why"),
        (
            (
                day(each.at),
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
                        f"{each.origin.collected_by}, {each.origin.collected_on} {each.origin.source}".strip(),
                        *(f"{step.by} → {step.to}, {step.on}" for step in each.origin.transfers),
                    )
                ),
                day(each.loaded_at),
            )
            for each in report.lists
        ),
    )
    made.table(
        "registries",
        ("when", "what", "answer"),
        ((day(each.consulted_at), each.registry, made.say(each.answer)) for each in report.registries),
    )


def _people(made: _Page, report: Report) -> None:
    made.table(
        "lookups",
        ("when", "who", "what", "why"),
        ((day(each.at), each.client, made.say(each.what), each.purpose) for each in report.lookups),
    )
    made.table(
        "requests",
        ("when", "what", "until", "answer"),
        (
            (
                day(each.received_at),
                made.say(each.kind),
                day(each.due_at),
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


def day(at: str) -> str:
    """To the minute: 2026-11-24 09:00 UTC."""
    return f"{at[:10]} {at[11:16]} UTC"


def _pairs(details: dict[str, object]) -> str:
    return ", ".join(f"{name}: {_plain(value)}" for name, value in details.items())


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
