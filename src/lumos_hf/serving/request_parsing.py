# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Bodies of requests, forms or JSON, as the schemas of the API; and how OpenAPI describes them."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from .api_errors import ApiError
from .job_requests import FILE


# Of a form; the guard limits the bytes of all.
MAX_FILES, MAX_FIELDS = 4, 64

_MEMBER = re.compile(r"(\w+)\[(\w+)\]")

Schema = TypeVar("Schema", bound=BaseModel)


async def parse_body(
    request: Request, schema: type[Schema], file_fields: Sequence[str] = ()
) -> tuple[Schema, dict[str, BinaryIO]]:
    """
    Args:
        request: with a form (`multipart/form-data` or urlencoded) or JSON as its body.
        schema: of the body.
        file_fields: that may be files in a form.

    Returns:
        The body, and the files by their fields; they are closed with the request.

    Raises:
        ApiError: if the body is malformed or does not fit the schema.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        form = await request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=1 << 40)
        fields, files = _read_form(form, file_fields)
    elif kind == "application/json":
        fields, files = _read_json(await request.body()), {}
    else:
        message = f"The body must be multipart/form-data or application/json, got {kind[:80]!r}."
        raise ApiError(400, message, "invalid_body")
    try:
        return schema.model_validate(fields), files
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else None
        raise ApiError(400, f"`{name}`: {first['msg']}.", "invalid_value", name) from error


def _read_form(form: FormData, file_fields: Sequence[str]) -> tuple[dict[str, Any], dict[str, BinaryIO]]:
    fields: dict[str, Any] = {}
    files: dict[str, BinaryIO] = {}
    for key, value in form.multi_items():
        member = _MEMBER.fullmatch(key)
        name = member[1] if member else key
        is_new_member = member is not None and isinstance(fields.get(name), dict) and member[2] not in fields[name]
        if name in fields and not is_new_member:
            raise ApiError(400, f"`{name[:80]}` must be given once.", "invalid_value", name[:80])
        if isinstance(value, UploadFile):
            if key not in file_fields:
                raise ApiError(400, f"`{name[:80]}` must not be a file.", "invalid_value", name[:80])
            fields[name], files[name] = FILE, value.file
        elif member:
            # Clients write objects as `name[key]`.
            fields.setdefault(name, {})[member[2]] = value
        elif value != "":
            fields[name] = value
    return fields, files


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    # Brackets inside brackets end in a RecursionError.
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body must be JSON: {str(error)[:200]}.", "invalid_body") from error
    if not isinstance(content, dict):
        raise ApiError(400, "The body must be a JSON object.", "invalid_body")
    if any(value == FILE for value in content.values()):
        raise ApiError(400, "Files are sent in forms only.", "invalid_body")
    return content


def describe_body(
    schema: type[BaseModel], examples: Mapping[str, Mapping[str, Any]], file_fields: Sequence[str] = ()
) -> dict[str, Any]:
    """
    `openapi_extra` of a route that reads its body by [`parse_body`].

    Args:
        examples: bodies by what they show; they must work as they are, but for ids.
        file_fields: that may be files in a form.
    """
    named = {name: {"value": dict(example)} for name, example in examples.items()}
    content = {"application/json": {"schema": schema.model_json_schema(), "examples": named}}
    if file_fields:
        form = schema.model_json_schema()
        for field in file_fields:
            description = form["properties"][field].get("description", "")
            form["properties"][field] = {"type": "string", "format": "binary", "description": description}
        content = {"multipart/form-data": {"schema": form, "examples": named}, **content}
    return {"requestBody": {"required": True, "content": content}}
