"""The compiled primitives, or, where there are none, the same in Python, with which a gate takes about half as many calls.

`DIALGATE_INTERPRETED=1` in the environment has the second on a machine that could have the first."""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dialgate._primitives import (
        Keyed,
        Tagger,
        add,
        chained,
        digits,
        followed,
        packed,
        paired,
        passes,
        repeated,
    )

    COMPILED: str
elif os.environ.get("DIALGATE_INTERPRETED") or find_spec("dialgate._primitives") is None:
    from dialgate.interpreted import (
        Keyed,
        Tagger,
        add,
        chained,
        digits,
        followed,
        packed,
        paired,
        passes,
        repeated,
    )

    COMPILED = "no"
else:
    from dialgate._primitives import (
        Keyed,
        Tagger,
        add,
        chained,
        digits,
        followed,
        packed,
        paired,
        passes,
        repeated,
    )

    COMPILED = "yes"

__all__ = [
    "COMPILED",
    "Keyed",
    "Tagger",
    "add",
    "chained",
    "digits",
    "followed",
    "packed",
    "paired",
    "passes",
    "repeated",
]
