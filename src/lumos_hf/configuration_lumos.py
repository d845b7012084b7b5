# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Configuration of the Lumos transformer."""

import math

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import RopeParameters


# Height and width of a frame are written in this unit, whatever the compression of the video tokenizer is.
PIXELS_PER_SIZE_UNIT = 32

POSITION_ENCODINGS = ("mm_rope", "rope_3d", "rope_1d")

# MM-RoPE shares out channels in groups of 16, the usual 3D RoPE in the ratio 2:3:3. Both act on half of a head, because
# the two halves of a head are the two coordinates that one rotation turns.
_HALF_HEAD_DIVISOR = {"mm_rope": 16, "rope_3d": 8, "rope_1d": 1}

_SPECIAL_TOKEN_FIELDS = (
    "separator_token_id",
    "image_start_token_id",
    "image_end_token_id",
    "new_line_token_id",
    "size_token_offset",
    "mask_token_id",
    "video_start_token_id",
    "video_end_token_id",
)


_SIZE_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "model_parallel_size",
    "visual_vocab_size",
    "temporal_compression",
)

# The smallest and largest values of what is no integer: epsilons that float32 can hold, and shares.
_REAL_RANGES = (("rms_norm_eps", 1e-30, 1.0), ("initializer_range", 0.0, 1e3), ("attention_dropout", 0.0, 1.0))


