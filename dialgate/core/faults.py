"""What may fail while the gate runs and come right again without a restart. Level 0: imports nothing of ours."""


class Unavailable(Exception):
    """Something the gate needs does not work now; the text says what, and what to do. Every call is refused meanwhile.

    `component` is the part that failed, as metrics and readiness name it.
    """

    component = "gate"
