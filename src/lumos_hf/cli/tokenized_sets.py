# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf tokenize`, `import-tokenized` and `export-tokenized`: sets to train on."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..process_rank import process_rank
from .model_loading import check_device, check_model, own_device
from .options import (
    CLIPS,
    COLUMNS,
    MACHINE,
    MAX_PIXELS_TEXT,
    Device,
    NewDirectory,
    NumActors,
    Ray,
    check_ray_options,
    number,
    option,
)


if TYPE_CHECKING:
    from ..data.shard_work import TokenizationSummary


# Exit status of a run that did all its work but had to leave something out.
SKIPPED_STATUS = 3
_MAX_SKIPPED_SHOWN = 10

# Of tokenize, some also of import-tokenized.
Clips = Annotated[
    str,
    typer.Argument(
        help="A folder of images and videos, with captions in metadata.csv, metadata.jsonl or text files beside them; "
        "a .csv or .jsonl file with the columns path and text; or a data set, in a folder or on the Hub.",
        metavar="DATA",
        show_default=False,
    ),
]
EncodingModel = Annotated[str, option(metavar="DIR_OR_REPO", help="The checkpoint whose video tokenizer encodes.")]
TokenizedDirectory = Annotated[
    Path,
    option(
        "--output",
        "-o",
        metavar="DIR",
        help="The directory of the tokenised set; a run that was interrupted goes on with it.",
    ),
]
Fps = Annotated[
    int | None,
    number("The frames per second of videos.", CLIPS, default="the checkpoint's"),
]
Duration = Annotated[
    int | None,
    number("The seconds of each video; fps * duration frames are taken.", CLIPS, default="the checkpoint's"),
]
NumFrames = Annotated[int | None, number("The frames of each video, instead of --duration.", CLIPS)]
Position = Annotated[
    Literal["middle", "start", "random"],
    option(
        metavar="PLACE",
        help="Takes the frames from the middle or the start of longer videos, or from a random place.",
        panel=CLIPS,
        default=True,
    ),
]
Seed = Annotated[int, number("Chooses the random places.", CLIPS, default=True)]
FrameChoice = Annotated[
    Literal["clock", "official"],
    option(
        metavar="WHICH",
        help="clock takes frames that follow each other at --fps; official takes every n-th, 84 of them, as the official scripts "
        "take them.",
        panel=CLIPS,
        default=True,
    ),
]
MaxPixels = Annotated[
    int | None,
    option(
        metavar="N",
        min=1,
        help="An image or a frame with more pixels is skipped.",
        default=MAX_PIXELS_TEXT,
        panel=CLIPS,
    ),
]
Height = Annotated[int | None, number("A multiple of 32.", CLIPS, default="the checkpoint's")]
Width = Annotated[int | None, number("A multiple of 32.", CLIPS, default="the checkpoint's")]
Buckets = Annotated[
    bool,
    option(
        "--buckets/--no-buckets",
        help="Crop each clip to the size of about height x width pixels that fits its shape, or all to that size.",
        panel=CLIPS,
    ),
]
CaptionColumn = Annotated[str, option(metavar="NAME", help="The column of captions.", panel=COLUMNS, default=True)]
MediaColumn = Annotated[
    str | None,
    option(
        metavar="NAME",
        help="The column of images or videos.",
        default="path in tables, the only such column in data sets",
        panel=COLUMNS,
    ),
]
Split = Annotated[str, option(metavar="NAME", help="The split of a data set.", panel=COLUMNS, default=True)]
BatchSize = Annotated[int, number("The number of clips encoded together.", MACHINE, default=True)]
NumReaders = Annotated[
    int,
    number("The number of processes that read clips, besides the one that encodes.", MACHINE, default=True),
]
ClipsPerShard = Annotated[
    int,
    number("The number of clips in a file; so many at most are done again after a kill.", MACHINE, default=True),
]

