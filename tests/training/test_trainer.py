# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What a stock `Trainer` makes of batches, interruptions and several processes, and the callbacks of this package."""

import importlib.util
import json
import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.token_layout import derive_layout
from lumos_hf.training import DataCollatorForDiffusionForcing
from lumos_hf.training.callbacks import FrameLossCallback, SampleGridCallback, frame_losses
from lumos_hf.training.trainer_checkpoints import is_finished, last_complete_checkpoint, record_finished, resume


pytestmark = pytest.mark.slow


# Whose imports are done.
FORK = multiprocessing.get_context("fork")
SCRIPT = Path(__file__).with_name("trainer_runs.py")


def load_script():
    spec = importlib.util.spec_from_file_location("trainer_runs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runs = load_script()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Losses of an undisturbed run of one process, through two epochs."""
    trainer = runs.build_trainer(tmp_path_factory.mktemp("unbroken"), runs.batched_clips())
    trainer.train()
    assert trainer.state.epoch > 1
    return runs.losses(trainer)


@pytest.fixture
def clips():
    return runs.seeded_clips()


def test_a_batch_of_8_is_2_accumulated_batches_of_4(tmp_path, clips):
    losses = []
    for accumulated in (1, 2):
        trainer = runs.build_trainer(
            tmp_path, clips, per_device_train_batch_size=8 // accumulated, gradient_accumulation_steps=accumulated
        )
        trainer.train()
        losses.append(runs.losses(trainer))
    assert len(losses[0]) == runs.STEPS
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)


@pytest.mark.parametrize("kill_at", [1, 6])
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, unbroken, kill_at):
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    trainer = runs.build_trainer(tmp_path, runs.batched_clips(), [runs.KillCallback(kill_at)], **saving)
    process = FORK.Process(target=trainer.train)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL

    checkpoint = last_complete_checkpoint(tmp_path)
    assert Path(checkpoint).name == f"checkpoint-{kill_at}"
    resumed = runs.build_trainer(tmp_path, runs.batched_clips(), **saving)
    resumed.train(resume_from_checkpoint=checkpoint)
    assert runs.losses(resumed) == pytest.approx(unbroken, abs=1e-6)


