"""The translation of older country files into the current format.

Archived files must load for as long as decisions refer to them. An invalid value is kept, so that the check of the
translated file reports it.
"""

from collections.abc import Callable
from datetime import date
from typing import Any


def modernise(data: Any) -> Any:
    """Return a parsed country file in the current format, with the same meaning. `data` is not changed."""
    if not isinstance(data, dict):
        return data
    law = dict(data)
    _merge_unique_caller_ids(law)
    for name, sections in law.items():
        if isinstance(sections, list):
            law[name] = [_section(name, section) for section in sections]
    _rename_codes(law)
    _name_holidays(law)
    _join_limits(law)
    return law


def _section(name: str, section: Any) -> Any:
    if not isinstance(section, dict):
        return section
    translated = dict(section)
    for translate in (_adherents, _RENAMED.get(name)):
        if translate is not None:
            translate(translated)
    return translated


def _rename(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def translate(section: dict[str, Any]) -> None:
        if old in section and new not in section:
            section[new] = section.pop(old)

    return translate


def _adherents(section: dict[str, Any]) -> None:
    code = section.get("adherents_of")
    if isinstance(code, str) and "traits" not in section:
        del section["adherents_of"]
        section["traits"] = [code] if code else []


def _days(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    """Return a function that replaces the key `old`, a number of days, with the key `new`, a period.

    If `new` is `tail` and the number is 0, the old key is removed without a replacement.
    """

    def translate(section: dict[str, Any]) -> None:
        days = section.get(old)
        if type(days) is int and (days > 0 or (days == 0 and new == "tail")) and new not in section:
            del section[old]
            section.update({new: f"{days}d"} if days else {})

    return translate


def _registry(registry: dict[str, Any]) -> None:
    _days("validity_days", "validity")(registry)
    _registry_exemptions(registry)


def _registry_exemptions(registry: dict[str, Any]) -> None:
    """Convert a registry's old keys (`NAME_exempts`, and `consent`) to `unless`."""
    if "unless" in registry:
        return
    unless = [
        name
        for name in ("sistan", "request", "contract")
        if isinstance(registry.get(f"{name}_exempts"), bool) and registry.pop(f"{name}_exempts")
    ]
    consent = {"never": [], "after_listing": ["consent_after_listing"], "always": ["consent"]}
    if registry.get("consent") in ("never", "after_listing", "always"):
        unless += consent[registry.pop("consent")]
    if unless:
        registry["unless"] = unless


def _caller_ids(section: dict[str, Any]) -> None:
    _days("proof_days", "proof_validity")(section)
    if isinstance(section.get("classes"), list):
        section["classes"] = [_caller_id_class(class_) for class_ in section["classes"]]


def _caller_id_class(class_: Any) -> Any:
    if not isinstance(class_, dict) or not isinstance(class_.get("prefix"), str) or "prefixes" in class_:
        return class_
    translated = dict(class_)
    return translated | {"prefixes": [translated.pop("prefix")]}


def _merge_unique_caller_ids(law: dict[str, Any]) -> None:
    """Move `unique_caller_ids` to `caller_ids` with `exclusive`."""
    unique, others = law.get("unique_caller_ids"), law.get("caller_ids", [])
    if (
        isinstance(unique, list)
        and all(isinstance(section, dict) for section in unique)
        and isinstance(others, list)
    ):
        del law["unique_caller_ids"]
        law["caller_ids"] = [*others, *({**section, "exclusive": True} for section in unique)]


def _rename_codes(law: dict[str, Any]) -> None:
    """Move `codes` to `traits`."""
    if isinstance(law.get("codes"), list) and isinstance(law.get("traits", []), list):
        law["traits"] = [*law.get("traits", []), *law.pop("codes")]


def _name_holidays(law: dict[str, Any]) -> None:
    """Move the top-level field `holidays` into `day_sets`, as the day set named `holidays`."""
    source = law.get("holidays")
    if isinstance(source, dict) and isinstance(source.get("country"), str) and "day_sets" not in law:
        days = {"library" if key == "country" else key: value for key, value in law.pop("holidays").items()}
        if isinstance(days.get("added"), list):
            days["added"] = [str(day) if isinstance(day, date) else day for day in days["added"]]
        law["day_sets"] = {"holidays": days}


def _hours(hours: dict[str, Any]) -> None:
    """Move the windows for each kind of day to `days`.

    In older files, a kind of day without windows was closed, so it gets an empty list.
    """
    if "days" in hours:
        return
    keys = {"weekday": "mon-fri", "saturday": "sat", "sunday": "sun", "holiday": "holiday"}
    hours["days"] = {new: hours.pop(old, []) for old, new in keys.items()}
    before = hours.pop("pre_holiday", None)
    if before is not None:
        hours["days"]["pre_holiday"] = before
    hours.setdefault("day_set", "holidays")


def _requests(requests: dict[str, Any]) -> None:
    """Add `day_set: holidays` if `max_age` is in working days. Older files had only one day set."""
    if str(requests.get("max_age")).endswith("wd"):
        requests.setdefault("day_set", "holidays")


def _frequency(section: dict[str, Any]) -> None:
    _days("days", "per")(section)
    _rename("limit", "after")(section)
    _rename("counts", "events")(section)


def _rest(section: dict[str, Any]) -> None:
    _days("days", "per")(section)
    _rename("for", "per")(section)
    in_hours = str(section.get("per")).endswith("h")
    section.update(events="abandoned", counting="rolling" if in_hours else "whole_days")


def _join_limits(law: dict[str, Any]) -> None:
    """Move `frequency` and `rest` to `limits`."""
    for name in ("frequency", "rest"):
        if isinstance(law.get(name), list) and isinstance(law.get("limits", []), list):
            law["limits"] = [*law.get("limits", []), *law.pop(name)]


# By kind of section. In older files, the key `kinds` of some sections has another meaning than today's scope `kinds`.
_RENAMED: dict[str, Callable[[dict[str, Any]], None]] = {
    "consents": _days("max_age_days", "max_age"),
    "contracts": _days("tail_days", "tail"),
    "frequency": _frequency,
    "rest": _rest,
    "caller_ids": _caller_ids,
    "diallable": _rename("kinds", "allows"),
    "foreign_ingress": _rename("kinds", "bars"),
    "hours": _hours,
    "requests": _requests,
    "registries": _registry,
    "sector_bans": _rename("exceptions", "unless"),
}
