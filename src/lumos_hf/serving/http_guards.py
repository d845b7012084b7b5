# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What stands before the HTTP app: who may come in, how much they may send, and for how long.

Notable: keys are compared by their digests and in constant time, all of them for every request, so that neither length nor
first wrong letter shows in the time of an answer. An upload that says that it is too large is refused before it is read.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api_errors import ApiError


MIN_KEY_LENGTH = 16
OPEN_PATHS = frozenset({"/health", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})


class ApiKeys:
    """
    Args:
        keys: that let in; none let everybody in.

    Raises:
        ValueError: if one is shorter than 16 characters, or not of printable ASCII without spaces.
    """

    def __init__(self, keys: Sequence[str] = ()):
        for index, key in enumerate(keys):
            if len(key) < MIN_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError(
                    f"`api_key_file` must have keys of at least {MIN_KEY_LENGTH} printable characters without spaces, a "
                    f"line each; number {index + 1} is none."
                )
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def from_file(cls, path: Path) -> "ApiKeys":
        """
        Keys of a file, a line each; empty lines and those that begin with # are left out.

        Raises:
            ValueError: if there is none, or one is too weak.
        """
        lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise ValueError(f"`api_key_file` must have at least one key, got none in '{path}'.")
        return cls(keys)

    def owner(self, scope: Scope) -> str | None:
        """
        A name for whoever sends a request, of the key it carries (`Authorization: Bearer KEY`); `""` for everybody where
        there are no keys, and None for who may not come in.
        """
        if not self._digests:
            return ""
        header = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = header.partition(b" ")
        given = hashlib.sha256(key.strip()).digest()
        is_known = sum([hmac.compare_digest(given, digest) for digest in self._digests]) > 0
        return given.hex()[:32] if is_known and scheme.lower() == b"bearer" else None


class Guard:
    """
    ASGI middleware. `scope["lumos_owner"]` is who asks.

    Args:
        app: what is behind it.
        keys: that let in.
        max_bytes: of a request's body.
        upload_timeout: seconds in which a body must have come.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, max_bytes: int, upload_timeout: float):
        self.app, self.keys, self.max_bytes, self.upload_timeout = app, keys, max_bytes, upload_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        owner = self.keys.owner(scope)
        if owner is None and scope["path"] not in OPEN_PATHS:
            await self._refuse(_without_key(), scope, receive, send)
            return
        scope["lumos_owner"] = owner or ""
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.max_bytes:
            await self._refuse(self._too_large(), scope, receive, send)
            return
        await self.app(scope, self._limited(receive), send)

    def _limited(self, receive: Receive) -> Receive:
        """The same, ending by an error when the body is too large or too late."""
        deadline = asyncio.get_running_loop().time() + self.upload_timeout
        received, is_whole = 0, False

        async def receive_within_limits() -> Message:
            nonlocal received, is_whole
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                reason = f"The request must have come within {self.upload_timeout:g} seconds."
                raise ApiError(408, reason, "timeout", headers={"Connection": "close"}) from error
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise self._too_large()
            is_whole = not message.get("more_body", False)
            return message

        return receive_within_limits

    def _too_large(self) -> ApiError:
        message = f"A request may have at most {self.max_bytes} bytes."
        return ApiError(413, message, "too_large", headers={"Connection": "close"})

    @staticmethod
    async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # Before it is accepted, closing is an answer of 403.
            await send({"type": "websocket.close", "code": 1008, "reason": error.message})
            return
        await error.response()(scope, receive, send)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("ascii")).digest()


def _without_key() -> ApiError:
    message = "A key of this server is needed, as `Authorization: Bearer KEY`."
    return ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


class RequestTimer:
    """
    ASGI middleware that tells how long requests took.

    Args:
        app: what is behind it.
        note: called with the method, the template of the route, the status and the seconds.
    """

    def __init__(self, app: ASGIApp, note: Callable[[str, str, int, float], object]):
        self.app, self._note = app, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_look)
        finally:
            # Paths hold ids, of which there is no end.
            route = getattr(scope.get("route"), "path", "other")
            self._note(scope["method"], route, status, time.monotonic() - start)
