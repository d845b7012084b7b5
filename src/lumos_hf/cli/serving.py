# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf serve`: an HTTP server that clients of the Videos API know."""

import gc
import importlib.util
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..demo import demo_checkpoint
from .model_loading import check_model, load_pipeline
from .options import DTYPE_HELP, MACHINE, Device, Dtype, Model, number, option
from .page import MAX_LENGTHS, MAX_STEPS, job_limits


if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..pipeline_lumos_video import LumosVideoPipeline
    from ..serving import JobLimits
    from ..serving.http_guards import ApiKeys
    from ..serving.job_store import JobStore, StoreLimits
    from ..serving.job_worker import JobWorker
    from ..serving.videos_api import ServerSettings


CLIENTS, JOBS = "What clients may ask for", "Jobs"
# What `lumos-hf serve` needs beyond the package: import names, of the extra `serve`.
_NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "prometheus_client", "python_multipart", "websockets")
_BATCH_IN_FLOAT32 = 4
_GRACE = 10

Host = Annotated[
    str, option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 lets other machines in.", default="127.0.0.1")
]
Port = Annotated[int, option(metavar="N", help="The port.", min=0, max=65535, default=True)]
Name = Annotated[
    str | None,
    option(metavar="NAME", help="What clients call the model.", default="that of the repository or directory"),
]
ApiKeyFile = Annotated[
    Path | None,
    option(
        metavar="FILE",
        help="Keys that let in, a line each, sent as Authorization: Bearer KEY. Each key sees its own jobs only.",
        exists=True,
        dir_okay=False,
    ),
]
AllowMediaHost = Annotated[
    list[str] | None,
    option(metavar="HOST", help="A host that references may be fetched from; may be given several times."),
]
Database = Annotated[
    str | None,
    option(
        metavar="URL",
        help="Where jobs are: sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
        default="jobs.sqlite in --data-dir",
        panel=JOBS,
    ),
]
DataDir = Annotated[
    Path, option(metavar="DIR", help="Where inputs and results are.", default=True, file_okay=False, panel=JOBS)
]
ExpireHours = Annotated[
    float, option(metavar="X", help="Results are removed after so long.", default=True, panel=JOBS)
]
MaxDisk = Annotated[
    float, option(metavar="X", help="GiB of inputs and results; more is refused.", default=True, panel=JOBS)
]
LeaseSeconds = Annotated[
    float,
    option(
        metavar="X",
        help="After so long without a word of it, the jobs of a server on another machine are taken over.",
        default=True,
        min=2,
        panel=JOBS,
    ),
]
MaxBatchSize = Annotated[
    int | None, number("Waiting jobs of one shape that run together.", JOBS, f"{_BATCH_IN_FLOAT32} in float32, else 1")
]
BatchDelay = Annotated[
    int, option(metavar="N", help="For so long a job waits for others of its shape.", min=0, default=True, panel=JOBS)
]
MaxArea = Annotated[int | None, number("Height times width, in pixels.", CLIENTS, "the checkpoint's own")]
MaxFrames = Annotated[int | None, number("Frames of a video.", CLIENTS, f"{MAX_LENGTHS} times the checkpoint's own")]
MaxSteps = Annotated[int, number("Steps per latent frame.", CLIENTS, True)]
MaxQueued = Annotated[int, number("Jobs that wait, of all clients.", CLIENTS, True)]
MaxQueuedPerClient = Annotated[int | None, number("Jobs that wait, of one client.", CLIENTS, "--max-queued")]
MaxUpload = Annotated[int, option(metavar="N", help="MiB of a request.", min=1, default=True, panel=CLIENTS)]
UploadTimeout = Annotated[
    float, option(metavar="X", help="Seconds in which a request must have come.", min=0.1, default=True, panel=CLIENTS)
]
ComputeDtype = Annotated[
    Dtype | None, option(metavar="DTYPE", help=DTYPE_HELP, default="float32 on cpu, else bfloat16", panel=MACHINE)
]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """
    What a server is told, by the names and with the defaults of the options of `lumos-hf serve`.

    Raises:
        ValueError: if one has a value that it cannot have.
    """

    model: str | None = None
    name: str | None = None
    api_key_file: Path | None = None
    allow_media_host: list[str] | None = None
    database: str | None = None
    data_dir: Path = Path("lumos-jobs")
    expire_hours: float = 24.0
    max_disk: float = 10.0
    lease_seconds: float = 30.0
    max_batch_size: int | None = None
    batch_delay_ms: int = 5
    max_area: int | None = None
    max_frames: int | None = None
    max_steps: int = MAX_STEPS
    max_queued: int = 1000
    max_queued_per_client: int | None = None
    max_upload: int = 64
    upload_timeout: float = 60.0
    device: str | None = None
    dtype: Dtype | None = None

    def __post_init__(self) -> None:
        for name in ("expire_hours", "max_disk", "lease_seconds", "max_upload", "upload_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be above 0, got {getattr(self, name)}.")
        if self.model is not None:
            check_model(self.model)

    @property
    def source(self) -> str | Path:
        """Where the checkpoint is."""
        return demo_checkpoint() if self.model is None else self.model


