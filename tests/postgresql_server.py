# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""A PostgreSQL server on loopback with data of its own, for tests and benchmarks."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any


_USER = "postgres"
_numbers = count()


class PostgresqlServer:
    """
    Args:
        binaries: the directory of `initdb` and `postgres`.
        directory: of its data and its log, which it removes.
    """

    def __init__(self, binaries: Path, directory: Path):
        self.binaries, self.directory, self.port = binaries, directory, _free_port()
        self.data = directory / "data"

    @classmethod
    def start(cls) -> "PostgresqlServer | None":
        """A running server; None if PostgreSQL is not installed."""
        binaries = _binaries()
        if binaries is None:
            return None
        # Not below what pytest makes, where nobody but its user may go, even if TMPDIR leads there.
        server = cls(binaries, Path(tempfile.mkdtemp(prefix="lumos-postgresql-", dir="/tmp")))
        if os.getuid() == 0:
            shutil.chown(server.directory, _USER)
        server._run("initdb", "--pgdata", server.data, "--auth", "trust", "--username", _USER, "--no-sync")
        server.resume()
        return server

    def close(self) -> None:
        """Ends it, and removes its data."""
        self.stop()
        shutil.rmtree(self.directory)

    def resume(self) -> None:
        """Starts it, after [`PostgresqlServer.stop`] with the same data."""
        settings = (
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            "unix_socket_directories=",
            "max_connections=60",
            "fsync=off",
        )
        options = [word for setting in settings for word in ("-c", setting)]
        with (self.directory / "log").open("ab") as log:
            command = [self.binaries / "postgres", "-D", self.data, *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._identity())
        deadline = time.monotonic() + 60
        while not self._accepts():
            assert self._process.poll() is None and time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends it and all connections at once."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(60)

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"jobs_{next(_numbers)}"
        address = ("--host", "127.0.0.1", "--port", self.port, "--username", _USER)
        self._run("createdb", *address, name)
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"

    def _accepts(self) -> bool:
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        return subprocess.run([self.binaries / "pg_isready", "--quiet", *address]).returncode == 0

    def _run(self, program: str, *arguments: object) -> None:
        command = [self.binaries / program, *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60, **self._identity())

    def _identity(self) -> dict[str, Any]:
        """It refuses to run as root."""
        if os.getuid() != 0:
            return {"cwd": self.directory}
        return {"cwd": self.directory, "user": _USER, "group": pwd.getpwnam(_USER).pw_gid, "extra_groups": []}


def _binaries() -> Path | None:
    """Debian keeps them out of the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    places += [Path(on_path).parent] if on_path else []
    return next((place for place in places if (place / "initdb").exists()), None)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
