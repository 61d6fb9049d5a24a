"""The translation of country files of 0.2.0 into the current format.

Archived files must load for as long as decisions refer to them.
"""

from typing import Any, Final

# By kind of section: each older key, and the current one. Numbers of days become periods.
_RENAMED: Final[dict[str, dict[str, str]]] = {
    "caller_ids": {"proof_days": "proof_validity"},
    "consents": {"max_age_days": "max_age"},
    "contracts": {"tail_days": "tail"},
    "diallable": {"kinds": "allows"},  # today `kinds` is a scope of every section
    "foreign_ingress": {"kinds": "bars"},
    "frequency": {"days": "per", "limit": "after", "counts": "events"},
    "registries": {"validity_days": "validity"},
    "rest": {"days": "per"},
    "sector_bans": {"exceptions": "unless"},
}
_ADDED: Final[dict[str, dict[str, Any]]] = {
    "rest": {"events": "abandoned", "counting": "whole_days"},
    "unique_caller_ids": {"exclusive": True},
}
_JOINED: Final = {
    "codes": "traits",
    "unique_caller_ids": "caller_ids",
    "frequency": "limits",
    "rest": "limits",
}
_DAYS: Final = {"weekday": "mon-fri", "saturday": "sat", "sunday": "sun", "holiday": "holiday"}
_CONSENT: Final = {"never": [], "after_listing": ["consent_after_listing"], "always": ["consent"]}


def modernise(data: Any) -> Any:
    """Return a parsed country file in the current format, with the same meaning. `data` is not changed.

    A file that cannot be translated is returned as it is, so that its check reports the older keys.
    """
    try:
        return _translate(data)
    except (AttributeError, KeyError, TypeError):
        return data


def _translate(data: dict[str, Any]) -> dict[str, Any]:
    law: dict[str, Any] = {
        name: [_section(name, item) if isinstance(item, dict) else item for item in value]
        if isinstance(value, list)
        else value
        for name, value in data.items()
    }
    for old, new in _JOINED.items():
        if old in law:
            law[new] = law.get(new, []) + law.pop(old)
    if "holidays" in law and "day_sets" not in law:
        days = dict(law.pop("holidays"))
        added = [str(day) for day in days.pop("added", ())]
        law["day_sets"] = {"holidays": {"library": days.pop("country"), **days, "added": added}}
    return law


def _section(name: str, section: dict[str, Any]) -> dict[str, Any]:
    translated = section | _ADDED.get(name, {})
    if name == "contracts" and translated.get("tail_days") == 0:
        del translated["tail_days"]
    for old, new in _RENAMED.get(name, {}).items():
        if old in translated and new not in translated:
            value = translated.pop(old)
            translated[new] = f"{value}d" if old.endswith("days") else value
    if "adherents_of" in translated and "traits" not in translated:
        code = translated.pop("adherents_of")
        translated["traits"] = [code] if code else []
    match name:
        case "caller_ids" if "classes" in translated:
            translated["classes"] = [_caller_id_class(class_) for class_ in translated["classes"]]
        case "hours" if "days" not in translated:
            _name_days(translated)
        case "registries" if "unless" not in translated:
            _list_exemptions(translated)
    return translated


def _caller_id_class(class_: dict[str, Any]) -> dict[str, Any]:
    if "prefixes" in class_:
        return class_
    translated = dict(class_)
    return translated | {"prefixes": [translated.pop("prefix")]}


def _name_days(hours: dict[str, Any]) -> None:
    """Move the windows of each kind of day to `days`. A kind of day without windows was closed."""
    hours["days"] = {new: hours.pop(old, []) for old, new in _DAYS.items()}
    before = hours.pop("pre_holiday", None)
    if before is not None:
        hours["days"]["pre_holiday"] = before
    hours["day_set"] = "holidays"


def _list_exemptions(registry: dict[str, Any]) -> None:
    """Move the switches of a registry to `unless`."""
    exempt = [name for name in ("sistan", "request", "contract") if registry.pop(f"{name}_exempts", False)]
    registry["unless"] = exempt + _CONSENT[registry.pop("consent", "never")]
