# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What users do with the Hub; each function is run by a test, in a process of its own: `client.py FUNCTION ARGUMENTS`."""

import hashlib
import json
import sys
import time
from pathlib import Path

import torch
from huggingface_hub import ModelCard, constants
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from lumos_hf import LumosVideoPipeline
from lumos_hf.cli import app


PROMPT = "A red star jumps in the snow."


def codes_of(pipe: LumosVideoPipeline) -> list:
    pipe.set_progress_bar_config(disable=True)
    return pipe(PROMPT, generator=torch.Generator().manual_seed(0), output_type="latent").frames.tolist()


def digest(model: torch.nn.Module) -> str:
    """Fingerprint of all weights, whatever their dtype."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode() + value.float().numpy().tobytes())
    return total.hexdigest()


def message_of(call, *arguments, **options) -> str:
    """The error that a call ends with."""
    try:
        call(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("There was no error.")


def weights_in(directory: str) -> list[str]:
    return sorted(file.relative_to(directory).as_posix() for file in Path(directory).rglob("*.safetensors"))


def push_space(directory: str) -> dict:
    """Writes a Space and pushes it, by the command line."""
    results = [
        CliRunner().invoke(app, arguments)
        for arguments in (
            ["export-space", "--model", "someone/lumos", "-o", directory],
            ["push", "--model", directory, "--repo", "someone/page", "--private"],
        )
    ]
    return {"exit codes": [result.exit_code for result in results], "output": results[-1].output}


def push(directory: str) -> dict:
    """Pushes a pipeline in shards, its bfloat16 variant, and the model alone; pulls all of it back."""
    pipe = LumosVideoPipeline.from_pretrained(directory)
    first = pipe.push_to_hub("someone/lumos", max_shard_size="100KB", private=True)
    card = ModelCard.load("someone/lumos")
    card.validate()
    half = LumosVideoPipeline.from_pretrained(directory, dtype=torch.bfloat16)
    half.push_to_hub("someone/lumos", variant="bf16")
    half.transformer.push_to_hub("someone/model", private=True)

    pulled = LumosVideoPipeline.from_pretrained("someone/lumos")
    plain_weights = weights_in(LumosVideoPipeline.download("someone/lumos"))
    old = LumosVideoPipeline.from_pretrained("someone/lumos", revision=first.oid)
    variant = LumosVideoPipeline.from_pretrained("someone/lumos", variant="bf16", torch_dtype=torch.bfloat16)
    placed = LumosVideoPipeline.from_pretrained(
        "someone/lumos", variant="bf16", dtype=torch.bfloat16, device_map="cpu"
    )
    exec(card.text.split("```python\n")[1].split("```")[0], {})
    return {
        "card": str(card),
        "bad card": message_of(ModelCard("---\nlicense: My Own\n---\n").validate),
        "plain weights": plain_weights,
        "codes": [codes_of(each) for each in (pipe, pulled, old)],
        "half": [digest(each.transformer) for each in (half, variant, placed)],
        "half vqvae": [digest(each.vqvae) for each in (half, variant, placed)],
        "dtypes": [str(each.dtype) for each in (pulled.vqvae, variant.transformer, variant.vqvae, placed.transformer)],
        "model": digest(AutoModelForCausalLM.from_pretrained("someone/model")),
        "no such revision": message_of(LumosVideoPipeline.from_pretrained, "someone/lumos", revision="v9"),
    }


def load_offline() -> dict:
    """Everything from the cache that `push` left."""
    return {
        "codes": codes_of(LumosVideoPipeline.from_pretrained("someone/lumos")),
        "half": digest(LumosVideoPipeline.from_pretrained("someone/lumos", variant="bf16").transformer),
        "model": digest(AutoModelForCausalLM.from_pretrained("someone/model")),
        "never pulled": message_of(LumosVideoPipeline.from_pretrained, "someone/other"),
    }


def meet_failures() -> dict:
    """Wrong tokens, missing files, downloads that break off."""
    # What a download keeps when it breaks off is whole chunks, and files are smaller than one here.
    constants.DOWNLOAD_CHUNK_SIZE = 500
    load = LumosVideoPipeline.from_pretrained
    results = {
        "wrong token": message_of(load, "someone/private", token="hf_wrong"),
        "no token": message_of(load, "someone/private"),
        "missing file": message_of(load, "someone/incomplete"),
        "failing": message_of(load, "someone/failing"),
    }
    broken = load("someone/broken")
    return {
        **results,
        "push with a wrong token": message_of(broken.push_to_hub, "someone/new", token="hf_wrong"),
        "transformers": [
            digest(pipe.transformer)
            for pipe in (
                broken,
                load("someone/failing"),
                load("someone/private", token="hf_loopback"),
                load("someone/mixed", variant="bf16"),
            )
        ],
    }


def load_loras(directory: str) -> dict:
    """LoRA weights of repositories in every layout, and what is said of those that are none."""
    pipe = LumosVideoPipeline.from_pretrained(directory)
    sources = {
        "diffusers": ("someone/diffusers", {}),
        "peft": ("someone/peft", {"subfolder": "lora"}),
        "only one": ("someone/named", {}),
        "named": ("someone/named", {"weight_name": "star.safetensors"}),
    }
    for name, (repo_id, options) in sources.items():
        pipe.load_lora_weights(repo_id, adapter_name=name, **options)
    load = pipe.load_lora_weights
    return {
        "adapters": {
            name: [int(layer.scaling[name]) for layer in pipe.transformer.modules() if hasattr(layer, "lora_A")]
            for name in sources
        },
        "no such file": message_of(load, "someone/named", weight_name="moon.safetensors"),
        "no weights": message_of(load, "someone/empty"),
        "no repository": message_of(load, "someone/nothing"),
        "no revision": message_of(load, "someone/diffusers", revision="v9"),
        "left": len(pipe.get_list_adapters()["transformer"]),
    }


def meet_a_closed_port(directory: str) -> dict:
    """What is said where no Hub can be reached, and how long it takes."""
    pipe = LumosVideoPipeline.from_pretrained(directory)
    Path(directory, "README.md").write_text("---\n---\n")
    start = time.monotonic()
    results = {
        "pipeline": message_of(LumosVideoPipeline.from_pretrained, "someone/lumos"),
        "lora": message_of(pipe.load_lora_weights, "someone/lora"),
        "push": message_of(pipe.push_to_hub, "someone/new"),
    }
    commands = {
        "generate": ["generate", PROMPT, "--model", "someone/lumos"],
        "generate --lora": ["generate", PROMPT, "--model", directory, "--lora", "someone/lora"],
        "lumos-hf push": ["push", "--model", directory, "--repo", "someone/new"],
    }
    for name, command in commands.items():
        result = CliRunner().invoke(app, command)
        errors = [line for line in result.stderr.splitlines() if "Error" in line]
        results[name] = "\n".join(errors) if result.exit_code == 2 else repr(result.exception)
    return {"messages": results, "seconds": time.monotonic() - start}


def evaluate(directory: str) -> dict:
    """Samples of a checkpoint on the Hub, and what the run says of where it came from."""
    prompts = Path(directory, "prompts.json")
    prompts.write_text(json.dumps({"A star.mp4": PROMPT}))
    size = ["--height", "32", "--width", "32", "--num-frames", "1", "--steps", "1", "--num-samples", "1"]
    command = ["evaluate", "vbench-t2v", "--model", "someone/lumos", "--prompts", str(prompts), *size]
    result = CliRunner().invoke(app, [*command, "--output", str(Path(directory, "run"))])
    content = json.loads(Path(directory, "run", "run.json").read_text()) if result.exit_code == 0 else {}
    return {"output": result.output, "revision": content.get("made_by", {}).get("revision")}


if __name__ == "__main__":
    function, *arguments = sys.argv[1:]
    print(json.dumps(globals()[function](*arguments)))