_DEFAULTS = ServerOptions()


def serve(
    model: Model = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    name: Name = None,
    api_key_file: ApiKeyFile = None,
    allow_media_host: AllowMediaHost = None,
    database: Database = None,
    data_dir: DataDir = _DEFAULTS.data_dir,
    expire_hours: ExpireHours = _DEFAULTS.expire_hours,
    max_disk: MaxDisk = _DEFAULTS.max_disk,
    lease_seconds: LeaseSeconds = _DEFAULTS.lease_seconds,
    max_batch_size: MaxBatchSize = None,
    batch_delay_ms: BatchDelay = _DEFAULTS.batch_delay_ms,
    max_area: MaxArea = None,
    max_frames: MaxFrames = None,
    max_steps: MaxSteps = _DEFAULTS.max_steps,
    max_queued: MaxQueued = _DEFAULTS.max_queued,
    max_queued_per_client: MaxQueuedPerClient = None,
    max_upload: MaxUpload = _DEFAULTS.max_upload,
    upload_timeout: UploadTimeout = _DEFAULTS.upload_timeout,
    device: Device = None,
    dtype: ComputeDtype = None,
) -> None:
    """
    Serve a checkpoint to clients of the Videos API.

    Jobs are kept in a database: what was accepted is finished, whatever ends the process. Needs the extra `serve`: pip
    install "lumos_hf[serve]".

    Example: lumos-hf serve --model me/lumos-1b --port 8000
    """
    given = dict(locals())
    options = ServerOptions(**{key: value for key, value in given.items() if key not in ("host", "port")})
    _warn_if_open(host, api_key_file)
    with opened_server(options) as server:
        typer.echo(f"Serving '{server.name}'; jobs are in {data_dir.resolve()}.", err=True)
        run_app(server.app, host, port)


@dataclass(frozen=True)
class Server:
    """
    Args:
        name: of the model, for clients.
        app: answers them.
        store: has the jobs.
        worker: makes them.
    """

    name: str
    app: "FastAPI"
    store: "JobStore"
    worker: "JobWorker"


