# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Loader, LoRA, text to video, image to video, continuation, editing.

Videos are ComfyUI's IMAGE batches: float `(frames, height, width, 3)` in [0, 1]. Progress and interrupts go through ComfyUI's
own hooks, after every decoding step. Where an input is 0 or empty, the checkpoint's own value is taken.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.utils
import PIL.Image
import torch

from lumos_hf import LumosVideoPipeline, demo_checkpoint


CATEGORY = "Lumos"
DEMO = "demo"
EXACT = "none"
DTYPES = ("auto", "float32", "bfloat16", "float16")
# Latent frames hold so many; a clip has one frame more than a multiple.
FRAME_STEP = 4


@dataclass(frozen=True)
class LoadedLumos:
    """
    A pipeline, and the LoRA weights that its next call is made with.

    Args:
        pipe: the pipeline, which several may share.
        loras: where the weights are, and how strong they are.
    """

    pipe: LumosVideoPipeline
    loras: tuple[tuple[str, float], ...] = ()

    def generate(self, prompt: str, seed: int, **arguments: Any) -> torch.Tensor:
        """A clip, float `(frames, height, width, 3)` in [0, 1]."""
        self._set_loras()
        arguments = {name: value for name, value in arguments.items() if not _is_left_out(value)}
        bar = comfy.utils.ProgressBar(1)

        def after_step(pipe: LumosVideoPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(step + 1, pipe.num_timesteps)
            return {}

        comfy.model_management.throw_exception_if_processing_interrupted()
        generator = torch.Generator().manual_seed(seed)
        options = {"generator": generator, "output_type": "pt", "callback_on_step_end": after_step}
        return self.pipe(prompt, **arguments, **options).frames[0].permute(0, 2, 3, 1).float().cpu()

    def _set_loras(self) -> None:
        names = [_adapter_name(path) for path, _ in self.loras]
        loaded = getattr(self.pipe.transformer, "peft_config", None) or {}
        for name, (path, _) in zip(names, self.loras, strict=True):
            if name not in loaded:
                self.pipe.load_lora_weights(path, adapter_name=name)
        if names:
            self.pipe.enable_lora()
            self.pipe.set_adapters(names, [strength for _, strength in self.loras])
        elif loaded:
            self.pipe.disable_lora()


def _is_left_out(value: Any) -> bool:
    return isinstance(value, int | float | str) and value in (0, "", EXACT)


def _adapter_name(path: str) -> str:
    return f"lora_{hashlib.sha256(path.encode()).hexdigest()[:16]}"


def _pictures(images: torch.Tensor) -> list[PIL.Image.Image]:
    values = (images[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [PIL.Image.fromarray(value) for value in values]


class LumosLoader:
    """A checkpoint: a directory or a repository of the Hub, or the small one of the package."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = CATEGORY, "load", ("LUMOS",), ("lumos",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("STRING", {"default": DEMO}), "dtype": (list(DTYPES), {"default": DTYPES[0]})}}

    def load(self, model: str, dtype: str) -> tuple[LoadedLumos]:
        device = comfy.model_management.get_torch_device()
        if dtype == "auto":
            dtype = "float32" if torch.device(device).type == "cpu" else "bfloat16"
        source = demo_checkpoint() if model == DEMO else model
        pipe = LumosVideoPipeline.from_pretrained(source, dtype=getattr(torch, dtype)).to(device)
        pipe.set_progress_bar_config(disable=True)
        return (LoadedLumos(pipe),)


class LumosLora:
    """LoRA weights on top: a file, a directory or a repository of the Hub. Several may follow each other."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = CATEGORY, "add", ("LUMOS",), ("lumos",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        strength = {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.05}
        return {
            "required": {"lumos": ("LUMOS",), "lora": ("STRING", {"default": ""}), "strength": ("FLOAT", strength)}
        }

    def add(self, lumos: LoadedLumos, lora: str, strength: float) -> tuple[LoadedLumos]:
        if not lora:
            raise ValueError("`lora` must be a file, a directory or a repository, got ''.")
        return (replace(lumos, loras=(*lumos.loras, (lora, strength))),)


class _Generation:
    """What the nodes that make clips have in common."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = CATEGORY, "generate", ("IMAGE",), ("frames",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        text = {"multiline": True, "default": ""}
        return {
            "required": {
                "lumos": ("LUMOS",),
                **cls.given(),
                "prompt": ("STRING", {**text, "default": "A red star jumps in the snow."}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1, "control_after_generate": True}),
            },
            "optional": {
                **cls.sizes(),
                "num_inference_steps": ("INT", {"default": 0, "min": 0, "max": 1000}),
                "guidance_scale": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 100.0, "step": 0.1}),
                "negative_prompt": ("STRING", text),
                "approximations": ([EXACT, "fast"], {"default": EXACT}),
            },
        }

    @classmethod
    def given(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def sizes(cls) -> dict[str, Any]:
        side = {"default": 0, "min": 0, "max": 4096, "step": 32}
        return {**cls.length(), "width": ("INT", side), "height": ("INT", side)}

    @staticmethod
    def length() -> dict[str, Any]:
        return {"num_frames": ("INT", {"default": 0, "min": 0, "max": 10001, "step": 1})}


class LumosTextToVideo(_Generation):
    """A clip from a prompt; of one frame, an image."""

    def generate(self, lumos: LoadedLumos, prompt: str, seed: int, **options: Any) -> tuple[torch.Tensor]:
        return (lumos.generate(prompt, seed, **options),)


class LumosImageToVideo(_Generation):
    """A clip that begins with an image, the first of the batch."""

    @classmethod
    def given(cls) -> dict[str, Any]:
        return {"image": ("IMAGE",)}

    def generate(
        self, lumos: LoadedLumos, image: torch.Tensor, prompt: str, seed: int, **options: Any
    ) -> tuple[torch.Tensor]:
        return (lumos.generate(prompt, seed, image=_pictures(image[:1])[0], **options),)


class LumosContinue(_Generation):
    """A clip, longer: its last frames are given, and new ones follow all of it."""

    @classmethod
    def given(cls) -> dict[str, Any]:
        return {"frames": ("IMAGE",)}

    @classmethod
    def sizes(cls) -> dict[str, Any]:
        new = {"default": 8, "min": FRAME_STEP, "max": 10000, "step": FRAME_STEP}
        seen = {"default": 1 + FRAME_STEP, "min": 1, "max": 1001, "step": FRAME_STEP}
        return {"num_new_frames": ("INT", new), "num_given_frames": ("INT", seen)}

    def generate(
        self,
        lumos: LoadedLumos,
        frames: torch.Tensor,
        prompt: str,
        seed: int,
        num_new_frames: int = 8,
        num_given_frames: int = 1 + FRAME_STEP,
        **options: Any,
    ) -> tuple[torch.Tensor]:
        num_given = 1 + (min(num_given_frames, len(frames)) - 1) // FRAME_STEP * FRAME_STEP
        height, width = frames.shape[1:3]
        made = lumos.generate(
            prompt,
            seed,
            video=_pictures(frames[-num_given:]),
            num_frames=num_given + num_new_frames,
            height=height,
            width=width,
            **options,
        )
        return (torch.cat([frames[..., :3].cpu(), made[num_given:]]),)


class LumosEdit(_Generation):
    """A clip of which the masked part becomes what the prompt says; all other pixels stay."""

    @classmethod
    def given(cls) -> dict[str, Any]:
        return {"frames": ("IMAGE",), "mask": ("MASK",)}

    @classmethod
    def sizes(cls) -> dict[str, Any]:
        return {}

    def generate(
        self, lumos: LoadedLumos, frames: torch.Tensor, mask: torch.Tensor, prompt: str, seed: int, **options: Any
    ) -> tuple[torch.Tensor]:
        if mask.shape[-2:] != frames.shape[1:3]:
            raise ValueError(
                f"`mask` must have the size of the frames, {tuple(frames.shape[1:3])}, got {tuple(mask.shape[-2:])}."
            )
        height, width = frames.shape[1:3]
        kept = frames[: 1 + (len(frames) - 1) // FRAME_STEP * FRAME_STEP]
        whole = mask.reshape(-1, height, width)[0].cpu().numpy() > 0.5
        size = {"num_frames": len(kept), "height": height, "width": width}
        return (lumos.generate(prompt, seed, video=_pictures(kept), mask=whole, **size, **options),)


NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (LumosLoader, LumosLora, LumosTextToVideo, LumosImageToVideo, LumosContinue, LumosEdit)
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LumosLoader": "Lumos: load",
    "LumosLora": "Lumos: LoRA",
    "LumosTextToVideo": "Lumos: text to video",
    "LumosImageToVideo": "Lumos: image to video",
    "LumosContinue": "Lumos: continue",
    "LumosEdit": "Lumos: edit with a mask",
}
