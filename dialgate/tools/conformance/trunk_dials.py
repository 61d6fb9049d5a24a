"""A search for every step in an Asterisk dialplan file that dials the trunk without the check.

The dialplan emulator runs only one context, so it misses other contexts that dial the same trunk. The search
does not cover included files and destinations computed at run time.
"""

import re
from typing import Final

from dialgate.tools.conformance import dialplan
from dialgate.tools.conformance.dialplan import Step

_DIALLING: Final = frozenset({"dial", "retrydial", "originate", "page", "execif", "exec", "tryexec"})
_GLOBAL: Final = re.compile(r"\[globals\](?P<lines>[^\[]*)")
_ASSIGNED: Final = re.compile(r"^\s*(\w+)\s*=>?\s*([^;\n]*)", re.MULTILINE)
_INNERMOST: Final = re.compile(r"\$(?:\{[^${}\[\]]*\}|\[[^${}\[\]]*\])")
_DESTINATION: Final = re.compile(r"\b([A-Za-z]\w*)/([^,&?)]+)")


def others(text: str, context: str, extension: str) -> list[str]:
    """Return the other steps in the file that dial the same trunk as `extension` in `context`.

    Raises `Unknown`.
    """
    contexts = dialplan.read(text)
    globals_ = dict(_ASSIGNED.findall("".join(_GLOBAL.findall(text))))
    # A step such as `ExecIf` can come first and dial nothing.
    dials = (
        step for step in dialplan.matching(contexts.get(context, {}), extension) if _trunks(step, globals_)
    )
    checked = next(dials, None)
    trunks = _trunks(checked, globals_) if checked else set[str]()
    return [
        f"[{name}] {pattern} step {at}: {step.application}({step.data})"
        for name, extensions in contexts.items()
        for pattern, steps in extensions.items()
        for at, step in enumerate(steps, 1)
        if step is not checked and trunks & _trunks(step, globals_)
    ]


def _trunks(step: Step, globals_: dict[str, str]) -> set[str]:
    """Return the trunks that the step dials.

    Destinations have the form `PJSIP/NUMBER@TRUNK`, `PJSIP/TRUNK/sip:NUMBER@HOST` or `SIP/TRUNK/NUMBER`.
    """
    if step.application.lower() not in _DIALLING:
        return set()
    data = re.sub(
        r"\$\{(?:GLOBAL\()?(\w+)\)?\}", lambda match: globals_.get(match[1], match[0]).strip(), step.data
    )
    while (blanked := _INNERMOST.sub("_", data)) != data:  # values that are known only at run time
        data = blanked
    trunks = set()
    for technology, destination in _DESTINATION.findall(data):
        if technology.lower() != "local":
            first, slash, _ = destination.partition("/")
            trunks.add((first if slash else destination.rpartition("@")[2]).lower())
    return trunks
