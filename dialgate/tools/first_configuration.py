"""The questions that `dialgate init` asks, and the configuration files that it writes."""

import ipaddress
import math
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from hashlib import sha256
from itertools import chain, groupby
from pathlib import Path
from string import Template
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

import yaml
from msgspec import Struct, structs

from dialgate.config import advice, yaml_file
from dialgate.config.configuration import ConfigError
from dialgate.config.controllers import ControllerFile, Line, build_lines
from dialgate.config.countries import SHIPPED, convert_law
from dialgate.core import periods
from dialgate.core.law import Law
from dialgate.core.law_sections import Registry
from dialgate.core.local_time import day_in
from dialgate.core.model import HOUR, Callee, CallType, Instant, Purpose
from dialgate.runtime.atomic_write import write_file
from dialgate.tools import answer_checks

_RESOURCES: Final = Path(__file__).parents[1] / "resources"
# The folder with each dialer's files.
_DIALERS: Final = {
    "http": "", "webhook": "hosted", "asterisk": "asterisk", "vicidial": "vicidial",
    "freeswitch": "freeswitch", "kamailio": "kamailio", "opensips": "opensips",
}  # fmt: skip
# Dialers that send no key: the gate identifies them by their address.
_WITHOUT_KEY: Final = frozenset({"asterisk", "vicidial", "freeswitch", "opensips"})
_TRUNKS: Final = frozenset({"kamailio", "opensips"})
_FASTAGI: Final = frozenset({"asterisk", "vicidial"})
# Registries with one list for the whole country, in the nightly job's `tps` format.
_WHOLE_COUNTRY: Final = frozenset({"tps", "ctps"})
# The registry whose layout is the nightly job's default. The operator replaces the layout for other registries.
_ITALIAN: Final = "rpo"
_LAYOUT: Final = 'number: 1, status: 2, clear: ["0"], listed: ["1"]'
_CLOSED: Final = "closed"
_YES_NO: Final = ("yes", "no")
_IN_CONTAINER: Final = ("/.dockerenv", "/run/.containerenv")  # written by Docker and Podman
VOLUME: Final = "/var/lib/dialgate"  # of `deploy/container`


class NewKeys(Struct, frozen=True):
    """The API keys of the clients `dialer` and `supervisor`."""

    dialer: str
    supervisor: str


_SAMPLE_KEYS: Final = NewKeys("dialer", "supervisor")  # of a draft, which is only checked


class SetupDraft(Struct):
    """The answers so far, by question name.

    A question about campaigns has one answer for each campaign. Defaults and examples replace missing
    answers, so that every draft can be checked as a whole configuration.
    """

    laws: dict[str, Law]
    now: Instant
    answers: dict[str, list[str]] = {}

    def get(self, name: str, place: int = 0) -> str:
        """Return an answer, or else the question's default or example. `place` is the index of the campaign."""
        given, question = self.answers.get(name, []), _BY_NAME[name]
        if place < len(given):
            return given[place]
        if not question.applies(self):
            return ""
        default = question.default_of(self, place)
        return default if default is not None else question.example or next(iter(question.choices(self)), "")

    def parts(self, name: str, place: int = 0) -> list[str]:
        return [part.strip() for part in self.get(name, place).split(",") if part.strip(f" {_CLOSED}")]

    @property
    def in_container(self) -> bool:
        return self.get("container") == "yes"

    @property
    def law(self) -> Law:
        return self.laws.get(self.get("country")) or next(iter(self.laws.values()))

    def with_answer(self, name: str, place: int, text: str) -> dict[str, list[str]]:
        """Return a copy of the answers, with `text` as the answer to the question `name` about campaign `place`.

        New campaigns get the answers about earlier campaigns. A new country removes the answers that depend on the law.
        """
        answers = {key: list(values) for key, values in self.answers.items()}
        if name == "country" and name in answers:  # sector and code depend on the law
            answers = {key: values for key, values in answers.items() if key not in {"sector", "code"}}
        answers.setdefault(name, [])[place : place + 1] = [text]
        if name == "campaign":
            count = len(text.split(","))
            about = [
                question.name for question in QUESTIONS if question.of_campaign and question.name in answers
            ]
            answers |= {key: (answers[key] * count)[:count] for key in about}
        return answers

    def questions(self) -> Iterator[tuple["SetupQuestion", int]]:
        """Yield the questions that apply, each with the index of its campaign."""
        for of_campaign, group in groupby(QUESTIONS, lambda question: question.of_campaign):
            several = list(group)
            for place in range(len(self.parts("campaign")) if of_campaign else 1):
                yield from ((question, place) for question in several if question.applies(self))

    def unanswered(self) -> Iterator[tuple["SetupQuestion", int]]:
        yield from (step for step in self.questions() if not self.is_answered(*step))

    def is_answered(self, question: "SetupQuestion", place: int) -> bool:
        return place < len(self.answers.get(question.name, []))

    def problems(self) -> list[str]:
        """Return what is wrong with the answers, as far as a check of the configuration cannot find it."""
        return [
            f"{question.name}: {problem}"
            for question, place in self.questions()
            if (problem := question.problem_of(self, self.get(question.name, place)))
        ]

    def lines(self) -> list[Line]:
        """Return the campaigns as the gate would load them, or an empty list if an answer is invalid."""
        return _lines_of(_controller_text(self))


