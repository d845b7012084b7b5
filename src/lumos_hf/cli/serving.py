# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf serve`: an HTTP server that clients of the Videos API know."""

import gc
import importlib.util
import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..demo import demo_checkpoint
from .model_loading import check_model, load_pipeline
from .options import DTYPE_HELP, MACHINE, Device, Dtype, Model, number, option
from .page import MAX_LENGTHS, MAX_STEPS, job_limits


if TYPE_CHECKING:
    from ..pipeline_lumos_video import LumosVideoPipeline
    from ..serving import JobLimits
    from ..serving.http_guards import ApiKeys
    from ..serving.job_store import JobStore, StoreLimits
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


def serve(
    model: Model = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    name: Name = None,
    api_key_file: ApiKeyFile = None,
    allow_media_host: AllowMediaHost = None,
    database: Database = None,
    data_dir: DataDir = Path("lumos-jobs"),
    expire_hours: ExpireHours = 24.0,
    max_disk: MaxDisk = 10.0,
    lease_seconds: LeaseSeconds = 30.0,
    max_batch_size: MaxBatchSize = None,
    batch_delay_ms: BatchDelay = 5,
    max_area: MaxArea = None,
    max_frames: MaxFrames = None,
    max_steps: MaxSteps = MAX_STEPS,
    max_queued: MaxQueued = 1000,
    max_queued_per_client: MaxQueuedPerClient = None,
    max_upload: MaxUpload = 64,
    upload_timeout: UploadTimeout = 60.0,
    device: Device = None,
    dtype: ComputeDtype = None,
) -> None:
    """
    Serve a checkpoint to clients of the Videos API.

    Jobs are kept in a database: what was accepted is finished, whatever ends the process. Needs the extra `serve`: pip
    install "lumos_hf[serve]".

    Example: lumos-hf serve --model me/lumos-1b --port 8000
    """
    _check(expire_hours, max_disk)
    source = demo_checkpoint() if model is None else check_model(model)

    from ..serving.http_guards import ApiKeys
    from ..serving.job_store import StoreLimits
    from ..serving.videos_api import ServerSettings

    keys = ApiKeys() if api_key_file is None else ApiKeys.from_file(api_key_file)
    _warn_if_open(host, api_key_file)
    store_limits = StoreLimits(
        max_queued=max_queued,
        max_queued_per_client=max_queued_per_client or max_queued,
        max_bytes=int(max_disk * 2**30),
    )
    settings = ServerSettings(
        max_upload_bytes=max_upload * 2**20, upload_timeout=upload_timeout, media_hosts=tuple(allow_media_host or ())
    )
    store = _open_store(database, data_dir, store_limits, expire_hours)
    pipe = load_pipeline(source, dtype, device)
    pipe.set_progress_bar_config(disable=True)
    # `main` has it off for commands that end soon. What is there by now stays for good.
    gc.freeze()
    gc.enable()
    limits = job_limits(pipe, max_area, max_frames, max_steps, max_queued)
    run_server(
        pipe,
        source,
        store,
        data_dir,
        limits,
        name=name,
        keys=keys,
        settings=settings,
        lease=lease_seconds,
        max_batch_size=max_batch_size,
        batch_delay=batch_delay_ms / 1000,
        host=host,
        port=port,
    )
    store.close()


def _check(expire_hours: float, max_disk: float) -> None:
    missing = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise ValueError(f'The server needs {", ".join(missing)}: pip install "lumos_hf[serve]".')
    for option_name, value in (("expire_hours", expire_hours), ("max_disk", max_disk)):
        if value <= 0:
            raise ValueError(f"`{option_name}` must be above 0, got {value}.")


def _open_store(database: str | None, data_dir: Path, limits: "StoreLimits", expire_hours: float) -> "JobStore":
    from ..serving.job_store import JobStore, StoreUnavailable, sqlite_url

    try:
        url = database or sqlite_url(data_dir / "jobs.sqlite")
        return JobStore(url, limits, seconds_to_live=expire_hours * 3600)
    except StoreUnavailable as error:
        raise ValueError(f"`database` cannot be reached: {error}") from error


def run_server(
    pipe: "LumosVideoPipeline",
    checkpoint: str | Path,
    store: "JobStore",
    data_dir: Path,
    limits: "JobLimits",
    *,
    host: str,
    port: int,
    name: str | None = None,
    keys: "ApiKeys | None" = None,
    settings: "ServerSettings | None" = None,
    lease: float = 30.0,
    max_batch_size: int | None = None,
    batch_delay: float = 0.0,
) -> None:
    """
    Serves until the process is interrupted.

    Args:
        pipe: makes the videos.
        checkpoint: where it was loaded from.
        store, data_dir: of the jobs.
        limits: what clients may ask for.
        host, port: where to listen.
        name: of the model; None stands for that of the repository or directory.
        keys, settings: see [`~lumos_hf.serving.videos_api.create_app`].
        lease: see [`~lumos_hf.serving.job_worker.JobWorker`].
        max_batch_size: of jobs of one shape; None stands for 4 in float32, where they do not depend on each other, else 1.
        batch_delay: in seconds.
    """
    import uvicorn

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
        typer.echo(f"Serving '{served.name}'; jobs are in {data_dir.resolve()}.", err=True)
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
