# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The Lumos transformer (arXiv 2507.08801): a LLaMA that reads text and video tokens in one sequence.

What differs from LLaMA:
- queries and keys pass a LayerNorm over each head, with one set of weights per shard of the original model;
- rotary embeddings turn visual tokens by time, height and width (MM-RoPE);
- attention is bidirectional inside a frame and causal elsewhere;
- the loss is the cross entropy of masked visual tokens, at their own position, over the visual codes only.

Shape suffixes: B batch, L tokens fed, H heads, D width of a head, 3 time, height, width.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from types import ModuleType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_rope_utils import dynamic_rope_update
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    eager_attention_forward,
    rotate_half,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, is_peft_available, logging
from transformers.utils.output_capturing import capture_outputs

from .configuration_lumos import LumosConfig
from .frame_attention import FrameBlocks, blockwise_attention, left_padding_mask, unmasked_attention
from .linear_cross_entropy import checkpointed_cross_entropy, linear_cross_entropy
from .onednn_linear import apply_linear, is_plain_linear, linear
from .token_layout import derive_layout


logger = logging.get_logger(__name__)

TIME, HEIGHT, WIDTH = range(3)

# Of every 16 neighbouring channels: four turn by time, then pairs alternate between height and width.
_MM_ROPE_GROUP = (
    *(TIME, TIME, TIME, TIME),
    *(HEIGHT, HEIGHT, WIDTH, WIDTH) * 3,
)

_QK_NORM_EPS = 1e-5

# transformers renames `past_key_values` to `cache`; masks and outputs know the name of the version installed.
_CACHE_NAMES = ("cache", "past_key_values")
_CACHE_NAME = next(name for name in _CACHE_NAMES if name in {field.name for field in fields(BaseModelOutputWithPast)})

# What the library may pass to any model, and `return_dict`, which the decorators of the forward methods take.
_LIBRARY_ARGUMENTS = frozenset({*TransformersKwargs.__annotations__, "return_dict"})

_NO_GENERATE = (
    "Lumos models decode whole frames: call `LumosVideoPipeline(tokenizer, model, vqvae, scheduler)(prompt)` instead of "
    "`generate`."
)

# What transformers leaves out of losses.
IGNORED_LABEL = -100

# Size of the float32 logits that exist at a time: enough rows to keep a device busy, in or near its caches. 32 MiB or more
# would be new memory of the system's, zeroed page by page, with every allocation: glibc keeps what is smaller.
MAX_LOGITS_BYTES = {"cpu": 31 * 2**20, "cuda": 2**28}


