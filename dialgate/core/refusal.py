"""The error for a rejected request, which says what the client has to correct."""


class Refused(Exception):
    """The rejection of a write or look-up. `status` is an HTTP status; `field` names the part to correct."""

    def __init__(self, code: str, message: str, at: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.status = code, message, at, status
