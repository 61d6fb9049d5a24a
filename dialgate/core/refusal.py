"""A request that is refused, with what the client is to correct."""


class Refused(Exception):
    """A write or look-up that is not carried out. `status` is an HTTP status; `field` names the part to correct."""

    def __init__(self, code: str, message: str, at: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.status = code, message, at, status
