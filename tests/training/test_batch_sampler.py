# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from tiny_models import tiny_batch_config
from transformers import Trainer, TrainerCallback, TrainingArguments

from lumos_hf.modeling_lumos import LumosForCausalLM
from lumos_hf.training import BatchedDataset, BucketBatchSampler, DataCollatorForDiffusionForcing


# Latent frames, height, width.
SHAPES = [(1, 4, 4)] * 9 + [(1, 4, 8)] * 8 + [(2, 4, 4)] * 5 + [(3, 4, 4)] * 4
VISUAL_VOCAB_SIZE = 8


@pytest.fixture(scope="module")
def config():
    return tiny_batch_config(VISUAL_VOCAB_SIZE)


@pytest.fixture(scope="module")
def clips():
    order = np.random.default_rng(0).permutation(len(SHAPES))
    return [
        {"codes": np.full(SHAPES[shape], shape % VISUAL_VOCAB_SIZE), "text_ids": [shape + 1], "fps": 4}
        for shape in order
    ]


def shapes_of_batches(batches, clips):
    return [[clips[index]["codes"].shape for index in batch] for batch in batches]


def test_every_clip_comes_once(clips):
    sampler = BucketBatchSampler(clips)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 3 + 9
        assert sorted(index for batch in batches for index in batch) == list(range(len(clips)))


