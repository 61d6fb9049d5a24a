"""The base class of faults that can end without a restart. Level 0: imports nothing of dialgate."""


class Unavailable(Exception):
    """A component that the gate needs does not work. Every call is denied until it works again.

    The text says what failed and what to do. `component` is its name in metrics and readiness.
    """

    component = "gate"