def rotary_channel_axes(position_encoding: str, num_channels: int) -> tuple[int, ...]:
    """
    The axis (0 time, 1 height, 2 width) that each rotary channel turns by; text has the same position on all three.

    Args:
        position_encoding: `"mm_rope"` repeats a pattern of 16 channels, so that every axis gets high and low
            frequencies (arXiv 2507.08801, section 3.2). `"rope_3d"` is the usual 3D RoPE: one contiguous block per axis,
            2:3:3, time first, with the highest frequencies. `"rope_1d"` has one axis.
        num_channels: half the width of a head.
    """
    if position_encoding == "mm_rope":
        return _MM_ROPE_GROUP * (num_channels // len(_MM_ROPE_GROUP))
    if position_encoding == "rope_3d":
        eighth = num_channels // 8
        return (TIME,) * (2 * eighth) + (HEIGHT,) * (3 * eighth) + (WIDTH,) * (3 * eighth)
    return (TIME,) * num_channels


class LumosRotaryEmbedding(LlamaRotaryEmbedding):
    """LLaMA's rotary tables, each channel indexed by the position on its own axis."""

    def __init__(self, config: LumosConfig):
        # LLaMA's own takes a configuration of its class, and reads what both have.
        super().__init__(cast(Any, config))
        self.channel_axes = rotary_channel_axes(config.position_encoding, cast(int, config.head_dim) // 2)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "LumosRotaryEmbedding":
        """Moves the frequencies, but never rounds them: in half precision the cosine at position 2000 is off by 0.36."""
        exact = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and buffer.dtype != moved.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, x: torch.Tensor, position_ids: torch.LongTensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, each `(batch, length, head_dim)` in the dtype of `x`, from positions `(3, batch, length)`."""
        channel_positions = torch.stack([position_ids[axis] for axis in self.channel_axes], dim=-1)
        angles = channel_positions.float() * self.inv_freq.to(device=x.device, dtype=torch.float)
        angles = torch.cat((angles, angles), dim=-1)
        cos = angles.cos() * self.attention_scaling
        sin = angles.sin() * self.attention_scaling
        return cos.to(x.dtype), sin.to(x.dtype)


def _rotate(states_BHLD: torch.Tensor, cos_BLD: torch.Tensor, sin_BLD: torch.Tensor) -> torch.Tensor:
    cos_B1LD, sin_B1LD = cos_BLD[:, None], sin_BLD[:, None]
    return torch.addcmul(states_BHLD * cos_B1LD, rotate_half(states_BHLD), sin_B1LD)


def _select(rows_BLX: torch.Tensor, index_BR: torch.Tensor | None) -> torch.Tensor:
    """Rows `(B, R, X)` at the given index, or all of them."""
    return rows_BLX if index_BR is None else rows_BLX.gather(1, index_BR[..., None].expand(-1, -1, rows_BLX.shape[-1]))


class LumosHeadLayerNorm(nn.Module):
    """
    LayerNorm over each head, with weights per shard.

    The original model was trained in `num_shards` tensor-parallel shards whose norm weights were not shared: consecutive
    heads of one shard use the same row of `weight` and `bias`, `(num_shards, head_dim)`.

    Under tensor parallelism the states are those of the heads of one rank; the weights are those of all `num_heads`.
    """

    def __init__(self, num_shards: int, head_dim: int, num_heads: int):
        super().__init__()
        self.heads_per_shard = num_heads // num_shards
        self.weight = nn.Parameter(torch.ones(num_shards, head_dim))
        self.bias = nn.Parameter(torch.zeros(num_shards, head_dim))

    def forward(self, states_BLHD: torch.Tensor, rank: int = 0) -> torch.Tensor:
        num_shards, *head_shape = self.weight.shape
        if num_shards == 1:
            return F.layer_norm(states_BLHD, head_shape, self.weight[0], self.bias[0], _QK_NORM_EPS)
        num_heads = states_BLHD.shape[-2]
        heads = slice(rank * num_heads, (rank + 1) * num_heads)
        weight_HD = self.weight.repeat_interleave(self.heads_per_shard, dim=0)[heads]
        bias_HD = self.bias.repeat_interleave(self.heads_per_shard, dim=0)[heads]
        return torch.addcmul(bias_HD, F.layer_norm(states_BLHD, head_shape, eps=_QK_NORM_EPS), weight_HD)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={_QK_NORM_EPS}"


def _tensor_parallel_rank(projection: nn.Module) -> int:
    """Which part of the heads a projection gives, 0 if it gives all of them."""
    mesh = getattr(getattr(projection, "weight", None), "device_mesh", None)
    return mesh.get_local_rank("tp") if mesh is not None and "tp" in (mesh.mesh_dim_names or ()) else 0


class LumosAttention(nn.Module):
    """LLaMA's attention with normalised queries and keys."""

    def __init__(self, config: LumosConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        # The configuration has set what it was made without.
        self.head_dim, num_key_value_heads = cast(int, config.head_dim), cast(int, config.num_key_value_heads)
        self.num_key_value_groups = config.num_attention_heads // num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.is_causal = True

        query_size = config.num_attention_heads * self.head_dim
        key_value_size = num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_size, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, key_value_size, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, key_value_size, bias=config.attention_bias)
        self.o_proj = nn.Linear(query_size, config.hidden_size, bias=config.attention_bias)
        self.q_norm = LumosHeadLayerNorm(config.model_parallel_size, self.head_dim, config.num_attention_heads)
        self.k_norm = LumosHeadLayerNorm(config.model_parallel_size, self.head_dim, num_key_value_heads)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | FrameBlocks | None = None,
        cache: Cache | None = None,
        query_index: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention of all tokens, or of those at `query_index` `(batch, queries)` alone, without a mask tensor then."""
        query_inputs = _select(hidden_states, query_index)
        query_embeddings = tuple(_select(table, query_index) for table in position_embeddings)

        query_states = self.q_norm(
            apply_linear(self.q_proj, query_inputs).unflatten(-1, (-1, self.head_dim)),
            _tensor_parallel_rank(self.q_proj),
        ).transpose(1, 2)
        key_states = self.k_norm(
            apply_linear(self.k_proj, hidden_states).unflatten(-1, (-1, self.head_dim)),
            _tensor_parallel_rank(self.k_proj),
        ).transpose(1, 2)
        value_states = apply_linear(self.v_proj, hidden_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        query_states, key_states = _rotate(query_states, *query_embeddings), _rotate(key_states, *position_embeddings)

        if cache is not None:
            key_states, value_states = cache.update(key_states, value_states, self.layer_idx)

        attend = self._attention_function(attention_mask, kwargs.get("is_causal", True))
        attn_output, attn_weights = attend(
            self,
            query_states,
            key_states,
            value_states,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        attn_output = apply_linear(self.o_proj, attn_output.flatten(-2).contiguous())
        return attn_output, attn_weights

    def _attention_function(
        self, attention_mask: torch.Tensor | FrameBlocks | None, is_causal: bool | None
    ) -> Callable:
        implementation = self.config._attn_implementation
        if isinstance(attention_mask, FrameBlocks):
            return blockwise_attention
        if implementation == "sdpa" and attention_mask is None and not is_causal:
            return unmasked_attention
        return ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)


class LumosMLP(LlamaMLP):
    """LLaMA's MLP, which takes one large tensor less where no gradients are wanted."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activations = self.act_fn(apply_linear(self.gate_proj, x))
        multiply = torch.mul if torch.is_grad_enabled() else torch.Tensor.mul_
        return apply_linear(self.down_proj, multiply(activations, apply_linear(self.up_proj, x)))


class LumosDecoderLayer(GradientCheckpointingLayer):
    """Attention and MLP, each after an RMS norm and added to its input."""

    def __init__(self, config: LumosConfig, layer_idx: int):
        super().__init__()
        self.self_attn = LumosAttention(config, layer_idx)
        self.mlp = LumosMLP(config)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | FrameBlocks | None = None,
        cache: Cache | None = None,
        query_index: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        attn_output, _ = self.self_attn(
            self.input_layernorm(hidden_states),
            position_embeddings,
            attention_mask=attention_mask,
            cache=cache,
            query_index=query_index,
            **kwargs,
        )
        hidden_states = _select(hidden_states, query_index) + attn_output
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


def _peft() -> ModuleType:
    """
    The library of adapters, which is optional. transformers requires whatever this file imports of those who load it as
    code of a checkpoint, but for imports under such a condition.
    """
    if is_peft_available():
        import peft.functional

        return peft
    raise ImportError("Adapters need the library peft: `pip install peft`.")


class LumosAdapterMixin:
    """
    Adapters by peft itself, under the names that transformers gives them: a release of transformers may refuse every
    release of peft that there is, although nothing it calls has changed.
    """

    peft_config: dict[str, Any]

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """
        Adds a new adapter and makes it the active one; it can be trained.

        Args:
            adapter_config (`peft.PeftConfig`): what to add, such as a `LoraConfig`.
            adapter_name (`str`, *optional*): its name, `"default"` by default.

        Raises:
            TypeError: if `adapter_config` is no configuration of peft.
            ValueError: if the name is in use.
        """
        adapter_name = adapter_name or "default"
        if not isinstance(adapter_config, _peft().PeftConfig):
            raise TypeError(f"`adapter_config` must be a configuration of peft, got {type(adapter_config)}.")
        if adapter_name in getattr(self, "peft_config", {}):
            raise ValueError(f"`adapter_name` must not be in use, got '{adapter_name}'.")
        adapter_config.base_model_name_or_path = cast(PreTrainedModel, self).name_or_path or None
        _peft().inject_adapter_in_model(adapter_config, self, adapter_name)
        self._hf_peft_config_loaded = True
        self.set_adapter(adapter_name)

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Makes one or several adapters the active ones. `ValueError` if one of them is not there."""
        self._check_adapters([adapter_name] if isinstance(adapter_name, str) else adapter_name)
        _peft().functional.set_adapter(self, adapter_name)

    def disable_adapters(self) -> None:
        """Computes without adapters until [`enable_adapters`]. `ValueError` if there are none."""
        self._switch_adapters(False)

    def enable_adapters(self) -> None:
        """Computes with the active adapters again. `ValueError` if there are none."""
        self._switch_adapters(True)

    def active_adapters(self) -> list[str]:
        """Names of the active adapters. `ValueError` if there are none."""
        self._check_adapters([])
        layer_type = _peft().tuners.tuners_utils.BaseTunerLayer
        active = {name for layer in self._modules_of(layer_type) for name in layer.active_adapters}
        return [name for name in self.peft_config if name in active]

    def get_adapter_state_dict(
        self, adapter_name: str | None = None, state_dict: dict[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """The tensors of an adapter, of the first active one by default. `ValueError` if it is not there."""
        adapter_name = adapter_name or next(iter(self.active_adapters()))
        self._check_adapters([adapter_name])
        return _peft().get_peft_model_state_dict(self, state_dict, adapter_name)

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Takes adapters out of the model. `ValueError` if one of them is not there."""
        adapter_names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        self._check_adapters(adapter_names)
        for adapter_name in adapter_names:
            prefix = f"{self.peft_config[adapter_name].peft_type.value.lower()}_"
            _peft().functional.delete_adapter(self, adapter_name, prefix)
            del self.peft_config[adapter_name]
        if not self.peft_config:
            del self.peft_config
            self._hf_peft_config_loaded = False

    def _switch_adapters(self, enabled: bool) -> None:
        self._check_adapters([])
        layer_types = (_peft().tuners.tuners_utils.BaseTunerLayer, _peft().utils.AuxiliaryTrainingWrapper)
        for module in self._modules_of(layer_types):
            module.enable_adapters(enabled)

    def _modules_of(self, types: type | tuple[type, ...]) -> list[Any]:
        # This is mixed into a model.
        return [module for module in cast(PreTrainedModel, self).modules() if isinstance(module, types)]

    def _check_adapters(self, adapter_names: list[str]) -> None:
        loaded = list(getattr(self, "peft_config", {}))
        if not loaded:
            raise ValueError("No adapter is loaded; `add_adapter` adds one.")
        if set(adapter_names) - set(loaded):
            raise ValueError(f"`adapter_name` must be among the adapters of the model, {loaded}, got {adapter_names}.")


class LumosPreTrainedModel(LumosAdapterMixin, PreTrainedModel):
    config: LumosConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["LumosDecoderLayer"]
    _skip_keys_device_placement = list(_CACHE_NAMES)
    # Flash attention takes no mask, so frames would silently turn causal.
    _supports_flash_attn = False
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": LumosDecoderLayer, "attentions": LumosAttention}

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """
        As in all models of transformers. Visual codes are at the end of the vocabulary: those that are cut off are no
        longer codes of the model, as `config.visual_vocab_size` says then.

        Raises:
            ValueError: if a special token or all visual codes would be cut off.
        """
        config = self.config
        num_tokens = config.vocab_size if new_num_tokens is None else new_num_tokens
        num_tokens += -num_tokens % (pad_to_multiple_of or 1)
        needed = max(config.visual_token_offset, *config.special_token_ids) + 1
        if num_tokens < needed:
            raise ValueError(
                f"`new_num_tokens` must be at least {needed}, which keeps the special tokens and a visual code, got {num_tokens}."
            )
        embeddings = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        num_codes = config.vocab_size - config.visual_token_offset
        if num_codes < config.visual_vocab_size:
            logger.warning(f"The model has {num_codes} visual codes left of {config.visual_vocab_size}.")
            config.visual_vocab_size = num_codes
        return embeddings


class LumosModel(LumosPreTrainedModel):
    """The decoder without its output head; [`LumosForCausalLM`] explains the inputs."""

    def __init__(self, config: LumosConfig):
        super().__init__(config)
        # Padding shares its id with the beginning of a sequence, so it must keep its gradient: no padding_idx.
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(LumosDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LumosRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()
        # The library adds the embeddings to a plan. They stay whole on every card, as the output head, which may be tied
        # to them and computes few of its rows.
        self._tp_plan = {name: style for name, style in (self._tp_plan or {}).items() if name != "embed_tokens"}

    @capture_outputs
    def forward(  # type: ignore[misc]  # named arguments among the keywords, as models of transformers have
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        frame_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        is_causal: bool = True,
        rows_to_keep: torch.LongTensor | None = None,
        num_padding: list[int] | None = None,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """
        Hidden states after the last norm, `(batch, length, hidden_size)`, or those at `rows_to_keep`, `(batch, rows)`;
        see [`LumosForCausalLM.forward`].
        """
        _check_keywords(type(self), kwargs)
        cache = _one_cache(cache, past_key_values)
        _check_inputs(input_ids, inputs_embeds, attention_mask, position_ids, frame_ids, cache)
        _check_padding(num_padding, position_ids, attention_mask, is_causal, cache)
        positions, frames = self._complete_layout(input_ids, attention_mask, position_ids, frame_ids, cache, is_causal)
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if use_cache is None:
            use_cache = self.config.use_cache
        is_checkpointing = self.gradient_checkpointing and self.training
        if use_cache and cache is None and not is_checkpointing:
            cache = DynamicCache(config=self.config)
        if cache is not None and is_checkpointing and torch.is_grad_enabled():
            # The library would take the cache away from the layers.
            raise ValueError("`past_key_values` must be None in training with activation checkpointing, got a cache.")

        mask = self._attention_mask(inputs_embeds, attention_mask, frames, cache, is_causal, num_padding)
        position_embeddings = self.rotary_emb(inputs_embeds, positions)
        # The last layer needs queries for the rows that are kept only. Masks would have to be cut to them, though.
        sees_all_keys = not is_causal and (mask is None or isinstance(mask, FrameBlocks))
        keeps_early = rows_to_keep is not None and sees_all_keys

        hidden_states = inputs_embeds
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                position_embeddings,
                attention_mask=mask,
                cache=cache,
                query_index=rows_to_keep if keeps_early and layer is self.layers[-1] else None,
                is_causal=is_causal,
                **kwargs,
            )
        if not keeps_early:
            hidden_states = _select(hidden_states, rows_to_keep)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), **cast(Any, {_CACHE_NAME: cache}))

    def _complete_layout(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        frame_ids: torch.Tensor | None,
        cache: Cache | None,
        is_causal: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Derives what is missing of `position_ids` and `frame_ids` from whole sequences of ids."""
        if position_ids is not None and (frame_ids is not None or not is_causal):
            return position_ids, frame_ids
        missing = "position_ids" if position_ids is None else "frame_ids"
        if input_ids is None:
            raise ValueError(f"`{missing}` must be given with `inputs_embeds`: they cannot be derived without ids.")
        if cache is not None and cache.get_seq_length() > 0:
            raise ValueError(
                f"`{missing}` must be given with a filled `past_key_values`: they cannot be derived from the "
                f"{input_ids.shape[1]} new ids alone. Derive both for the whole sequence with "
                "`token_layout.derive_layout` and pass the last columns."
            )
        is_padding_mask = attention_mask is not None and attention_mask.ndim == 2
        derived_positions, derived_frames = derive_layout(
            input_ids, self.config, attention_mask if is_padding_mask else None
        )
        return (
            derived_positions if position_ids is None else position_ids,
            derived_frames if frame_ids is None else frame_ids,
        )

    def _attention_mask(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        frame_ids: torch.Tensor | None,
        cache: Cache | None,
        is_causal: bool,
        num_padding: list[int] | None,
    ) -> torch.Tensor | FrameBlocks | None:
        if num_padding is not None:
            may_attend_in_blocks = self._may_attend_in_blocks(attention_mask)
            if may_attend_in_blocks and not is_causal:
                return FrameBlocks.after_padding(num_padding)
            num_keys = inputs_embeds.shape[1] + (0 if cache is None else cache.get_seq_length())
            attention_mask = left_padding_mask(num_padding, num_keys, inputs_embeds.device)
            # Read back from the device, once per prompt.
            blocks = (
                FrameBlocks.from_layout(cast(torch.Tensor, frame_ids), attention_mask)
                if may_attend_in_blocks
                else None
            )
            if blocks is not None:
                return blocks
            if not any(num_padding):
                attention_mask = None
        if not is_causal and attention_mask is None:
            return None
        # Positions are kept from the mask builders, which take repeated positions for packed sequences.
        if not is_causal:
            return create_bidirectional_mask(
                config=self.config,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                **{_CACHE_NAME: cache},
                # Only a given mask can hold padding; skipping a trivial one would read it back from the device.
                allow_is_bidirectional_skip=attention_mask is None,
            )
        # Given or derived, where attention is causal.
        frame_ids = cast(torch.Tensor, frame_ids)
        # Blocks are read back from the device, which training can afford and decoding cannot.
        if cache is None and self._may_attend_in_blocks(attention_mask):
            blocks = FrameBlocks.from_layout(frame_ids, attention_mask)
            if blocks is not None:
                return blocks
        return create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            **{_CACHE_NAME: cache},
            block_sequence_ids=_frame_ids_of_keys(frame_ids, cache),
        )

    def _may_attend_in_blocks(self, attention_mask: torch.Tensor | None) -> bool:
        """Graphs keep their masks, as they would be made anew for every layout."""
        return (
            self.config._attn_implementation == "sdpa"
            and (attention_mask is None or attention_mask.ndim == 2)
            and not torch.compiler.is_compiling()
        )


def _check_keywords(model_class: type, kwargs: dict[str, Any]) -> None:
    unknown = sorted(kwargs.keys() - _LIBRARY_ARGUMENTS)
    if unknown:
        raise TypeError(f"{model_class.__name__}.forward() got unexpected keyword arguments: {', '.join(unknown)}.")


def _one_cache(cache: Cache | None, past_key_values: Cache | None) -> Cache | None:
    """The cache, under whichever of its two names it was given."""
    if past_key_values is not None and _CACHE_NAME == "cache":
        if not torch.compiler.is_compiling():
            warnings.warn("`past_key_values` is deprecated in transformers: use `cache`.", FutureWarning, stacklevel=3)
    if cache is not None and past_key_values is not None and cache is not past_key_values:
        raise ValueError("`cache` and `past_key_values` are two names of one argument, got two different caches.")
    return past_key_values if cache is None else cache


def _check_inputs(
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    frame_ids: torch.Tensor | None,
    cache: Cache | None,
) -> None:
    name, tokens = ("inputs_embeds", inputs_embeds) if input_ids is None else ("input_ids", input_ids)
    if tokens is None or (input_ids is not None and inputs_embeds is not None):
        raise ValueError("Exactly one of `input_ids` and `inputs_embeds` must be given.")
    if 0 in tokens.shape:
        raise ValueError(f"`{name}` must hold at least one token, got the shape {tuple(tokens.shape)}.")
    batch_size, length = tokens.shape[:2]
    _check_shape("position_ids", position_ids, "(3, batch, length)", (3, batch_size, length))
    _check_shape("frame_ids", frame_ids, "(batch, length)", (batch_size, length))
    if attention_mask is not None and attention_mask.ndim == 2 and cache is None:
        _check_shape("attention_mask", attention_mask, "(batch, length)", (batch_size, length))


def _check_padding(
    num_padding: list[int] | None,
    position_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    is_causal: bool,
    cache: Cache | None,
) -> None:
    if num_padding is None:
        return
    is_beginning = cache is not None and cache.get_seq_length() == 0
    if (is_causal and not is_beginning) or attention_mask is not None or position_ids is None:
        raise ValueError(
            "`num_padding` must be given with `is_causal=False` or an empty `past_key_values`, with `position_ids`, and "
            f"instead of `attention_mask`, got it with `is_causal={is_causal}`."
        )
    if len(num_padding) != position_ids.shape[1]:
        raise ValueError(
            f"`num_padding` must have {position_ids.shape[1]} numbers, one per row, got {len(num_padding)}."
        )


def _check_shape(name: str, tensor: torch.Tensor | None, axes: str, shape: tuple[int, ...]) -> None:
    if tensor is not None and tensor.shape != shape:
        raise ValueError(f"`{name}` must have the shape {axes} = {shape}, got {tuple(tensor.shape)}.")


def _frame_ids_of_keys(frame_ids_BL: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """Extends the frame ids of the queries to all keys. Cached keys need none: they are in the past of every query."""
    if cache is None:
        return frame_ids_BL
    batch_size, length = frame_ids_BL.shape
    num_keys, _ = cache.get_mask_sizes(length, 0)
    key_index = cache.get_seq_length() + torch.arange(length, device=frame_ids_BL.device)
    return frame_ids_BL.new_full((batch_size, num_keys), -1).index_copy(1, key_index, frame_ids_BL)


@dataclass
class LumosCausalLMOutput(CausalLMOutputWithPast):
    """
    `CausalLMOutputWithPast` with one more field.

    Args:
        last_hidden_state (`torch.Tensor`, *optional*):
            With `skip_logits`: what the output head would have got.
    """

    last_hidden_state: torch.Tensor | None = None


class LumosForCausalLM(LumosPreTrainedModel):
    """
    The Lumos transformer with its output head.

    The name follows the library's convention for decoder-only models; the loss is not that of a causal language model,
    see [`~LumosForCausalLM.forward`].
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: LumosConfig):
        super().__init__(config)
        self.model = LumosModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # By the name of the class the library would take the loss for a shifted one, and the Trainer miscount labels.
        self.loss_type = "ForMaskedLM"
        self.post_init()

    @can_return_tuple
    def forward(  # type: ignore[misc]  # named arguments among the keywords, as models of transformers have
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        frame_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        visual_logits_only: bool = False,
        skip_logits: bool | None = None,
        last_hidden_state: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        is_causal: bool = True,
        num_padding: list[int] | None = None,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LumosCausalLMOutput:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                Token ids, laid out as [`~lumos_hf.token_layout`] describes.
            attention_mask (`torch.Tensor` of shape `(batch, cached + length)`, *optional*):
                1 at real tokens, 0 at padding, over the cached tokens too. Padding may be on either side. Without it
                every token is a real one.
            position_ids (`torch.LongTensor` of shape `(3, batch, length)`, *optional*):
                Time, height and width of the tokens fed; all three equal for text.
            frame_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                `k` inside frame `k`, -1 elsewhere, for the tokens fed. A frame must be fed in one call. What is not
                given of `position_ids` and `frame_ids` is derived from `input_ids`, which must then be whole sequences.
                With both given and a cache, nothing is read back from the device; without a cache, "sdpa" attention
                reads the frames and works them off one by one, without a mask over all tokens.
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                Token ids to predict at their own position (no shift), -100 where there is nothing to predict. Only
                visual ids count; others are left out as -100 is, and refused with `num_items_in_batch`.
            past_key_values (`Cache`, *optional*):
                Keys and values of earlier tokens, whole frames at a time. When it is filled, `position_ids` and
                `frame_ids` must be given: the columns of the tokens fed, of a layout derived for the whole sequence.
            inputs_embeds (`torch.Tensor` of shape `(batch, length, hidden_size)`, *optional*):
                Instead of `input_ids`; needs `position_ids` and `frame_ids`.
            use_cache (`bool`, *optional*):
                Whether to return `past_key_values`; defaults to `config.use_cache`, and to `False` with `labels`.
            logits_to_keep (`int` or `torch.Tensor`, defaults to 0):
                Where to compute logits: an int for so many last positions (0 for all), a 1-D tensor of positions, a
                2-D tensor of positions `(batch, rows)`, or a 2-D bool mask, which gives logits of shape
                `(number of True, vocabulary)`. 2-D positions also spare the last layer the other rows where there is
                no mask. Not with `labels`, whose positions are the ones that matter then.
            visual_logits_only (`bool`, defaults to `False`):
                Whether to compute the logits of the visual codes only, `(..., visual_vocab_size)`.
            skip_logits (`bool`, *optional*):
                Whether to return `last_hidden_state` at `logits_to_keep` instead of logits, by default not. With
                `labels`, whether to return the loss alone; by default logits come with it in evaluation mode without
                gradients, as metrics of a `Trainer` need them, and are left out in training.
            last_hidden_state (`torch.Tensor` of shape `(..., hidden_size)`, *optional*):
                Rows that an earlier call returned, instead of tokens: only their logits are computed, so that a large
                vocabulary can be worked off in chunks. Going through this method, like everything else, lets hooks
                bring offloaded weights in.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Divides the summed loss, for accumulation over several batches. Without it the loss is a mean. It is
                the number of labels other than -100, so that all of these must count.
            is_causal (`bool`, defaults to `True`):
                `False` lets every token fed attend to every cached token and to all tokens fed, which is what one whole
                frame after a cached prefix does: no mask is built at all, and `frame_ids` are not needed. A 2-D
                `attention_mask` over prefix and frame still holds.
            num_padding (`list[int]`, *optional*):
                With `is_causal=False`, how many cached tokens on the left of each row are padding; with an empty cache,
                how many of the tokens fed. As a 2-D `attention_mask` that says so, without its cost: every row attends to
                its own tokens in a call of its own, as it does without padding, and no mask is built.
            cache (`Cache`, *optional*):
                Another name of `past_key_values`, which transformers has from 5.24 on. Either works with every version.
            kwargs:
                Those that transformers knows for all models, `output_hidden_states` and `output_attentions` among them.

        Returns:
            [`LumosCausalLMOutput`]. `loss` is the cross entropy over the visual codes at the positions that count,
            averaged over all of them in the batch; as in the official code, tokens whose loss is exactly 0 are left
            out of the mean. The loss never holds logits of more than a chunk of rows. Where `logits` come with it, they
            are those of the visual codes, `(batch, length, visual_vocab_size)`, at the positions that count, and 0
            elsewhere: `logits.argmax(-1) + config.visual_token_offset` compares with `labels`.

        Raises:
            ValueError: if inputs are missing, contradict each other, or have the wrong shape.
            TypeError: for a keyword that neither this method nor transformers knows.

        Example:

        ```python
        >>> import torch
        >>> from lumos_hf import LumosConfig, LumosForCausalLM
        >>> from lumos_hf.token_layout import prompt_ids, sequence_from_codes

        >>> config = LumosConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
        >>> model = LumosForCausalLM(config)
        >>> codes = torch.randint(0, config.visual_vocab_size, (3, 4, 8))
        >>> input_ids = sequence_from_codes(prompt_ids([5, 6, 7], config), codes, duration=2, fps=4, config=config)
        >>> model(input_ids=input_ids[None]).logits.shape
        torch.Size([1, 131, 129536])
        ```
        """
        _check_keywords(type(self), kwargs)
        if last_hidden_state is not None:
            return LumosCausalLMOutput(logits=self._logits(last_hidden_state, visual_logits_only))
        if labels is not None:
            tokens = inputs_embeds if input_ids is None else input_ids
            if tokens is not None:
                _check_shape("labels", labels, "(batch, length)", tuple(tokens.shape[:2]))
            _check_keeps_all_logits(logits_to_keep)
            use_cache = bool(use_cache)
        elif num_items_in_batch is not None and skip_logits is None:
            raise ValueError(
                "`labels` must be given with `num_items_in_batch`, got None. A `Trainer` takes them away for "
                "`label_smoothing_factor`, which would smooth over text as well: leave it at 0. It does so for "
                "`compute_loss_func`, too: "
                "let batches hold `skip_logits=False` to get all logits."
            )
        keeps_rows = labels is None and _is_row_index(logits_to_keep)
        outputs: BaseModelOutputWithPast = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            frame_ids=frame_ids,
            cache=_one_cache(cache, past_key_values),
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            is_causal=is_causal,
            rows_to_keep=logits_to_keep if keeps_rows else None,
            num_padding=num_padding,
            **kwargs,
        )
        # Which the class of the library allows to be None.
        states = cast(torch.Tensor, outputs.last_hidden_state)
        loss = logits = kept_states = None
        if labels is not None:
            loss = self._visual_loss(states, labels, num_items_in_batch)
            is_training = self.training or torch.is_grad_enabled()
            if not (is_training if skip_logits is None else skip_logits):
                logits = self._logits_at_labels(states, labels)
        else:
            kept_states = states if keeps_rows else slice_logits_to_keep(states, logits_to_keep)
            if not skip_logits:
                logits = self._logits(kept_states, visual_logits_only)
        return LumosCausalLMOutput(
            loss=loss,
            logits=logits,
            last_hidden_state=kept_states if skip_logits and labels is None else None,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **{_CACHE_NAME: getattr(outputs, _CACHE_NAME)},
        )

    # diffusers passes on what the signature names, such as the variant and the size of shards.
    @wraps(PreTrainedModel.save_pretrained)
    def save_pretrained(  # type: ignore[override]  # its arguments are those of what it wraps
        self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any
    ) -> None:
        """As in all models of transformers; where the code is saved, too, `auto_map` names [`LumosModel`] beside this class."""
        if self._auto_class is not None:
            # The library names the class that is saved alone, and `AutoModel` would not find its own.
            reference = f"{LumosModel.__module__.rpartition('.')[2]}.{LumosModel.__name__}"
            self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), "AutoModel": reference}
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def can_generate(cls) -> bool:
        """`False`; the library would take [`~LumosForCausalLM.prepare_inputs_for_generation`] for a sign of the opposite."""
        return False

    def __getattr__(self, name: str) -> Any:
        if name == "generate":
            # Others ask for the method to learn whether a model generates.
            raise AttributeError(_NO_GENERATE)
        return super().__getattr__(name)

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> None:
        """
        Not offered, as `generate` is not; adapters of the task "CAUSAL_LM" want models to have it.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_NO_GENERATE)

    @property
    def has_plain_head(self) -> bool:
        """
        Whether the output head is a matrix product and nothing else, so that logits of a linear combination of hidden
        states are that combination of logits, and a part of them comes from a part of the weight.
        """
        return is_plain_linear(self.lm_head) and self.lm_head.bias is None

    def _logits(self, hidden_states: torch.Tensor, visual_logits_only: bool) -> torch.Tensor:
        return self.visual_logits(hidden_states) if visual_logits_only else apply_linear(self.lm_head, hidden_states)

    @property
    def _visual_classes(self) -> slice:
        start = self.config.visual_token_offset
        return slice(start, start + self.config.visual_vocab_size)

    def visual_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Logits of the visual codes, `(..., visual_vocab_size)`, from hidden states `(..., hidden_size)`."""
        if self.has_plain_head:
            return linear(hidden_states, self.lm_head.weight[self._visual_classes])
        return self.lm_head(hidden_states)[..., self._visual_classes]

    def num_rows_per_chunk(self, device: torch.device) -> int:
        """How many rows of visual logits to hold at a time on a device; a replaced head computes the others as well."""
        num_columns = self.config.visual_vocab_size if self.has_plain_head else self.config.vocab_size
        max_bytes = MAX_LOGITS_BYTES.get(device.type, MAX_LOGITS_BYTES["cuda"])
        return max(1, max_bytes // (num_columns * torch.float32.itemsize))

    def _visual_loss(
        self, hidden_states: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None
    ) -> torch.Tensor:
        codes = self._codes_of(labels)
        if num_items_in_batch is not None:
            self._check_all_count(labels, codes)
        num_rows = self.num_rows_per_chunk(hidden_states.device)
        if torch.compiler.is_compiling():
            # How many labels count is not known to a graph, so rows without one go through the head as well.
            loss, num_nonzero = checkpointed_cross_entropy(
                self.visual_logits, hidden_states.flatten(0, 1), codes.flatten(), num_rows
            )
        else:
            counts = codes != IGNORED_LABEL
            loss, num_nonzero = self._cross_entropy(hidden_states[counts], codes[counts], num_rows)
        if num_items_in_batch is None:
            num_items_in_batch = num_nonzero.clamp(min=1)
        elif torch.is_tensor(num_items_in_batch):
            num_items_in_batch = num_items_in_batch.to(loss.device)
        return loss / num_items_in_batch

    def _cross_entropy(
        self, hidden_states: torch.Tensor, codes: torch.Tensor, num_rows: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.has_plain_head:
            return linear_cross_entropy(hidden_states, self.lm_head.weight, codes, self._visual_classes, num_rows)
        return checkpointed_cross_entropy(self.visual_logits, hidden_states, codes, num_rows)

    def _codes_of(self, labels: torch.Tensor) -> torch.Tensor:
        """The visual codes to predict, `IGNORED_LABEL` where a label is no visual id."""
        codes = labels - self.config.visual_token_offset
        return codes.masked_fill((codes < 0) | (codes >= self.config.visual_vocab_size), IGNORED_LABEL)

    def _check_all_count(self, labels: torch.Tensor, codes: torch.Tensor) -> None:
        """The Trainer takes every label but -100 for one that counts. Graphs cannot look."""
        if torch.compiler.is_compiling() or labels.is_meta:
            return
        is_other = (labels != IGNORED_LABEL) & (codes == IGNORED_LABEL)
        if is_other.any():
            start, end = self._visual_classes.start, self._visual_classes.stop
            raise ValueError(
                f"`labels` must be visual ids ({start} to {end - 1}) or {IGNORED_LABEL} where `num_items_in_batch` "
                f"divides the loss, as a Trainer counts all others too, got {labels[is_other][0].item()}. Set what is not to be "
                f"predicted to {IGNORED_LABEL}: `labels.masked_fill((labels < {start}) | (labels >= {end}), "
                f"{IGNORED_LABEL})`."
            )

    @torch.no_grad()
    def _logits_at_labels(self, hidden_states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Visual logits `(batch, length, codes)`, 0 where no label counts; made in chunks, without a copy of them all."""
        counts = self._codes_of(labels).flatten() != IGNORED_LABEL
        rows = hidden_states.flatten(0, 1)
        logits: torch.Tensor | None = None
        for index in counts.nonzero()[:, 0].split(self.num_rows_per_chunk(rows.device)):
            chunk = self.visual_logits(rows[index])
            if logits is None:
                logits = chunk.new_zeros(len(rows), chunk.shape[-1])
            logits[index] = chunk
        # There is at least one chunk, if an empty one.
        return cast(torch.Tensor, logits).unflatten(0, labels.shape)


def _check_keeps_all_logits(logits_to_keep: int | torch.Tensor) -> None:
    if torch.is_tensor(logits_to_keep) or logits_to_keep != 0:
        raise ValueError(f"`logits_to_keep` must be 0 with `labels`, got {logits_to_keep}.")


def _is_row_index(logits_to_keep: int | torch.Tensor) -> bool:
    return torch.is_tensor(logits_to_keep) and logits_to_keep.ndim == 2 and logits_to_keep.dtype != torch.bool


__all__ = ["LumosCausalLMOutput", "LumosForCausalLM", "LumosModel", "LumosPreTrainedModel"]
