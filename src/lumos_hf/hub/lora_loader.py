# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
LoRA weights of the transformer: what diffusers' pipelines offer, by peft.

Files of both libraries are read, see [`lora_files`]; what an adapter's configuration may say is in `_CONFIG_FIELDS`.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any, cast

import torch
from diffusers.loaders.lora_base import LoraBaseMixin
from diffusers.utils import get_peft_kwargs, logging

from ..files import whole_file
from ..generation_defaults import check_settings
from .lora_files import (
    StateDict,
    find_lora_file,
    plain_config,
    read_lora_file,
    read_turbo_settings,
    write_lora_directory,
)


logger = logging.get_logger(__name__)

_COMPONENT = "transformer"
_PREFIXES = (f"{_COMPONENT}.", "base_model.model.")

# Of peft's `LoraConfig`: what is taken from a file. Other fields must have their default, since some import modules by name
# (Megatron's) or change weights of the transformer when they are loaded.
_CONFIG_FIELDS = frozenset(
    {
        *(
            "r",
            "lora_alpha",
            "rank_pattern",
            "alpha_pattern",
            "use_rslora",
            "use_dora",
            "lora_dropout",
            "bias",
            "lora_bias",
        ),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
        "trainable_token_indices",
    }
)
# Says where an adapter comes from, and nothing of what it computes.
_IGNORED_FIELDS = frozenset(
    {"peft_type", "task_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping", "peft_version"}
)
# Ways to begin that leave the transformer's own weights as they are; afterwards they make no difference.
_HARMLESS_INITIALISATIONS = (True, False, "gaussian", "orthogonal", "eva")


class _OnInstanceOrClass:
    """A method whose first argument is the instance, or the class where it is called on the class."""

    def __init__(self, function: Callable):
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: type) -> MethodType:
        return MethodType(self.function, owner if instance is None else instance)