@strict
class LumosConfig(PreTrainedConfig):
    r"""
    Configuration of [`LumosModel`] and [`LumosForCausalLM`]: a LLaMA with q/k normalisation, MM-RoPE and a vocabulary
    that holds text, layout tokens and the codes of a discrete video tokenizer.

    Args:
        vocab_size (`int`, defaults to 129536):
            Size of the vocabulary. Text and layout tokens come first, the visual codes fill
            `[visual_token_offset, visual_token_offset + visual_vocab_size)`.
        hidden_size (`int`, defaults to 2048):
            Width of the residual stream.
        intermediate_size (`int`, defaults to 8192):
            Width of the gated MLP.
        num_hidden_layers (`int`, defaults to 16):
            Number of decoder layers.
        num_attention_heads (`int`, defaults to 32):
            Number of query heads.
        num_key_value_heads (`int`, *optional*, defaults to `num_attention_heads`):
            Number of key and value heads.
        head_dim (`int`, *optional*, defaults to `hidden_size // num_attention_heads`):
            Width of one head.
        hidden_act (`str`, defaults to `"silu"`):
            Activation of the MLP.
        max_position_embeddings (`int`, defaults to 32768):
            Longest sequence the model is meant for, in tokens.
        initializer_range (`float`, defaults to 0.02):
            Standard deviation of the initial weights.
        rms_norm_eps (`float`, defaults to 1e-5):
            Epsilon of the RMS norms. The q/k layer norms always use 1e-5.
        use_cache (`bool`, defaults to `True`):
            Whether the model returns its keys and values.
        tie_word_embeddings (`bool`, defaults to `False`):
            Whether the output head shares the input embedding.
        rope_parameters (`dict`, *optional*):
            Rotary parameters as everywhere in transformers; defaults to a base of 10000.
        attention_bias (`bool`, defaults to `False`):
            Whether the attention projections have biases.
        attention_dropout (`float`, defaults to 0.0):
            Dropout on the attention weights, in training only.
        mlp_bias (`bool`, defaults to `False`):
            Whether the MLP projections have biases.
        model_parallel_size (`int`, defaults to 1):
            Number of shards the original model was trained in. Each shard has its own q/k-norm weights, shared by the
            heads of that shard.
        position_encoding (`str`, defaults to `"mm_rope"`):
            `"mm_rope"`: the channels of every 16-wide group are shared out 2:3:3 over time, height and width
            (arXiv 2507.08801, section 3.2). For ablations, `"rope_3d"` gives time, height and width one contiguous
            block of channels each, in the same ratio, and `"rope_1d"` uses the plain sequence index everywhere.
        pad_token_id (`int`, defaults to 0), bos_token_id (`int`, defaults to 0), eos_token_id (`int`, defaults to 8710):
            As everywhere in transformers. Padding shares the id of the beginning of a sequence.
        separator_token_id (`int`, defaults to 8710):
            Ends the prompt, and ends the whole sequence in training.
        image_start_token_id (`int`, defaults to 8197), image_end_token_id (`int`, defaults to 8196):
            Open and close one frame.
        new_line_token_id (`int`, defaults to 8803):
            Ends every row of a frame.
        size_token_offset (`int`, defaults to 8804):
            The number `n` is written as the token `size_token_offset + n`.
        mask_token_id (`int`, defaults to 9003):
            Stands for a token that is not known yet.
        video_start_token_id (`int`, defaults to 9004), video_end_token_id (`int`, defaults to 9005):
            Open and close the visual part of a sequence.
        visual_token_offset (`int`, defaults to 65536):
            Token id of visual code 0.
        visual_vocab_size (`int`, defaults to 64000):
            Number of visual codes.
        temporal_compression (`int`, defaults to 4):
            Pixel frames per latent frame after the first; also the step of the time axis in MM-RoPE.
        spatial_compression (`int`, defaults to 8):
            Pixels per visual token along each side; also the step of the height and width axes in MM-RoPE.

    Raises:
        ValueError: if a number is out of its range or the fields contradict each other, see [`~LumosConfig.validate_architecture`].

    Example:

    ```python
    >>> from lumos_hf import LumosConfig, LumosForCausalLM

    >>> config = LumosConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4)
    >>> model = LumosForCausalLM(config)
    ```
    """

    model_type = "lumos"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]
    base_model_tp_plan = {
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.q_norm": "replicated_with_grad_allreduce",
        "layers.*.self_attn.k_norm": "replicated_with_grad_allreduce",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }

    vocab_size: int = 129536
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 16
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    use_cache: bool = True
    tie_word_embeddings: bool = False
    rope_parameters: RopeParameters | dict | None = None
    attention_bias: bool = False
    attention_dropout: int | float = 0.0
    mlp_bias: bool = False

    model_parallel_size: int = 1
    position_encoding: str = "mm_rope"

    pad_token_id: int | None = 0
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 8710
    separator_token_id: int = 8710
    image_start_token_id: int = 8197
    image_end_token_id: int = 8196
    new_line_token_id: int = 8803
    size_token_offset: int = 8804
    mask_token_id: int = 9003
    video_start_token_id: int = 9004
    video_end_token_id: int = 9005
    visual_token_offset: int = 65536
    visual_vocab_size: int = 64000
    temporal_compression: int = 4
    spatial_compression: int = 8

    def __post_init__(self, **kwargs):
        self._validate_sizes()
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        super().__post_init__(**kwargs)
        # `@strict` runs this check too, but wraps its error in one of its own that is no ValueError.
        self.validate_architecture()

    def validate_architecture(self):
        """
        Checks that the fields fit together; called at construction.

        Raises:
            ValueError: if a number is out of its range, the spatial compression does not divide 32 pixels, heads do not
                divide into key/value heads or shards, the position encoding is unknown or does not fit the width of a
                head, or the token ids overlap or leave the vocabulary.
        """
        self._validate_sizes()
        self._validate_real_numbers()
        self._validate_heads()
        self._validate_position_encoding()
        self._validate_token_ids()

    @property
    def special_token_ids(self) -> list[int]:
        """Ids of the layout tokens; `size_token_offset` stands for all numbers."""
        return [getattr(self, field) for field in _SPECIAL_TOKEN_FIELDS]

    def _validate_sizes(self):
        for field in _SIZE_FIELDS:
            size = getattr(self, field)
            if size is not None and size < 1:
                raise ValueError(f"`{field}` must be at least 1, got {size}.")
        if self.spatial_compression < 1 or PIXELS_PER_SIZE_UNIT % self.spatial_compression != 0:
            raise ValueError(
                f"`spatial_compression` must divide {PIXELS_PER_SIZE_UNIT}, the pixels of one unit of a size token, got "
                f"{self.spatial_compression}."
            )

    def _validate_real_numbers(self):
        for field, low, high in _REAL_RANGES:
            number = getattr(self, field)
            # Not a number compares as false.
            if not low <= number <= high:
                raise ValueError(f"`{field}` must lie between {low:g} and {high:g}, got {number}.")
        theta = (self.rope_parameters or {}).get("rope_theta", 1.0)
        if not 0 < theta < math.inf:
            raise ValueError(f"`rope_parameters['rope_theta']` must be a finite number above 0, got {theta}.")

    def _validate_heads(self):
        if self.num_attention_heads % self.num_key_value_heads != 0:
            raise ValueError(
                f"`num_attention_heads` ({self.num_attention_heads}) must be a multiple of `num_key_value_heads` "
                f"({self.num_key_value_heads})."
            )
        for field in ("num_attention_heads", "num_key_value_heads"):
            if getattr(self, field) % self.model_parallel_size != 0:
                raise ValueError(
                    f"`{field}` ({getattr(self, field)}) must be a multiple of `model_parallel_size` "
                    f"({self.model_parallel_size}): each shard has its own q/k-norm weights."
                )

    def _validate_position_encoding(self):
        if self.position_encoding not in POSITION_ENCODINGS:
            raise ValueError(
                f"`position_encoding` must be one of {', '.join(POSITION_ENCODINGS)}, got {self.position_encoding!r}."
            )
        multiple = 2 * _HALF_HEAD_DIVISOR[self.position_encoding]
        if self.head_dim % multiple != 0:
            raise ValueError(
                f"`head_dim` must be a multiple of {multiple} for `position_encoding={self.position_encoding!r}`, got "
                f"{self.head_dim}."
            )

    def _validate_token_ids(self):
        visual_end = self.visual_token_offset + self.visual_vocab_size
        if visual_end > self.vocab_size:
            raise ValueError(
                f"`visual_token_offset` ({self.visual_token_offset}) + `visual_vocab_size` ({self.visual_vocab_size}) "
                f"must not exceed `vocab_size` ({self.vocab_size})."
            )
        special_ids = {field: getattr(self, field) for field in _SPECIAL_TOKEN_FIELDS}
        if len(set(special_ids.values())) != len(special_ids):
            raise ValueError(f"The special token ids must differ from each other, got {special_ids}.")
        for field, token_id in special_ids.items():
            if not 0 <= token_id < self.vocab_size or self.visual_token_offset <= token_id < visual_end:
                raise ValueError(
                    f"`{field}` must lie in the vocabulary (0 to {self.vocab_size - 1}) and outside of the visual ids "
                    f"({self.visual_token_offset} to {visual_end - 1}), got {token_id}."
                )
        # Nothing is fed or predicted by `eos_token_id`, which small vocabularies leave at its default.
        for field in ("pad_token_id", "bos_token_id"):
            token_id = getattr(self, field)
            if token_id is not None and not 0 <= token_id < self.vocab_size:
                raise ValueError(
                    f"`{field}` must lie in the vocabulary (0 to {self.vocab_size - 1}) or be None, got {token_id}."
                )


__all__ = ["LumosConfig"]