# Of import-tokenized.
OfficialSet = Annotated[
    Path,
    typer.Argument(
        help="A directory with records, a merge-record.json, a record in JSONL, or a yaml file of several with ratios.",
        metavar="SOURCE",
        show_default=False,
        exists=True,
    ),
]
Seconds = Annotated[int, option(metavar="N", help="Cuts longer videos to so many seconds.", default=True)]
Whole = Annotated[bool, option("--whole", help="Cuts nothing.")]
RequiredFps = Annotated[
    int | None, option(metavar="N", help="Frames per second that videos must have.", default="any")
]
CaptionTables = Annotated[
    list[Path] | None,
    option(
        metavar="FILE",
        help="Table whose row N is the caption of item N; of several sets, to be given for each.",
        default="captions.csv beside a record, if there is one",
        exists=True,
    ),
]
TableColumn = Annotated[str, option(metavar="NAME", help="The column of captions in these tables.", default=True)]
TokenIdsModel = Annotated[
    str | None,
    option(
        metavar="DIR_OR_REPO",
        help="The checkpoint whose token ids the sets were made with.",
        default="the official ones",
    ),
]
NumImporters = Annotated[
    int,
    number("The number of processes that read items, besides this one.", MACHINE, default=True),
]

# Of export-tokenized.
TokenizedSet = Annotated[
    Path, typer.Argument(help="Directory of a tokenised set.", metavar="DATA", show_default=False, exists=True)
]
CaptionModel = Annotated[
    str | None,
    option(
        metavar="DIR_OR_REPO",
        help="Checkpoint whose text tokenizer encodes captions; imported sets do without.",
        default="the official token ids",
    ),
]
PathPrefix = Annotated[
    str | None,
    option(
        metavar="PATH",
        help="What stands before the names of files in the records, seen from where the official trainer starts.",
        default="the absolute path of the new directory",
    ),
]


def tokenize(
    data: Clips,
    model: EncodingModel,
    output: TokenizedDirectory,
    fps: Fps = None,
    duration: Duration = None,
    num_frames: NumFrames = None,
    position: Position = "middle",
    seed: Seed = 0,
    frames: FrameChoice = "clock",
    max_pixels: MaxPixels = None,
    height: Height = None,
    width: Width = None,
    buckets: Buckets = True,
    caption_column: CaptionColumn = "text",
    media_column: MediaColumn = None,
    split: Split = "train",
    batch_size: BatchSize = 8,
    num_proc: NumReaders = 0,
    clips_per_shard: ClipsPerShard = 256,
    device: Device = None,
    ray: Ray = None,
    num_actors: NumActors = None,
) -> None:
    """
    Turn images and videos with captions into a tokenised set to train on.

    Files that cannot be used are skipped, listed in skipped.jsonl, and lead to exit status 3 instead of 0.

    Started by `accelerate launch` or torchrun, the processes share the work, each on its GPU; the one that finishes last
    reports, and its launcher turns exit status 3 into 1. With --ray, actors on one or many machines do.

    Example: lumos-hf tokenize clips/ --model checkpoints/lumos-1b -o clips-tokenized --num-proc 8
    """
    _check_datasets_installed()
    arguments: dict[str, Any] = {
        "data": data,
        "model": check_model(model),
        "output": output,
        "fps": fps,
        "duration": duration,
        "num_frames": num_frames,
        "position": position,
        "height": height,
        "width": width,
        "buckets": buckets,
        "seed": seed,
        "frames": frames,
        **({} if max_pixels is None else {"max_pixels": max_pixels}),
        "caption_column": caption_column,
        "media_column": media_column,
        "split": split,
        "batch_size": batch_size,
        "num_proc": num_proc,
        "clips_per_shard": clips_per_shard,
    }
    check_ray_options(ray, num_actors)
    from ..data import tokenize_dataset

    if ray is None:
        arguments["device"] = check_device(device or own_device())
        _write(tokenize_dataset, "Tokenised", arguments)
        return
    from ..cluster import RayCluster, write_shards_on_ray

    with RayCluster(ray, num_actors) as cluster:
        on_actors = {"device": device or ("cuda" if cluster.has_gpus else "cpu")}
        summary = write_shards_on_ray(cluster, tokenize_dataset, arguments, on_actors)
    _report_tokenized("Tokenised", summary, output)


