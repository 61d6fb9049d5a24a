"""Forms of the console with a file, whose fields precede it. So the token is checked before any part of the file is read."""

import asyncio
from typing import Final

from aiohttp import BodyPartReader, MultipartReader

from dialgate.interfaces.console.visit import TOKEN, Visit
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.errors import Fault

_FIELD_BYTES: Final = 4 << 10
_MOST_FIELDS: Final = 32


async def file_part(visit: Visit, fields: dict[str, str]) -> BodyPartReader:
    """Read the fields of the form into `fields` and return the part that contains the file. Raises `Fault`."""
    if not visit.request.content_type.startswith("multipart/"):
        raise Fault(400, "request.invalid", "Send the form as multipart/form-data.")
    reader = await visit.request.multipart()
    try:
        async with asyncio.timeout(visit.app.config.settings.limits.read_seconds):
            for _ in range(_MOST_FIELDS):
                part = await reader.next()
                if part is None or isinstance(part, MultipartReader):
                    break
                if part.name == "file":
                    if not part.filename:  # a browser sends this if no file was chosen
                        break
                    visit.check(fields.pop(TOKEN, ""))
                    return part
                fields[part.name or ""] = (await _text(part)).strip()
    except TimeoutError:
        raise http_body.late() from None
    visit.check(fields.pop(TOKEN, ""))
    raise Fault(400, "console.no_file", "Choose a file.", field="file")


async def _text(part: BodyPartReader) -> str:
    body = await part.read_chunk(_FIELD_BYTES)
    if await part.read_chunk(1):
        raise Fault(
            413, "request.too_large", f"A form field is longer than {_FIELD_BYTES} bytes. Shorten it."
        )
    return body.decode("utf-8", "replace")