@pytest.mark.parametrize("image_batch_size, video_batch_size", ((6, 1), (2, 2), (4, 3), (100, 100)))
def test_each_kind_has_its_batch_size(clips, image_batch_size, video_batch_size):
    batches = shapes_of_batches(BucketBatchSampler(clips, image_batch_size, video_batch_size), clips)
    for is_image, batch_size, num_clips in ((True, image_batch_size, 17), (False, video_batch_size, 9)):
        sizes = [len(batch) for batch in batches if (batch[0][0] == 1) == is_image]
        rest = num_clips % batch_size
        assert sorted(sizes, reverse=True) == [batch_size] * (num_clips // batch_size) + [rest] * (rest > 0)
    assert all(len({frames == 1 for frames, *_ in batch}) == 1 for batch in batches)


def test_shapes_stay_together(clips):
    batches = shapes_of_batches(BucketBatchSampler(clips, image_batch_size=3, video_batch_size=2), clips)
    mixed = [set(batch) for batch in batches if len(set(batch)) > 1]
    # Nine small images fill three batches. Of five short videos the last one needs company.
    assert mixed == [{(2, 4, 4), (3, 4, 4)}]


def test_order_depends_on_seed_and_epoch_only(clips):
    def order(seed, epoch):
        torch.manual_seed(epoch)
        sampler = BucketBatchSampler(clips, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    batches = [{frozenset(batch) for batch in order(*key) if len(batch) > 1} for key in ((0, 0), (0, 1), (1, 0))]
    assert not batches[0] & batches[1] and not batches[0] & batches[2] and not batches[1] & batches[2]
    kinds = [clips[batch[0]]["codes"].shape[0] for batch in order(0, 0)]
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)


def test_size_columns_are_read_instead_of_codes(clips):
    datasets = pytest.importorskip("datasets")
    sizes = [(4 * t - 3, 8 * h, 8 * w) for t, h, w in (clip["codes"].shape for clip in clips)]
    columns = zip(("num_frames", "height", "width"), zip(*sizes, strict=True), strict=True)
    # Codes that would fail to be read as such.
    table = datasets.Dataset.from_dict({**{name: list(column) for name, column in columns}, "codes": [0] * len(clips)})
    assert list(BucketBatchSampler(table)) == list(BucketBatchSampler(clips))


def test_items_are_batches(clips, config):
    sampler = BucketBatchSampler(clips)
    dataset = BatchedDataset(clips, sampler)
    assert len(dataset) == len(sampler)
    for index, batch in enumerate(sampler):
        features = dataset.__getitems__([index])
        assert [feature["text_ids"] for feature in features] == [clips[clip]["text_ids"] for clip in batch]
    assert all("seed" not in clip for clip in clips)


def test_clips_have_other_seeds_in_each_epoch(clips):
    dataset = BatchedDataset(clips, BucketBatchSampler(clips))
    seeds = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        seeds += [feature["seed"] for index in range(len(dataset)) for feature in dataset.__getitems__([index])]
    assert len(set(seeds)) == 2 * len(clips)


def make_loader(clips, config, **options):
    dataset = BatchedDataset(clips, BucketBatchSampler(clips))
    collator = DataCollatorForDiffusionForcing(config)
    return torch.utils.data.DataLoader(dataset, batch_size=1, collate_fn=collator, **options)


def rows_of_epoch(loader, epoch):
    loader.set_epoch(epoch)
    return [batch["input_ids"] for batch in loader]


def assert_equal_batches(batches, expected):
    assert all(torch.equal(*pair) for pair in zip(batches, expected, strict=True))


@pytest.mark.slow
def test_processes_share_the_batches(clips, config):
    whole = prepare_data_loader(make_loader(clips, config))
    shares = [
        prepare_data_loader(make_loader(clips, config), num_processes=2, process_index=rank) for rank in range(2)
    ]
    for epoch in range(2):
        expected = rows_of_epoch(whole, epoch)
        for rank, share in enumerate(shares):
            assert_equal_batches(rows_of_epoch(share, epoch), expected[rank::2])
            # A run that is resumed in this epoch.
            fresh = prepare_data_loader(make_loader(clips, config), num_processes=2, process_index=rank)
            assert_equal_batches(rows_of_epoch(skip_first_batches(fresh, 3), epoch), expected[rank::2][3:])


@pytest.mark.slow
def test_workers_that_persist_see_the_epoch(clips, config):
    plain = prepare_data_loader(make_loader(clips, config))
    persistent = prepare_data_loader(make_loader(clips, config, num_workers=1, persistent_workers=True))
    for epoch in range(2):
        assert_equal_batches(rows_of_epoch(persistent, epoch), rows_of_epoch(plain, epoch))


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def train(clips, config, output, stop_at=None, resume=None):
    torch.manual_seed(0)
    trainer = Trainer(
        model=LumosForCausalLM(config),
        args=TrainingArguments(
            output_dir=output,
            per_device_train_batch_size=1,
            train_sampling_strategy="sequential",
            gradient_accumulation_steps=2,
            num_train_epochs=2,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="steps",
            save_steps=2,
            report_to=[],
            use_cpu=True,
            remove_unused_columns=False,
            label_names=["labels"],
            disable_tqdm=True,
        ),
        train_dataset=BatchedDataset(clips, BucketBatchSampler(clips)),
        data_collator=DataCollatorForDiffusionForcing(config),
        callbacks=[StopAt(stop_at)],
    )
    trainer.train(resume_from_checkpoint=resume)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def unbroken_losses(clips, config, tmp_path_factory):
    return train(clips, config, tmp_path_factory.mktemp("unbroken"))


# There are six steps in an epoch.
@pytest.mark.slow
@pytest.mark.parametrize("stop_at", (2, 6, 8))
def test_stock_trainer_resumes_to_the_same_loss(clips, config, unbroken_losses, tmp_path, stop_at):
    train(clips, config, tmp_path, stop_at=stop_at)
    resumed_losses = train(clips, config, tmp_path, resume=str(tmp_path / f"checkpoint-{stop_at}"))
    assert len(unbroken_losses) == 12
    assert resumed_losses == pytest.approx(unbroken_losses, abs=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    (
        ({"image_batch_size": 0}, "`image_batch_size` must be at least 1, got 0"),
        ({"video_batch_size": -1}, "`video_batch_size` must be at least 1, got -1"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
        ({"dataset": []}, "`dataset` must hold at least one clip"),
    ),
)
def test_bad_settings(clips, changes, message):
    with pytest.raises(ValueError, match=message):
        BucketBatchSampler(**{"dataset": clips, **changes})


def test_batches_of_batches(clips):
    dataset = BatchedDataset(clips, BucketBatchSampler(clips))
    with pytest.raises(ValueError, match="`per_device_train_batch_size` must be 1, .* got 2"):
        dataset.__getitems__([0, 1])
