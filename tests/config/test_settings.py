"""Tests of the configuration: it is loaded completely or not at all, and mistakes are reported together."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dialgate.config import content_store, loader
from dialgate.config.configuration import ConfigError
from tests.support import yaml_files
from tests.support.world import CONFIG, KEY, client

SECTORS = "IT: electricity, gas, water, telecommunications, banking, insurance, retail, other"
SWITCH = {"name": "switch", "controllers": ["acme"], "scopes": ["check"], "sources": ["10.0.0.0/8"]}
FIRST = ("campaigns", 0)

Change = tuple[str, tuple[str | int, ...], Any]
GONE = object()


class Folder:
    """The example configuration as data. `problems` writes it, loads it and returns the problems."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, Any] = {
            "dialgate.yaml": {"data": "data", "clients": [client("tests", KEY, "check")]},
            "countries/it.yaml": yaml_files.read(CONFIG / "countries/it.yaml"),
            "controllers/acme.yaml": yaml_files.read(CONFIG / "controllers/acme.yaml"),
        }

    def change(self, file: str, keys: tuple[str | int, ...], value: Any) -> None:
        *parents, last = keys
        at = self.files[file]
        for key in parents:
            at = at[key]
        if value is GONE:
            del at[last]
        elif isinstance(at, list) and last == len(at):
            at.append(value)
        else:
            at[last] = value

    def write(self) -> Path:
        for name, content in self.files.items():
            file = self.path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return self.path / "dialgate.yaml"

    def problems(self) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            loader.load(self.write())
        return refused.value.problems


