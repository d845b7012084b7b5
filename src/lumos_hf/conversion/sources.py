# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Where the parts of a release lie: on this machine, or on the Hub, from where they are downloaded or listed."""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import parse_hf_uri, snapshot_download

from ..hub.hub_errors import describe_hub_error
from .weight_files import first_line


_HUB_LOCATION = r"[\w.-]+/[\w.-]+(@[^/]+)?(/.+)?"


class ListedSource(NamedTuple):
    """
    What there is of a part of a release.

    Args:
        files: bytes of the files that are needed, by their names inside the part.
        path: where they lie on this machine; None if some would have to be downloaded.
    """

    files: dict[str, int]
    path: Path | None


def local_source(argument: str, source: str | Path, patterns: Iterable[str]) -> Path:
    """
    Where a file or directory lies on this machine; one on the Hub is downloaded first.

    Args:
        argument: the name that the user knows `source` by.
        source: an existing path, or a location on the Hub, `USER/NAME[@REVISION][/SUBFOLDER]`.
        patterns: names of the files that are needed, inside the subfolder.

    Raises:
        ValueError: if `source` is neither.
        OSError: if it cannot be downloaded. What is there already is kept, and continued by the next try.
    """
    if Path(source).exists():
        return Path(source)
    location = _hub_location(argument, source)
    snapshot = Path(_snapshot(argument, source, location, patterns))
    path = snapshot / location.path_in_repo
    if not path.exists():
        raise _not_in_repository(argument, source, location)
    return path


def listed_source(argument: str, source: str | Path, patterns: Iterable[str]) -> ListedSource:
    """
    As [`local_source`], without downloading or writing anything.

    Raises:
        ValueError: if `source` is neither, or not in its repository.
        OSError: if the Hub cannot be asked.
    """
    path, patterns = Path(source), list(patterns)
    if path.is_file():
        return ListedSource({path.name: path.stat().st_size}, path)
    if path.is_dir():
        found = {
            file.name: file.stat().st_size for pattern in patterns for file in path.glob(pattern) if file.is_file()
        }
        return ListedSource(found, path)
    location = _hub_location(argument, source)
    # Even a dry run writes into its cache which commit a branch is at.
    with tempfile.TemporaryDirectory() as cache:
        files = _snapshot(argument, source, location, patterns, dry_run=True, cache_dir=cache)
    if not files:
        raise _not_in_repository(argument, source, location)
    folder = location.path_in_repo
    # Of a file, `folder` is the whole name.
    sizes = {file.filename.removeprefix(folder).lstrip("/") or Path(folder).name: file.file_size for file in files}
    try:
        snapshot = Path(_snapshot(argument, source, location, patterns, local_files_only=True))
    except OSError:
        return ListedSource(sizes, None)
    is_here = all((snapshot / file.filename).is_file() for file in files)
    return ListedSource(sizes, snapshot / folder if is_here else None)


def is_on_hub(source: str | Path) -> bool:
    """Whether `source` would be looked for on the Hub."""
    return not Path(source).exists() and re.fullmatch(_HUB_LOCATION, str(source)) is not None


def repository(source: str | Path) -> str:
    """`USER/NAME` of a location on the Hub."""
    return parse_hf_uri(f"hf://models/{source}").id


def _hub_location(argument: str, source: str | Path) -> Any:
    parts = Path(source).parts
    # A path that begins in a directory of this machine is not meant for the Hub.
    is_path = parts[:1] in ((".",), ("..",), ("~",)) or Path(source).is_absolute() or str(source).startswith("./")
    if is_path or (len(parts) > 1 and Path(parts[0]).is_dir()) or not re.fullmatch(_HUB_LOCATION, str(source)):
        raise ValueError(
            f"`{argument}` must be an existing path or a Hub location USER/NAME[@REVISION][/SUBFOLDER], got '{source}', "
            "a path that does not exist."
        )
    try:
        return parse_hf_uri(f"hf://models/{source}")
    except ValueError as error:
        raise ValueError(f"`{argument}` must be a Hub location, got '{source}': {first_line(error)}") from error


def _snapshot(argument: str, source: str | Path, location: Any, patterns: Iterable[str], **options: Any) -> Any:
    folder = location.path_in_repo
    wanted = [folder, *(f"{folder}/{pattern}" for pattern in patterns)] if folder else list(patterns)
    try:
        return snapshot_download(location.id, revision=location.revision, allow_patterns=wanted, **options)
    # Errors of the network come as those of whichever library makes the requests.
    except Exception as error:
        raise OSError(
            f"`{argument}` '{source}' is no path here, and could not be downloaded from the Hub: "
            f"{describe_hub_error(error, location.id, location.revision)}"
        ) from error


def _not_in_repository(argument: str, source: str | Path, location: Any) -> ValueError:
    return ValueError(f"`{argument}` '{source}' is not in the repository '{location.id}' on the Hub.")
