"""A gate with a day's work: two controllers, 100,000 made-up numbers, a registry that is none, dialers that are none. Nobody
is called. It uses the commands that an operator uses, and the client that a dialer uses."""

from dialgate.tools.demo.traffic import FAULTS, Seen, drive
from dialgate.tools.demo.world import Demo, DemoError, Wanted, build, console_of

__all__ = ["FAULTS", "Demo", "DemoError", "Seen", "Wanted", "build", "console_of", "drive"]