def test_a_campaign_may_limit_stops_otherwise_than_its_controller(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    campaigns = folder.files["controllers/acme.yaml"]["campaigns"]
    campaigns.append({**campaigns[0], "id": "bills", "purpose": "service", "stops": "marketing"})
    campaigns.append({**campaigns[0], "id": "news", "purpose": "service"})
    lines = loader.load(folder.write()).lines
    assert (lines["bills"].campaign.stops, lines["news"].campaign.stops) == ("marketing", "all")

    folder.files["controllers/acme.yaml"]["stops"] = "marketing"
    campaigns[-1]["stops"] = "all"
    lines = loader.load(folder.write()).lines
    assert {line.campaign.stops for name, line in lines.items() if name != "news"} == {"marketing"}
    assert lines["news"].campaign.stops == "all"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def gate(*keys: str | int, to: Any) -> Change:
    return "dialgate.yaml", keys, to


def acme(*keys: str | int, to: Any) -> Change:
    return "controllers/acme.yaml", keys, to


def italy(*keys: str | int, to: Any) -> Change:
    return "countries/it.yaml", keys, to


SECOND: dict[str, Any] = {
    "id": "b",
    "purpose": "advertising",
    "trunk_country": "IT",
    "caller_ids": ["12ab"],
    "starts": "2026-11-24",
    "ends": "2026-11-23",
}
TOGETHER: list[tuple[Change, tuple[str, ...]]] = [
    (acme("campaigns", 0, "held_caller_ids", to=["+390844000000"]), ("campaign acme-fibre: held_caller_ids: '+390844000000' is not in `caller_ids`; write it exactly as in that list",)),
    (acme("campaigns", 0, "caller_id_ends", to={"+390844000000": "2027-01-31"}), ("campaign acme-fibre: caller_id_ends: '+390844000000' is not in `caller_ids`; write it exactly as in that list",)),
    (acme("campaigns", 0, "ingress_proofs", to={"+390844000000": "letter-1"}), ("campaign acme-fibre: ingress_proofs: '+390844000000' is not in `caller_ids`; write it exactly as in that list",)),
    (acme("adheres_to", to=["codice"]), ("controllers/acme.yaml: adheres to 'codice', which is not among the `traits` of any country; write one of codice_condotta_telemarketing, own_hours",)),
    (acme(*FIRST, "sector", to="electricty"), (f"campaign acme-fibre: sector 'electricty' is not one of the sectors of {SECTORS}",)),
    (acme(*FIRST, "trunk_country", to="it"),
     ("campaign acme-fibre: trunk_country 'it' is not a country code; write IT",)),
    (acme(*FIRST, "dial_region", to="ITA"),
     ("campaign acme-fibre: dial_region 'ITA' is not a country code; write IT",)),
    (acme(*FIRST, "caller_ids", to=[]),
     ("campaign acme-fibre: caller_ids is empty; add the numbers that its calls may present",)),
    (acme("campaigns", 1, to=SECOND),
     ("campaign b: ends on 2026-11-23, before it starts",
      f"campaign b: a campaign with the purpose advertising needs a `sector`, one of {SECTORS}",
      "campaign b: caller ID '12ab' is not a telephone number; write it with its country code, for example +390844654321")),
    (acme("campaigns", 2, to={"id": "b", "purpose": "debt", "trunk_country": "", "caller_ids": ["+390844123456"]}),
     ("campaign b: is defined twice; give each campaign a unique id",
      "campaign b: trunk_country '' is not a country code; write two capital letters (ISO 3166), for example IT")),
    (gate("listen", to={"tls_key": "key.pem", "trusted_proxies": ["10.0.0.1/8"]}),
     ("listen: tls_key is set without tls_certificate, so the gate would use plain HTTP; set both",
      "listen: trusted_proxies '10.0.0.1/8': 10.0.0.1/8 has host bits set; write 10.0.0.0/8")),
    (gate("clients", 1, to=SWITCH | {"sources": ["10.0.0.0/8", "10.0.0.1/8", "10.1.0.0/16"]}),
     ("client switch: source '10.0.0.1/8': 10.0.0.1/8 has host bits set; write 10.0.0.0/8",)),
    (gate("clients", 2, to=SWITCH | {"name": "two", "sources": ["10.1.2.3", "::1"], "controllers": ["acme", "acne"]}),
     ("client two: no such controller: acne; write the `id` of a file in `controllers`: acme",
      "client switch: source 10.0.0.0/8 overlaps 10.1.2.3/32 of client two; an address can identify only one client",
      "client switch: source 10.1.0.0/16 overlaps 10.1.2.3/32 of client two; an address can identify only one client")),
    (gate("clients", 3, to={"name": "bare", "controllers": ["acme"], "scopes": ["check"]}),
     ()),
    (gate("clients", 4, to=client("bare", KEY, "check")),
     ("client bare: is defined twice; give each client a unique name", "client bare: has the same key as tests; create a different key with `dialgate key`")),
    (gate("clients", 5, to=client("short", KEY, "check") | {"key_sha256": "12ab"}),
     ("client short: the key's SHA-256 must be 64 hexadecimal digits",)),
    (gate("clients", 6, to=client("lost", "2", "check") | {"key_sha256_file": "lost.sha256"}),
     ("client lost: has both key_sha256 and key_sha256_file; remove one of them",
      "client lost: cannot read lost.sha256; create it with `dialgate key`")),
    (gate("clients", 7, to={"name": "folder", "controllers": ["acme"], "scopes": ["check"], "key_sha256_file": "countries"}),
     ("client folder: cannot read countries: Is a directory",)),
]  # fmt: skip


def test_all_contradictions_are_reported_at_once(folder: Folder) -> None:
    for (file, keys, value), _ in TOGETHER:
        folder.change(file, keys, value)
    assert sorted(folder.problems()) == sorted(sentence for _, response in TOGETHER for sentence in response)


ALONE: list[tuple[Change, list[str]]] = [
    (gate("limits", to={"batch_calls": 0}), ["dialgate.yaml: limits.batch_calls: must be at least 1"]),
    (gate("limits", to={"body_bytes": 1023}), ["dialgate.yaml: limits.body_bytes: must be at least 1024"]),
    (gate("limits", to={"read_seconds": 0}), ["dialgate.yaml: limits.read_seconds: must be more than 0"]),
    (gate("listen", to={"port": 65536}), ["dialgate.yaml: listen.port: must be at most 65535"]),
    (gate("remember_hours", to=23), ["dialgate.yaml: remember_hours: must be at least 24"]),
    (gate("accept_drafts", to=["GB"]),
     ["dialgate.yaml: accept_drafts: GB has no country file; countries/ has files for IT"]),
    (italy("draft", to=True),
     ["controllers/acme.yaml: the country file of IT is a draft; add IT to `accept_drafts` in dialgate.yaml to use it"]),
    (gate("clients", 0, "scopes", to=["chekc"]),
     [("dialgate.yaml: clients[0].scopes[0]: 'chekc' is not allowed; write one of check, simulate, outcome, revoke,"
      " ledger, lists, read, stream, subjects, officer, watch, metrics, admin, audit")]),
    (acme(*FIRST, "purpose", to=GONE), ["controllers/acme.yaml: campaigns[0]: missing key `purpose`"]),
    (acme(*FIRST, "caller_ids", to=[390844123456]),
     [("controllers/acme.yaml: campaigns[0].caller_ids[0]: must be text, not a whole number; put telephone numbers in quotes, for example"
      ' "+390844123456"')]),
    (acme(*FIRST, "starts", to="24/11/2026"),
     ["controllers/acme.yaml: campaigns[0].starts: must be a day that exists, for example 2026-11-24"]),
    (acme(*FIRST, "ends", to=2026), ["controllers/acme.yaml: campaigns[0].ends: must be a day, for example 2026-11-24, or empty, not a whole number"]),
    (acme(*FIRST, "paused", to="ja"), ["controllers/acme.yaml: campaigns[0].paused: must be true or false, not text"]),
    (acme("country", to=False), ["controllers/acme.yaml: country: must be text, not true or false; put it in quotes"]),
    (acme("country", to="it"), ["controllers/acme.yaml: country it has no country file; write IT"]),
    (acme(*FIRST, "trunk_country", to="UK"), ["campaign acme-fibre: trunk_country 'UK' is not a country code; write GB"]),
    (acme(*FIRST, "trunk_country", to="XX"),
     ["campaign acme-fibre: trunk_country 'XX' is not a country code; write two capital letters (ISO 3166), for example IT"]),
    (italy("country", to="it"), ["countries/it.yaml: country 'it' is not a country code; write IT"]),
    (italy("country", to="UK"), ["countries/it.yaml: country 'UK' is not a country code; write GB"]),
    (italy("hours", 0, "severity", to="law"),
     ["countries/it.yaml: hours[0].severity: 'law' is not allowed; write one of statute, self_regulation, recommendation, operator, gate"]),
    (gate("fastagi", to={"port": "x"}), ["dialgate.yaml: fastagi.port: must be a whole number, not text"]),
    (gate("peers", to={"a": 1}), ["dialgate.yaml: peers.a: must be text, not a whole number; put it in quotes"]),
    (acme("country", to="SM"), ["controllers/acme.yaml: country SM has no country file; countries/ has files for IT"]),
    (italy("limits", 0, "after", to=0), ["countries/it.yaml: limits[0].after: must be at least 1"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), ALONE, ids=[str(expected[0]) for _, expected in ALONE])
def test_a_value_out_of_limits_is_refused_with_its_path(
    folder: Folder, change: Change, expected: list[str]
) -> None:
    folder.change(*change)
    assert folder.problems() == expected


def test_all_mistakes_in_one_file_are_reported_at_once(folder: Folder) -> None:
    for change in (
        acme("nmae", to="x"),
        acme("country", to=GONE),
        acme(*FIRST, "purpose", to="selling"),
        acme(*FIRST, "call_tpe", to="agent"),
        acme(*FIRST, "caller_ids", to=["+390844123456", 390844123456, None]),
    ):
        folder.change(*change)
    assert sorted(folder.problems()) == sorted(
        [
            (
                "controllers/acme.yaml: campaigns[0].caller_ids[1]: must be text, not a whole number; put telephone numbers in quotes, for example"
                ' "+390844123456"'
            ),
            "controllers/acme.yaml: campaigns[0].caller_ids[2]: must be text, not empty",
            (
                "controllers/acme.yaml: campaigns[0].purpose: 'selling' is not allowed; write one of sale, advertising, market_research,"
                " statistics, service, debt, political, charity"
            ),
            "controllers/acme.yaml: campaigns[0]: unknown key `call_tpe`; did you mean `call_type`?",
            "controllers/acme.yaml: unknown key `nmae`; did you mean `name`?",
            "controllers/acme.yaml: missing key `country`",
        ]
    )


@pytest.mark.parametrize(("key", "value"), [("library", "XX"), ("subdivision", "ROME")])
def test_holidays_that_the_library_lacks_are_reported(folder: Folder, key: str, value: str) -> None:
    folder.change(*italy("day_sets", "holidays", key, to=value))
    (problem,) = [problem for problem in folder.problems() if problem.startswith("countries")]
    assert problem.startswith("countries: IT: day_sets: holidays: ")
    assert value in problem


def test_a_number_in_quotes_is_reported_as_such(folder: Folder) -> None:
    folder.change(*gate("listen", to={"port": "8080", "colour": 1, "prt": 1}))
    assert sorted(folder.problems()) == [
        "dialgate.yaml: listen.port: must be a whole number, not text; write it without quotes",
        "dialgate.yaml: listen: unknown key `colour`",
        "dialgate.yaml: listen: unknown key `prt`; did you mean `port`?",
    ]


def test_all_mistakes_in_the_form_of_all_files_are_reported_at_once(folder: Folder) -> None:
    """The mistakes include an invalid dialgate.yaml, and several problems in one law. Contradictions between files come after."""
    for change in (
        gate("listen", to={"port": "x"}),
        acme(*FIRST, "purpose", to="selling"),
        italy("hours", 0, "sectors", to=["heat"]),
        italy("hours", 0, "days", "mon-fri", to=["9-20"]),
        italy("limits", 1, "until", to="2014-01-01"),
    ):
        folder.change(*change)
    folder.files["countries/fr.yaml"] = {"country": "FR", "name": 1}
    folder.files["dialgate.yaml"]["clients"].append(
        {"name": "bare", "controllers": ["acme"], "scopes": ["chekc"]}
    )
    folder.files["controllers/two.yaml"] = {
        "id": "two",
        "name": "Two",
        "country": "it",
        "nmae": "x",
        "campaigns": [
            {"id": "two-a", "purpose": "debt", "trunk_country": "UK", "caller_ids": [390844123456]}
        ],
    }
    response = folder.problems()
    assert not [problem for problem in response if problem.startswith(("client ", "campaign "))]
    for problem in (
        "controllers/two.yaml: unknown key `nmae`; did you mean `name`?",
        "dialgate.yaml: listen.port: must be a whole number, not text",
        "countries/fr.yaml: name: must be text, not a whole number; put it in quotes",
        "countries/fr.yaml: missing key `zone`",
        "countries/it.yaml: hours: sector 'heat' is not in the country's `sectors`; correct it or add it there",
        "countries/it.yaml: hours: '9-20' is not a time window; write it as 09:00-20:00",
        "countries/it.yaml: limits: a section ends on 2014-01-01 (`until`), before it begins (`from`)",
    ):
        assert problem in response
    assert any(
        problem.startswith("controllers/acme.yaml: campaigns[0].purpose: 'selling' is not allowed")
        for problem in response
    )


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (gate("dta", to=1), "unknown key `dta`"),
        (
            gate("sip", to={"port": 5060}),
            "`sip` was removed; delete it, and redirect calls with Kamailio (deploy/sip-redirect)",
        ),
        (
            gate("permit_seconds", to=10),
            "`permit_seconds` was removed; delete it. There are no permits any more: Kamailio checks every call itself (deploy/kamailio)",
        ),
        (gate("listen", to={"prot": 1}), "listen: unknown key `prot`"),
        (gate("limits", to={"batch": 1}), "limits: unknown key `batch`"),
        (gate("clients", 0, "scope", to=[]), "clients[0]: unknown key `scope`"),
        (acme("sector", to="gas"), "unknown key `sector`"),
        (acme(*FIRST, "sectors", to=["gas"]), "campaigns[0]: unknown key `sectors`"),
        (italy("hour", to=[]), "unknown key `hour`"),
        (italy("hours", 0, "sundays", to=[]), "hours[0]: unknown key `sundays`"),
    ],
)
def test_an_unknown_key_is_refused_at_any_level(folder: Folder, change: Change, place: str) -> None:
    folder.change(*change)
    problems = [problem.partition("; did you mean")[0] for problem in folder.problems()]
    assert f"{change[0]}: {place}" in problems


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("dialgate.yaml", "listen: [", "dialgate.yaml: not YAML: "),
        ("dialgate.yaml", "data: \0", "dialgate.yaml: not YAML: "),
        ("countries/it.yaml", "country: {", "countries/it.yaml: not YAML: "),
        ("countries/it.yaml", "[]", "countries/it.yaml: must be a set of keys, not a list"),
        ("controllers/acme.yaml", "", "controllers/acme.yaml: missing key `id`"),
        ("controllers/two.yaml", (CONFIG / "controllers/acme.yaml").read_text(), "controllers/two.yaml: another file already defines the controller acme"),
        ("countries/two.yaml", (CONFIG / "countries/it.yaml").read_text(), "countries/two.yaml: another file already contains the law of IT"),
        ("countries/sm.yaml", (CONFIG / "countries/it.yaml").read_text().replace("country: IT\nname", "regions: [SM, IT]\ncountry: SM\nname"),
         "countries/sm.yaml: IT covers IT too; remove it from the `regions` of one file"),
        ("dialgate.yaml", "data: a\nlisten:\n  port: 1\n  port: 2\n",
         "dialgate.yaml: line 4: key `port` is repeated; only its last value would be used"),
        ("countries/it.yaml", (CONFIG / "countries/it.yaml").read_text() + "limits: []\n", "key `limits` is repeated"),
    ],
    ids=str,
)  # fmt: skip
def test_an_unusable_file_is_named(folder: Folder, name: str, content: str, expected: str) -> None:
    folder.files[name] = content
    assert any(expected in problem for problem in folder.problems())