@lru_cache(maxsize=1)  # three questions ask for the campaigns of each draft
def _lines_of(text: str) -> list[Line]:
    read, _ = yaml_file.convert(yaml.safe_load(text), ControllerFile)
    return list(build_lines({read.id: read}, {})[0].values()) if read else []


class SetupQuestion(Struct, frozen=True, kw_only=True):
    """A question of `dialgate init`. The user can also answer it with a command option.

    - `default` is the answer if the user presses Enter. If it is None, the user must type an answer.
    - `example` is shown as a hint, and replaces a missing answer.
    - `form` is how the answer is written to the configuration.
    - `of_campaign` is true if each campaign has its own answer.
    - `only_choices` and `problem` are checks of an answer that a check of the configuration lacks. `problem` returns what is wrong,
      and what to enter instead.
    - `stated` is true if the option is required when there is no terminal, even if the question has a default.
    """

    name: str
    text: str
    default: str | Callable[[SetupDraft, int], str | None] | None = None
    example: str = ""
    form: Literal["text", "number", "list", "file"] = "text"
    choices: Callable[[SetupDraft], Sequence[str]] = lambda _: ()
    applies: Callable[[SetupDraft], bool] = lambda _: True
    only_choices: bool = False
    problem: Callable[[str], str] = lambda _: ""
    of_campaign: bool = False
    stated: bool = False

    def problem_of(self, draft: SetupDraft, text: str) -> str:
        choices = self.choices(draft)
        if self.only_choices and text not in choices:
            return f"{text!r} is not allowed; write one of {', '.join(choices)}"
        return self.problem(text)

    def default_of(self, draft: SetupDraft, place: int) -> str | None:
        return self.default(draft, place) if callable(self.default) else self.default

    def render(self, draft: SetupDraft, place: int) -> str:
        text = draft.get(self.name, place)
        match self.form:
            case "list":
                return _inline(draft.parts(self.name, place))
            case "file":
                return _inline(str(Path(text).resolve()) if text else self.example)
            case "number" if text.isdecimal():
                return text
        return _inline(text)


def _first_word(draft: SetupDraft, _: int) -> str:
    return re.sub(r"[^a-z0-9]", "", draft.get("name").lower().partition(" ")[0]) or "controller"


def _country_of_locale(draft: SetupDraft, _: int) -> str:
    country = (os.environ.get("LC_ALL") or os.environ.get("LANG") or "")[3:5]
    return country if country in draft.laws else min(draft.laws, key=lambda name: draft.laws[name].draft)


def _no_sector(draft: SetupDraft, place: int) -> str | None:
    """Return the default sector: "" (no sector), or None (no default) if the purpose needs a sector."""
    return None if draft.get("purpose", place) in {"sale", "advertising"} else ""


def _codes(draft: SetupDraft) -> list[str]:
    """Return the country's codes of conduct: the traits in `hours` sections with the severity `self_regulation`."""
    codes = (section.traits for section in draft.law.hours if section.severity == "self_regulation")
    return list(dict.fromkeys(chain.from_iterable(codes)))


def _lacks_hours(draft: SetupDraft) -> bool:
    return not all(advice.closes(draft.law, line, draft.now) for line in draft.lines())


def _is_exposed(draft: SetupDraft) -> bool:
    """Return whether other machines can reach the gate."""
    try:
        return not ipaddress.ip_address(draft.get("host")).is_loopback
    except ValueError:
        return draft.get("host") != "localhost"


def _default_of_container(_: SetupDraft, __: int) -> str:
    return "yes" if any(map(os.path.exists, _IN_CONTAINER)) else "no"


