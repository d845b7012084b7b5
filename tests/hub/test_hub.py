# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Publishing and loading through a Hub on the loopback interface, by clients in processes of their own."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict

from lumos_hf import LumosVideoPipeline
from lumos_hf.conversion.remote_code import export_remote_code


pytestmark = pytest.mark.slow


NO_PACKAGE = Path(__file__).parent / "without_lumos_hf"
# An interpreter that really has no lumos_hf, see fresh_venv.sh.
PLAIN_PYTHON = os.environ.get("LUMOS_PLAIN_PYTHON")


def test_push_pull_offline(hub, machine, pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    pushed = machine.run("client.py", "push", tmp_path / "pipe", HF_TOKEN="hf_loopback")

    repository = hub.repositories["someone/lumos"]
    root_code = {"modeling_lumos.py", "configuration_lumos.py", "token_layout.py"}
    assert repository.private
    assert root_code <= set(repository.files) and root_code <= set(hub.repositories["someone/model"].files)
    assert not [path for path in repository.files if path.endswith(".py") and "/" in path]
    assert repository.files["README.md"] == pushed["card"].encode()
    assert pushed["bad card"].startswith("ValueError")
    assert "library_name: lumos_hf" in pushed["card"] and 'from_pretrained("someone/lumos")' in pushed["card"]
    assert (tmp_path / "video.mp4").stat().st_size > 0

    shards = [path for path in pushed["plain weights"] if path.startswith("transformer/model-0")]
    assert len(shards) > 1 and not [path for path in pushed["plain weights"] if "bf16" in path]
    assert "transformer/model.bf16.safetensors" in repository.files
    for name in ("codes", "half", "half vqvae"):
        assert all(each == pushed[name][0] for each in pushed[name]), name
    assert pushed["dtypes"] == ["torch.float32", *["torch.bfloat16"] * 3]
    assert pushed["model"] == pushed["half"][0]
    assert pushed["no such revision"].startswith("RevisionNotFoundError")

    hub.shutdown()
    offline = machine.run("client.py", "load_offline", HF_HUB_OFFLINE="1")
    assert offline["codes"] == pushed["codes"][0]
    assert offline["half"] == offline["model"] == pushed["half"][0]
    assert offline["never pulled"].startswith("LocalEntryNotFoundError")


def test_failures_are_told_and_recovered_from(hub, machine, pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    hub.add("someone/private", tmp_path / "pipe", private=True)
    hub.add("someone/broken", tmp_path / "pipe")
    hub.add("someone/failing", tmp_path / "pipe")
    weights = "transformer/model.safetensors"
    hub.break_after["someone/broken", weights] = 1000
    hub.fail_once.add(("someone/failing", "vqvae/diffusion_pytorch_model.safetensors"))
    shutil.copytree(tmp_path / "pipe", tmp_path / "incomplete")
    (tmp_path / "incomplete" / weights).unlink()
    hub.add("someone/incomplete", tmp_path / "incomplete")
    pipe.save_pretrained(tmp_path / "mixed", variant="bf16")
    shutil.copy(tmp_path / "pipe" / weights, tmp_path / "mixed" / weights)
    (tmp_path / "mixed" / "vqvae" / "diffusion_pytorch_model.bf16.safetensors").rename(
        tmp_path / "mixed" / "vqvae" / "diffusion_pytorch_model.safetensors"
    )
    hub.add("someone/mixed", tmp_path / "mixed")

    results = machine.run("client.py", "meet_failures")
    assert "401" in results["wrong token"]
    assert results["no token"].startswith("RepositoryNotFoundError")
    assert "401" in results["push with a wrong token"] and "someone/new" not in hub.repositories
    assert f"'someone/incomplete' has no {weights}" in results["missing file"]
    assert "500" in results["failing"]
    assert len(set(results["transformers"])) == 1

    parts = [
        (path, start) for repo_id, path, start in hub.downloads if repo_id == "someone/broken" and path == weights
    ]
    assert parts == [(weights, 0), (weights, 1000)]
    assert hub.downloads.count(("someone/failing", weights, 0)) == 1
    mixed = [path for repo_id, path, _ in hub.downloads if repo_id == "someone/mixed" and path.endswith("safetensors")]
    assert sorted(mixed) == ["transformer/model.bf16.safetensors", "vqvae/diffusion_pytorch_model.safetensors"]


def test_a_space_is_written_and_pushed(hub, machine, tmp_path):
    result = machine.run("client.py", "push_space", tmp_path / "page", HF_TOKEN="hf_loopback")
    assert result["exit codes"] == [0, 0], result["output"]
    repository = hub.repositories["someone/page"]
    assert (repository.space_sdk, repository.private) == ("gradio", True)
    assert {"README.md", "app.py", "requirements.txt"} <= set(repository.files)
    assert b'serve("someone/lumos")' in repository.files["app.py"]


def test_a_run_of_samples_names_the_commit_of_its_checkpoint(hub, machine, pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    repository = hub.add("someone/lumos", tmp_path / "pipe")
    result = machine.run("client.py", "evaluate", tmp_path)
    assert result["revision"] == repository.branches["main"], result["output"]
    assert (tmp_path / "run" / "samples" / "A star-0.mp4").is_file()


def test_lora_weights_of_repositories(hub, machine, pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    trained = LumosVideoPipeline.from_pretrained(tmp_path / "pipe")
    trained.transformer.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"]))
    trained.save_lora_weights(tmp_path / "peft" / "lora")
    for directory, name in (("diffusers", None), ("named", "star.safetensors")):
        LumosVideoPipeline.save_lora_weights(
            tmp_path / directory,
            transformer_lora_layers=get_peft_model_state_dict(trained.transformer, adapter_name="default"),
            transformer_lora_adapter_metadata=trained.transformer.peft_config["default"].to_dict(),
            weight_name=name,
        )
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("Nothing.")
    for name in ("diffusers", "peft", "named", "empty"):
        hub.add(f"someone/{name}", tmp_path / name)

    results = machine.run("client.py", "load_loras", tmp_path / "pipe")
    assert results["adapters"] == dict.fromkeys(("diffusers", "peft", "only one", "named"), [3, 3])
    assert results["left"] == 4
    assert "the repository 'someone/named' has no file 'moon.safetensors'" in results["no such file"]
    assert "'someone/empty' has none" in results["no weights"]
    assert "has no repository 'someone/nothing' that is open to you" in results["no repository"]
    assert "'someone/diffusers' has no revision 'v9'" in results["no revision"]
    errors = [results[name] for name in ("no such file", "no weights", "no repository", "no revision")]
    assert all(error.startswith("ValueError: ") and "\n" not in error for error in errors)


def test_a_hub_that_cannot_be_reached_is_named_on_one_line(hub, machine, pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    hub.server_close()
    results = machine.run("client.py", "meet_a_closed_port", tmp_path / "pipe")
    for name, message in results["messages"].items():
        assert f"{hub.endpoint} could not be reached (ConnectError: " in message and "\n" not in message, name
    # huggingface_hub would try again for half a minute.
    assert results["seconds"] < 20


def test_remote_code_needs_no_package(hub, machine, pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    export_remote_code(tmp_path / "pipe", tmp_path / "self-contained")
    hub.add("someone/lumos", tmp_path / "pipe")
    hub.add("someone/self-contained", tmp_path / "self-contained")
    sources = [tmp_path / "pipe", tmp_path / "self-contained", "someone/lumos", "someone/self-contained"]
    input_ids = torch.arange(pipe.transformer.config.vocab_size).view(2, -1)
    torch.save(input_ids, tmp_path / "ids.pt")

    environment = {} if PLAIN_PYTHON else {"PYTHONPATH": str(NO_PACKAGE)}
    machine.run(
        "client_without_lumos_hf.py",
        tmp_path / "ids.pt",
        tmp_path / "results.pt",
        *sources,
        python=PLAIN_PYTHON or sys.executable,
        **environment,
    )

    installed = LumosVideoPipeline.from_pretrained(tmp_path / "pipe")
    installed.set_progress_bar_config(disable=True)
    with torch.no_grad():
        logits = installed.transformer(input_ids).logits
    prompt, generator = "A red star jumps in the snow.", torch.Generator().manual_seed(0)
    frames = installed(prompt, generator=generator, output_type="pt").frames
    from_directory, from_hub = torch.load(tmp_path / "results.pt", weights_only=True)
    for results in (from_directory, from_hub):
        assert torch.equal(results["model"], logits)
        assert torch.equal(results["pipeline's model"], logits)
        assert torch.equal(results["frames"], frames)
    # Directories are loaded without a request.
    assert {path for path in hub.requests if "someone/" not in path} <= {"/api/agent-harnesses"}