def test_an_empty_folder_and_a_missing_file_are_named(folder: Folder) -> None:
    del folder.files["countries/it.yaml"]
    assert "countries/: no *.yaml file in this folder" in folder.problems()
    with pytest.raises(ConfigError, match=r"^none.yaml: cannot be read: No such file or directory$"):
        loader.load(folder.path / "none.yaml")


@pytest.mark.parametrize(
    "change",
    [
        acme(*FIRST, "dial_region", to=GONE),
        acme("adheres_to", to=["codice_condotta_telemarketing"]),
        acme("campaigns", 1, to=SECOND | {"purpose": "debt", "caller_ids": ["40123"], "ends": "2026-11-24"}),
        gate("clients", 1, to=SWITCH | {"sources": ["10.0.0.0/8", "10.1.0.0/16"]}),
        gate("clients", 0, to=SWITCH | {"sources": ["::/0", "0.0.0.0/0"]}),
    ],
)
def test_unusual_but_valid_settings_are_accepted(folder: Folder, change: Change) -> None:
    """Cases: a missing dial region, a code of conduct, a one-day campaign without an offer, networks of a client."""
    folder.change(*change)
    loader.load(folder.write())


def test_a_sector_must_be_in_the_list_of_one_country(folder: Folder) -> None:
    """A sector is valid if any country file lists it, because a campaign can call several countries.

    A country with an empty `sectors` list is ignored.
    """
    abroad = copy.deepcopy(folder.files["countries/it.yaml"]) | {"country": "FR", "sectors": ["energy"]}
    for name, sections in abroad.items():
        if isinstance(sections, list):
            abroad[name] = [section for section in sections if "sectors" not in section]
    folder.files["countries/fr.yaml"] = abroad
    for sector in ("telecommunications", "energy"):
        folder.change(*acme(*FIRST, "sector", to=sector))
        assert loader.load(folder.write()).lines["acme-fibre"].campaign.sector == sector
    folder.change(*acme(*FIRST, "sector", to="electricty"))
    assert folder.problems() == [
        f"campaign acme-fibre: sector 'electricty' is not one of the sectors of FR: energy; {SECTORS}"
    ]
    abroad["sectors"] = []
    assert folder.problems() == [
        f"campaign acme-fibre: sector 'electricty' is not one of the sectors of {SECTORS}"
    ]
    folder.change(*acme(*FIRST, "sector", to=GONE))
    assert folder.problems() == [
        f"campaign acme-fibre: a campaign with the purpose sale needs a `sector`, one of {SECTORS}"
    ]


