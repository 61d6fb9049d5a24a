"""The direction of imports, and a few other laws of the project that no linter knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "dialgate").rglob("*.py"), *(ROOT / "registry_sync").rglob("*.py")])

# Who may import what of ours. A module is judged by the longest prefix of its name; a package may import its own parts.
ALLOWED: dict[str, set[str]] = {
    "dialgate": {"answers", "app", "bench", "cases", "chains", "clock", "decision", "decision_log", "garbage_collection", "kept", "kept_instants", "keys", "law", "listcopies", "localtime", "metrics", "model", "numberset", "peers", "recorder", "registrar", "roster", "runtime", "service", "settings", "settling", "signing", "stop_retries", "store", "stores", "subjects", "upkeep"},
    "dialgate.model": set(),
    "dialgate.faults": set(),
    "dialgate.runtime": set(),
    "dialgate.number_writing": set(),
    "dialgate.phone": {"model", "number_writing"},
    "dialgate.abandonment": {"model"},
    "dialgate.consent_states": {"model", "basis", "law", "localtime", "rules"},
    "dialgate.law": {"model"},
    "dialgate.ledger": {"model"},
    "dialgate.basis": {"model", "law"},
    "dialgate.sip": set(),
    "dialgate.cdr": {"cdr_asterisk"},
    "dialgate.cdr_asterisk": set(),
    "dialgate.departures": {"model", "cdr", "phone"},
    "dialgate.reconcile": {"model", "archive", "chains", "cdr", "departures", "kept", "keys", "records", "span"},
    "dialgate.rules": {"model", "abandonment", "law", "basis"},
    "dialgate.decision": {"model", "law", "rules"},
    "dialgate.localtime": {"model", "law"},
    "dialgate.interpreted": set(),
    "dialgate.primitives": {"_primitives", "interpreted"},
    "dialgate.redaction": {"primitives"},
    "dialgate.decision_ids": set(),
    "dialgate.entry_ids": set(),
    "dialgate.numberset": {"model", "runtime", "primitives"},
    "dialgate.snapshot": {"model", "numberset", "signature"},
    "dialgate.keys": {"model", "decision_ids", "entry_ids", "faults", "primitives", "runtime"},
    "dialgate.signing": {"model", "keys", "runtime"},
    "dialgate.decision_log": {"_primitives", "model", "faults", "runtime", "primitives", "signing", "spread"},
    "dialgate.verifier": set(),
    "dialgate.timestamps": {"model", "decision_log"},
    "dialgate.proofs": {"model", "archive", "decision_log"},
    "dialgate.evidence": {"model", "chains", "decision_log", "holds", "keys", "proofs", "kept", "ledger", "records", "signing", "snapshot", "numberset", "store", "timestamps"},
    "dialgate.store": {"model", "abandonment", "ledger", "runtime", "faults", "primitives"},
    "dialgate.storage_days": set(),
    "dialgate.choices": set(),
    "dialgate.config_advice": {"model", "law", "localtime", "settings", "yamlfile"},
    "dialgate.effect": {"model", "basis", "choices", "ledger"},
    "dialgate.validation_text": set(),
    "dialgate.yamlfile": {"validation_text"},
    "dialgate.doors": set(),
    "dialgate.webhook": set(),
    "dialgate.url_secrets": set(),
    "dialgate.config_warnings": {"settings"},
    "dialgate.dnc": {"webhook"},
    "dialgate.notices": {"model", "keys", "ledger", "localtime", "store"},
    "dialgate.webhooks": set(),
    "dialgate.terms": set(),
    "dialgate.reached": {"runtime", "store"},
    "dialgate.stores": {"model", "keys", "reached", "settings", "store", "url_secrets"},
    "dialgate.settings": {"model", "doors", "law", "phone", "shipping", "storage_days", "telling", "terms", "url_secrets", "webhook", "webhooks", "yamlfile"},
    # The files of a log, read beside its writer; nothing of the gate that writes it.
    "dialgate.shipping": {"model", "runtime", "archive", "chains", "decision_log", "doors", "faults", "settings", "signing", "store", "timestamps"},
    "dialgate.shipping.settings": {"doors"},
    "dialgate.metrics": {"model"},
    "dialgate.logs": {"redaction", "telling"},
    "dialgate.telling": {"doors"},
    "dialgate.traces": {"telling"},
    "dialgate.kept": {"law", "settings", "runtime"},
    "dialgate.confined": set(),
    "dialgate.list_builder": {"model", "calllist", "confined", "tabular"},
    "dialgate.spreadsheet": {"confined"},
    "dialgate.tabular": {"phone", "spreadsheet"},
    "dialgate.calllist": {"model", "phone", "numberset", "redaction", "tabular"},
    "dialgate.reason_classes": set(),
    "dialgate.answers": {"model", "localtime", "number_writing", "reason_classes"},
    "dialgate.permit": {"model", "answers"},
    "dialgate.permit_key": {"model", "keys", "runtime"},
    "dialgate.requests": {"model", "calllist", "tabular"},
    "dialgate.cases": {"model"},
    "dialgate.masking": {"model", "keys", "redaction"},
    "dialgate.lookups": {"refusal", "model", "keys", "localtime", "masking", "metrics", "registrar", "settings", "store"},
    "dialgate.subject_answers": {"personal_data", "model", "cases", "lookups", "requests"},
    "dialgate.subject_page": {"personal_data", "model", "localtime", "requests", "subject_answers", "texts"},
    "dialgate.chains": {"model", "decision_log", "keys", "records", "span"},
    "dialgate.peers": {"personal_data", "model", "keys", "lookups", "requests", "settings", "store", "subject_answers", "why", "runtime"},
    "dialgate.shared_holds": {"holds", "keys", "peers", "store"},
    "dialgate.everywhere": {"model", "peers", "why"},
    "dialgate.listcopies": {"model", "calllist", "decision_log", "peers", "store", "runtime"},
    "dialgate.holdings": {"personal_data",
        "model", "chains", "localtime", "numberset", "records", "settings", "snapshot", "store", "subject_answers",
    },
    "dialgate.erasure": {"personal_data",
        "model", "calllist", "keys", "ledger", "localtime", "numberset", "records", "store", "subject_answers", "runtime",
    },
    "dialgate.erasing": {
        "model", "cases", "deadlines", "erasure", "keys", "ledger", "localtime", "masking", "offlists", "peers", "registrar",
        "requests", "settings", "shared_holds", "store", "subject_answers",
    },
    "dialgate.offlists": {"erasure", "numberset", "store"},
    "dialgate.expiry": {"model", "erasure", "holdings", "holds", "ledger", "localtime", "settings", "store"},
    "dialgate.deadlines": {"personal_data", "refusal",
        "model", "cases", "keys", "localtime", "lookups", "masking", "metrics", "registrar", "settings", "store",
        "subject_answers",
    },
    "dialgate.breach": {"model", "chains", "keys", "localtime", "records", "settings", "store"},
    "dialgate.subjects": {"personal_data", "refusal",
        "model", "breach", "cases", "deadlines", "erasing", "erasure", "faults", "holdings", "holds", "kept_instants", "keys", "ledger", "localtime", "lookups", "masking", "metrics",
        "offlists", "peers", "phone", "registrar", "requests", "expiry", "settings", "shared_holds", "store", "stores", "subject_answers",
    },
    "dialgate.caller_ids": {"model", "law", "phone", "redaction", "settings", "store"},
    "dialgate.gather": {
        "model", "caller_ids", "calllist", "law", "ledger", "phone", "localtime", "keys", "numberset", "redaction", "snapshot", "settings", "store",
    },
    "dialgate.batch": {"model", "answers", "caller_ids", "decision", "decision_ids", "gather", "ledger", "localtime", "settings", "store"},
    "dialgate.voiding": {"model", "keys", "ledger", "store"},
    "dialgate.backup": {"store", "runtime"},
    "dialgate.bulk": {"ledger", "store"},
    "dialgate.events": {"model", "ledger", "requests"},
    "dialgate.revoking": {"model", "bulk", "calllist", "keys", "masking", "ledger", "store", "tabular"},
    "dialgate.spread": {"faults"},
    "dialgate.entering": {
        "model", "bulk", "calllist", "events", "keys", "ledger", "masking", "requests", "spread", "store", "tabular",
    },
    "dialgate.archive": {"model", "runtime", "decision_log", "logs"},
    "dialgate.records": {"model", "decision_log", "archive"},
    "dialgate.holds": {"model", "runtime", "keys", "phone"},
    "dialgate.retention": {"model", "chains", "holds", "keys", "records", "settings", "terms"},
    "dialgate.span": {"model", "archive", "decision_log", "records"},
    "dialgate.replay": {"model", "decision", "kept", "law", "records"},
    "dialgate.search": {"model", "chains", "localtime", "records", "span"},
    "dialgate.terminal": set(),
    "dialgate.texts": {"model"},
    "dialgate.report": {
        "model", "keys", "chains", "ledger", "localtime", "numberset", "records", "search", "settings", "snapshot", "span", "store", "texts",
    },
    "dialgate.why": {"model", "chains", "decision_log", "holds", "keys", "numberset", "phone", "records", "snapshot", "span"},
    "dialgate.account": {"model", "answers", "localtime", "records", "texts", "why"},
    "dialgate.roster": {"model", "metrics", "settings", "store"},
    "dialgate.recorder": {"model", "chains", "decision_log", "keys", "localtime", "metrics", "records", "runtime"},
    "dialgate.stop_recovery": {"model", "chains", "kept", "keys", "ledger", "masking", "records", "store"},
    "dialgate.stop_retries": {"model", "faults", "keys", "stop_recovery", "store"},
    "dialgate.settling": {"model", "answers", "keys", "records", "stop_recovery", "store"},
    "dialgate.registrar": {"refusal", "consent_states", "decision_ids", "entry_ids", "choices", "effect",
        "model", "ledger", "calllist", "list_builder", "kept", "keys", "localtime", "masking", "metrics", "phone", "requests", "settings", "store",
        "notices", "reached", "redaction", "stores", "entering", "events", "faults", "revoking", "scrub", "tabular", "runtime",
    },
    "dialgate.scrub": {
        "model", "answers", "decision", "faults", "gather", "keys", "ledger", "numberset", "settings", "snapshot", "store",
    },
    "dialgate.export": {"refusal", "model", "answers", "calllist", "ledger", "registrar", "scrub", "settings", "tabular"},
    "dialgate.clock": {"model", "answers", "faults"},
    "dialgate.kept_instants": {"model", "answers", "faults", "runtime"},
    "dialgate.observed": {"model", "answers", "batch", "metrics", "traces"},
    "dialgate.admission_queue": {"model", "answers", "settings"},
    "dialgate.vitals": {"model", "gather", "law", "metrics"},
    "dialgate.upkeep": {
        "model", "vitals", "archive", "law", "decision_log", "faults", "gather", "kept_instants", "metrics", "numberset", "runtime", "reached", "settings", "snapshot", "store", "timestamps", "url_secrets",
    },
    "dialgate.overlap": {"batch"},
    "dialgate.service": {
        "model", "answers", "batch", "chains", "clock", "decision", "decision_log", "faults", "gather", "kept", "kept_instants", "keys", "ledger", "listcopies", "localtime",
        "metrics", "observed", "peers", "permit", "permit_key", "primitives",
        "admission_queue", "recorder", "registrar", "overlap", "roster", "settings", "settling", "signing", "snapshot", "stop_retries", "store", "stores", "subjects", "traces", "upkeep", "runtime",
    },
    # For those who ask: what it is told, and nothing of the gate.
    "dialgate.client": {"model", "answers"},
    "dialgate.conformance": {"client"},
    "dialgate.demo": {"model", "client", "localtime"},
    "dialgate.interfaces.cli_demo": {"clock", "demo", "interfaces", "localtime", "service", "terminal"},
    # An interface translates: it knows the service and its words, not what is behind them.
    "dialgate.interfaces": {"app", "personal_data", "refusal",
        "choices", "model", "doors", "faults", "answers", "requests", "service", "registrar", "settings", "metrics", "logs", "tabular", "terminal", "webhooks",
        "admission_queue", "lookups", "notices", "primitives", "reason_classes", "subject_answers", "subject_page", "validation_text",
    },
    "dialgate.interfaces.uploads": {"doors", "interfaces", "list_builder", "tabular", "runtime"},
    # What was decided is read where it stands, not asked of the service.
    "dialgate.interfaces.http_decisions": {"app", "decision_ids", "choices", "lookups",
        "model", "account", "interfaces", "everywhere", "keys", "peers", "service", "settings", "texts", "why",
    },
    "dialgate.interfaces.http_peers": {"app", "everywhere", "faults", "interfaces", "listcopies", "peers", "service"},
    "dialgate.interfaces.cli_answers": {
        "choices", "model", "account", "chains", "decision_log", "everywhere", "faults", "interfaces", "keys", "kept", "law", "peers", "records", "replay", "search",
        "settings", "span", "subjects", "texts", "why", "terminal",
    },
    "dialgate.interfaces.console_reports": {"choices", "console", "interfaces", "localtime"},
    "dialgate.interfaces.console_requests": {"personal_data", "model", "console", "interfaces", "localtime", "lookups", "subject_answers"},
    "dialgate.interfaces.cli_permit": {"clock", "interfaces", "permit_key", "service", "terminal"},
    "dialgate.interfaces.cli_serve": {"app", "clock", "garbage_collection", "config_warnings", "faults", "interfaces", "logs", "service", "settings", "traces", "terminal"},
    "dialgate.interfaces.cli_ship": {"clock", "interfaces", "logs", "service", "settings", "shipping", "terminal"},
    "dialgate.interfaces.cli_report": {"clock",
        "model", "faults", "interfaces", "localtime", "report", "service", "settings", "stores", "texts", "terminal",
    },
    "dialgate.interfaces.sip": {"app", "refusal",
        "answers", "doors", "faults", "interfaces", "registrar", "requests", "service", "settings", "sip",
    },
    "dialgate.interfaces.cli_probe": {"clock", "interfaces", "phone", "registrar", "requests", "service", "settings", "sip", "terminal", "runtime"},
    "dialgate.interfaces.cli_reconcile": {"clock",
        "model", "cdr", "cdr_asterisk", "faults", "interfaces", "keys", "kept", "phone", "reconcile", "service", "settings", "terminal",
    },
    "dialgate.interfaces.subscribers": {"app", "model", "dnc", "faults", "interfaces", "notices", "service", "store", "webhook"},
    # The command line also runs the instruments, and reads a log that no gate has open.
    "dialgate.interfaces.cli": {"clock", "garbage_collection", "personal_data", "refusal",
        "choices", "model", "config_advice", "config_warnings", "faults", "answers", "requests", "service", "registrar", "settings", "metrics", "logs", "bench",
        "archive", "backup", "chains", "conformance", "roster", "store", "stores", "decision_log", "interfaces", "kept_instants", "law", "evidence", "holds", "keys", "proofs", "retention", "signing",
        "calllist", "export", "revocations", "tabular", "terminal", "timestamps", "breach", "peers", "subject_answers", "subject_page", "subjects", "validation_text",
    },
    # Pages for people: their words and templates, and what is sampled of the service to move on them.
    "dialgate.console": {"app", "refusal",
        "decision_ids", "model", "admission_queue", "answers", "batch", "export", "faults", "law", "localtime", "metrics", "registrar", "service", "settings", "store", "texts",
    },
    "dialgate.interfaces.console": {"app",
        "decision_ids", "model", "account", "answers", "chains", "console", "evidence", "export", "interfaces", "keys", "localtime", "lookups", "peers", "proofs", "records", "requests",
        "service", "settings", "signing", "stores", "texts", "why",
    },
    "dialgate.__main__": {"interfaces"},
    "dialgate.signature": {"faults"},
    # The store and the keys for what enrolment voids, and for the call lists.
    "registry_sync": {
        "model", "doors", "faults", "kept_instants", "keys", "ledger", "runtime", "logs", "numberset", "settings", "signature", "snapshot", "store", "stores", "terminal", "voiding", "yamlfile",
    },
}  # fmt: skip

# A library stands behind one module, so that it can be exchanged there.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "aiohttp": (
        "dialgate.interfaces",
        "dialgate.bench",
        "dialgate.client",
        "dialgate.peers",
        "dialgate.demo",
        "registry_sync.sources.https",
        "registry_sync.simulator",
    ),
    "asyncssh": ("registry_sync.sources.sftp", "registry_sync.simulator"),
    "phonenumbers": ("dialgate.phone",),
    "sqlite3": ("dialgate.store.sqlite",),
    "redis": ("dialgate.store.redis",),
    "fpdf": ("dialgate.report.pdf",),
    "holidays": ("dialgate.localtime",),
    "jinja2": ("dialgate.console.page",),
    "openpyxl": ("dialgate.spreadsheet",),
    "defusedxml": ("dialgate.spreadsheet",),
    "zoneinfo": ("dialgate.localtime",),
    "cryptography": (
        "dialgate.decision_ids",
        "dialgate.interfaces.certificates",
        "dialgate.keys",
        "dialgate.permit_key",
        "dialgate.signature",
        "dialgate.signing",
        "dialgate.timestamps",
        "dialgate.verifier",
    ),
    "pyarrow": ("dialgate.archive", "dialgate.cdr"),
    "obstore": ("dialgate.shipping.target",),
    "rfc3161_client": ("dialgate.timestamps",),
    "rich": ("dialgate.terminal", "dialgate.interfaces.cli_demo"),
    "opentelemetry": ("dialgate.traces",),
    "typer": ("dialgate.interfaces.cli", "registry_sync.cli"),
}
PURE = ("dialgate.model", "dialgate.webhooks", "dialgate.number_writing", "dialgate.phone", "dialgate.law", "dialgate.ledger", "dialgate.basis", "dialgate.rules",
        "dialgate.decision", "dialgate.answers", "dialgate.batch", "dialgate.cases", "dialgate.permit")  # fmt: skip
IMPURE = {
    "asyncio",
    "time",
    "os",
    "io",
    "pathlib",
    "socket",
    "random",
    "structlog",
    "logging",
    "threading",
    "subprocess",
}
BROAD_EXCEPTS = {"dialgate.decision": 1, "dialgate.app": 1, "dialgate.service": 1}
CLOCKS = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.now\(|\bdate\.today\(|\.utcnow\(")
CLOCK_READERS = {"dialgate.clock", "dialgate.service", "registry_sync.job"}
WORN_OUT = re.compile(r"util|helper|manager|common|misc|impl$", re.IGNORECASE)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def violations(name: str, source: str) -> list[str]:
    """What a module of this name and text breaks; empty when nothing."""
    tree = ast.parse(source)
    rule = max((prefix for prefix in ALLOWED if _judges(prefix, name)), key=len, default="")
    found = []
    for target in imports(tree):
        top, _, rest = target.partition(".")
        if top == "dialgate" and rest and not within(target, _package(rule)):
            part = rest.split(".", maxsplit=1)[0]
            if (
                rule
                and part not in ALLOWED[rule]
                and part != "__version__"
                and name != rule.partition(".")[0]
            ):
                found.append(f"{name} must not import dialgate.{part}")
        found += [
            f"{name} must not import {library}"
            for library, homes in ONLY_IN.items()
            if within(target, library) and not any(_judges(home, name) for home in homes)
        ]
        if any(within(name, pure) for pure in PURE) and top in IMPURE:
            found.append(f"{name} is pure and must not import {top}")
    if CLOCKS.search(source) and name not in CLOCK_READERS:
        found.append(f"{name} reads the clock")
    return found


def _judges(prefix: str, name: str) -> bool:
    """`dialgate.interfaces.cli` also judges `dialgate.interfaces.cli_serve`, which is a part of it."""
    return within(name, prefix) or name.startswith(f"{prefix}_")


def _package(rule: str) -> str:
    return rule if rule.count(".") else "-"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_keeps_the_direction_of_imports(path: Path) -> None:
    if not within(name_of(path), "dialgate.bench"):
        assert violations(name_of(path), path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("dialgate.rules.hours", "from dialgate.store import Store"),
        ("dialgate.rules.hours", "import time"),
        ("dialgate.law", "from pathlib import Path"),
        ("dialgate.interfaces.http_check", "from dialgate.decision import decide"),
        ("dialgate.interfaces.http_check", "from dialgate.store.sqlite import SqliteStore"),
        ("dialgate.service", "import aiohttp"),
        ("dialgate.gather", "import phonenumbers"),
        ("dialgate.upkeep", "now = time.time()"),
        ("registry_sync.publish", "from dialgate.service import Gate"),
    ],
)
def test_the_law_of_imports_finds_what_breaks_it(name: str, source: str) -> None:
    assert violations(name, source)


def test_broad_excepts_stand_only_where_they_are_named() -> None:
    found: dict[str, int] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"})
            ):
                found[name_of(path)] = found.get(name_of(path), 0) + 1
    assert found == BROAD_EXCEPTS


def test_names_say_what_a_thing_is_about() -> None:
    names = [name_of(path).rpartition(".")[2] for path in SOURCES]
    for path in SOURCES:
        names += [
            node.name
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.ClassDef)
        ]
    assert [name for name in names if WORN_OUT.search(name)] == []


def test_functions_are_short_and_files_have_one_subject() -> None:
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[len(lengths) * 9 // 10] <= 30
    assert lengths[-1] <= 60
    long = {name_of(path) for path in SOURCES if len(path.read_text("utf-8").splitlines()) > 400}
    assert long <= {
        "dialgate.store.redis",  # one class, one promise: every method of the Protocol
        "dialgate.store.sqlite",  # the same
        "dialgate.law",  # the vocabulary of a country file, in one place
        "dialgate.model",  # every value that is stored, and the reason codes
        "dialgate.registrar",  # every kind of write, with its checks
        "dialgate.settings",  # every key, with its checks
        "dialgate.verifier.verify_evidence",  # one file to hand over
    }


def test_no_test_sleeps_or_mocks() -> None:
    banned = re.compile(r"\bsleep\((?!0\))|\bsleep [\d{$]|Mock\(|\bpatch\(|monkeypatch")
    this = Path(__file__)
    drawn = "test_crash.py"  # the moment of a kill is drawn by lot, and nothing waits for it
    found = [
        f"{path.name}:{number}"
        for path in (ROOT / "tests").rglob("*.py")
        if path != this and path.name != drawn and path.parent.name != "bench"  # a benchmark is not a test
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if banned.search(line)
    ]
    assert found == []
