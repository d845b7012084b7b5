# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Fine-tunes the video tokenizer on clips by its reconstruction; gradients pass the quantizer (FSQ) straight through.

    accelerate launch --config_file examples/accelerate/one_gpu.yaml examples/finetune_tokenizer.py \\
        --model checkpoints/lumos-1b --data clips/ --output_dir outputs/vqvae --max_steps 5000

By default the decoder alone is trained: codes stay what they are, and so do the transformer and tokenised sets. With
`--train_encoder` codes change their meaning, and the transformer has to be trained anew on a set that is tokenised anew.
The losses are those that the demo checkpoint was refined with; they and the learning rate are not official ones. A run that was
interrupted goes on when the same command is given again. `--output_dir/vqvae` is a `CosmosVideoTokenizer`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import torch
from torch.utils.data import Dataset
from transformers import Trainer, set_seed

from lumos_hf import CosmosVideoTokenizer
from lumos_hf.data.clip_listing import ListedClip, list_clips
from lumos_hf.data.clip_reading import ClipReader
from lumos_hf.termination import interrupt_on_termination
from lumos_hf.training.finetuning import parse_arguments, train
from lumos_hf.training.tokenizer_objective import TokenizerObjective
from lumos_hf.training.trainer_checkpoints import is_finished, record_finished
from lumos_hf.video_processor_lumos import pixels_to_input


@dataclass
class TokenizerArguments:
    model: str = field(metadata={"help": "Checkpoint whose video tokenizer is trained: a directory or a repository."})
    data: str = field(metadata={"help": "What `lumos-hf tokenize` takes; captions are not needed."})
    num_frames: int = field(default=17, metadata={"help": "Frames of a clip, 1 plus a multiple of 4."})
    fps: int = field(default=12, metadata={"help": "Frames per second of a clip."})
    height: int = field(default=256, metadata={"help": "In pixels, a multiple of 32."})
    width: int = field(default=256, metadata={"help": "In pixels, a multiple of 32."})
    train_encoder: bool = field(default=False, metadata={"help": "Whether to change the codes as well."})
    gradient_weight: float = field(default=2.0, metadata={"help": "Weight of differences between pixels."})


class VideoDataset(Dataset):
    """Videos as uint8 `(frames, height, width, 3)`; for one that cannot be read, the next one that can."""

    def __init__(self, clips: list[ListedClip], reader: ClipReader) -> None:
        self.clips = [clip for clip in clips if not clip.is_image and clip.problem is None]
        self.reader = reader
        if not self.clips:
            raise ValueError("`data` must hold at least one video, got none.")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> torch.Tensor:
        for clip in (*self.clips[index:], *self.clips[:index]):
            try:
                return self._read(clip)
            except (ValueError, OSError, av.FFmpegError) as error:
                logging.warning("Passed over %s: %s", clip.source, error)
        raise ValueError("`data` must hold at least one video that can be read, got none.")

    def _read(self, clip: ListedClip) -> torch.Tensor:
        with clip.open_file() as file:
            pixels, _ = self.reader.read(file, is_image=False)
        return torch.from_numpy(pixels)


def collate(videos: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"video": pixels_to_input(torch.stack(videos))}


def main(arguments: Sequence[str] | None = None) -> None:
    tokenizer_arguments, training_arguments = parse_arguments(
        [TokenizerArguments],
        arguments,
        learning_rate=1e-4,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=4,
        train_sampling_strategy="random",
        activation_checkpointing=False,
        eval_strategy="no",
    )
    if is_finished(training_arguments, Path(training_arguments.output_dir)):
        return
    set_seed(training_arguments.seed)
    trainer = Trainer(
        build_objective(tokenizer_arguments),
        training_arguments,
        data_collator=collate,
        train_dataset=build_dataset(tokenizer_arguments),
    )
    train(trainer)
    if trainer.is_world_process_zero():
        trainer.model.vqvae.save_pretrained(Path(training_arguments.output_dir) / "vqvae")
    record_finished(trainer, Path(training_arguments.output_dir))


def build_objective(arguments: TokenizerArguments) -> TokenizerObjective:
    vqvae = CosmosVideoTokenizer.from_pretrained(arguments.model, subfolder="vqvae", torch_dtype=torch.float32)
    if not arguments.train_encoder:
        vqvae.encoder.requires_grad_(False)
        vqvae.quant_conv.requires_grad_(False)
    return TokenizerObjective(vqvae, gradient_weight=arguments.gradient_weight)


def build_dataset(arguments: TokenizerArguments) -> VideoDataset:
    reader = ClipReader(
        num_frames=arguments.num_frames,
        fps=arguments.fps,
        position="random",
        height=arguments.height,
        width=arguments.width,
        buckets=False,
        seed=0,
    )
    return VideoDataset(list_clips(arguments.data), reader)


if __name__ == "__main__":
    interrupt_on_termination()
    main()
