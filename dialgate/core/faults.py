"""The base class of faults from which a gate recovers without a restart. Imports nothing from dialgate."""


class Unavailable(Exception):
    """The error raised when a component that the gate needs does not work. Every call is denied until it works again.

    The text says what failed and what to do. `component` is its name in metrics and readiness.
    """

    component = "gate"
