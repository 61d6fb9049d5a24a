"""Each older key of a country file becomes the current key with the same meaning.

`test_same_meaning` compares whole files. This module tests single keys. The cases include invalid values, and files that
contain both an older key and the current key. Data that cannot be translated is kept, so that the check of the file reports it.
"""

from datetime import date
from typing import Any

import pytest

from dialgate.core.law_migration import modernise

TRANSLATED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "holidays": (
        {"holidays": {"country": "IT", "subdivision": "RM", "added": [date(2026, 12, 24), "06-24", 5]}},
        {
            "day_sets": {
                "holidays": {"library": "IT", "subdivision": "RM", "added": ["2026-12-24", "06-24", 5]}
            }
        },
    ),
    "holidays without added days": (
        {"holidays": {"country": "IT"}},
        {"day_sets": {"holidays": {"library": "IT"}}},
    ),
    "holidays with an invalid list of days": (
        {"holidays": {"country": "IT", "added": "easter"}},
        {"day_sets": {"holidays": {"library": "IT", "added": "easter"}}},
    ),
    "codes": ({"codes": ["a"]}, {"traits": ["a"]}),
    "codes beside traits": ({"traits": ["a"], "codes": ["b"]}, {"traits": ["a", "b"]}),
    "adherents of a code": (
        {"hours": [{"days": {}, "adherents_of": "a"}]},
        {"hours": [{"days": {}, "traits": ["a"]}]},
    ),
    "adherents of no code": (
        {"hours": [{"days": {}, "adherents_of": ""}]},
        {"hours": [{"days": {}, "traits": []}]},
    ),
    "unique caller IDs": (
        {"unique_caller_ids": [{"from": 1}, {"from": 2}]},
        {"caller_ids": [{"from": 1, "exclusive": True}, {"from": 2, "exclusive": True}]},
    ),
    "unique caller IDs beside others": (
        {"caller_ids": [{"from": 0}], "unique_caller_ids": [{"from": 1}]},
        {"caller_ids": [{"from": 0}, {"from": 1, "exclusive": True}]},
    ),
    "a prefix of a class, and days of a proof": (
        {
            "caller_ids": [
                {"proof_days": 30, "classes": [{"name": "a", "prefix": "+390844"}, {"prefixes": ["+1"]}]}
            ]
        },
        {
            "caller_ids": [
                {"proof_validity": "30d", "classes": [{"name": "a", "prefixes": ["+390844"]}, {"prefixes": ["+1"]}]}
            ]
        },
    ),
    "the days of a consent": ({"consents": [{"max_age_days": 730}]}, {"consents": [{"max_age": "730d"}]}),
    "one day": ({"consents": [{"max_age_days": 1}]}, {"consents": [{"max_age": "1d"}]}),
    "the days after a contract": ({"contracts": [{"tail_days": 30}]}, {"contracts": [{"tail": "30d"}]}),
    "no days after a contract": ({"contracts": [{"tail_days": 0}]}, {"contracts": [{}]}),
    "the kinds that may be called": ({"diallable": [{"kinds": ["a"]}]}, {"diallable": [{"allows": ["a"]}]}),
    "the kinds barred from abroad": (
        {"foreign_ingress": [{"kinds": ["a"]}]},
        {"foreign_ingress": [{"bars": ["a"]}]},
    ),
    "exceptions of a ban": (
        {"sector_bans": [{"exceptions": ["request"]}]},
        {"sector_bans": [{"unless": ["request"]}]},
    ),
    "hours of each kind of day": (
        {"hours": [{"weekday": ["a"], "saturday": ["b"], "sunday": ["c"], "holiday": ["d"], "pre_holiday": ["e"]}]},
        {
            "hours": [
                {
                    "days": {"mon-fri": ["a"], "sat": ["b"], "sun": ["c"], "holiday": ["d"], "pre_holiday": ["e"]},
                    "day_set": "holidays",
                }
            ]
        },
    ),
    "hours that leave days out": (
        {"hours": [{"weekday": ["a"], "day_set": "others"}]},
        {
            "hours": [
                {"days": {"mon-fri": ["a"], "sat": [], "sun": [], "holiday": []}, "day_set": "others"},
            ]
        },
    ),
    "working days of a request": (
        {"requests": [{"max_age": "5wd"}, {"max_age": "5wd", "day_set": "others"}, {"max_age": "72h"}, {}]},
        {
            "requests": [
                {"max_age": "5wd", "day_set": "holidays"},
                {"max_age": "5wd", "day_set": "others"},
                {"max_age": "72h"},
                {},
            ]
        },
    ),
    "exemptions of a registry": (
        {
            "registries": [
                {"validity_days": 15, "sistan_exempts": True, "request_exempts": True, "contract_exempts": True, "consent": "always"},
                {"sistan_exempts": False, "request_exempts": True, "contract_exempts": False, "consent": "after_listing"},
                {"request_exempts": False, "consent": "never"},
            ]
        },
        {
            "registries": [
                {"validity": "15d", "unless": ["sistan", "request", "contract", "consent"]},
                {"unless": ["request", "consent_after_listing"]},
                {},
            ]
        },
    ),
    "limits": (
        {
            "frequency": [{"days": 30, "limit": 5, "counts": "attempts"}],
            "rest": [{"days": 30}, {"for": "30d"}, {"for": "72h"}],
        },
        {
            "limits": [
                {"per": "30d", "after": 5, "events": "attempts"},
                {"per": "30d", "events": "abandoned", "counting": "whole_days"},
                {"per": "30d", "events": "abandoned", "counting": "whole_days"},
                {"per": "72h", "events": "abandoned", "counting": "rolling"},
            ]
        },
    ),
    "limits beside others": (
        {"limits": [{"per": "1d"}], "frequency": [{"per": "2d"}]},
        {"limits": [{"per": "1d"}, {"per": "2d"}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSLATED)
def test_an_older_key_is_translated(name: str) -> None:
    older, current = TRANSLATED[name]
    assert modernise(older) == current


KEPT: dict[str, Any] = {
    "no mapping": ["consents"],
    "a section that is no mapping": {"consents": ["max_age_days"]},
    "a kind of section without older keys": {"ratios": [{"days": 1, "kinds": [], "prefix": "+39"}]},
    "holidays without a country": {"holidays": {"library": "IT"}},
    "holidays of a country without a name": {"holidays": {"country": 39}},
    "holidays that are no mapping": {"holidays": "country"},
    "holidays beside day sets": {"holidays": {"country": "IT"}, "day_sets": {}},
    "codes that are no list": {"codes": "a"},
    "codes beside traits that are no list": {"codes": ["a"], "traits": "b"},
    "a code that is no text": {"lists": [{"adherents_of": 1}]},
    "a code beside traits": {"lists": [{"adherents_of": "a", "traits": ["b"]}]},
    "unique caller IDs that are no list": {"unique_caller_ids": {"from": 1}},
    "a unique caller ID that is no mapping": {"unique_caller_ids": [{"from": 1}, "b"]},
    "unique caller IDs beside others that are no list": {
        "unique_caller_ids": [{"from": 1}],
        "caller_ids": {},
    },
    "classes that are no list": {"caller_ids": [{"classes": "prefix"}]},
    "a class that is no mapping": {"caller_ids": [{"classes": ["prefix"]}]},
    "a prefix that is no text": {"caller_ids": [{"classes": [{"prefix": 39}]}]},
    "a prefix beside prefixes": {"caller_ids": [{"classes": [{"prefix": "+39", "prefixes": ["+40"]}]}]},
    "days that are no number": {"consents": [{"max_age_days": "730"}]},
    "days that are true": {"consents": [{"max_age_days": True}]},
    "no days of a consent": {"consents": [{"max_age_days": 0}]},
    "negative days": {"consents": [{"max_age_days": -1}], "contracts": [{"tail_days": -1}]},
    "days beside a period": {"consents": [{"max_age_days": 730, "max_age": "P2Y"}]},
    "an older name beside the current one": {"diallable": [{"kinds": ["fixed"], "allows": ["mobile"]}]},
    "hours beside days": {"hours": [{"weekday": ["a"], "days": {"sat": ["b"]}}]},
    "switches of a registry beside `unless`": {
        "registries": [{"request_exempts": True, "consent": "always", "unless": ["contract"]}]
    },
    "invalid switches of a registry": {
        "registries": [{"request_exempts": "yes", "sistan_exempts": 1, "consent": "sometimes"}]
    },
    "a limit that is no list": {"frequency": {"days": 30}},
    "a limit beside limits that are no list": {"frequency": [{"per": "1d"}], "limits": "a"},
}


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_translated_is_kept(name: str) -> None:
    assert modernise(KEPT[name]) == KEPT[name]


def test_the_older_data_is_not_changed() -> None:
    class_ = {"prefix": "+390844"}
    older = {
        "caller_ids": [{"classes": [class_]}],
        "holidays": {"country": "IT"},
        "codes": ["a"],
        "traits": ["b"],
    }
    modernise(older)
    assert older == {
        "caller_ids": [{"classes": [{"prefix": "+390844"}]}],
        "holidays": {"country": "IT"},
        "codes": ["a"],
        "traits": ["b"],
    }
