"""The base class of faults from which a gate recovers without a restart. This module imports nothing from dialgate."""

from typing import Any


class Unavailable(Exception):
    """Raised when a component of the gate does not work. The gate denies the calls that need the component.

    The message says what failed and what to do. `component` is the component's name in metrics and in the readiness
    response.
    """

    component = "gate"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error without calling `__init__` again, whose arguments may differ from the message."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[Unavailable], args: tuple[Any, ...], fields: dict[str, Any]) -> Unavailable:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error
