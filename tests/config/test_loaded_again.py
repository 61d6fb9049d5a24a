"""A configuration that is loaded again shares the unchanged files with the earlier one, and equals one loaded from nothing."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from dialgate.config import loader, yaml_file
from dialgate.config.configuration import Config, ConfigError
from tests.support import yaml_files
from tests.support.paths import ROOT
from tests.support.world import CONFIG, KEY, client

NUMBERS = [f"+39084412345{last}" for last in range(4)]
NAMES = ("acme", "beta", "gamma")


def write(folder: Path, controllers: dict[str, Any], law: dict[str, Any]) -> Path:
    scopes = client("tests", KEY, "check") | {"controllers": sorted(controllers)}
    yaml_files.write(folder / "dialgate.yaml", {"data": "data", "clients": [scopes]})
    yaml_files.write(folder / "countries/it.yaml", law)
    for path in (folder / "controllers").glob("*.yaml"):
        path.unlink()
    for name, controller in controllers.items():
        yaml_files.write(folder / f"controllers/{name}.yaml", controller)
    return folder / "dialgate.yaml"


def loaded(path: Path, earlier: Config | None) -> Config | list[str]:
    try:
        return loader.load(path, earlier)
    except ConfigError as error:
        return error.problems


@pytest.mark.parametrize("seed", range(8))
def test_a_configuration_loaded_again_is_the_one_loaded_from_nothing(tmp_path: Path, seed: int) -> None:
    choice = random.Random(seed)
    law = yaml_files.read(CONFIG / "countries/it.yaml")
    template = yaml_files.read(CONFIG / "controllers/acme.yaml")
    for name in ("countries", "controllers"):
        (tmp_path / name).mkdir()

    def controller(name: str) -> dict[str, Any]:
        campaigns = [
            template["campaigns"][0]
            | {
                "id": f"{choice.choice(NAMES) if choice.random() < 0.1 else name}-{place}",
                "caller_ids": choice.sample(NUMBERS, choice.randint(1, 2)),
                "sector": choice.choice(["telecommunications", "gas"]),
            }
            for place in range(choice.randint(1, 3))
        ]
        return {**template, "id": name, "campaigns": campaigns}

    controllers = {name: controller(name) for name in NAMES}
    earlier: Config | None = None
    for _ in range(12):
        path = write(tmp_path, controllers, law)
        before = msgspec.to_builtins(earlier.lines) if earlier else {}
        again, fresh = loaded(path, earlier), loaded(path, None)
        assert again == fresh
        if earlier is not None:
            assert msgspec.to_builtins(earlier.lines) == before
        if isinstance(again, Config):
            earlier = again
        change = choice.choice(["controller", "remove", "sectors"])
        if change == "controller":
            name = choice.choice(NAMES)
            controllers = controllers | {name: controller(name)}
        elif change == "remove" and len(controllers) > 1:
            controllers = {
                name: controllers[name] for name in choice.sample(sorted(controllers), len(controllers) - 1)
            }
        else:
            law = law | {"sectors": choice.choice([["telecommunications", "gas"], ["telecommunications"]])}


def test_what_did_not_change_is_the_same_object(tmp_path: Path) -> None:
    law, template = (
        yaml_files.read(CONFIG / name) for name in ("countries/it.yaml", "controllers/acme.yaml")
    )
    for name in ("countries", "controllers"):
        (tmp_path / name).mkdir()
    campaign = template["campaigns"][0]
    files = {
        name: template | {"id": name, "campaigns": [campaign | {"id": name, "caller_ids": [NUMBERS[place]]}]}
        for place, name in enumerate(NAMES)
    }
    first = loader.load(write(tmp_path, files, law))
    files["beta"]["campaigns"][0]["caller_ids"] = NUMBERS[:1]
    second = loader.load(write(tmp_path, files, law), first)
    assert second.laws["IT"] is first.laws["IT"]
    assert [second.lines[name] is first.lines[name] for name in NAMES] == [False, False, True]
    shared = [config.lines["acme"].caller_ids[NUMBERS[0]].shared for config in (first, second)]
    assert shared == [False, True], "the line in use is replaced, not modified"


class Whole(yaml.CSafeLoader):
    """PyYAML's way to read what `yaml_file` reads: without dates."""


Whole.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
ODD = (
    "",
    "# nothing",
    "---",
    "a: &one {b: 1}\nc: *one",
    "a: &one {b: 1}\nc: {<<: *one, d: 2}",
    "a: !!str 12\nb: !!set {x, y}",
    "yes: 1\ntrue: 2\n1: 3",
    "a: [1, 0x1f, 0o17, 017, 1_000, 1.5, .inf, 1e3, 12:30, ~, null, '', yes, No, 2026-01-01, 2026-01-01T10:00:00Z]",
    "a: |\n  two\n  lines\nb: >-\n  folded\n  text\nc: 'single ''quoted'''\nd: \"\\u00e9\\n\"",
    "? [a, b]\n: 1",
    "? {a: b}\n: 1",
    "a: =",
    "a: <<",
    "a: b: c",
    "a: 1\n---\nb: 2",
    "[" * 400 + "]" * 400,
    "a: *nobody",
    "a: 0x_",
    "a: !!int b",
    "\ufeffa: 1",
    "- a\n- {b: [c, {d: e}]}\n- - f\n",
)


@pytest.mark.parametrize(
    "text", [*ODD, *(path.read_text("utf-8") for path in sorted(ROOT.glob("config/**/*.yaml")))]
)
def test_plain_yaml_is_read_as_pyyaml_reads_it(text: str) -> None:
    try:
        expected = yaml.load(text.encode(), Loader=Whole)
    except (yaml.YAMLError, ValueError) as error:
        with pytest.raises(type(error)):
            yaml_file.parse(text.encode())
    else:
        assert repr(yaml_file.parse(text.encode())[0]) == repr(expected)


def test_a_key_that_is_repeated_is_reported_with_its_line() -> None:
    data, problems = yaml_file.parse(b"a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert data == {"a": {"b": 3, "c": 2}}
    assert problems == ["line 4: key `b` is repeated; only its last value would be used"]
