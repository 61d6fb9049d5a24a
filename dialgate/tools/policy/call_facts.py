"""The facts of a call that follow from the configuration, looked up as a gate looks them up."""

import tempfile
from pathlib import Path
from typing import get_args

import msgspec

from dialgate.config import yaml_file
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.law import Law, parse_law
from dialgate.core.law_sections import LawError
from dialgate.core.model import AUTO, Call, CallType
from dialgate.core.name_suggestions import did_you_mean
from dialgate.crypto.keys import Keys
from dialgate.gate.facts import Gatherer
from dialgate.tools.policy.case_facts import CaseFault, merge_values
from dialgate.tools.policy.case_file import CallFacts, PolicyCase


class ConfiguredCalls:
    """A source of call facts from one configuration, without call lists, registry answers and stored state."""

    def __init__(self, config: Config) -> None:
        self.config = config
        # The keys only hash numbers that no store is asked about.
        with tempfile.TemporaryDirectory() as folder:
            self._gatherer = Gatherer(config, Keys.open(Path(folder) / "keys.json"))
        self._client = Client(name="policy-test", controllers=tuple(config.controllers), scopes=("check",))

    def call(self, call: Call, /) -> CallFacts:
        config = self.config
        for key, value in (("campaign", call.campaign), ("to", call.to), ("from", call.from_)):
            if not value:
                raise CaseFault("", f"missing key `{key}`; add it here or to `base` in base.yaml")
        if call.from_ == AUTO:
            raise CaseFault("from", "write the caller ID; a case decides a call with one that is known")
        if call.campaign not in config.lines:
            raise CaseFault(
                "campaign", f"no campaign `{call.campaign}`{did_you_mean(call.campaign, config.lines)}"
            )
        if call.call_type not in {None, *get_args(CallType)}:
            raise CaseFault("facts.call_type", f"write one of {', '.join(get_args(CallType))}")
        question = self._gatherer.read(call, self._client)
        line = question.line
        facts = {
            "number": question.number,
            "controller": line.controller,
            "campaign": line.campaign,
            "caller_id": question.presentation.fact,
        }
        given = {"zones": list(question.zones), "call_type": question.call_type}
        return CallFacts(
            facts=msgspec.to_builtins(facts) | given,
            law=config.laws[question.country],
            to=question.e164,
            names=line.names,
        )

    def law(self, case: PolicyCase) -> Law:
        """Return the law that decides a case. Raises `CaseFault` if the case changes it to an invalid one."""
        config = self.config
        if not case.law:
            return config.laws[case.country]
        data, _ = yaml_file.parse(config.contents[config.law_hash[case.country]])
        try:
            return parse_law(merge_values(data, case.law))
        except LawError as error:
            raise CaseFault("law", str(error)) from None