class LumosLoraLoaderMixin(LoraBaseMixin):
    """
    Loads, saves and merges LoRA weights of a pipeline's `transformer`.

    What is not described here (`disable_lora`, `enable_lora`, `get_list_adapters`, `num_fused_loras`) is that of diffusers.
    All of it needs `peft`. Rows of the embedding that an adapter has trained (`trainable_token_indices`) belong to it, but
    have no scale: they are used whenever the adapter is active.
    """

    _lora_loadable_modules = [_COMPONENT]
    transformer_name = _COMPONENT
    # Of the pipeline; peft adds to what it has.
    transformer: Any
    _lora_hotswap_options: dict[str, Any] | None = None

    # What diffusers passes on to its Hub as further keywords has names here.
    @classmethod
    def lora_state_dict(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path_or_dict: str | os.PathLike | StateDict,
        *,
        weight_name: str | None = None,
        subfolder: str | None = None,
        return_lora_metadata: bool = False,
        **download_options: Any,
    ) -> StateDict | tuple[StateDict, dict[str, Any] | None]:
        """
        Reads LoRA weights without loading them.

        Args:
            pretrained_model_name_or_path_or_dict (`str`, `os.PathLike` or `dict`):
                A file, a directory, a repository on the Hub, or the tensors by name.
            weight_name (`str`, *optional*): which file of a directory or a repository.
            subfolder (`str`, *optional*): where it is in there.
            return_lora_metadata (`bool`): whether to return the configuration as well.
            download_options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

        Returns:
            `dict[str, torch.Tensor]`, keys beginning with `transformer.`; with `return_lora_metadata` a tuple of it and the
            configuration, `dict` with keys that begin likewise, or `None` where it is not known.

        Raises:
            ValueError: if there is no such file, or it cannot be read.
        """
        state_dict, config = _read(pretrained_model_name_or_path_or_dict, weight_name, subfolder, download_options)
        state_dict = {f"{_COMPONENT}.{name}": tensor for name, tensor in state_dict.items()}
        if config is not None:
            config = {f"{_COMPONENT}.{name}": value for name, value in config.items()}
        return (state_dict, config) if return_lora_metadata else state_dict

    def load_lora_weights(  # type: ignore[override]  # as above
        self,
        pretrained_model_name_or_path_or_dict: str | os.PathLike | StateDict,
        adapter_name: str | None = None,
        *,
        weight_name: str | None = None,
        subfolder: str | None = None,
        hotswap: bool = False,
        low_cpu_mem_usage: bool = True,
        **download_options: Any,
    ) -> None:
        """
        Adds LoRA weights to the transformer and makes them the active ones.

        Args:
            pretrained_model_name_or_path_or_dict (`str`, `os.PathLike` or `dict[str, torch.Tensor]`):
                A file, a directory or a repository on the Hub, in the layout of diffusers or of peft, or the tensors by
                name. Tensors that are passed without one of the transformer load nothing, with a warning. Only safetensors
                are looked for; a pickled file must be named, and no code in it is run.
            adapter_name (`str`, *optional*):
                Under which name `set_adapters` and the others know it; `"default"`, or the next free `"default_1"`.
            weight_name (`str`, *optional*): which file of a directory or a repository.
            subfolder (`str`, *optional*): where it is in there.
            hotswap (`bool`, defaults to `False`):
                Whether to replace the weights of the adapter `adapter_name` by these, in place; a compiled transformer
                stays as it is. Different ranks need [`enable_lora_hotswap`] before the first adapter is loaded.
            low_cpu_mem_usage (`bool`, defaults to `True`): whether to do without weights that are drawn at random first.
            download_options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

        Raises:
            ValueError: if there is no adapter, its name is taken, or it does not fit the transformer; nothing is
                loaded then, and the name stays free.
        """
        source = pretrained_model_name_or_path_or_dict
        state_dict, config = _read(source, weight_name, subfolder, download_options)
        if not state_dict:
            logger.warning(f"No LoRA keys of the {_COMPONENT} were found: keys begin with '{_COMPONENT}.'.")
            return
        loaded = self.get_list_adapters().get(_COMPONENT, [])
        adapter_name = adapter_name or next(name for name in _default_names() if hotswap or name not in loaded)
        _check_adapter_name(adapter_name, loaded, hotswap)
        try:
            lora_config = _lora_config(state_dict, config)
            with self._without_offloading():
                if hotswap:
                    _hotswap(self.transformer, state_dict, lora_config, adapter_name)
                else:
                    self._inject(state_dict, lora_config, adapter_name, loaded, low_cpu_mem_usage)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, re.error) as error:
            raise ValueError(f"{_described(source)} does not fit the transformer: {error}") from error

    def load_turbo_weights(
        self,
        source: str | os.PathLike | None = None,
        *,
        weight_name: str | None = None,
        subfolder: str | None = None,
        **download_options: Any,
    ) -> None:
        """
        Makes the pipeline one of few steps by weights that were distilled for it (examples/distill.py).

        They are merged into the transformer, so that they cost nothing, and their steps, guidance and scheduler become the
        defaults of the pipeline. Load the checkpoint again to be without them.

        Args:
            source (`str` or `os.PathLike`, *optional*):
                A file, a directory or a repository on the Hub; by default the folder `turbo` of the checkpoint that this
                pipeline was loaded from.
            weight_name (`str`, *optional*): which file of a directory or a repository.
            subfolder (`str`, *optional*): where it is in there.
            download_options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

        Raises:
            ValueError: if there are no such weights, they do not fit or do not say what they want, or other adapters are
                loaded, which would be merged as well: load those afterwards.
        """
        pipeline = cast(Any, self)
        if source is None:
            source, subfolder = pipeline.name_or_path, subfolder or "turbo"
            if not source:
                raise ValueError(
                    "`source` must be given to a pipeline that was not loaded from a checkpoint, got None."
                )
        loaded = self.get_list_adapters().get(_COMPONENT, [])
        if loaded:
            raise ValueError(f"`load_turbo_weights` comes before other adapters are loaded, there are {loaded}.")
        try:
            file = find_lora_file(source, weight_name, subfolder, **download_options)
        except ValueError as error:
            raise ValueError(f"`source` must have distilled weights, got '{source}': {error}") from error
        settings = read_turbo_settings(file)
        if settings is None:
            raise ValueError(f"`source` must have weights that say how many steps they want, got '{file}'.")
        wanted = {name: settings[name] for name in ("num_inference_steps", "guidance_scale")}
        check_settings(**wanted)
        scheduler = type(pipeline.scheduler).from_config(settings["scheduler"])
        self.load_lora_weights(file)
        self.fuse_lora()
        self.unload_lora_weights()
        pipeline.register_modules(scheduler=scheduler)
        pipeline.register_to_config(**{f"default_{name}": value for name, value in wanted.items()})

    def _inject(
        self, state_dict: StateDict, lora_config: Any, adapter_name: str, loaded: list[str], low_cpu_mem_usage: bool
    ) -> None:
        """Adds the adapter, or leaves the transformer as it was."""
        from peft import inject_adapter_in_model
        from peft.functional import set_adapter, set_peft_model_state_dict
        from peft.utils.hotswap import prepare_model_for_compiled_hotswap

        model = self.transformer
        active, training = self.get_active_adapters(), model.training
        trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        options: dict[str, Any] = {"low_cpu_mem_usage": low_cpu_mem_usage and not lora_config.trainable_token_indices}
        try:
            inject_adapter_in_model(lora_config, model, adapter_name, **options)
            _check_tensors(model, state_dict, adapter_name)
            set_peft_model_state_dict(model, state_dict, adapter_name, **options)
            set_adapter(model, adapter_name, inference_mode=True)
        except BaseException:
            _remove_adapters(model, [name for name in getattr(model, "peft_config", {}) if name not in loaded])
            if active:
                set_adapter(model, active)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name in trainable)
            raise
        model._hf_peft_config_loaded = True
        # New layers begin in training mode.
        model.train(training)
        if self._lora_hotswap_options is not None:
            prepare_model_for_compiled_hotswap(model, config=lora_config, **self._lora_hotswap_options)
            self._lora_hotswap_options = None

    @contextmanager
    def _without_offloading(self) -> Iterator[None]:
        """Takes the hooks of offloading off, which know the modules that there were, and puts them on the ones there are."""
        from diffusers.hooks.group_offloading import _maybe_remove_and_reapply_group_offloading

        # What offloads is the pipeline that this is mixed into.
        pipeline = cast(Any, self)
        model_offload, sequential_offload, group_offload = self._optionally_disable_offloading(pipeline)
        try:
            yield
        finally:
            if model_offload:
                pipeline.enable_model_cpu_offload(device=pipeline._offload_device)
            elif sequential_offload:
                pipeline.enable_sequential_cpu_offload(device=pipeline._offload_device)
            elif group_offload:
                for component in pipeline.components.values():
                    if isinstance(component, torch.nn.Module):
                        _maybe_remove_and_reapply_group_offloading(component)

    # The two keywords that diffusers reads, by their names.
    def enable_lora_hotswap(  # type: ignore[override]
        self, target_rank: int = 128, check_compiled: str = "error"
    ) -> None:
        """
        Makes room for adapters of other ranks, which [`load_lora_weights`] with `hotswap` then puts in place of the first.

        Args:
            target_rank (`int`, defaults to 128): the highest rank that will be loaded.
            check_compiled (`str`, defaults to `"error"`):
                `"error"`, `"warn"` or `"ignore"`: what to do if the transformer is compiled already.

        Raises:
            ValueError: if an adapter is loaded already.
        """
        loaded = self.get_list_adapters().get(_COMPONENT, [])
        if loaded:
            raise ValueError(f"`enable_lora_hotswap` comes before the first adapter is loaded, there are {loaded}.")
        self._lora_hotswap_options = {"target_rank": target_rank, "check_compiled": check_compiled}

    def set_adapters(
        self, adapter_names: str | list[str], adapter_weights: float | dict | list[float] | list[dict] | None = None
    ) -> None:
        """
        Makes adapters the active ones, whose differences are added up.

        Args:
            adapter_names (`str` or `list[str]`): which ones.
            adapter_weights (`float` or `list[float]`, *optional*): how much each counts; 1.0 by default.

        Raises:
            ValueError: if an adapter is not loaded, or there is another number of weights.
        """
        _give_token_layers_a_scale(self.transformer)
        super().set_adapters(adapter_names, adapter_weights)

    def get_active_adapters(self) -> list[str]:
        """Names of the active adapters, in the order in which [`set_adapters`] was given them."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        names: dict[str, None] = {}
        for module in self.transformer.modules():
            if isinstance(module, BaseTunerLayer):
                names.update(dict.fromkeys(module.active_adapters))
        return list(names)

    def delete_adapters(self, adapter_names: str | list[str]) -> None:
        """
        Takes adapters out of the transformer; after the last one its layers are plain ones again.

        Raises:
            ValueError: if one of them is not loaded, or is fused.
        """
        adapter_names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        _check_loaded("adapter_names", adapter_names, self.get_list_adapters().get(_COMPONENT, []))
        fused = sorted(set(adapter_names) & set(self.fused_loras))
        if fused:
            raise ValueError(f"`adapter_names` must not be fused, got {fused}; `unfuse_lora` takes them off first.")
        with self._without_offloading():
            _remove_adapters(self.transformer, adapter_names)

    def set_lora_device(self, adapter_names: list[str], device: torch.device | str | int) -> None:
        """Moves adapters to a device, such as those that are not active to the CPU. `ValueError` if one is not loaded."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        _check_loaded("adapter_names", adapter_names, self.get_list_adapters().get(_COMPONENT, []))
        for module in self.transformer.modules():
            if not isinstance(module, BaseTunerLayer):
                continue
            for parts in (getattr(module, name, {}) for name in module.adapter_layer_names):
                for adapter_name in set(adapter_names) & set(parts.keys()):
                    # Of a module in place, of a parameter not.
                    moved = parts[adapter_name].data.to(device) if hasattr(parts[adapter_name], "data") else None
                    if moved is None:
                        parts[adapter_name].to(device)
                    else:
                        parts[adapter_name].data = moved

    def fuse_lora(
        self,
        components: list[str] | None = None,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Adds LoRA weights to those of the transformer; `unfuse_lora` takes them off again. Once the wrappers are gone too, by
        [`unload_lora_weights`], they cost nothing.

        Args:
            components (`list[str]`, *optional*): `["transformer"]`, the default.
            lora_scale (`float`, defaults to 1.0): weight of the LoRA weights.
            safe_fusing (`bool`, defaults to `False`): whether to refuse weights that are not finite.
            adapter_names (`list[str]`, *optional*): which ones; the active ones by default.
            kwargs: passed on.
        """
        _give_token_layers_a_scale(self.transformer)
        components = components or self._lora_loadable_modules
        super().fuse_lora(components, lora_scale, safe_fusing, adapter_names, **kwargs)

    def unfuse_lora(self, components: list[str] | None = None, **kwargs: Any) -> None:
        """Takes fused LoRA weights off the transformer's again; they stay loaded. See [`fuse_lora`]."""
        super().unfuse_lora(components or self._lora_loadable_modules, **kwargs)

    def unload_lora_weights(self) -> None:
        """Takes all LoRA weights out of the transformer; those that are fused stay in its weights."""
        with self._without_offloading():
            _remove_adapters(self.transformer, list(getattr(self.transformer, "peft_config", {})))
        self._merged_adapters = set()

    @_OnInstanceOrClass
    def save_lora_weights(
        pipeline: "LumosLoraLoaderMixin | type[LumosLoraLoaderMixin]",  # noqa: N805
        save_directory: str | os.PathLike,
        adapter_name: str | None = None,
        *,
        transformer_lora_layers: Mapping[str, torch.nn.Module | torch.Tensor] | torch.nn.Module | None = None,
        transformer_lora_adapter_metadata: dict[str, Any] | None = None,
        is_main_process: bool = True,
        weight_name: str | None = None,
        save_function: Callable | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """
        Writes LoRA weights, complete or not at all: those that are loaded in peft's layout, given ones in that of diffusers.

        Args:
            save_directory (`str` or `os.PathLike`):
                Created if need be; files of an earlier adapter in it are replaced.
            adapter_name (`str`, *optional*):
                Which of the loaded ones; the active ones by default.
            transformer_lora_layers (`dict[str, torch.Tensor]`, *optional*):
                Tensors to write instead, as of `peft.get_peft_model_state_dict(transformer)`; this way works on the class as
                well. Without `transformer_lora_adapter_metadata` each is taken to have a scale of 1.
            transformer_lora_adapter_metadata (`dict`, *optional*):
                Their configuration, `transformer.peft_config[name].to_dict()`.
            is_main_process (`bool`): whether to write anything.
            weight_name (`str`, *optional*): defaults to `pytorch_lora_weights.safetensors`, for given tensors.
            save_function (`Callable`, *optional*): writes given tensors, `(tensors, file)`.
            safe_serialization (`bool`): whether given tensors become a safetensors file rather than a pickled one.

        Raises:
            ValueError: if no LoRA weights of that name are loaded, or `save_directory` is a file.
        """
        directory = Path(save_directory)
        if directory.is_file():
            raise ValueError(f"`save_directory` must be a directory, got the file '{directory}'.")
        if transformer_lora_layers is None:
            if isinstance(pipeline, type):
                raise ValueError("`transformer_lora_layers` must be given where there is no pipeline.")
            pipeline._save_adapter(directory, adapter_name, is_main_process)
            return
        if not is_main_process:
            return
        name = weight_name or f"pytorch_lora_weights.{'safetensors' if safe_serialization else 'bin'}"
        with whole_file(directory / name) as partial:
            pipeline._save_lora_weights(
                save_directory=partial.parent,
                weight_name=partial.name,
                # A module or any mapping will do, and no function stands for the library's own.
                lora_layers=cast(Any, {_COMPONENT: transformer_lora_layers}),
                lora_metadata={_COMPONENT: transformer_lora_adapter_metadata},
                save_function=cast(Any, save_function),
                safe_serialization=safe_serialization,
            )
        if safe_serialization and save_function is None:
            _add_card(directory, weight_name)

    def _save_adapter(self, directory: Path, adapter_name: str | None, is_main_process: bool) -> None:
        from peft import get_peft_model_state_dict

        loaded = self.get_list_adapters().get(_COMPONENT, [])
        adapter_name = adapter_name or next(iter(self.get_active_adapters()), None)
        if adapter_name not in loaded:
            raise ValueError(f"`adapter_name` must be one of the loaded adapters, {loaded}, got {adapter_name!r}.")
        if not is_main_process:
            return
        tensors = get_peft_model_state_dict(self.transformer, adapter_name=adapter_name)
        config = plain_config(self.transformer.peft_config[adapter_name].to_dict())
        write_lora_directory(
            directory,
            {f"base_model.model.{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            {**config, "inference_mode": True},
        )
        _add_card(directory)


@contextmanager
def lora_scale(transformer: torch.nn.Module, scale: float) -> Iterator[None]:
    """Multiplies the weights of the active adapters by `scale`, until the context ends; each then is as it was."""
    # Of peft, which gives them their methods.
    layers: list[Any] = [] if scale == 1 else [layer for layer in transformer.modules() if hasattr(layer, "lora_A")]
    before = [dict(layer.scaling) for layer in layers]
    try:
        for layer in layers:
            layer.scale_layer(scale)
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)


def _add_card(directory: Path, weight_name: str | None = None) -> None:
    # What writes cards is large, and not part of checkpoints that carry their code.
    from .lora_card import write_lora_card

    write_lora_card(directory, weight_name)


def _read(
    source: str | os.PathLike | StateDict, weight_name: str | None, subfolder: str | None, options: dict[str, Any]
) -> tuple[StateDict, dict[str, Any] | None]:
    """Tensors and configuration with the transformer's own names."""
    try:
        if isinstance(source, Mapping):
            own, config = _own_tensors(source), None
        else:
            file = find_lora_file(source, weight_name, subfolder, **options)
            state_dict, config = read_lora_file(file)
            own = _own_tensors(state_dict)
            if not own:
                raise ValueError(f"no tensor in '{file.name}' has a name that begins with {' or '.join(_PREFIXES)}.")
    except ValueError as error:
        raise ValueError(f"{_described(source)}: {error}") from error
    if config is not None and any(name.startswith(f"{_COMPONENT}.") for name in config):
        config = {
            name.removeprefix(f"{_COMPONENT}."): value
            for name, value in config.items()
            if name.startswith(f"{_COMPONENT}.")
        }
    return own, config


def _described(source: str | os.PathLike | StateDict) -> str:
    if isinstance(source, Mapping):
        return "`pretrained_model_name_or_path_or_dict`"
    return f"`pretrained_model_name_or_path` '{source}'"


def _own_tensors(state_dict: StateDict) -> StateDict:
    """Those of the transformer; there are none of other models beside them."""
    own = {_own_name(name): tensor for name, tensor in state_dict.items() if name.startswith(_PREFIXES)}
    if own and len(own) < len(state_dict):
        foreign = sorted(name for name in state_dict if not name.startswith(_PREFIXES))
        raise ValueError(
            f"every tensor must have a name that begins with {' or '.join(_PREFIXES)}, got {foreign[:3]}."
        )
    return own


def _own_name(name: str) -> str:
    return next(name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix))


def _lora_config(state_dict: StateDict, config: dict[str, Any] | None) -> Any:
    """
    A `LoraConfig` from what a file says, or else from the tensors, as diffusers does: each with a scale of 1.

    Raises:
        ValueError: if it is none of LoRA, or asks for what is not loaded from files.
    """
    from peft import LoraConfig

    if config is None:
        ranks = {f"^{name}": tensor.shape[1] for name, tensor in state_dict.items() if ".lora_B.weight" in name}
        if not ranks:
            raise ValueError(
                f"there is no tensor of LoRA, whose names have 'lora_B.weight', among {list(state_dict)[:3]}"
            )
        return LoraConfig(**get_peft_kwargs(ranks, None, state_dict), init_lora_weights=True)
    if config.get("peft_type", "LORA") != "LORA":
        raise ValueError(f"`peft_type` must be 'LORA', got {config['peft_type']!r}")
    initialisation = config.get("init_lora_weights", True)
    if not any(initialisation is each or initialisation == each for each in _HARMLESS_INITIALISATIONS):
        raise ValueError(
            f"`init_lora_weights` must be one of {_HARMLESS_INITIALISATIONS}, which leave the transformer as it is, got "
            f"{initialisation!r}"
        )
    defaults = plain_config(LoraConfig().to_dict())
    for name, value in config.items():
        is_known = name in _CONFIG_FIELDS | _IGNORED_FIELDS | {"init_lora_weights"}
        if not is_known and value and value != defaults.get(name):
            raise ValueError(f"`{name}` of its configuration is not supported, got {value!r}")
    return LoraConfig(
        **{name: value for name, value in config.items() if name in _CONFIG_FIELDS}, init_lora_weights=True
    )


def _check_tensors(model: torch.nn.Module, state_dict: StateDict, adapter_name: str) -> None:
    """Raises `ValueError` unless the tensors are those of the adapter, in name and shape."""
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(model, adapter_name=adapter_name)
    unexpected, missing = sorted(state_dict.keys() - expected.keys()), sorted(expected.keys() - state_dict.keys())
    if unexpected or missing:
        raise ValueError(f"unexpected tensors {unexpected[:3]}, missing tensors {missing[:3]}.")
    for name, tensor in state_dict.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(f"tensor {name} is {tuple(tensor.shape)}, not {tuple(expected[name].shape)}.")
        if not tensor.is_floating_point():
            raise ValueError(f"tensor {name} must have a floating dtype, got {tensor.dtype}.")


def _hotswap(model: Any, state_dict: StateDict, lora_config: Any, adapter_name: str) -> None:
    """Replaces the adapter's tensors; everything that can be wrong is found before the first one is."""
    from peft import get_peft_model_state_dict
    from peft.utils.hotswap import check_hotswap_configs_compatible, hotswap_adapter_from_state_dict

    check_hotswap_configs_compatible(model.peft_config[adapter_name], lora_config)
    expected = get_peft_model_state_dict(model, adapter_name=adapter_name)
    unexpected = sorted(state_dict.keys() - expected.keys())
    if unexpected or any(".lora_" not in name for name in state_dict):
        raise ValueError(f"`hotswap` replaces the LoRA tensors of the same layers only, got {unexpected[:3]}.")
    for name, tensor in state_dict.items():
        # Those that `enable_lora_hotswap` has made larger take smaller ones.
        if any(new > old for new, old in zip(tensor.shape, expected[name].shape, strict=True)):
            raise ValueError(
                f"tensor {name} is {tuple(tensor.shape)}, there is room for {tuple(expected[name].shape)}; "
                "`enable_lora_hotswap(target_rank)` before the first adapter makes room."
            )
    named = {re.sub(r"\.(weight|bias)$", rf".{adapter_name}.\1", name): tensor for name, tensor in state_dict.items()}
    hotswap_adapter_from_state_dict(model, named, adapter_name, lora_config)


def _remove_adapters(model: Any, adapter_names: list[str]) -> None:
    """Takes adapters out; with the last one, every layer that peft has wrapped is the one that was there before."""
    from peft.functional import delete_adapter
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    configs = getattr(model, "peft_config", {})
    if set(configs) - set(adapter_names):
        for name in adapter_names:
            delete_adapter(model, name, "lora_")
            configs.pop(name, None)
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, AuxiliaryTrainingWrapper):
            plain = module.unload_and_optionally_merge_module(merge=False, safe_merge=False, adapter_names=None)
        elif isinstance(module, BaseTunerLayer):
            plain = module.get_base_layer()
        else:
            continue
        parent, _, attribute = name.rpartition(".")
        # Not of a layer inside of a wrapper that is already gone.
        if _has_submodule(model, name):
            setattr(model.get_submodule(parent), attribute, plain)
    if hasattr(model, "peft_config"):
        del model.peft_config
    model._hf_peft_config_loaded = False