def test_a_caller_id_of_two_controllers_is_shared(folder: Folder) -> None:
    """The two controllers write the number in different formats."""
    other = copy.deepcopy(folder.files["controllers/acme.yaml"]) | {"id": "zeta"}
    other["campaigns"][0] |= {"id": "zeta-fibre", "caller_ids": ["0844 123456", "+390844123457"]}
    folder.files["controllers/zeta.yaml"] = other
    shown = loader.load(folder.write()).lines["zeta-fibre"].caller_ids
    assert {number: each.shared for number, each in shown.items()} == {
        "+390844123456": True,
        "+390844123457": False,
    }


SECRETS = {
    "store": ({"store": {"url": "redis://:s3cret@redis:6379/0"}}, "store.url", "`url_file`"),
    "with a user": ({"store": {"url": "rediss://gate:s3cret@redis/0"}}, "store.url", "`url_file`"),
    "in the query": ({"store": {"url": "unix:///run/redis?db=0&password=s3cret"}}, "store.url", "`url_file`"),
    "stream": (
        {"shipping": {"stream": {"url": "redis://x:s3cret@h/0"}}},
        "shipping.stream.url",
        "`url_file`",
    ),
    "stamps": ({"timestamp_url": "https://u:s3cret@tsa.example/"}, "timestamp_url", "`timestamp_url_file`"),
    "traces": (
        {"traces": {"endpoint": "https://u:s3cret@otel.example/"}},
        "traces.endpoint",
        "remove them",
    ),
}


