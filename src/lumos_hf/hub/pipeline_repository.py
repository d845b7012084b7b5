# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
How a pipeline is kept in a directory or a repository on the Hub: loading, saving, publishing.

A repository holds `model_index.json`, a folder per component, the model card `README.md`, and the code of the model, by
which transformers loads the folder `transformer` where this package is not installed.
"""

import inspect
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from huggingface_hub import CommitInfo, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError
from transformers.dynamic_module_utils import get_relative_import_files

from ..configuration_lumos import LumosConfig
from ..modeling_lumos import LumosForCausalLM, LumosModel
from .checkpoint_contents import check_contents
from .checkpoint_files import (
    CONFIG_FILES,
    WEIGHT_FILES,
    check_complete,
    file_patterns,
    missing_files,
    replace_checkpoint,
    update_json,
)
from .hub_errors import describe_hub_error


# The mixin stands before the pipeline among the bases of a class, and calls its methods.
if TYPE_CHECKING:
    _Pipeline = DiffusionPipeline
else:
    _Pipeline = object

# What `auto_map` in the configuration of the model names.
_AUTO_CLASSES = {"AutoConfig": LumosConfig, "AutoModel": LumosModel, "AutoModelForCausalLM": LumosForCausalLM}


# Of `save_pretrained` with `push_to_hub`, for `publish`.
_PUBLISHING_ARGUMENTS = ("repo_id", "commit_message", "private", "token", "create_pr")


class PipelineRepositoryMixin(_Pipeline):
    """Loads and saves a [`DiffusionPipeline`] whose components are classes of this package."""

    transformer: LumosForCausalLM

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Self:
        """
        As [`DiffusionPipeline.from_pretrained`], from a directory or a repository on the Hub; in float32 unless `dtype`
        says otherwise.

        Raises:
            ValueError: if files are missing from the directory or the repository, or damaged; they are named.
        """
        if os.path.isdir(pretrained_model_name_or_path):
            check_complete(pretrained_model_name_or_path, kwargs, kwargs.get("variant"))
            check_contents(pretrained_model_name_or_path, kwargs, kwargs.get("variant"))
        if "torch_dtype" not in kwargs:
            # By default transformers keeps the stored dtype and diffusers does not, so components would differ in theirs.
            kwargs.setdefault("dtype", torch.float32)
        try:
            pipe = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
            if pipe.tokenizer is not None:
                # Some of what may be wrong in its files shows with the first text, or the first token that it has not.
                pipe.tokenizer("a")
                pipe.tokenizer.convert_tokens_to_ids(["no token of any vocabulary"])
            return pipe
        except (OSError, ValueError):
            raise
        except Exception as error:
            # Whatever a damaged file makes a library stumble over.
            if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
                raise
            raise ValueError(
                f"`pretrained_model_name_or_path` '{pretrained_model_name_or_path}' cannot be loaded: "
                f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            ) from error

    @classmethod
    def download(cls, pretrained_model_name: str | os.PathLike, **kwargs: Any) -> str:
        """
        Downloads the components that are not in `kwargs` from the Hub into the cache, weights of the one `variant` only,
        and returns the local directory.

        The superclass looks for the code of components outside of diffusers in the repository; here it is in this
        package.

        Raises:
            ValueError: if files are missing from the repository, or damaged; they are named.
            OSError: if the Hub cannot be reached, or does not give access.
        """
        names = ("cache_dir", "force_download", "local_files_only", "token", "revision")
        options = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        variant = kwargs.get("variant")

        def fetch(components: Collection[str], variant: str | None) -> str:
            patterns = [pattern for component in components for pattern in file_patterns(component, variant)]
            with _plain_connection_errors(os.fspath(pretrained_model_name)):
                return snapshot_download(
                    os.fspath(pretrained_model_name),
                    allow_patterns=[DiffusionPipeline.config_name, *patterns],
                    **options,
                )

        directory = fetch([component for component in CONFIG_FILES if component not in kwargs], variant)
        if variant is not None:
            missing = missing_files(Path(directory), kwargs, variant)
            without_variant = {Path(file).parts[0] for file in missing} & set(WEIGHT_FILES)
            if without_variant:
                directory = fetch(without_variant, None)
        check_complete(directory, kwargs, variant, name=pretrained_model_name)
        check_contents(directory, kwargs, variant)
        return directory

    # What diffusers passes on to its Hub as further keywords has names here.
    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | os.PathLike,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """
        As [`DiffusionPipeline.save_pretrained`]. The code of the model is saved too, so that
        `AutoModelForCausalLM.from_pretrained(save_directory, subfolder="transformer", trust_remote_code=True)` works
        without this package. With `push_to_hub`, the other arguments are those of [`~PipelineRepositoryMixin.push_to_hub`];
        without it there are none.

        A checkpoint is written beside `save_directory` and takes its place when it is complete. What else was there stays,
        such as weights of another `variant`. (Of a directory that cannot be replaced, such as a mounted one, the files are
        written one by one.)

        Raises:
            TypeError: for an argument that is not known.
            ValueError: if LoRA weights are loaded, since of a transformer that has some only they would be written, or
                `save_directory` is a file.
        """
        allowed = _PUBLISHING_ARGUMENTS if push_to_hub else ()
        unknown = [name for name in kwargs if name not in allowed]
        if unknown:
            hint = "" if push_to_hub or unknown[0] not in _PUBLISHING_ARGUMENTS else " without `push_to_hub=True`"
            raise TypeError(f"`{unknown[0]}` is no argument of `save_pretrained`{hint}.")
        if Path(save_directory).is_file():
            raise ValueError(f"`save_directory` must be a directory, got the file '{save_directory}'.")
        adapters = getattr(self.transformer, "peft_config", None)
        if adapters:
            raise ValueError(
                f"`save_directory` can only be written by a pipeline without LoRA weights, got those of {list(adapters)}: keep "
                "them with `save_lora_weights`, or make them part of the transformer with `fuse_lora`, and call "
                "`unload_lora_weights` first."
            )
        save = super().save_pretrained

        def write(directory: Path) -> None:
            save(directory, safe_serialization=safe_serialization, variant=variant, max_shard_size=max_shard_size)
            write_model_code(directory)

        replace_checkpoint(Path(save_directory), write, variant)
        if push_to_hub:
            repo_id = kwargs.pop("repo_id", Path(save_directory).name)
            _add_card(Path(save_directory), repo_id, kwargs.get("token"))
            publish(Path(save_directory), repo_id, **kwargs)

    # The arguments of the pipelines of diffusers, without `safe_serialization`: weights are not pickled.
    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
    ) -> CommitInfo:
        """
        Uploads the pipeline to the Hub, from where [`~PipelineRepositoryMixin.from_pretrained`] loads it.

        A repository without a model card gets the one of [`model_card`]; a card that is there already stays.

        Args:
            repo_id (`str`): the repository, such as `"user/name"`; created if it does not exist.
            commit_message (`str`, *optional*): message of the commit.
            private (`bool`, *optional*): whether a new repository is private.
            token (`str` or `bool`, *optional*): access token; defaults to the one of `hf auth login`.
            create_pr (`bool`): open a pull request instead of changing the main branch.
            variant (`str`, *optional*): save the weights under this suffix, such as `"bf16"`, beside those there.
            max_shard_size (`int` or `str`, *optional*): largest weight file, in bytes or such as `"5GB"`.
        """
        with tempfile.TemporaryDirectory() as directory:
            self.save_pretrained(directory, variant=variant, max_shard_size=max_shard_size)
            _add_card(Path(directory), repo_id, token)
            return publish(Path(directory), repo_id, commit_message, private, token, create_pr)


def publish(
    directory: Path,
    repo_id: str,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
    space_sdk: str | None = None,
) -> CommitInfo:
    """
    Uploads the checkpoint in `directory` to the Hub as it is; see [`~PipelineRepositoryMixin.push_to_hub`].

    Args:
        space_sdk: of a Space, which the directory holds instead of a checkpoint; `"gradio"`.

    Raises:
        ValueError: if neither the directory nor the repository has a model card.
        OSError: if the Hub cannot be reached, or does not give access.
    """
    api = HfApi(token=token)
    with _plain_connection_errors(repo_id):
        repo_type = None if space_sdk is None else "space"
        if not (directory / "README.md").is_file() and not api.file_exists(repo_id, "README.md"):
            raise ValueError(
                f"`directory` must have a model card, README.md, for a new repository, got '{directory}'."
            )
        repo_id = api.create_repo(
            repo_id, private=private, exist_ok=True, repo_type=repo_type, space_sdk=space_sdk
        ).repo_id
        return api.upload_folder(
            repo_id=repo_id,
            folder_path=directory,
            repo_type=repo_type,
            commit_message=commit_message or f"Upload {'a page' if space_sdk else 'LumosVideoPipeline'}",
            create_pr=create_pr,
        )


@contextmanager
def _plain_connection_errors(repo_id: str) -> Iterator[None]:
    """A Hub that cannot be reached is one line and an `OSError`; what it answers stays as huggingface_hub raises it."""
    try:
        yield
    except LocalEntryNotFoundError as error:
        raise LocalEntryNotFoundError(describe_hub_error(error, repo_id)) from error
    except HfHubHTTPError:
        raise
    except (HTTPError, ConnectionError) as error:
        raise ConnectionError(describe_hub_error(error, repo_id)) from error


def _add_card(directory: Path, repo_id: str, token: str | bool | None) -> None:
    """Writes a model card, unless there is one already, here or on the Hub."""
    # It stands on the pipeline, which stands on this module.
    from .model_card import model_card, write_card

    card_file = directory / "README.md"
    if card_file.is_file():
        return
    with _plain_connection_errors(repo_id):
        is_on_hub = HfApi(token=token).file_exists(repo_id, card_file.name)
    if not is_on_hub:
        write_card(card_file, model_card(directory, name=repo_id))


def write_model_code(directory: Path) -> None:
    """
    Adds the code of the model to the checkpoint in `directory`, so that the auto classes of transformers load it without
    this package by `subfolder="transformer", trust_remote_code=True`.

    They look for the code at the root; where [`LumosForCausalLM.save_pretrained`] has put it beside the weights, it is
    moved.
    """
    for source in _model_code_files():
        shutil.copyfile(source, directory / source.name)
        (directory / "transformer" / source.name).unlink(missing_ok=True)
    auto_map = {
        auto_class: f"{model_class.__module__.rpartition('.')[2]}.{model_class.__name__}"
        for auto_class, model_class in _AUTO_CLASSES.items()
    }
    update_json(directory / "transformer" / "config.json", auto_map=auto_map)


def remove_model_code(directory: Path) -> None:
    """Undoes [`write_model_code`]."""
    for source in _model_code_files():
        (directory / source.name).unlink()
    update_json(directory / "transformer" / "config.json", auto_map=None)


def _model_code_files() -> list[Path]:
    modeling_file = inspect.getfile(LumosForCausalLM)
    return [Path(file) for file in {modeling_file, *get_relative_import_files(modeling_file)}]
