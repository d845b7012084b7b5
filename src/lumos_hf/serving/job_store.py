# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Jobs in a database: accepted when they are stored, made by one worker at a time, finished whatever ends a process.

Notable:

- A worker takes jobs with a lease and renews it. Jobs whose lease has ended, or whose worker is known to be dead, are taken
  by the next one. All that a worker says of a job counts only while it holds the lease.
- SQLite (WAL) for the processes of one machine: a job is taken in an immediate transaction. PostgreSQL for many machines:
  `FOR UPDATE SKIP LOCKED` gives a job to one of those who ask, and its clock is everybody's.
- Clients take turns: next is the oldest job of the client whose last job was taken longest ago. Jobs of its shape come
  along, as many as a batch has room for.
- What was deleted keeps its row, without its contents, until it would have expired: the turns are counted in it.
"""

import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from ..argument_checks import check_integer, check_number
from .worker_identity import is_known_dead


QUEUED, IN_PROGRESS, COMPLETED, FAILED, DELETED = "queued", "in_progress", "completed", "failed", "deleted"
DEFAULT_SECONDS_TO_LIVE = 24 * 60 * 60

# What was taken so often without an end gives way to others.
_SUSPICIOUS_ATTEMPTS = 3

_SQLITE_TIMEOUT = 30
_POSTGRESQL_TIMEOUT = 5
# Of the advisory lock under which tables are made: any number that others do not use.
_SETUP_LOCK = 0x4C756D6F73

_metadata = sa.MetaData()
_jobs = sa.Table(
    "lumos_jobs",
    _metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("client", sa.String(128), nullable=False),
    sa.Column("arguments", sa.JSON, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("shape", sa.String(512)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("num_steps", sa.Integer, nullable=False, default=0),
    sa.Column("seconds_left", sa.Float),
    sa.Column("error", sa.JSON),
    sa.Column("num_bytes", sa.BigInteger, nullable=False, default=0),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("taken_at", sa.Float),
    sa.Column("completed_at", sa.Float),
    sa.Column("expires_at", sa.Float),
    sa.Column("worker", sa.String(160)),
    sa.Column("lease_until", sa.Float),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Index("lumos_jobs_waiting", "status", "number"),
    sa.Index("lumos_jobs_turns", "client", "taken_at"),
    sa.Index("lumos_jobs_owner", "owner", "number"),
)


class StoreUnavailable(Exception):
    """The database cannot be reached, or is busy for too long. What was stored is not lost; ask again."""


class StoreFull(Exception):
    """
    There is no room for another job.

    Args:
        message: what is full.
        is_disk: whether it is the disk, so that waiting for the queue does not help.
    """

    def __init__(self, message: str, is_disk: bool):
        super().__init__(message)
        self.is_disk = is_disk


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """
    A job to store.

    Args:
        id: random, see [`new_job_id`].
        kind: `"video"` or `"image"`.
        owner: who may see it.
        client: whose turn it is.
        arguments: of the call, as far as JSON can hold them.
        details: what else is to be known of it, which JSON can hold.
        seed: of its random numbers.
        shape: what jobs have in common that can be made together; None for one that is made alone.
        num_bytes: what it takes on disk so far.
    """

    id: str
    kind: str
    owner: str
    client: str
    arguments: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)
    seed: int
    shape: str | None = None
    num_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class StoredJob(NewJob):
    """
    A job as it is stored; times are Unix seconds.

    Args:
        number: counts up.
        status: `"queued"`, `"in_progress"`, `"completed"`, `"failed"` or `"deleted"`.
        step, num_steps, seconds_left: how far it has come, see [`~lumos_hf.serving.JobStatus`].
        error: of a failed one, `code`, `message`, `param`, `type`.
        created_at, taken_at, completed_at, expires_at: when that happened or will happen.
        worker, lease_until: who makes it, and until when others leave it alone.
        attempts: how often it was taken.
    """

    number: int
    status: str
    step: int
    num_steps: int
    seconds_left: float | None
    error: Mapping[str, Any] | None
    created_at: float
    taken_at: float | None
    completed_at: float | None
    expires_at: float | None
    worker: str | None
    lease_until: float | None
    attempts: int

    @property
    def is_final(self) -> bool:
        return self.status in (COMPLETED, FAILED, DELETED)

    @property
    def progress(self) -> int:
        """In percent; 100 once it is completed, and never before."""
        if self.status == COMPLETED:
            return 100
        return min(99, 100 * self.step // self.num_steps) if self.num_steps else 0


@dataclass(frozen=True, kw_only=True)
class StoreLimits:
    """
    Args:
        max_queued: jobs that wait, of all clients.
        max_queued_per_client: jobs that wait, of one client.
        max_bytes: of inputs and results, of all jobs.
        max_attempts: a job that was taken so often without an end has failed: it may be what ends the processes.

    Raises:
        ValueError: if a limit is not a positive integer.
    """

    max_queued: int = 1000
    max_queued_per_client: int = 1000
    max_bytes: int = 10 * 2**30
    max_attempts: int = 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_integer(name, value)


@dataclass(frozen=True)
class Progress:
    """How far a job has come, see [`~lumos_hf.serving.JobStatus`]."""

    step: int
    num_steps: int
    seconds_left: float | None


def new_job_id(kind: str) -> str:
    """A random id of 192 bits, which says of what it is."""
    return f"{kind}_{secrets.token_hex(24)}"


def sqlite_url(path: str | os.PathLike) -> str:
    """The URL of a SQLite file for [`JobStore`]."""
    return sa.URL.create("sqlite", database=str(Path(path).absolute())).render_as_string()


class JobStore:
    """
    The jobs of one database. All methods may be called from any thread and process.

    Args:
        url: of SQLAlchemy, such as `"sqlite:////var/lib/lumos/jobs.sqlite"` or
            `"postgresql+psycopg://user@host/database"`; `"postgresql://"` means the same. Tables are made if there are none.
        limits: of what is stored.
        seconds_to_live: after which a result expires.

    Raises:
        ValueError: if the URL is of another kind of database, or `seconds_to_live` is no number.
        StoreUnavailable: from every method, if the database cannot be reached.
    """

    def __init__(
        self, url: str, limits: StoreLimits | None = None, *, seconds_to_live: float = DEFAULT_SECONDS_TO_LIVE
    ):
        check_number("seconds_to_live", seconds_to_live)
        self.limits = limits or StoreLimits()
        self.seconds_to_live = seconds_to_live
        self._engine = _open_engine(url)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        with self._transaction() as connection:
            if not self._is_sqlite:
                # Two processes that start together would both make the tables.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SETUP_LOCK)))
            _metadata.create_all(connection)

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    # What clients do

    def add(self, jobs: Sequence[NewJob]) -> list[StoredJob]:
        """
        Stores jobs that wait from now on: all of them, or none.

        Raises:
            StoreFull: if there is no room for them.
        """
        with self._transaction() as connection:
            self._check_room(connection, jobs)
            now = self._now(connection)
            names = NewJob.__dataclass_fields__
            new = {"status": QUEUED, "step": 0, "num_steps": 0, "attempts": 0, "created_at": now}
            connection.execute(sa.insert(_jobs), [{name: getattr(job, name) for name in names} | new for job in jobs])
            ids = [job.id for job in jobs]
            return self._select(connection, _jobs.c.id.in_(ids))

    def check_room(self, client: str, num_bytes: int = 0, count: int = 1) -> None:
        """
        Asks whether [`JobStore.add`] would take `count` jobs of `num_bytes` in all, before anything is written for them.

        Raises:
            StoreFull: if not.
        """
        with self._transaction(reads=True) as connection:
            self._check_counts(connection, {client: count}, num_bytes)

    def get(self, id: str, owner: str | None = None) -> StoredJob | None:
        """A job, unless it is deleted, or of another owner than `owner`, if that is given."""
        condition = sa.and_(_jobs.c.id == id, _jobs.c.status != DELETED)
        if owner is not None:
            condition = sa.and_(condition, _jobs.c.owner == owner)
        with self._transaction(reads=True) as connection:
            return next(iter(self._select(connection, condition)), None)

    def page(
        self, owner: str, *, kind: str = "video", after: str | None = None, limit: int = 20, is_ascending: bool = False
    ) -> tuple[list[StoredJob], bool]:
        """
        The jobs of an owner by the time they came, the newest first unless `is_ascending`.

        Args:
            after: the id of the job that the list goes on after.

        Returns:
            At most `limit` jobs, and whether there are more.

        Raises:
            KeyError: if `after` is no job of the owner.
        """
        with self._transaction(reads=True) as connection:
            condition = sa.and_(_jobs.c.owner == owner, _jobs.c.kind == kind, _jobs.c.status != DELETED)
            if after is not None:
                own = sa.and_(_jobs.c.id == after, _jobs.c.owner == owner)
                number = connection.execute(sa.select(_jobs.c.number).where(own)).scalar()
                if number is None:
                    raise KeyError(after)
                condition = sa.and_(condition, _jobs.c.number > number if is_ascending else _jobs.c.number < number)
            order = _jobs.c.number.asc() if is_ascending else _jobs.c.number.desc()
            rows = self._select(connection, condition, order, limit + 1)
            return rows[:limit], len(rows) > limit

    def delete(self, id: str, owner: str) -> StoredJob | None:
        """
        Forgets a job; whoever makes it learns that it is not wanted any more.

        Returns:
            the job as it was, None if there is none of this owner.
        """
        condition = sa.and_(_jobs.c.id == id, _jobs.c.owner == owner, _jobs.c.status != DELETED)
        with self._transaction() as connection:
            found = next(iter(self._select(connection, condition, for_update=True)), None)
            if found is not None:
                expires_at = found.expires_at or self._now(connection) + self.seconds_to_live
                values = {"status": DELETED, "arguments": {}, "details": {}, "num_bytes": 0, "expires_at": expires_at}
                connection.execute(sa.update(_jobs).where(_jobs.c.id == id).values(values))
            return found

    def count(self) -> dict[str, int]:
        """How many jobs there are, by their status."""
        with self._transaction(reads=True) as connection:
            query = sa.select(_jobs.c.status, sa.func.count()).group_by(_jobs.c.status)
            return {row[0]: row[1] for row in connection.execute(query)}

    def num_bytes(self) -> int:
        """What inputs and results take on disk."""
        with self._transaction(reads=True) as connection:
            return self._num_bytes(connection)

    # What workers do

    def take(self, worker: str, lease: float, *, limit: int = 1, shape: str | None = None) -> list[StoredJob]:
        """
        Gives jobs to a worker: the next one, and others of its shape.

        Args:
            worker: its name, see [`~lumos_hf.serving.worker_identity.new_worker_name`].
            lease: seconds for which nobody else takes them.
            limit: so many at most.
            shape: that all of them must have; None for any.
        """
        with self._transaction() as connection:
            now = self._now(connection)
            is_free = sa.or_(
                _jobs.c.status == QUEUED, sa.and_(_jobs.c.status == IN_PROGRESS, _jobs.c.lease_until < now)
            )
            taken: list[StoredJob] = []
            if shape is None:
                taken = self._take_first(connection, is_free)
                # What a process has already ended with is made alone: it may be what ended it.
                shape = taken[0].shape if taken and taken[0].attempts == 0 else None
            if shape is not None and len(taken) < limit:
                is_mate = sa.and_(is_free, _jobs.c.shape == shape, _jobs.c.attempts == 0)
                is_mate = sa.and_(is_mate, _jobs.c.id.not_in([job.id for job in taken]))
                taken += self._waiting(connection, is_mate, limit - len(taken))
            ids = [job.id for job in taken]
            values = {
                "status": IN_PROGRESS,
                "worker": worker,
                "lease_until": now + lease,
                "taken_at": now,
                "attempts": _jobs.c.attempts + 1,
            }
            connection.execute(sa.update(_jobs).where(_jobs.c.id.in_(ids)).values(values))
            return taken

    def renew(self, worker: str, lease: float, progress: Mapping[str, Progress]) -> set[str]:
        """
        Renews the leases of a worker.

        Args:
            progress: by id, how far its jobs have come.

        Returns:
            The ids that it still holds: what is missing was deleted, or another one has taken it.
        """
        with self._transaction() as connection:
            own = sa.and_(_jobs.c.worker == worker, _jobs.c.status == IN_PROGRESS)
            connection.execute(sa.update(_jobs).where(own).values(lease_until=self._now(connection) + lease))
            for id, done in progress.items():
                values = {"step": done.step, "num_steps": done.num_steps, "seconds_left": done.seconds_left}
                connection.execute(sa.update(_jobs).where(own, _jobs.c.id == id).values(values))
            return set(connection.execute(sa.select(_jobs.c.id).where(own)).scalars())

    def complete(self, id: str, worker: str, *, num_bytes: int) -> bool:
        """Says that the results of a job are there; False if the worker does not hold it any more."""
        return self._end(id, worker, status=COMPLETED, num_bytes=num_bytes)

    def fail(self, id: str, worker: str, error: Mapping[str, Any]) -> bool:
        """Says that a job cannot be made; False if the worker does not hold it any more."""
        return self._end(id, worker, status=FAILED, error=dict(error))

    def release(self, worker: str) -> int:
        """Gives back all jobs of a worker that ends; how many they were."""
        with self._transaction() as connection:
            own = sa.and_(_jobs.c.worker == worker, _jobs.c.status == IN_PROGRESS)
            values: dict[str, Any] = {"status": QUEUED, "worker": None, "lease_until": None, "step": 0}
            values |= {"seconds_left": None, "attempts": _jobs.c.attempts - 1}
            return connection.execute(sa.update(_jobs).where(own).values(values)).rowcount

    def release_those_of_the_dead(self) -> int:
        """Ends the leases of workers on this machine whose processes have ended; how many jobs that are."""
        with self._transaction(reads=True) as connection:
            query = sa.select(_jobs.c.worker).where(_jobs.c.status == IN_PROGRESS, _jobs.c.lease_until > 0).distinct()
            dead = [worker for worker in connection.execute(query).scalars() if is_known_dead(worker)]
        if not dead:
            return 0
        with self._transaction() as connection:
            theirs = sa.and_(_jobs.c.worker.in_(dead), _jobs.c.status == IN_PROGRESS)
            return connection.execute(sa.update(_jobs).where(theirs).values(lease_until=0)).rowcount

    def remove_expired(self) -> list[str]:
        """Removes the rows of what has expired, and gives the ids, whose files are to be removed."""
        with self._transaction() as connection:
            is_over = _jobs.c.expires_at < self._now(connection)
            ids = list(connection.execute(sa.select(_jobs.c.id).where(is_over)).scalars())
            connection.execute(sa.delete(_jobs).where(_jobs.c.id.in_(ids)))
            return ids

    def those_without_files(self, ids: Iterable[str]) -> set[str]:
        """Which of some ids are of no job, or of a deleted one, so that nothing on disk belongs to them."""
        ids = set(ids)
        with self._transaction(reads=True) as connection:
            query = sa.select(_jobs.c.id).where(_jobs.c.id.in_(ids), _jobs.c.status != DELETED)
            return ids - set(connection.execute(query).scalars())

    def _end(self, id: str, worker: str, **values: Any) -> bool:
        with self._transaction() as connection:
            now = self._now(connection)
            own = sa.and_(_jobs.c.id == id, _jobs.c.worker == worker, _jobs.c.status == IN_PROGRESS)
            values |= {"completed_at": now, "expires_at": now + self.seconds_to_live, "worker": None}
            values |= {"lease_until": None, "seconds_left": None}
            return connection.execute(sa.update(_jobs).where(own).values(values)).rowcount == 1

    def _take_first(self, connection: sa.Connection, is_free: sa.ColumnElement[bool]) -> list[StoredJob]:
        while True:
            first = self._waiting(connection, is_free, 1)
            if not first or first[0].attempts < self.limits.max_attempts:
                return first
            message = f"{first[0].attempts} processes ended while they made it."
            error = {"code": "too_many_attempts", "message": message, "param": None, "type": "server_error"}
            expires_at = self._now(connection) + self.seconds_to_live
            values = {"status": FAILED, "error": error, "worker": None, "expires_at": expires_at}
            connection.execute(sa.update(_jobs).where(_jobs.c.id == first[0].id).values(values))

    def _waiting(self, connection: sa.Connection, condition: sa.ColumnElement[bool], limit: int) -> list[StoredJob]:
        """
        Jobs that may be taken, in the order of turns, held until the end of the transaction. What seems to end the processes
        that make it waits for the other jobs of its client.
        """
        turns = sa.select(_jobs.c.client, sa.func.max(_jobs.c.taken_at).label("last"))
        last = turns.where(_jobs.c.taken_at.is_not(None)).group_by(_jobs.c.client).subquery()
        query = sa.select(_jobs).outerjoin(last, last.c.client == _jobs.c.client).where(condition)
        is_suspect = _jobs.c.attempts >= _SUSPICIOUS_ATTEMPTS
        query = query.order_by(sa.func.coalesce(last.c.last, 0), is_suspect, _jobs.c.number).limit(limit)
        rows = connection.execute(query.with_for_update(of=_jobs, skip_locked=True))
        return [StoredJob(**row._mapping) for row in rows]

    def _check_room(self, connection: sa.Connection, jobs: Sequence[NewJob]) -> None:
        counts: dict[str, int] = {}
        for job in jobs:
            counts[job.client] = counts.get(job.client, 0) + 1
        self._check_counts(connection, counts, sum(job.num_bytes for job in jobs))

    def _check_counts(self, connection: sa.Connection, counts: Mapping[str, int], num_bytes: int) -> None:
        waiting = sa.select(sa.func.count()).where(_jobs.c.status == QUEUED)
        limits = self.limits
        if connection.execute(waiting).scalar_one() + sum(counts.values()) > limits.max_queued:
            raise StoreFull(f"{limits.max_queued} jobs are waiting already.", is_disk=False)
        for client, count in counts.items():
            if connection.execute(waiting.where(_jobs.c.client == client)).scalar_one() + count > (
                limits.max_queued_per_client
            ):
                raise StoreFull(f"{limits.max_queued_per_client} of your jobs are waiting already.", is_disk=False)
        if self._num_bytes(connection) + num_bytes > limits.max_bytes:
            raise StoreFull(f"Inputs and results fill the {limits.max_bytes} bytes that they may take.", is_disk=True)

    @staticmethod
    def _num_bytes(connection: sa.Connection) -> int:
        return int(connection.execute(sa.select(sa.func.coalesce(sa.func.sum(_jobs.c.num_bytes), 0))).scalar_one())

    @staticmethod
    def _select(
        connection: sa.Connection,
        condition: sa.ColumnElement[bool],
        order: Any = _jobs.c.number.asc(),
        limit: int | None = None,
        for_update: bool = False,
    ) -> list[StoredJob]:
        query = sa.select(_jobs).where(condition).order_by(order).limit(limit)
        if for_update:
            query = query.with_for_update()
        return [StoredJob(**row._mapping) for row in connection.execute(query)]

    def _now(self, connection: sa.Connection) -> float:
        """Unix seconds by the one clock of all who use the database."""
        if self._is_sqlite:
            return time.time()
        return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    @contextmanager
    def _transaction(self, reads: bool = False) -> Iterator[sa.Connection]:
        """`reads`: nothing is written, so that SQLite need not keep others from writing."""
        try:
            with self._engine.connect().execution_options(lumos_reads=reads) as connection, connection.begin():
                yield connection
        except (OperationalError, InterfaceError) as error:
            if "full" in str(error.orig):
                raise StoreFull(f"The database has no room: {error.orig}", is_disk=True) from error
            raise StoreUnavailable(str(error.orig)) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise StoreUnavailable(str(error.orig)) from error
            raise


def _open_engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise ValueError(f"`database` must be a URL of SQLAlchemy, got '{url}'.") from error
    name = parsed.get_backend_name()
    if name == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError(f"`database` must name a file, got '{url}'.")
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": _SQLITE_TIMEOUT})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    if name == "postgresql":
        arguments = {"connect_timeout": _POSTGRESQL_TIMEOUT}
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=arguments
        )
    raise ValueError(f"`database` must begin with sqlite:/// or postgresql://, got '{name}'.")


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver would begin transactions by itself, and too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # A job that was accepted must outlive a power cut, too.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    is_reading = connection.get_execution_options().get("lumos_reads")
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")