@pytest.mark.parametrize(("changes", "where", "advice"), SECRETS.values(), ids=SECRETS)
def test_a_password_in_a_url_is_refused_and_not_repeated(
    folder: Folder, changes: dict[str, Any], where: str, advice: str
) -> None:
    folder.files["dialgate.yaml"] |= changes
    (problem,) = (problem for problem in folder.problems() if "password" in problem)
    assert problem.startswith(f"dialgate.yaml: {where} contains a password.")
    assert advice in problem
    assert "s3cret" not in problem


@pytest.mark.parametrize("url", ["redis://redis:6379/0", "redis://gate@redis/0", "unix:///run/a:b@c.sock"])
def test_a_url_without_a_password_is_accepted(folder: Folder, url: str) -> None:
    folder.files["dialgate.yaml"] |= {"store": {"url": url}}
    assert loader.load(folder.write()).settings.store is not None


def test_the_environment_names_the_node_and_the_archive_keeps_the_variable(
    folder: Folder, tmp_path: Path
) -> None:
    folder.files["dialgate.yaml"] |= {"node": "${POD_NAME}", "answer_seconds": 60}
    path = folder.write()
    first = loader.load(path, None, {"POD_NAME": "dialgate-0"})
    second = loader.load(path, first, {"POD_NAME": "dialgate-1"})
    assert (first.settings.node, second.settings.node) == ("dialgate-0", "dialgate-1")
    assert first.hash == second.hash  # the gates are on the same configuration
    content_store.keep(tmp_path / "archive", first)
    assert content_store.answer_seconds(tmp_path / "archive", first.hash) == 60  # for replay on any machine


