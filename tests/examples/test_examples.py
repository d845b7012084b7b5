# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Each example for two steps on the demo checkpoint, and for one more: it goes on where it stopped."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch
import yaml
from safetensors.torch import load_file

from lumos_hf import CosmosVideoTokenizer, LumosVideoPipeline, demo_checkpoint
from lumos_hf.evaluation.clips import FPS, caption, draw_clip, single_specs
from lumos_hf.media import write_media
from lumos_hf.training import tokenize_dataset
from lumos_hf.training.trainer_checkpoints import last_complete_checkpoint


pytestmark = pytest.mark.slow


EXAMPLES = Path(__file__).parents[2] / "examples"
KILLED_RUN = Path(__file__).with_name("killed_run.py")
PROMPT = "A red star jumps in the snow."
NUM_CLIPS = 5


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for index in range(NUM_CLIPS):
        spec = single_specs()[37 * index]
        write_media(folder / f"{index}.mp4", [PIL.Image.fromarray(frame).reduce(2) for frame in draw_clip(spec)], FPS)
        (folder / f"{index}.txt").write_text(caption(spec, random.Random(index)))
    return folder


@pytest.fixture(scope="module")
def tokenized(clips, tmp_path_factory):
    output = tmp_path_factory.mktemp("tokenized")
    tokenize_dataset(clips, demo_checkpoint(), output, height=64, width=64, num_frames=5)
    return output


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The demo, which samples less by default."""
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.register_to_config(default_num_frames=5, default_num_inference_steps=1, default_height=64, default_width=64)
    directory = tmp_path_factory.mktemp("checkpoint")
    pipe.save_pretrained(directory)
    return directory


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def example_arguments(model, data, output, *more):
    arguments = ["--model", str(model), "--data", str(data), "--output_dir", str(output), "--use_cpu", "True"]
    return [*arguments, "--logging_steps", "1", "--save_steps", "1", "--disable_tqdm", "True", *more]


def run(name, model, data, output, *more):
    load_example(name).main(example_arguments(model, data, output, *more))
    newest = max(output.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    assert (output / "loss.png").stat().st_size > 0
    assert list((output / "runs").rglob("events.out.tfevents.*"))
    return [entry["step"] for entry in history if "loss" in entry]


# No warm-up, and rates at which a step shows in bfloat16.
FINETUNING = ["--eval_clips", "1", "--eval_steps", "2", "--warmup_steps", "0", "--learning_rate", "0.05"]
SAMPLING = ["--sample_prompts", PROMPT, "--sample_steps", "2"]


def codes(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe(PROMPT, generator=torch.Generator().manual_seed(0), output_type="latent").frames


def test_finetune(checkpoint, tokenized, tmp_path):
    steps = run("finetune", checkpoint, tokenized, tmp_path, *FINETUNING, *SAMPLING, "--max_steps", "2")
    assert steps == [1, 2]
    assert (tmp_path / "frame_loss.png").exists() and (tmp_path / "samples" / "step-000002.png").exists()
    assert run("finetune", checkpoint, tokenized, tmp_path, *FINETUNING, "--max_steps", "3") == [1, 2, 3]

    trained, base = (LumosVideoPipeline.from_pretrained(directory) for directory in (tmp_path, checkpoint))
    assert not torch.equal(codes(trained), codes(base))
    assert trained.config.default_num_frames == base.config.default_num_frames == 5


def test_finetune_lora(checkpoint, tokenized, tmp_path):
    steps = run("finetune_lora", checkpoint, tokenized, tmp_path, *FINETUNING, *SAMPLING, "--max_steps", "2")
    assert steps == [1, 2]
    assert (tmp_path / "samples" / "step-000002.png").exists()
    assert run("finetune_lora", checkpoint, tokenized, tmp_path, *FINETUNING, "--max_steps", "3") == [1, 2, 3]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run("finetune_lora", checkpoint, tokenized, tmp_path, *FINETUNING, "--max_steps", "3") == [1, 2, 3]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files

    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    before = codes(pipe)
    pipe.load_lora_weights(tmp_path)
    assert not torch.equal(codes(pipe), before)


def test_a_run_that_is_killed_twice_ends_in_the_weights_of_an_unbroken_one(checkpoint, tokenized, tmp_path):
    """While its second checkpoint is written, and between its last one and the weights."""
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    lengths = [*FINETUNING, "--max_steps", "3"]
    assert run("finetune_lora", checkpoint, tokenized, unbroken, *lengths) == [1, 2, 3]

    # What saves a checkpoint, too.
    for call, newest in ((2, 1), (3, 3)):
        command = [sys.executable, KILLED_RUN, EXAMPLES / "finetune_lora.py", "save_model", str(call)]
        result = subprocess.run(
            [*command, *example_arguments(checkpoint, tokenized, killed, *lengths)],
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
            capture_output=True,
            text=True,
        )
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert last_complete_checkpoint(killed) == str(killed / f"checkpoint-{newest}")
        assert not (killed / "adapter_model.safetensors").exists()

    assert run("finetune_lora", checkpoint, tokenized, killed, *lengths) == [1, 2, 3]
    for name in ("adapter_model.safetensors", "finished_run.json"):
        assert (killed / name).read_bytes() == (unbroken / name).read_bytes()


def test_finetune_tokenizer(checkpoint, clips, tmp_path):
    size = ["--height", "64", "--width", "64", "--num_frames", "5", "--fps", str(FPS)]
    more = [*size, "--per_device_train_batch_size", "2", "--warmup_steps", "0"]
    (clips / "broken.mp4").write_bytes(b"not a video")
    assert run("finetune_tokenizer", checkpoint, clips, tmp_path, *more, "--max_steps", "2") == [1, 2]
    assert run("finetune_tokenizer", checkpoint, clips, tmp_path, *more, "--max_steps", "3") == [1, 2, 3]

    CosmosVideoTokenizer.from_pretrained(tmp_path / "vqvae")
    trained, base = (
        load_file(directory / "vqvae" / "diffusion_pytorch_model.safetensors") for directory in (tmp_path, checkpoint)
    )
    changed = {name.split(".")[0] for name in base if not torch.equal(trained[name], base[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_sets_of_another_tokenizer_are_refused(checkpoint, tokenized, tmp_path):
    copy = tmp_path / "checkpoint"
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    next(pipe.vqvae.encoder.parameters()).data.mul_(2)
    pipe.save_pretrained(copy)
    with pytest.raises(ValueError, match="was made with another video tokenizer"):
        run("finetune", copy, tokenized, tmp_path / "output", *FINETUNING, "--max_steps", "2")


@pytest.mark.parametrize("eval_clips", ["0", str(NUM_CLIPS)])
def test_too_many_or_too_few_clips_to_evaluate(checkpoint, tokenized, tmp_path, eval_clips):
    with pytest.raises(ValueError, match=f"`eval_clips` must be at least 1 .* {NUM_CLIPS} in .*, got {eval_clips}"):
        run("finetune", checkpoint, tokenized, tmp_path, "--max_steps", "2", "--eval_clips", eval_clips)


@pytest.mark.parametrize("path", sorted((EXAMPLES / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_the_configurations(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16"
    assert set(yaml.safe_load(path.read_text())) <= set(vars(config))


DISTILLATION = ["--learning_rate", "0.05", "--warmup_steps", "0", "--student_steps", "2", "1", "--report_to", "none"]


def distill(model, output, max_steps, *more):
    arguments = [
        "--model",
        str(model),
        "--output_dir",
        str(output),
        "--use_cpu",
        "True",
        "--max_steps",
        str(max_steps),
    ]
    arguments += ["--logging_steps", "1", "--save_steps", "1", "--disable_tqdm", "True", "--bf16", "False"]
    load_example("distill").main([*arguments, *DISTILLATION, *more])


def test_distill_its_own_samples(checkpoint, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join([PROMPT, "A blue circle waits at night.", "A red heart waits at night."]))
    output = tmp_path / "turbo"
    own = ["--prompts", str(prompts), "--sample_batch_size", "2", "--activation_checkpointing", "True"]
    own += ["--student_confidence_temperature", "2.5", "--student_token_temperature", "0.25"]
    distill(checkpoint, output, 2, *own)
    samples = {path: path.stat().st_mtime_ns for path in (output / "samples").iterdir()}
    assert sorted(path.name for path in samples) == ["000000.npz", "000002.npz"]
    distill(checkpoint, output, 3, *own)
    assert {path: path.stat().st_mtime_ns for path in (output / "samples").iterdir()} == samples
    assert load_file(output / "checkpoint-3" / "model.safetensors").keys() == (
        load_file(output / "checkpoint-2" / "model.safetensors").keys()
    )
    files = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    distill(checkpoint, output, 3, *own)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == files

    pipe, base = (LumosVideoPipeline.from_pretrained(checkpoint) for _ in range(2))
    pipe.load_turbo_weights(output)
    assert pipe.config.default_num_inference_steps == [2, 1] and pipe.config.default_guidance_scale == 1.0
    assert (pipe.scheduler.config.confidence_temperature, pipe.scheduler.config.token_temperature) == (2.5, 0.25)
    base.register_to_config(default_num_inference_steps=[2, 1], default_guidance_scale=1.0)
    base.scheduler = pipe.scheduler
    assert not torch.equal(codes(pipe), codes(base))


def test_distill_a_set_into_all_weights(checkpoint, tokenized, tmp_path):
    distill(checkpoint, tmp_path, 1, "--data", str(tokenized), "--train_all_weights", "True", "--bf16", "True")
    pipe = LumosVideoPipeline.from_pretrained(tmp_path)
    assert pipe.config.default_num_inference_steps == [2, 1] and pipe.config.default_guidance_scale == 1.0
    assert pipe.config.default_num_frames == 5
    assert not torch.equal(codes(pipe), codes(LumosVideoPipeline.from_pretrained(checkpoint)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Exactly one of `prompts` and `data` must be given, got None and None"),
        (["--prompts", "a.txt", "--data", "b"], "Exactly one of `prompts` and `data` must be given, got a.txt and b"),
        (
            ["--prompts", "a.txt", "--student_steps", "2", "0"],
            r"`num_inference_steps\[1\]` must be a positive integer",
        ),
    ],
)
def test_bad_arguments_of_a_distillation(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_example("distill").main(["--model", "m", "--output_dir", str(tmp_path), *arguments])
