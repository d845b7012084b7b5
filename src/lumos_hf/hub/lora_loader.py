# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
LoRA weights of the transformer, by peft: what diffusers' pipelines offer, for adapters in peft's own layout.

That layout, `adapter_config.json` beside `adapter_model.safetensors`, is what `peft` and `transformers.Trainer` write.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from diffusers.loaders.lora_base import LoraBaseMixin


class LumosLoraLoaderMixin(LoraBaseMixin):
    """
    Loads, saves and merges LoRA weights of a pipeline's `transformer`.

    `set_adapters`, `get_active_adapters`, `get_list_adapters`, `disable_lora`, `enable_lora` and `delete_adapters` are
    those of diffusers. All of it needs `peft`.
    """

    _lora_loadable_modules = ["transformer"]

    def load_lora_weights(
        self, pretrained_model_name_or_path: str | os.PathLike, adapter_name: str = "default", **download_options: Any
    ) -> None:
        """
        Adds LoRA weights to the transformer and activates them.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                A directory or a repository on the Hub with `adapter_config.json` and `adapter_model.safetensors`.
            adapter_name (`str`, defaults to `"default"`):
                Under which name `set_adapters` and the others know it.
            download_options:
                `subfolder` (also of a directory), `revision`, `token`, `cache_dir`, `local_files_only`.

        Raises:
            ValueError: if there is no adapter, its name is taken, or it does not fit the transformer; nothing is
                loaded then.
        """
        if adapter_name in self.get_list_adapters().get("transformer", []):
            raise ValueError(
                f"`adapter_name` must not be in use, got '{adapter_name}'; `unload_lora_weights` frees it."
            )
        weight_conversions = getattr(self.transformer, "_weight_conversions", None)
        try:
            loading_info = self.transformer.load_adapter(
                os.fspath(pretrained_model_name_or_path), adapter_name, adapter_kwargs=download_options
            )
        except (ValueError, RuntimeError) as error:
            self._remove_adapter(adapter_name)
            raise ValueError(f"`pretrained_model_name_or_path` '{pretrained_model_name_or_path}': {error}") from error
        finally:
            # The library leaves those of the adapter, by which later checkpoints would get peft's names.
            self.transformer._weight_conversions = weight_conversions
        unexpected, missing = sorted(loading_info.unexpected_keys), sorted(loading_info.missing_keys)
        if unexpected or missing:
            self._remove_adapter(adapter_name)
            raise ValueError(
                f"`pretrained_model_name_or_path` '{pretrained_model_name_or_path}' does not fit the transformer: "
                f"unexpected tensors {unexpected[:3]}, missing tensors {missing[:3]}."
            )

    def _remove_adapter(self, adapter_name: str) -> None:
        if len(self.get_list_adapters().get("transformer", [])) > 1:
            self.transformer.delete_adapter(adapter_name)
        else:
            self.unload_lora_weights()

    def fuse_lora(
        self,
        components: list[str] | None = None,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Adds LoRA weights to those of the transformer, so that they cost nothing; `unfuse_lora` takes them off again.

        Args:
            components (`list[str]`, *optional*): `["transformer"]`, the default.
            lora_scale (`float`, defaults to 1.0): weight of the LoRA weights.
            safe_fusing (`bool`, defaults to `False`): whether to refuse weights that are not finite.
            adapter_names (`list[str]`, *optional*): which ones; the active ones by default.
            kwargs: passed on.
        """
        components = components or self._lora_loadable_modules
        super().fuse_lora(components, lora_scale, safe_fusing, adapter_names, **kwargs)

    def unfuse_lora(self, components: list[str] | None = None, **kwargs: Any) -> None:
        """Takes fused LoRA weights off the transformer's again; they stay loaded. See [`fuse_lora`]."""
        super().unfuse_lora(components or self._lora_loadable_modules, **kwargs)

    def unload_lora_weights(self) -> None:
        """Takes all LoRA weights out of the transformer; those that are fused stay in its weights."""
        super().unload_lora_weights()
        self._merged_adapters = set()

    def save_lora_weights(self, save_directory: str | os.PathLike, adapter_name: str | None = None) -> None:
        """
        Writes LoRA weights in peft's layout, complete or not at all.

        Args:
            save_directory (`str` or `os.PathLike`):
                Created if need be; files of an earlier adapter in it are replaced.
            adapter_name (`str`, *optional*):
                Which ones; the active ones by default.

        Raises:
            ValueError: if no LoRA weights of that name are loaded.
        """
        loaded = self.get_list_adapters().get("transformer", [])
        adapter_name = adapter_name or next(iter(self.get_active_adapters()), None)
        if adapter_name not in loaded:
            raise ValueError(f"`adapter_name` must be one of the loaded adapters, {loaded}, got {adapter_name!r}.")
        target = Path(save_directory)
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".unfinished-") as unfinished:
            active = self.get_active_adapters()
            self.transformer.set_adapter(adapter_name)
            try:
                self.transformer.save_pretrained(unfinished)
            finally:
                self.transformer.set_adapter(active)
            for file in sorted(Path(unfinished).glob("adapter_*")):
                os.replace(file, target / file.name)