def import_tokenized(
    source: OfficialSet,
    output: TokenizedDirectory,
    seconds: Seconds = 2,
    whole: Whole = False,
    fps: RequiredFps = None,
    captions: CaptionTables = None,
    caption_column: TableColumn = "text",
    model: TokenIdsModel = None,
    num_proc: NumImporters = 0,
    clips_per_shard: ClipsPerShard = 256,
    ray: Ray = None,
    num_actors: NumActors = None,
) -> None:
    """
    Read official pre-tokenised sets.

    The text's placeholders are filled in and longer videos are cut, as in the official training. Items that cannot be used
    are skipped, listed in skipped.jsonl, and lead to exit status 3. Processes share the work as for tokenize.

    Example: lumos-hf import-tokenized pre_tokenize/data/videos -o videos-tokenized --seconds 2
    """
    _check_datasets_installed()
    arguments: dict[str, Any] = {
        "source": source,
        "output": output,
        "seconds": None if whole else seconds,
        "fps": fps,
        "captions": captions or (),
        "caption_column": caption_column,
        "model": None if model is None else check_model(model),
        "num_proc": num_proc,
        "clips_per_shard": clips_per_shard,
    }
    check_ray_options(ray, num_actors)
    from ..data import import_tokenized_dataset

    if ray is None:
        _write(import_tokenized_dataset, "Imported", arguments)
        return
    from ..cluster import RayCluster, write_shards_on_ray

    with RayCluster(ray, num_actors) as cluster:
        summary = write_shards_on_ray(cluster, import_tokenized_dataset, arguments, {})
    _report_tokenized("Imported", summary, output)


def export_tokenized(
    data: TokenizedSet,
    output: NewDirectory,
    model: CaptionModel = None,
    path_prefix: PathPrefix = None,
) -> None:
    """
    Write a tokenised set in the official layout.

    The official trainer reads it, and import-tokenized.

    Example: lumos-hf export-tokenized clips-tokenized -o clips-official --model checkpoints/lumos-1b
    """
    _check_datasets_installed()
    from ..data import export_tokenized_dataset

    num_items = export_tokenized_dataset(
        data, output, model=None if model is None else check_model(model), path_prefix=path_prefix
    )
    typer.echo(f"Wrote {num_items} items to {output}.")


def _check_datasets_installed() -> None:
    if importlib.util.find_spec("datasets") is None:
        raise ValueError("Tokenised sets need datasets, which comes with `pip install lumos_hf[train]`.")


def _write(function: Callable[..., "TokenizationSummary"], done: str, arguments: dict[str, Any]) -> None:
    """Writes this process's share, and reports."""
    rank, world_size = process_rank()
    summary = function(**arguments, rank=rank, world_size=world_size)
    _report_tokenized(done, summary, arguments["output"], rank)


def _report_tokenized(done: str, summary: "TokenizationSummary", output: Path, rank: int = 0) -> None:
    if summary.num_unfinished_shards > 0:
        typer.echo(f"Process {rank} is done; {summary.num_unfinished_shards} shards of other processes are not.")
        return
    typer.echo(f"{done} {summary.num_rows} of {summary.num_clips} clips into {output}.")
    if not summary.skipped:
        return
    typer.echo(f"Skipped {len(summary.skipped)}, listed in {output / 'skipped.jsonl'}:", err=True)
    for clip in summary.skipped[:_MAX_SKIPPED_SHOWN]:
        typer.echo(f"  {clip}", err=True)
    if len(summary.skipped) > _MAX_SKIPPED_SHOWN:
        typer.echo(f"  and {len(summary.skipped) - _MAX_SKIPPED_SHOWN} more.", err=True)
    raise typer.Exit(SKIPPED_STATUS)
