"""The base class of faults from which a gate recovers without a restart. This module imports nothing from dialgate."""


class Unavailable(Exception):
    """Raised when a component of the gate does not work. The gate denies the calls that need the component.

    The message says what failed and what to do. `component` is the component's name in metrics and in the readiness
    response.
    """

    component = "gate"
