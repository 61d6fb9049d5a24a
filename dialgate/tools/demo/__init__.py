"""The demonstration: a gate with a day's work, two controllers, 100,000 made-up numbers, simulated registry and dialers.

No real call is placed. The demonstration uses the operator's commands and the Python client for dialers.
"""

from dialgate.tools.demo.traffic import FAULTS, Seen, drive
from dialgate.tools.demo.world import Demo, DemoError, Wanted, build, console_of

__all__ = ["FAULTS", "Demo", "DemoError", "Seen", "Wanted", "build", "console_of", "drive"]
