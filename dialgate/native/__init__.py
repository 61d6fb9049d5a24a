"""The compiled look-up in a number set, or its pure-Python fallback.

`DIALGATE_INTERPRETED=1` in the environment selects the fallback.
"""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

_CAN = not os.environ.get("DIALGATE_INTERPRETED") and find_spec("dialgate.native._primitives") is not None

if TYPE_CHECKING or _CAN:
    from dialgate.native._primitives import Tagger
else:
    from dialgate.native.fallback import Tagger

COMPILED = "yes" if _CAN else "no"

__all__ = ["COMPILED", "Tagger"]