def test_half_written_checkpoints_are_passed_over(tmp_path):
    assert last_complete_checkpoint(tmp_path) is None
    for step, state in ((9, '{"global_step": 9}'), (10, '{"global_'), (11, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")


def test_other_checkpoints_are_passed_over(tmp_path):
    for name in ("best", "9", "last-x"):
        (tmp_path / f"checkpoint-{name}").mkdir()
        (tmp_path / f"checkpoint-{name}" / "trainer_state.json").write_text("{}")
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")


def test_a_run_that_has_no_step_left_takes_none(tmp_path):
    """As after a kill between the last checkpoint and what is written then."""
    trainer = runs.build_trainer(tmp_path, runs.batched_clips(), max_steps=3, save_strategy="steps", save_steps=2)
    resume(trainer)
    assert trainer.state.global_step == 3
    expected = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    assert not is_finished(trainer.args, tmp_path)

    for _ in range(2):
        again = runs.build_trainer(tmp_path, runs.batched_clips(), max_steps=3, save_strategy="steps", save_steps=2)
        resume(again)
        assert again.state.global_step == 3
        assert all(torch.equal(weight, expected[name]) for name, weight in again.model.state_dict().items())
        assert Path(last_complete_checkpoint(tmp_path)).name == "checkpoint-3"

    record_finished(again, tmp_path)
    assert is_finished(again.args, tmp_path)
    again.args.max_steps = 4
    assert not is_finished(again.args, tmp_path)


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def run_as_rank(rank, world_size, port, output):
    """What torchrun starts, in a process that was forked."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    AcceleratorState._reset_state(reset_partial_state=True)
    runs.main(output)


def test_two_processes_are_one(tmp_path):
    port = free_port()
    processes = [FORK.Process(target=run_as_rank, args=(rank, 2, port, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=200)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    several = json.loads((tmp_path / "losses.json").read_text())
    assert (several["world_size"], several["parallel_mode"]) == (2, "distributed")
    one = runs.build_trainer(tmp_path, runs.batched_clips(), gradient_accumulation_steps=2)
    one.train()
    assert several["ddp"] == pytest.approx(runs.losses(one), abs=1e-4)
    assert several["fsdp2"] == pytest.approx(runs.plain_losses(), abs=1e-4)


def test_losses_depend_on_what_was_learned(tmp_path, unbroken):
    """Else the comparisons above would compare little but the data."""
    trainer = runs.build_trainer(tmp_path, runs.batched_clips(), learning_rate=0.0)
    trainer.train()
    untrained = runs.losses(trainer)
    assert untrained[0] == pytest.approx(unbroken[0], abs=1e-6)
    assert min(abs(loss - other) for loss, other in zip(untrained[1:], unbroken[1:], strict=True)) > 1e-3


def test_frame_losses_are_the_loss_of_the_labels_of_a_frame(clips):
    model = runs.tiny_model().eval()
    collator = DataCollatorForDiffusionForcing(model.config, prompt_drop_probability=0)
    batches = [collator(clips[:3]), collator(clips[3:6])]
    measured = frame_losses(model, batches)
    assert len(measured) == 3
    for frame, loss in enumerate(measured):
        total, count = 0.0, 0
        for batch in batches:
            _, frame_ids = derive_layout(batch["input_ids"], model.config, batch["attention_mask"])
            labels = batch["labels"].masked_fill(frame_ids != frame, -100)
            total += model(**{**batch, "labels": labels}, num_items_in_batch=1).loss.item()
            count += (labels != -100).sum().item()
        assert loss == pytest.approx(total / count, abs=1e-5)


def test_frame_losses_are_logged_and_plotted(tmp_path, clips):
    trainer = runs.build_trainer(tmp_path, clips, eval_strategy="steps", eval_steps=1, max_steps=2)
    trainer.add_callback(FrameLossCallback(trainer, clips[:4]))
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "eval_frame_0_loss" in entry]
    assert [entry["step"] for entry in logged] == [1, 2]
    assert {name for name in logged[0] if name.startswith("eval_frame")} == {
        f"eval_frame_{frame}_loss" for frame in range(3)
    }
    assert (tmp_path / "frame_loss.png").stat().st_size > 0
    with pytest.raises(ValueError, match="`clips` must hold at least one clip"):
        FrameLossCallback(trainer, [])


@pytest.mark.parametrize("preprocessed", (False, True))
def test_metrics_of_a_stock_trainer(tmp_path, clips, preprocessed):
    """Over batches of different lengths; every label is compared with what the model says of it."""
    measured = []

    def compute_metrics(prediction):
        counts = prediction.label_ids != -100
        codes = prediction.predictions if preprocessed else prediction.predictions.argmax(-1)
        offset = trainer.model.config.visual_token_offset
        measured.extend(codes[counts].tolist())
        return {"accuracy": (codes[counts] + offset == prediction.label_ids[counts]).mean()}

    trainer = runs.build_trainer(
        tmp_path,
        clips,
        per_device_eval_batch_size=5,
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=(lambda logits, labels: logits.argmax(-1)) if preprocessed else None,
    )
    metrics = trainer.evaluate()

    model, collator = trainer.model, trainer.data_collator
    expected, correct, total = [], 0, 0.0
    for start in range(0, len(clips), 5):
        batch = collator(clips[start : start + 5])
        counts = batch["labels"] != -100
        with torch.no_grad():
            logits = model(**{**batch, "labels": None}, logits_to_keep=counts, visual_logits_only=True).logits
            total += model(**batch, num_items_in_batch=1, skip_logits=True).loss.item()
        expected += logits.argmax(-1).tolist()
        correct += (logits.argmax(-1) + model.config.visual_token_offset == batch["labels"][counts]).sum().item()
    assert measured == expected
    assert metrics["eval_accuracy"] == pytest.approx(correct / len(expected))
    assert metrics["eval_loss"] == pytest.approx(total / len(expected), rel=0.05)


def test_predictions_with_a_cache(tmp_path, clips):
    trainer = runs.build_trainer(tmp_path, clips)
    collate = trainer.data_collator
    trainer.data_collator = lambda features: {**collate(features), "use_cache": True}
    prediction = trainer.predict(clips[:3])
    assert prediction.predictions.shape == (*prediction.label_ids.shape, 64)


def test_evaluation_of_the_loss_alone_makes_no_logits(tmp_path, clips):
    trainer = runs.build_trainer(tmp_path, clips)
    expected = trainer.evaluate()["eval_loss"]
    trainer.data_collator.skip_logits = True
    assert trainer.predict(clips[:2]).predictions == ()
    assert trainer.evaluate()["eval_loss"] == expected


def test_labels_of_everything_are_refused(tmp_path, clips):
    trainer = runs.build_trainer(tmp_path, clips, max_steps=1)
    collate = trainer.data_collator
    trainer.data_collator = lambda features: {**(batch := collate(features)), "labels": batch["input_ids"]}
    with pytest.raises(ValueError, match="`labels` must be visual ids .* as a Trainer counts all others too"):
        trainer.train()


def test_smoothing_over_all_of_the_vocabulary_is_refused(tmp_path, clips):
    trainer = runs.build_trainer(tmp_path, clips, max_steps=1, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="`label_smoothing_factor`, which would smooth over text as well"):
        trainer.train()


def test_samples_do_not_disturb_the_run(tmp_path, unbroken):
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    pipe.register_to_config(default_num_inference_steps=1, default_num_frames=5)
    sampling = SampleGridCallback(pipe, ["A red star jumps.", "A blue heart."], every_steps=2)
    trainer = runs.build_trainer(tmp_path, runs.batched_clips(), [sampling])
    trainer.train()
    assert runs.losses(trainer) == unbroken
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "step-000002.png",
        "step-000004.png",
        "step-000006.png",
    ]


@pytest.mark.parametrize(
    "changes, message",
    (
        ({"prompts": []}, "`prompts` must hold at least one prompt"),
        ({"every_steps": 0}, "`every_steps` must be at least 1, got 0"),
        ({"max_columns": 0}, "`max_columns` must be at least 1, got 0"),
    ),
)
def test_bad_settings_of_samples(changes, message):
    with pytest.raises(ValueError, match=message):
        SampleGridCallback(**{"pipe": None, "prompts": ["a"], "every_steps": 1, **changes})
