"""A Kamailio with the shipped configuration, on loopback addresses."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

_PLACES: Final = {
    "key": r"(?<=Bearer ).*?(?=\", )",
    "sources": r'(?<=is_in_subnet\("\$si", ").*?(?=")',
}


class Site(Struct, frozen=True, kw_only=True):
    """The values for the Kamailio configuration of one site.

    `sip` is the HOST:PORT to listen on. `trunks` are HOST:PORT, the preferred one first; a redirect server has none. `dialers` is the
    shipped file that becomes dialers.cfg. `values` holds further definitions by name. Upper-case names are set in local.cfg, and lower-case names in dialers.cfg. For an upper-case
    name with an empty value, local.cfg gets `#!define NAME` without a value.
    """

    sip: str
    operations: int
    gate: str
    dialer: str
    key: str
    dialers: str = "dialers.cfg"
    trunks: tuple[str, ...] = ()
    announcements: str = ""
    values: Mapping[str, str] = {}


def configure(shipped: Path, folder: Path, site: Site) -> Path:
    """Copy the shipped files with the values of a site, and return the main file.

    Raises `AssertionError` if the files have no place for a value.
    """
    folder.mkdir(exist_ok=True)
    for path in (*shipped.glob("*.cfg"), *shipped.glob("*.list")):
        shutil.copy(path, folder)
    local = (folder / "local.cfg").read_text("utf-8")
    local = re.sub(r"(?<=listen=)(udp|tcp):127\.0\.0\.1:5060", rf"\1:{site.sip}", local)
    local = local.replace("tls:127.0.0.1:5061", f"tls:{site.sip}")
    local = local.replace("tcp:127.0.0.1:9060", f"tcp:127.0.0.1:{site.operations}")
    dialers = (folder / site.dialers).read_text("utf-8")
    for name, value in _values(folder, site).items():
        if name.isupper():
            local = _set(local, name, rf"(?m)^#?#!define {name}\b.*$", f"#!define {name} {value}".rstrip())
        else:
            places = dialers.count(f"put the {name}") if name in {"key", "password"} else 1
            dialers = _set(dialers, name, _PLACES.get(name, rf"(?<=::{name}\) = ).*(?=;)"), value, places)
    (folder / "local.cfg").write_text(local, "utf-8")
    (folder / "dialers.cfg").write_text(dialers.replace("127.0.0.1", site.dialer), "utf-8")
    if site.trunks:
        trunks = [f"1 sip:{trunk} 0 {50 - at}\n" for at, trunk in enumerate(site.trunks)]
        if site.announcements:
            trunks.append(f"2 sip:{site.announcements}\n")
        (folder / "dispatcher.list").write_text("".join(trunks), "ascii")
    return folder / ("kamailio.cfg" if site.trunks else "redirect.cfg")


def _values(folder: Path, site: Site) -> dict[str, str]:
    return {
        "GATE_URL": f'"{site.gate}/v1/check"',
        **({"DISPATCHER_LIST": f'"{folder}/dispatcher.list"'} if site.trunks else {}),
        "OPERATIONS_PORT": str(site.operations),
        "key": site.key,
        **site.values,
    }


def _set(text: str, name: str, place: str, value: str, places: int = 1) -> str:
    text, changed = re.subn(place, lambda _: value, text)
    if changed != places:
        raise AssertionError(f"the shipped configuration defines {name} {changed} times instead of {places}")
    return text


def words(config: Path) -> list[str]:
    """Return the command that runs Kamailio in the foreground, with its runtime files next to the configuration."""
    runtime = config.parent / "run"
    runtime.mkdir(exist_ok=True)
    options = ["-DD", "-E", "-m", "512", "-M", "8", "-Y", str(runtime), "-w", str(runtime)]
    return ["kamailio", "-f", str(config), *options, "-P", str(runtime / "pid")]
