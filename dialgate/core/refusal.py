"""The error for a rejected request."""


class Refused(Exception):
    """A rejected write or look-up. `status` is an HTTP status; `field` names the part to correct."""

    def __init__(self, code: str, message: str, at: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.status = code, message, at, status