@contextmanager
def opened_server(options: ServerOptions) -> Iterator[Server]:
    """
    Everything of a server but the socket that it listens on: the model is loaded, and jobs are made as long as it is open.

    Raises:
        ValueError: if a library is missing, the checkpoint cannot be loaded, or the database not be reached.
    """
    _check_libraries()

    from ..serving.http_guards import ApiKeys
    from ..serving.job_store import StoreLimits
    from ..serving.videos_api import ServerSettings

    keys = ApiKeys() if options.api_key_file is None else ApiKeys.from_file(options.api_key_file)
    store_limits = StoreLimits(
        max_queued=options.max_queued,
        max_queued_per_client=options.max_queued_per_client or options.max_queued,
        max_bytes=int(options.max_disk * 2**30),
    )
    settings = ServerSettings(
        max_upload_bytes=options.max_upload * 2**20,
        upload_timeout=options.upload_timeout,
        media_hosts=tuple(options.allow_media_host or ()),
    )
    store = _open_store(options.database, options.data_dir, store_limits, options.expire_hours)
    try:
        pipe = load_pipeline(options.source, options.dtype, options.device)
        pipe.set_progress_bar_config(disable=True)
        # `main` has it off for commands that end soon. What is there by now stays for good.
        gc.freeze()
        gc.enable()
        limits = job_limits(pipe, options.max_area, options.max_frames, options.max_steps, options.max_queued)
        with working_server(
            pipe,
            options.source,
            store,
            options.data_dir,
            limits,
            name=options.name,
            keys=keys,
            settings=settings,
            lease=options.lease_seconds,
            max_batch_size=options.max_batch_size,
            batch_delay=options.batch_delay_ms / 1000,
        ) as server:
            yield server
    finally:
        store.close()


def _check_libraries() -> None:
    missing = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise ValueError(f'The server needs {", ".join(missing)}: pip install "lumos_hf[serve]".')


def _open_store(database: str | None, data_dir: Path, limits: "StoreLimits", expire_hours: float) -> "JobStore":
    from ..serving.job_store import JobStore, StoreUnavailable, sqlite_url

    try:
        url = database or sqlite_url(data_dir / "jobs.sqlite")
        return JobStore(url, limits, seconds_to_live=expire_hours * 3600)
    except StoreUnavailable as error:
        raise ValueError(f"`database` cannot be reached: {error}") from error


@contextmanager
def working_server(
    pipe: "LumosVideoPipeline",
    checkpoint: str | Path,
    store: "JobStore",
    data_dir: Path,
    limits: "JobLimits",
    *,
    name: str | None = None,
    keys: "ApiKeys | None" = None,
    settings: "ServerSettings | None" = None,
    lease: float = 30.0,
    max_batch_size: int | None = None,
    batch_delay: float = 0.0,
) -> Iterator[Server]:
    """
    A pipeline that makes the jobs of a store, and the app before it.

    Args:
        pipe: makes the videos.
        checkpoint: where it was loaded from.
        store, data_dir: of the jobs.
        limits: what clients may ask for.
        name: of the model; None stands for that of the repository or directory.
        keys, settings: see [`~lumos_hf.serving.videos_api.create_app`].
        lease: see [`~lumos_hf.serving.job_worker.JobWorker`].
        max_batch_size: of jobs of one shape; None stands for 4 in float32, where they do not depend on each other, else 1.
        batch_delay: in seconds.
    """
    from ..serving import JobRunner
    from ..serving.job_events import JobEvents
    from ..serving.job_files import JobFiles
    from ..serving.job_worker import JobWorker
    from ..serving.served_model import ServedModel
    from ..serving.videos_api import create_app

    batch = max_batch_size or (_BATCH_IN_FLOAT32 if str(pipe.dtype) == "torch.float32" else 1)
    served = ServedModel.of(pipe, checkpoint, limits, name)
    events, files = JobEvents(), JobFiles(data_dir)
    # A batch may be of one client.
    limits = replace(limits, max_queued_per_client=limits.max_queued_per_client + batch)
    runner = JobRunner(pipe, limits, max_batch_size=batch, batch_delay=batch_delay)
    with runner, JobWorker(runner, store, files, checkpoint, lease=lease, on_end=events.ended) as worker:
        app = create_app(store, files, served, events=events, worker=worker, keys=keys, settings=settings)
        yield Server(served.name, app, store, worker)


def run_app(app: "FastAPI", host: str, port: int) -> None:
    """Serves until the process is interrupted."""
    import uvicorn

    config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=_GRACE)
    uvicorn.Server(config).run()


def _warn_if_open(host: str, api_key_file: Path | None) -> None:
    if api_key_file is not None:
        return
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        message = (
            f"Warning: whoever reaches {host} may use this server; --api-key-file FILE lets in those with a key only."
        )
        typer.secho(message, fg=typer.colors.YELLOW, err=True)
