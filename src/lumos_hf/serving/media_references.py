# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Images and videos that requests refer to: what a file is, data URLs, and URLs of hosts that the server may fetch from.

Notable: a URL is fetched only if its host is on the list, from an address that is public, and to which the connection is
then made, so that a name cannot mean one address when it is checked and another one afterwards. No redirect is followed. A
host that answers drop by drop is given up.
"""

import base64
import binascii
import http.client
import io
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit


MAX_FETCHED_BYTES = 64 * 2**20
# Seconds: of all of it, and without a byte.
MAX_FETCH_SECONDS = 120.0
_FETCH_TIMEOUT = 10
_CHUNK = 1 << 16

IMAGE_ENDINGS = (".png", ".jpg", ".webp", ".bmp", ".tiff")
VIDEO_ENDINGS = (".mp4", ".webm", ".avi", ".gif")

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tiff"),
    (b"MM\x00*", ".tiff"),
    (b"\x1aE\xdf\xa3", ".webm"),
)


def media_ending(content: BinaryIO) -> str:
    """
    What a file is by its first bytes, as the ending that readers know it by.

    Raises:
        ValueError: if it is none of the known kinds.
    """
    content.seek(0)
    head = content.read(16)
    content.seek(0)
    if head[4:8] == b"ftyp":
        return ".mp4"
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"AVI "):
        return ".webp" if head[8:12] == b"WEBP" else ".avi"
    for beginning, ending in _BEGINNINGS:
        if head.startswith(beginning):
            return ending
    kinds = ", ".join(ending.strip(".") for ending in (*IMAGE_ENDINGS, *VIDEO_ENDINGS))
    raise ValueError(f"it is no image or video of the kinds {kinds}")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet."""
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    return ip.is_global and not ip.is_multicast and (mapped is None or mapped.is_global)


class MediaFetcher:
    """
    Args:
        hosts: that may be fetched from, as URLs name them, with `:port` where a URL has one.
        max_bytes: of what is fetched.
        max_seconds: that fetching may take.
        is_allowed_address: of an IP address that a host has.
    """

    def __init__(
        self,
        hosts: Collection[str] = (),
        max_bytes: int = MAX_FETCHED_BYTES,
        max_seconds: float = MAX_FETCH_SECONDS,
        is_allowed_address: Callable[[str], bool] = is_public,
    ):
        self.hosts = frozenset(host.lower() for host in hosts)
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds
        self._is_allowed_address = is_allowed_address

    def read(self, url: str) -> BinaryIO:
        """
        What a URL leads to.

        Raises:
            ValueError: if it may not be fetched, cannot be, is too large, or takes too long.
        """
        scheme = url[:8].partition(":")[0].lower()
        if scheme == "data":
            return io.BytesIO(self._read_data(url))
        if scheme not in ("http", "https"):
            raise ValueError("a URL must begin with data:, https:// or http://")
        try:
            return io.BytesIO(self._fetch(url))
        except (OSError, http.client.HTTPException) as error:
            raise ValueError(f"the URL cannot be fetched: {error or type(error).__name__}") from error

    def _read_data(self, url: str) -> bytes:
        head, comma, data = url.partition(",")
        if not comma:
            raise ValueError("a data URL must have a comma before its data")
        if len(data) > self.max_bytes * 4 / 3 + 4:
            raise ValueError(f"a data URL may have at most {self.max_bytes} bytes")
        content = unquote_to_bytes(data)
        if not head.lower().endswith(";base64"):
            return content
        try:
            return base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise ValueError("the data of the data URL is not in base64") from error

    def _fetch(self, url: str) -> bytes:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if parts.username is not None or (host not in self.hosts and parts.netloc.lower() not in self.hosts):
            raise ValueError(f"the server does not fetch from the host '{host[:80]}'; its operator may allow hosts")
        is_secure = parts.scheme.lower() == "https"
        address = self._address(host, parts.port or (443 if is_secure else 80))
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        with _connection(host, address, is_secure, self.max_seconds) as connection:
            connection.request("GET", target, headers={"Host": parts.netloc, "User-Agent": "lumos-hf"})
            answer = connection.getresponse()
            if answer.status != 200:
                follow = " and redirects are not followed" if 300 <= answer.status < 400 else ""
                raise ValueError(f"the URL was answered with {answer.status}{follow}")
            return self._read_answer(answer)

    def _address(self, host: str, port: int) -> tuple[str, int]:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        if not addresses or not all(map(self._is_allowed_address, addresses)):
            raise ValueError(f"the host '{host}' has an address that is not public")
        return min(addresses), port

    def _read_answer(self, answer: http.client.HTTPResponse) -> bytes:
        content = bytearray()
        while chunk := answer.read(_CHUNK):
            content += chunk
            if len(content) > self.max_bytes:
                raise ValueError(f"the URL leads to more than {self.max_bytes} bytes")
        return bytes(content)


@contextmanager
def _connection(
    host: str, address: tuple[str, int], is_secure: bool, max_seconds: float
) -> Iterator[http.client.HTTPConnection]:
    """A connection to the address that was checked, not to what the name may mean by now; it ends after `max_seconds`."""
    sock = socket.create_connection(address, timeout=_FETCH_TIMEOUT)
    if is_secure:
        context = ssl.create_default_context()
        sock = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        with suppress(OSError):
            # That of the class below TLS, which would first talk to the other side.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(max_seconds, end)
    timer.daemon = True
    timer.start()
    connection = http.client.HTTPConnection(host, address[1], timeout=_FETCH_TIMEOUT)
    connection.sock = sock
    try:
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        yield connection
    except (OSError, http.client.HTTPException):
        if not is_late.is_set():
            raise
    finally:
        timer.cancel()
        connection.close()
    if is_late.is_set():
        raise ValueError(f"the URL was not read within {max_seconds:g} seconds")
