"""The demonstration: a gate with a day's work, two controllers, 100,000 made-up numbers, simulated registry and dialers.

No call is placed. It uses the commands of an operator and the client of a dialer.
"""

from dialgate.tools.demo.traffic import FAULTS, Seen, drive
from dialgate.tools.demo.world import Demo, DemoError, Wanted, build, console_of

__all__ = ["FAULTS", "Demo", "DemoError", "Seen", "Wanted", "build", "console_of", "drive"]
