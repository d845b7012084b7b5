# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What a failed request to the Hub means for a user, on one line."""

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


def describe_hub_error(error: Exception, repo_id: str, revision: str | None = None) -> str:
    """
    Why a request about the repository `repo_id` failed.

    Args:
        error: what `huggingface_hub` raised, or another error on the way, such as one of reading a file.
        repo_id: such as `"user/name"`.
        revision: which one was asked for.
    """
    if isinstance(error, GatedRepoError):
        return f"access to '{repo_id}' has to be asked for at {constants.ENDPOINT}/{repo_id}."
    if isinstance(error, RepositoryNotFoundError):
        return f"{constants.ENDPOINT} has no repository '{repo_id}' that is open to you ({_status(error)})."
    if isinstance(error, RevisionNotFoundError):
        return f"'{repo_id}' has no revision '{revision or 'main'}'."
    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        if constants.HF_HUB_OFFLINE:
            return f"'{repo_id}' is not in the cache, and HF_HUB_OFFLINE forbids to ask {constants.ENDPOINT}."
        if error.__cause__ is not None:
            return describe_hub_error(_as_exception(error.__cause__), repo_id, revision)
        return f"'{repo_id}' is not in the cache."
    if isinstance(error, EntryNotFoundError):
        return f"'{repo_id}' lacks a file: {first_line(error)}"
    if isinstance(error, HfHubHTTPError):
        return f"{constants.ENDPOINT} answered: {_status(error)}."
    if isinstance(error, HTTPError):
        return f"{constants.ENDPOINT} could not be reached ({type(error).__name__}: {first_line(error)})."
    return first_line(error)


def _status(error: HfHubHTTPError) -> str:
    response = error.response
    message = f": {' '.join(error.server_message.split())}" if error.server_message else ""
    return f"{response.status_code} {response.reason_phrase}{message}"


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else Exception(str(error))


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
