"""Runs a recipe in Python of `docs/how-to/check-in-code.md` in each case, in a process that has the platforms' SDKs.

The standard input is the plan, and the standard output what `dial` did in each case, both in JSON.
"""

import asyncio
import json
import os
import sys
import urllib.request
from typing import Any


async def dial_in(case: dict[str, Any], plan: dict[str, Any]) -> str:
    os.environ |= {"DIALGATE_URL": case["gate"], "DIALGATE_KEY": case["key"]}
    with await asyncio.to_thread(urllib.request.urlopen, f"{plan['control']}/begin/{case['name']}"):
        pass
    recipe: dict[str, Any] = {}
    exec(plan["code"] + case["code"], recipe)
    if isinstance(twilio := recipe.get("twilio"), recipe.get("Client", ())):
        twilio.api.base_url = twilio.studio.base_url = plan["platform"]
    async with recipe["dialgate"]:
        try:
            await recipe["dial"](case["to"], plan["from"])
        except Exception as error:  # noqa: BLE001 - what the SDK raises is what is tested
            return f"{type(error).__name__}: {error}"
    return "dialled"


async def main() -> None:
    plan = json.load(sys.stdin)
    print(json.dumps({case["name"]: await dial_in(case, plan) for case in plan["cases"]}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
