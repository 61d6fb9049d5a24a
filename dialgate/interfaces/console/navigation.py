"""The console's menu: its pages in groups, each with the scope that a client needs for it."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from dialgate.config.clients import Scope

ROOT: Final = "/console"


class NavigationPage(NamedTuple):
    """A page in the navigation, and the scope that a client needs for it. `also`: another that is enough. `whole_gate`: it needs every controller, too."""

    name: str
    path: str
    need: Scope
    whole_gate: bool = False
    also: tuple[Scope, ...] = ()


NAVIGATION: Final[Mapping[str, tuple[NavigationPage, ...]]] = {
    "calls": (
        NavigationPage("board", ROOT, "watch"),
        NavigationPage("history", f"{ROOT}/history", "watch"),
        NavigationPage("decisions", f"{ROOT}/decisions", "watch"),
        NavigationPage("reports", f"{ROOT}/reports", "watch"),
        NavigationPage("try", f"{ROOT}/try", "simulate"),
        NavigationPage("revoke", f"{ROOT}/revoke", "revoke"),
    ),
    "campaigns": (
        NavigationPage("lists", f"{ROOT}/lists", "lists"),
        NavigationPage("campaigns", f"{ROOT}/campaigns", "watch"),
        NavigationPage("callers", f"{ROOT}/caller-ids", "watch"),
        NavigationPage("registries", f"{ROOT}/registries", "watch"),
        NavigationPage("law", f"{ROOT}/law", "watch"),
    ),
    "people": (
        NavigationPage("lookup", f"{ROOT}/lookup", "read"),
        NavigationPage("requests", f"{ROOT}/requests", "subjects"),
        NavigationPage("lookups", f"{ROOT}/look-ups", "subjects"),
        NavigationPage("holds", f"{ROOT}/holds", "officer", whole_gate=True),
        NavigationPage("evidence", f"{ROOT}/evidence", "officer", whole_gate=True),
        NavigationPage("breaches", f"{ROOT}/breaches", "subjects"),
        NavigationPage("retention", f"{ROOT}/retention", "officer", whole_gate=True),
        NavigationPage("processing", f"{ROOT}/records-of-processing", "subjects", also=("admin",)),
    ),
    "gate": (
        NavigationPage("changes", f"{ROOT}/changes", "admin"),
        NavigationPage("accounts", f"{ROOT}/accounts", "admin"),
        NavigationPage("keys", f"{ROOT}/keys", "admin"),
    ),
}  # by group