def _has_submodule(model: torch.nn.Module, name: str) -> bool:
    try:
        model.get_submodule(name)
    except AttributeError:
        return False
    return True


def _give_token_layers_a_scale(model: torch.nn.Module) -> None:
    """
    diffusers scales every layer of an adapter. Trained rows of an embedding take the place of those there, so a scale of
    them means nothing.
    """
    for module in model.modules():
        if hasattr(module, "trainable_tokens_delta"):
            layer = cast(Any, module)
            layer.set_scale = layer.scale_layer = layer.unscale_layer = _leave_unscaled


def _leave_unscaled(*arguments: Any) -> None:
    """Takes what methods of layers that have a scale take."""


def _default_names() -> Iterator[str]:
    yield "default"
    number = 1
    while True:
        yield f"default_{number}"
        number += 1


def _check_adapter_name(adapter_name: str, loaded: list[str], hotswap: bool) -> None:
    if not isinstance(adapter_name, str) or not adapter_name or "." in adapter_name:
        raise ValueError(f"`adapter_name` must be a string without dots, got {adapter_name!r}.")
    if hotswap and adapter_name not in loaded:
        raise ValueError(f"`adapter_name` must be one of the loaded adapters, {loaded}, got {adapter_name!r}.")
    if not hotswap and adapter_name in loaded:
        raise ValueError(f"`adapter_name` must not be in use, got '{adapter_name}'; `unload_lora_weights` frees it.")


def _check_loaded(argument: str, adapter_names: list[str], loaded: list[str]) -> None:
    missing = sorted(set(adapter_names) - set(loaded))
    if missing:
        raise ValueError(f"`{argument}` must be among the loaded adapters, {loaded}, got {missing}.")
