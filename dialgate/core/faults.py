"""The base class of faults from which a gate recovers without a restart. This module imports nothing from dialgate."""


class Unavailable(Exception):
    """A component of the gate does not work. Every call is denied until it works again.

    The message says what failed and what to do. `component` is the name in metrics and readiness.
    """

    component = "gate"
