"""The demonstration: one day of made-up traffic on a gate, with a simulated registry and dialers.

No real call is placed. The demonstration uses the operator's commands, and the Python client for dialers.
"""

from dialgate.tools.demo.traffic import NOT_SHOWN, DemoFigures, drive
from dialgate.tools.demo.world import Demo, DemoOptions, build, console_of

__all__ = ["NOT_SHOWN", "Demo", "DemoFigures", "DemoOptions", "build", "console_of", "drive"]