QUESTIONS: Final = (
    SetupQuestion(name="name", text="Name of the controller, on whose behalf you call", example="Zeta Servizi S.r.l."),
    SetupQuestion(name="controller", text="Controller ID", default=_first_word),
    SetupQuestion(name="contact", text="Contact for requests about personal data", example="privacy@zeta.example"),
    SetupQuestion(name="officer", text="Data protection officer and how to reach them; empty if there is none", default=""),
    SetupQuestion(name="country", text="Country whose law applies to the controller", default=_country_of_locale, choices=lambda draft: list(draft.laws), only_choices=True, stated=True),
    SetupQuestion(name="accept-draft", text="The country file is a draft; use it to decide calls anyway", example="yes", choices=lambda _: _YES_NO, only_choices=True, applies=lambda draft: draft.law.draft),
    SetupQuestion(name="code", text="Codes of conduct to which the controller adheres; empty if there is none", default="", form="list", choices=_codes, applies=lambda draft: bool(_codes(draft))),
    SetupQuestion(name="campaign", text="Campaign ID; separate several with commas", default="campaign-1", stated=True),
    SetupQuestion(name="purpose", text="Purpose", default="sale", choices=lambda _: get_args(Purpose), of_campaign=True, stated=True),
    SetupQuestion(name="sector", text="Sector", default=_no_sector, choices=lambda draft: draft.law.sectors, applies=lambda draft: bool(draft.law.sectors), of_campaign=True),
    SetupQuestion(name="call-type", text="Call type", default="agent", choices=lambda _: get_args(CallType), of_campaign=True, stated=True),
    SetupQuestion(name="callee", text="Who is called", default="consumer", choices=lambda _: get_args(Callee), of_campaign=True),
    SetupQuestion(name="caller-id", text="Caller IDs; separate several with commas", example="+390844654321", form="list", of_campaign=True),
    SetupQuestion(name="weekday-hours", text="Calling hours from Monday to Friday", default="09:00-20:00", form="list", applies=_lacks_hours),
    SetupQuestion(name="saturday-hours", text="Calling hours on Saturdays", default="10:00-19:00", form="list", applies=_lacks_hours),
    SetupQuestion(name="sunday-hours", text="Calling hours on Sundays and holidays", default=_CLOSED, form="list", applies=_lacks_hours),
    SetupQuestion(name="dialer", text="Dialer; http is your own program, webhook a hosted service", default="http", choices=lambda _: list(_DIALERS), only_choices=True, stated=True),
    SetupQuestion(name="dialer-address", text="Address of the dialer", default="127.0.0.1", form="list", applies=lambda draft: draft.get("dialer") in _WITHOUT_KEY),
    SetupQuestion(name="container", text="Will the gate run in a container", default=_default_of_container, choices=lambda _: _YES_NO, only_choices=True),
    SetupQuestion(name="host", text="Address on which the gate listens", default=lambda draft, _: "0.0.0.0" if draft.in_container else "127.0.0.1", problem=answer_checks.not_an_address),  # noqa: S104 - of the container
    SetupQuestion(name="port", text="Port", default="8080", form="number"),
    SetupQuestion(name="tls-certificate", text="PEM file with the TLS certificate chain", default=lambda draft, _: "" if draft.in_container else None, example="tls.pem", form="file", applies=_is_exposed),
    SetupQuestion(name="tls-key", text="PEM file with the certificate's key; empty if both are in one file", default="", example="tls.key", form="file", applies=lambda draft: bool(draft.get("tls-certificate"))),
    SetupQuestion(name="redis-url-file", text="File with the URL of a Redis; empty for the embedded store", default="", example="redis.url", form="file"),
    SetupQuestion(name="data", text="Folder for all data, relative to the new folder", default=lambda draft, _: VOLUME if draft.in_container else "../.data", problem=answer_checks.not_a_folder),
)  # fmt: skip
_BY_NAME: Final = {question.name: question for question in QUESTIONS}


@cache
def laws() -> dict[str, Law]:
    """Return the laws that come with dialgate, by country."""
    paths = sorted(SHIPPED.iterdir())
    return {law.country: law for law, _ in (convert_law(yaml_file.read(path)[0]) for path in paths) if law}


def write(draft: SetupDraft, folder: Path, keys: NewKeys = _SAMPLE_KEYS) -> list[str]:
    """Write all files to an empty folder and return their names. Raises `ConfigError`."""
    if problems := draft.problems():
        raise ConfigError(problems)
    if "." in draft.get("controller") and registries_of(draft):
        raise ConfigError(
            [
                "controller: its id must not contain dots, because the names of registry packages contain the id; write for example acme-italia"
            ]
        )
    texts = _texts(draft, keys)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(folder / name, text.encode())
    return list(texts)


# ---- the files -------------------------------------------------------------------------------------------------------


def _texts(draft: SetupDraft, keys: NewKeys) -> dict[str, str]:
    dialer = _DIALERS[draft.get("dialer")]
    texts = {
        f"controllers/{re.sub('[^a-z0-9._-]', '-', draft.get('controller'))}.yaml": _controller_text(draft),
        f"countries/{draft.law.country.lower()}.yaml": _law_text(draft),
        "registries.yaml": _registries_text(draft),
        "dialgate.yaml": _settings_text(draft, keys),
    }
    for path in sorted((_RESOURCES / dialer).iterdir()) if dialer else ():
        texts[f"dialer/{path.name}"] = _with_own_values(path.read_text("utf-8"), draft, keys.dialer)
    for path in sorted((_RESOURCES / "webhooks").glob("*.yaml")) if dialer == "hosted" else ():
        texts[f"webhooks/{path.name}"] = path.read_text("utf-8")
    return texts


