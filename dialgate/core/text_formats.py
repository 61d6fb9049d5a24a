"""Types for string fields that contain a time or a code. Each type adds its format to the API description."""

from typing import Annotated, TypeAlias, get_args

from msgspec import Meta

from dialgate.core.model import Severity

_INSTANT = {"type": "string", "format": "date-time"}
_DAY = {"type": "string", "format": "date"}
_NONE = {"const": ""}
_REASON = {"$ref": "#/components/schemas/ReasonCode"}

Timestamp: TypeAlias = Annotated[str, Meta(extra_json_schema=_INSTANT)]
# Empty if the event has not happened.
OptionalTimestamp: TypeAlias = Annotated[str, Meta(extra_json_schema={"anyOf": [_INSTANT, _NONE]})]
DayOrTimestamp: TypeAlias = Annotated[str, Meta(extra_json_schema={"anyOf": [_DAY, _INSTANT]})]
ReasonCode: TypeAlias = Annotated[str, Meta(extra_json_schema=_REASON)]
OptionalReasonCode: TypeAlias = Annotated[str, Meta(extra_json_schema={"anyOf": [_REASON, _NONE]})]
SeverityText: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": [*get_args(Severity)]})]
PlaceCode: TypeAlias = Annotated[
    str,
    Meta(
        max_length=128,
        description="The person's state or province, as an ISO 3166-2 code, such as US-FL. Its law applies to the calls.",
    ),
]
