# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Errors of the HTTP API, in the form that clients of the Videos API know."""

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """
    An answer other than what was asked for.

    Args:
        status: of HTTP.
        message: what is wrong, and what is allowed.
        code: the same for programs.
        param: the part of the request that is meant.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @classmethod
    def of_value(cls, error: ValueError, code: str = "invalid_value") -> "ApiError":
        """Of a request whose arguments are refused; the first one that the message names is meant."""
        match = re.search(r"`(\w+)`", str(error))
        return cls(400, str(error), code, match[1] if match else None)

    def content(self) -> dict[str, Any]:
        """What the answer says."""
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.content(), self.status, self.headers)


def unknown_video(id: str) -> ApiError:
    """Of an id that no job of the client has."""
    return ApiError(404, f"There is no video '{id[:80]}'.", "not_found", "video_id")