@pytest.mark.parametrize(
    ("node", "environment", "problem"),
    [
        ("${POD_NAME}", {}, "node: the environment variable POD_NAME is not set; set it to this gate's name"),
        ("${POD_NAME}", {"POD_NAME": ""}, "node: the environment variable POD_NAME must be 1 to 64 lower-case"),
        ("${POD_NAME}", {"POD_NAME": "Gate/1"}, "node: the environment variable POD_NAME must be 1 to 64 lower-case"),
        ("gate-${POD_NAME}", {"POD_NAME": "1"}, "node: must be 1 to 64 lower-case letters"),
        ("$POD_NAME", {"POD_NAME": "gate-1"}, "node: must be 1 to 64 lower-case letters"),
    ],
)  # fmt: skip
def test_a_node_without_a_valid_name_is_refused(
    folder: Folder, node: str, environment: dict[str, str], problem: str
) -> None:
    folder.files["dialgate.yaml"] |= {"node": node}
    with pytest.raises(ConfigError) as refused:
        loader.load(folder.write(), None, environment)
    (found,) = refused.value.problems
    assert found.startswith(f"dialgate.yaml: {problem}")


def test_one_hash_covers_all_files_and_each_file_is_stored_under_its_own(folder: Folder) -> None:
    first = loader.load(folder.write())
    assert loader.load(folder.write()).hash == first.hash
    entries = [
        first.contents[line].decode().split(" ") for line in first.contents[first.hash].decode().split("\n")
    ]
    assert {name for name, _ in entries} == {"dialgate.yaml", "it.yaml", "acme.yaml"}
    assert all(digest in first.contents for _, digest in entries)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in first.contents)
    folder.change(*acme(*FIRST, "paused", to=True))
    assert loader.load(folder.write()).hash != first.hash
