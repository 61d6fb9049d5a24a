"""The error for a rejected request."""


class Refused(Exception):
    """A rejected write, look-up or file. `status` is an HTTP status; `field` names the part to correct.

    A process of its own can raise it, because `args` are those of the constructor, with which an exception is unpickled.
    """

    def __init__(self, code: str, message: str, at: str = "", status: int = 400) -> None:
        self.code, self.message, self.field, self.status = code, message, at, status

    def __str__(self) -> str:
        return self.message
