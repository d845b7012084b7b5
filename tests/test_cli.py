# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import logging
import re
from importlib.metadata import version
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import PIL.Image
import pytest
import torch
import typer
from assemble import demo_pipeline
from train_tokenizer import demo_tokenizer
from typer.testing import CliRunner

from lumos_hf import LumosForCausalLM, LumosVideoPipeline, demo
from lumos_hf.cli import app
from lumos_hf.data.clip_reading import read_first_frames
from lumos_hf.evaluation.vocabulary import demo_config
from lumos_hf.media import read_settings, write_media


PROMPT = "A red star jumps in the snow."
SMALL = ["--height", "32", "--width", "64", "--num-frames", "5", "--steps", "2"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The demo's pipeline with random weights."""
    directory = tmp_path_factory.mktemp("checkpoint")
    vqvae = demo_tokenizer()
    config = demo_config(vqvae.codebook_size, vqvae.config.spatial_compression_ratio)
    demo_pipeline(LumosForCausalLM(config), vqvae).save_pretrained(directory)
    return str(directory)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lumos_hf(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def generate(checkpoint, *arguments):
    result = lumos_hf("generate", PROMPT, "--model", checkpoint, *SMALL, *arguments)
    assert result.exit_code == 0, result.output
    return result


def error_of(*arguments):
    """The message of a call that must fail: one line instead of a traceback."""
    result = lumos_hf("generate", *arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("Error: ")
    return message


@pytest.mark.slow
def test_one_generation_is_written_in_all_formats(checkpoint):
    result = generate(checkpoint, "--seed", 3, "--fps", 4, "-o", "a.mp4", "-o", "new/a.gif", "--output", "a.png")

    video = iio.imread("a.mp4", plugin="pyav")
    assert video.shape == (5, 32, 64, 3)
    assert iio.immeta("a.mp4", plugin="pyav")["fps"] == 4
    with PIL.Image.open("new/a.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (5, (64, 32), 250)
    with PIL.Image.open("a.png") as sheet:
        assert sheet.width > 3 * 64 and sheet.height > 2 * 32
    assert "Wrote a.mp4 (5 frames of 64x32, seed 3)." in result.stdout


@pytest.mark.slow
def test_frames_are_those_of_the_pipeline(checkpoint):
    generate(
        checkpoint, "--seed", 3, "--num-frames", 1, "--guidance-scale", 3, "--history-mask-ratio", 0.5, "-o", "a.png"
    )
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        PROMPT,
        height=32,
        width=64,
        num_frames=1,
        num_inference_steps=2,
        guidance_scale=3.0,
        history_mask_ratio=0.5,
        generator=torch.Generator().manual_seed(3),
    ).frames[0][0]
    with PIL.Image.open("a.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(expected))


@pytest.mark.slow
def test_the_fast_preset(checkpoint):
    generate(checkpoint, "--seed", 3, "--fast", "-o", "a.png")
    generate(checkpoint, "--seed", 3, "-o", "exact.png")
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe(
        PROMPT,
        height=32,
        width=64,
        num_frames=5,
        num_inference_steps=2,
        approximations="fast",
        generator=torch.Generator().manual_seed(3),
    ).frames[0]
    write_media(Path("b.png"), frames, fps=8, settings=read_settings("a.png"))
    fast, expected, exact = (Path(f"{name}.png").read_bytes() for name in ("a", "b", "exact"))
    assert fast == expected != exact


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mp4", "gif", "png"])
def test_files_say_how_they_were_made(checkpoint, ending):
    PIL.Image.new("RGB", (64, 32), "red").save("red.png")
    options = [
        "--seed",
        3,
        "--num-videos-per-prompt",
        2,
        "--negative-prompt",
        "at night",
        "--image",
        "red.png",
        "--fast",
    ]
    generate(checkpoint, *options, "--scale", 2, "-o", f"a.{ending}")
    assert read_settings(f"a-1.{ending}") == {
        "lumos_hf": version("lumos_hf"),
        "checkpoint": Path(checkpoint).name,
        "prompt": PROMPT,
        "negative_prompt": "at night",
        "seed": 4,
        "height": 32,
        "width": 64,
        "num_frames": 5,
        "fps": 8,
        "num_inference_steps": 2,
        "guidance_scale": 1.5,
        "history_mask_ratio": 0.7,
        "approximations": "fast",
        "given": "image",
    }


@pytest.mark.slow
def test_seeds_make_videos_again(checkpoint, working_directory):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate(checkpoint, "--seed", seed, "-o", f"{name}.png")
    first, again, other = ((working_directory / f"{name}.png").read_bytes() for name in "abc")
    assert first == again != other


@pytest.mark.slow
def test_files_are_named_after_prompt_and_seed_by_default(checkpoint, working_directory):
    generate(checkpoint, "--seed", 3)
    generate(checkpoint, "--seed", 4, "--num-frames", 1)
    names = {path.name for path in (working_directory / "outputs").iterdir()}
    assert names == {"a-red-star-jumps-in-the-snow-3.mp4", "a-red-star-jumps-in-the-snow-4.png"}


@pytest.mark.slow
def test_a_random_seed_is_told(checkpoint, working_directory):
    result = generate(checkpoint, "-o", "a.png")
    seed = result.stdout.split("seed ")[1].split(")")[0]
    generate(checkpoint, "--seed", seed, "-o", "b.png")
    assert (working_directory / "a.png").read_bytes() == (working_directory / "b.png").read_bytes()


@pytest.mark.slow
def test_written_frames_can_be_enlarged(checkpoint):
    generate(checkpoint, "--scale", 3, "-o", "a.mp4")
    assert iio.imread("a.mp4", plugin="pyav").shape == (5, 96, 192, 3)


@pytest.mark.slow
def test_a_video_begins_with_a_given_image(checkpoint):
    PIL.Image.new("RGB", (64, 32), "red").save("red.png")
    PIL.Image.new("RGB", (64, 32), "blue").save("blue.png")
    for color in ("red", "blue"):
        generate(checkpoint, "--seed", 0, "--image", f"{color}.png", "-o", f"from_{color}.mp4")
    from_red, from_blue = (iio.imread(f"from_{color}.mp4", plugin="pyav") for color in ("red", "blue"))
    assert from_red.shape == (5, 32, 64, 3)
    assert not np.array_equal(from_red[0], from_blue[0])


@pytest.mark.slow
def test_a_video_continues_a_given_one(checkpoint):
    """Its frames at 8 frames per second are every third of the file's 24."""
    frames = [PIL.Image.new("RGB", (64, 32), (20 * index, 0, 0)) for index in range(13)]
    write_media("given.mp4", frames, fps=24)
    arguments = ["--seed", 0, "--fps", 8, "--num-frames", 9]
    generate(checkpoint, *arguments, "--video", "given.mp4", "-o", "continued.png")
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    with open("given.mp4", "rb") as file:
        given = read_first_frames(file, num_frames=9, fps=8)
    reds = [np.asarray(frame)[..., 0].mean() for frame in given]
    assert np.allclose(reds, [0, 60, 120, 180, 240][: len(reds)], atol=6) and len(reds) in (4, 5)
    expected = pipe(
        PROMPT,
        video=given,
        height=32,
        width=64,
        num_frames=9,
        fps=8,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
    ).frames[0]
    write_media("expected.png", expected, settings=read_settings("continued.png"))
    assert Path("continued.png").read_bytes() == Path("expected.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "text.mp4"], "`--video` 'text.mp4' cannot be used"),
        (["--video", "text.mp4", "--image", "text.mp4"], "At most one of `--image` and `--video`"),
    ],
)
def test_bad_videos_are_told(checkpoint, working_directory, arguments, message):
    (working_directory / "text.mp4").write_text("no video")
    assert message in error_of(PROMPT, "--model", checkpoint, *SMALL, *arguments)


def as_pixels(frames):
    return np.stack([np.asarray(frame) for frame in frames])


def red_clip(num_frames):
    return [PIL.Image.new("RGB", (64, 32), (25 * index, 0, 0)) for index in range(num_frames)]


@pytest.mark.slow
def test_a_video_is_edited_where_its_mask_is_white(checkpoint):
    write_media("clip.gif", red_clip(5), fps=10)
    mask = np.zeros((32, 64), np.uint8)
    mask[:, :16] = 255
    PIL.Image.fromarray(mask).save("mask.png")
    arguments = ["--seed", 0, "--fps", 10, "--edit", "clip.gif", "--mask", "mask.png"]
    generate(checkpoint, *arguments, "-o", "edited.png")
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    with open("clip.gif", "rb") as file:
        given = read_first_frames(file, num_frames=5, fps=10)
    frames = pipe(
        PROMPT,
        video=given,
        mask=PIL.Image.fromarray(mask),
        height=32,
        width=64,
        num_frames=5,
        num_inference_steps=2,
        fps=10,
        generator=torch.Generator().manual_seed(0),
    ).frames[0]
    write_media("expected.png", frames)
    with PIL.Image.open("edited.png") as sheet, PIL.Image.open("expected.png") as expected:
        assert np.array_equal(np.asarray(sheet), np.asarray(expected))
    # Half of a code's width from the mask on, nothing is touched.
    assert np.array_equal(as_pixels(frames)[:, :, 16 + 8 :], as_pixels(given)[:, :, 16 + 8 :])

    PIL.Image.new("RGB", (64, 32), "red").save("red.png")
    generate(checkpoint, "--seed", 0, "--num-frames", 1, "--edit", "red.png", "--strength", 0, "-o", "same.png")
    generate(checkpoint, "--seed", 0, "--num-frames", 1, "--edit", "red.png", "--strength", 1, "-o", "other.png")
    with PIL.Image.open("same.png") as same, PIL.Image.open("other.png") as other:
        assert not np.array_equal(np.asarray(same), np.asarray(other))


@pytest.mark.slow
def test_a_video_goes_on_past_the_length_of_the_checkpoint_with_another_prompt(checkpoint):
    """Written to an mp4 while it is made."""
    write_media("clip.mp4", red_clip(9), fps=8)
    segment = ["--segment", "9:A blue heart waits at night."]
    arguments = ["--seed", 0, "--fps", 8, "--continue", "clip.mp4", "--num-frames", 17, *segment]
    result = generate(checkpoint, *arguments, "-o", "long.mp4")
    assert "Wrote long.mp4 (17 frames of 64x32, seed 0)." in result.stdout
    assert iio.imread("long.mp4", plugin="pyav").shape == (17, 32, 64, 3)
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    with open("clip.mp4", "rb") as file:
        given = read_first_frames(file, num_frames=9, fps=8)
    frames = pipe(
        PROMPT,
        video=given,
        height=32,
        width=64,
        num_frames=17,
        num_inference_steps=2,
        prompt_segments=[{"start_frame": 9, "text": "A blue heart waits at night."}],
        generator=torch.Generator().manual_seed(0),
    ).frames[0]
    write_media("expected.mp4", frames, fps=8)
    assert np.array_equal(iio.imread("long.mp4", plugin="pyav"), iio.imread("expected.mp4", plugin="pyav"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--edit", "red.png"], "`--edit` needs one of `--mask` and `--strength`, which say what is made again"),
        (
            ["--edit", "red.png", "--mask", "red.png", "--strength", "1"],
            "`--edit` needs one of `--mask` and `--strength`",
        ),
        (["--mask", "red.png"], "`--mask` and `--strength` can be given with `--edit` only"),
        (["--edit", "red.png", "--image", "red.png"], "At most one of `--image` and `--edit` can be given"),
        (["--edit", "red.png", "--strength", "2"], "`--strength` must be a number in [0, 1], got 2.0"),
        (["--segment", "soon: A red star jumps."], "`--segment` must be FRAME:TEXT"),
        (["--segment", "24:"], "`--segment` must be FRAME:TEXT"),
        (["--segment", "99:A red star waits."], "must start before frame `num_frames` (5), got 99"),
        (["--continue", "text.mp4"], "`--continue` 'text.mp4' cannot be used"),
    ],
)
def test_options_that_direct_are_checked(checkpoint, working_directory, arguments, message):
    PIL.Image.new("RGB", (64, 32), "red").save("red.png")
    (working_directory / "text.mp4").write_text("no video")
    error = error_of(PROMPT, "--model", checkpoint, *SMALL, *arguments)
    assert message.replace("`num_frames`", "`--num-frames`") in error


@pytest.mark.slow
def test_the_demo_checkpoint_is_the_default_and_named(checkpoint, monkeypatch):
    monkeypatch.setattr(demo, "_CHECKPOINT", demo.Path(checkpoint))
    result = lumos_hf("generate", PROMPT, *SMALL, "-o", "a.mp4")
    assert result.exit_code == 0
    assert "demo checkpoint" in result.stderr and "--model" in result.stderr


@pytest.mark.slow
def test_words_that_the_checkpoint_does_not_know_are_named(checkpoint, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("lumos_hf"), "propagate", True)
    lumos_hf("generate", "A red dragon in the snow.", "--model", checkpoint, *SMALL, "-o", "a.mp4")
    assert "has words that the checkpoint does not know: dragon." in caplog.text


@pytest.mark.slow
def test_turbo_of_the_demo():
    result = lumos_hf("generate", "A red star jumps in the snow.", "--turbo", "--seed", "0", "-o", "a.mp4")
    assert result.exit_code == 0, result.output
    settings = read_settings("a.mp4")
    assert settings["num_inference_steps"] == [6, 1] and settings["guidance_scale"] == 1.0
    assert settings["lora"] == ["turbo:1"]
    assert "num_inference_steps=[6, 1]" in (demo.demo_checkpoint() / "turbo" / "README.md").read_text()
    weights = demo.demo_checkpoint() / "turbo" / "pytorch_lora_weights.safetensors"
    assert weights.stat().st_size <= 2 * 10**6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.mp4", "-o", "a.avi"], "must end in one of .mp4, .gif, .png, got 'a.avi'"),
        (["--height", "33", "-o", "a.mp4"], "`--height` .* got 33"),
        (["--num-frames", "0", "-o", "a.mp4"], "`--num-frames` .* got 0"),
        (["--guidance-scale", "nan", "-o", "a.mp4"], "`--guidance-scale` .* got nan"),
        (["--steps", "0", "-o", "a.mp4"], "`--num-inference-steps` .* got 0"),
        (["--steps", "3,0", "-o", "a.mp4"], r"`.*num.inference.steps.*` must be a positive integer, got 0"),
        (["--steps", "3,", "-o", "a.mp4"], "`--num-inference-steps` must be N or N,N..., such as 12,3, got '3,'"),
        (["--fast", "--turbo", "-o", "a.mp4"], "`--turbo` must be given without `--fast`"),
        (["--history-mask-ratio", "2", "-o", "a.mp4"], "`--history-mask-ratio` .* got 2"),
        (["--num-videos-per-prompt", "0", "-o", "a.mp4"], "`--num-videos-per-prompt` .* got 0"),
        (["--scale", "100000", "-o", "a.mp4"], "`--scale` .* at most 8192 .* got 100000"),
        (["-o", "a.mp4", "-o", "a.mp4"], "`--output` must name different files"),
        (["--device", "meta", "-o", "a.mp4"], "`--device` .* got 'meta'"),
        (["--device", "toaster", "-o", "a.mp4"], "`--device` .* got 'toaster'"),
    ],
)
def test_bad_options_are_one_line_and_leave_no_file(checkpoint, working_directory, arguments, message):
    error = error_of(PROMPT, "--model", checkpoint, *SMALL, *arguments)
    assert re.search(message, error)
    assert list(working_directory.iterdir()) == []


def test_an_unknown_ending_is_refused_before_a_model_is_loaded():
    assert "got 'a.avi'" in error_of(PROMPT, "--model", "no/such-model", "-o", "a.avi")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--width", "-32"], "`--width` .* got -32"),
        (["--fps", "0"], "`--fps` .* got 0"),
        (["--scale", "90000"], "`--scale` .* got 90000"),
        (["-o", "file/a.mp4"], "`--output` .* got 'file/a.mp4'"),
    ],
)
def test_options_are_checked_before_anything_is_loaded(working_directory, monkeypatch, arguments, message):
    (working_directory / "file").touch()
    monkeypatch.setattr(LumosVideoPipeline, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    assert re.search(message, error_of(PROMPT, "--model", ".", *arguments))


@pytest.mark.slow
def test_debug_shows_where_an_error_comes_from():
    arguments = ["generate", PROMPT, "--height", "33"]
    assert "Traceback" not in lumos_hf(*arguments).stderr
    assert "in check_settings" in lumos_hf("--debug", *arguments).stderr


def test_the_version_is_told():
    assert lumos_hf("--version").stdout == f"lumos-hf {version('lumos_hf')}\n"


@pytest.mark.slow
def test_videos_of_one_prompt_have_seeds_and_files_of_their_own(checkpoint, working_directory):
    result = generate(checkpoint, "--seed", 3, "--num-videos-per-prompt", 2, "-o", "a.png")
    assert "Wrote a-0.png" in result.stdout and "seed 3" in result.stdout
    assert "Wrote a-1.png" in result.stdout and "seed 4" in result.stdout
    generate(checkpoint, "--seed", 4, "-o", "single.png")
    with PIL.Image.open("a-1.png") as batched, PIL.Image.open("single.png") as single:
        assert np.allclose(np.asarray(batched, int), np.asarray(single, int), atol=1)


@pytest.mark.slow
def test_old_option_names_are_still_taken(checkpoint, working_directory):
    for name, option in (("old", "--steps"), ("new", "--num-inference-steps")):
        generate(checkpoint, "--seed", 3, option, 3, "-o", f"{name}.png")
    assert (working_directory / "old.png").read_bytes() == (working_directory / "new.png").read_bytes()


@pytest.mark.slow
def test_empty_prompts_are_refused(checkpoint):
    assert "`prompt` must not be empty" in error_of(" ", "--model", checkpoint, "-o", "a.mp4")


def test_missing_models_are_named(working_directory):
    missing = working_directory / "missing"
    assert f"got '{missing}'" in error_of(PROMPT, "--model", missing)


def test_incomplete_checkpoints_are_told_with_the_missing_files(working_directory):
    (working_directory / "empty").mkdir()
    assert "model_index.json" in error_of(PROMPT, "--model", "empty")


def test_broken_images_are_told(checkpoint, working_directory):
    (working_directory / "broken.png").write_bytes(b"not a picture")
    assert "broken.png" in error_of(PROMPT, "--model", checkpoint, *SMALL, "--image", "broken.png")


@pytest.mark.slow
def test_a_failing_write_is_told_and_leaves_earlier_files(checkpoint, working_directory):
    generate(checkpoint, "--seed", 0, "-o", "a.png")
    before = (working_directory / "a.png").read_bytes()
    (working_directory / "taken.png").mkdir()
    error_of(PROMPT, "--model", checkpoint, *SMALL, "--seed", 1, "-o", "taken.png", "-o", "a.png")
    assert (working_directory / "a.png").read_bytes() == before
    assert sorted(path.name for path in working_directory.iterdir()) == ["a.png", "taken.png"]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_shows_the_commands(arguments):
    assert "generate" in lumos_hf(*arguments).output


COMMANDS = [command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_every_help_page_can_be_read(command, columns):
    """Options of every command are named, and nothing of a text is lost to markup, whatever the width."""
    result = CliRunner(env={"COLUMNS": str(columns), "TERM": "dumb"}).invoke(app, [command, "--help"])
    assert result.exit_code == 0, result.exception
    assert max(map(len, result.output.splitlines())) <= columns
    if columns == 200:
        documentation = typer.main.get_command(app).commands[command].help
        assert words_of(documentation) in words_of(result.output)


def words_of(text):
    return " ".join(re.findall(r"[\w/@]+", text))


def test_help_of_generate_shows_its_options():
    output = lumos_hf("generate", "--help").output
    for option in ("--output", "--model", "--image", "--num-frames", "--steps", "--guidance-scale", "--seed"):
        assert option in output