def _filled(name: str, draft: SetupDraft, more: Mapping[str, str] = {}, place: int = 0) -> str:
    """Fill in a template with the answers and the values in `more`, and return the text."""
    template = Template((_RESOURCES / "first" / name).read_text("utf-8"))
    names = {name for name in template.get_identifiers() if name not in more}
    return template.substitute(
        more, **{name: _BY_NAME[name.replace("_", "-")].render(draft, place) for name in names}
    )


def _settings_text(draft: SetupDraft, keys: NewKeys) -> str:
    dialer = draft.get("dialer")
    used = {
        "tls": draft.get("tls-certificate"),
        "tls_key": draft.get("tls-key"),
        "sources": dialer in _WITHOUT_KEY,
        "fastagi": dialer in _FASTAGI,
        "store": draft.get("redis-url-file"),
        "container": draft.in_container,
        "tests": dialer not in _TRUNKS,
    }
    comments = {f"no_{name}": "" if value else "# " for name, value in used.items()}
    drafts = [draft.law.country] if draft.law.draft and draft.get("accept-draft") == "yes" else []
    hashes = {
        f"{name}_sha256": sha256(key.encode()).hexdigest() for name, key in structs.asdict(keys).items()
    }
    more = {"drafts": _inline(drafts), **hashes}
    return _filled("dialgate.yaml", draft, comments | more)


def _controller_text(draft: SetupDraft) -> str:
    campaigns = (
        _filled("campaign.yaml", draft, {"campaign": _inline(campaign)}, place)
        for place, campaign in enumerate(draft.parts("campaign"))
    )
    return _filled("controller.yaml", draft) + "".join(campaigns)


def _registries_text(draft: SetupDraft) -> str:
    data = draft.get("data")
    entries = {"asked": "", "listed": ""}
    for rule in registries_of(draft):
        boxes = {box: _inline(f"{data}/{rule.id}/{box}") for box in ("outbox", "inbox")}
        half = periods.end(rule.validity, 0) // (2 * HOUR)
        form = "format: rpo"
        if rule.id != _ITALIAN:
            form = f"format: csv\n    layout: {{country: {draft.law.country}, {_LAYOUT}}}    # replace it with the columns of its files"
        more = {**boxes, "format": form, "registry": rule.id, "look_ahead": str(min(72, half))}
        kind = "asked" if rule.mode == "answers" else "listed"
        entries[kind] += "\n" + _filled(f"{kind}.yaml", draft, more).rstrip()
    more = {name: text or " []" for name, text in entries.items()}
    return _filled("registries.yaml", draft, {**more, "work": _inline(f"{data}/registries")})


def registries_of(draft: SetupDraft) -> list[Registry]:
    """Return the registries that bind a campaign, except those that publish lists by area."""
    bound = (advice.binding(draft.law, line, draft.now).registries for line in draft.lines())
    rules = {rule.id: rule for rules in bound for rule in rules}
    return [rule for rule in rules.values() if rule.mode == "answers" or rule.id in _WHOLE_COUNTRY]


def _law_text(draft: SetupDraft) -> str:
    """Return the text of the country file, with the operator's calling hours if the draft has any."""
    text = (SHIPPED / f"{draft.law.country.lower()}.yaml").read_text("utf-8")
    if not any(draft.get(f"{day}-hours") for day in ("weekday", "saturday", "sunday")):
        return text
    section = _filled("hours.yaml", draft, {"today": str(day_in(draft.law.zone, draft.now))})
    head, hours, rest = text.partition("\nhours:\n")
    return f"{head}\nhours:\n{section}{rest}" if hours else f"{text}\nhours:\n{section}"


def _with_own_values(text: str, draft: SetupDraft, key: str) -> str:
    """Fill in the gate's address, the key and the first campaign in a dialer's configuration file."""
    url = urlsplit(url_of(draft))
    values = {
        "http://127.0.0.1:8080": url.geturl(),
        "127.0.0.1:8080": url.netloc,
        "127.0.0.1:4573": f"{url.hostname}:4573",
        "put the key here": key,
        "acme-fibre": draft.parts("campaign")[0],
    }
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], text)


def url_of(draft: SetupDraft) -> str:
    """Return the URL at which the dialer reaches the gate."""
    host = draft.get("host")
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - nothing listens here
        # The port of a container is published on this machine only.
        host = "127.0.0.1" if draft.in_container else platform.node()
    scheme = "https" if draft.get("tls-certificate") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{draft.get('port')}"


def _inline(value: object) -> str:
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=math.inf).strip()[1:-1]
