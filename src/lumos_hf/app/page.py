# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The page of `lumos-hf app`.

Notable:

- The page shows one clip: an upload or what was made last. It can be continued, or made again in part.
- A [`JobRunner`] does the work, so visitors take turns, and gradio's own queue holds nobody back. A visitor is a session of
  gradio: who leaves has their jobs cancelled.
- Uploads reach this module as paths and are read by the package's own readers.
- It may run for months: files lie in a directory of its own that is removed at its end, and what is kept of visitors, on disk
  and in memory, has an age and a size at which it is dropped.
"""

import asyncio
import html
import math
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ..call_inputs import unknown_words
from ..clip_html import clip_html
from ..demo import demo_checkpoint, known_words
from ..generation_defaults import check_settings, most_steps, resolve_default
from ..generation_record import generation_record
from ..serving import Job, JobRunner, JobState, JobStatus, QueueFull
from .clips import FORMATS, Clip, read_drawing, read_mask, read_upload, write_files
from .kept_data import ClipStore, limited_size, temporary_room


MAX_UPLOADED_BYTES = 50 * 1024 * 1024
# Seconds: files are removed after an hour, which is looked after every ten minutes.
_MAX_FILE_AGE, _FILE_AGE_INTERVAL = 3600, 600
# Before, if there are more bytes of them; looked after every ten seconds.
_MAX_FILE_BYTES, _FILE_SIZE_INTERVAL = 2 << 30, 10
# Of clips that visitors can go on from.
_MAX_CLIP_BYTES = 512 << 20
# Visitors of whom gradio keeps what their page shows.
_MAX_SESSIONS = 64
# Seconds between two steps that are told: quicker ones would take longer to tell than to make.
_SHORTEST_INTERVAL = 0.1
# The picture to draw on is enlarged to about so many pixels a side.
_CANVAS = 512

_DEMO_EXAMPLES = (
    "A purple heart floats up by the sea.",
    "A red star jumps in the snow.",
    "A green circle slides to the right at night.",
    "An orange heart to the left of a green circle in the meadow.",
)
_EXAMPLES = (
    "A cat runs over the grass.",
    "Waves break on a rocky coast at sunset, seen from above.",
    "A paper boat floats down a stream after the rain.",
)
_HINT = '<div class="lumos-hint">What you make, or upload, appears here.</div>'
_ADD_WORD = "(prompt) => (prompt.replace(/[.\\s]+$/, '') + ' {word}').trim()"

_Updates = dict[Any, Any]


class Page:
    """
    The page as `blocks`, for [`served_page`] to serve.

    Args:
        runner: makes the videos.
        checkpoint: where its pipeline was loaded from.
        directory: for files on their way to gradio.
    """

    def __init__(self, runner: JobRunner, checkpoint: str | Path, directory: str | Path):
        self.directory = directory
        self.clips = ClipStore(_MAX_CLIP_BYTES)
        self.runner, self.pipe, self.checkpoint = runner, runner.pipe, checkpoint
        self.is_demo = Path(checkpoint) == demo_checkpoint()
        self._examples = _DEMO_EXAMPLES if self.is_demo else _EXAMPLES
        self._jobs: dict[str, set[Job]] = {}
        with gr.Blocks(
            title="Lumos", analytics_enabled=False, delete_cache=(_FILE_AGE_INTERVAL, _MAX_FILE_AGE)
        ) as self.blocks:
            self._build()
        # The runner has a queue of its own.
        self.blocks.queue(default_concurrency_limit=None)

    # What is on the page

    def _build(self) -> None:
        gr.Markdown(self._heading(), elem_classes="lumos-head")
        with gr.Row(elem_id="layout"):
            with gr.Column(elem_id="request"):
                self._build_request()
            with gr.Column(elem_id="result"):
                self._build_result()
            with gr.Column(elem_id="extras"):
                self._build_extras()
        self._connect()

    def _heading(self) -> str:
        name = "its small demo checkpoint" if self.is_demo else f"`{Path(self.checkpoint).name}`"
        return f"# Lumos\nImages and video by a language model, here with {name}."

    def _build_request(self) -> None:
        self.prompt = gr.Textbox(
            self._examples[0], label="What is to be seen", lines=2, max_lines=6, max_length=2000, elem_id="prompt"
        )
        with gr.Row():
            self.generate = gr.Button("Generate", variant="primary", elem_id="generate")
            self.change = gr.Button("Go on with this prompt", visible=False, elem_id="change")
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
        self.upload = gr.UploadButton(
            "Upload an image or a video to start from", file_types=["image", "video"], size="sm", elem_id="upload"
        )

    def _build_extras(self) -> None:
        if self.is_demo:
            self._build_words()
        examples = [[example] for example in self._examples]
        gr.Examples(examples, self.prompt, label="Examples", api_visibility="private")
        with gr.Accordion("Settings", open=False):
            self.settings = self._build_settings()

    def _build_words(self) -> None:
        with gr.Accordion("Words that the demo knows", open=True, elem_id="words"):
            for kind, words in known_words().items():
                with gr.Row(elem_classes="lumos-words"):
                    for word in words:
                        button = gr.Button(word, size="sm", elem_classes=f"lumos-{kind}")
                        button.click(None, self.prompt, self.prompt, js=_ADD_WORD.format(word=word))

    def _build_settings(self) -> dict[str, gr.components.Component]:
        """By the names of the pipeline's arguments, and `seed` and `fast`."""
        limits, default = self.runner.limits, self._default
        with gr.Row():
            settings: dict[str, gr.components.Component] = {
                "seed": gr.Number(None, label="Seed", info="Makes the same video again; empty for a random one."),
                "num_frames": gr.Slider(
                    1,
                    limits.max_num_frames,
                    default("num_frames"),
                    step=self._frame_step,
                    label="Frames; 1 is an image",
                ),
            }
        with gr.Row():
            for name in ("width", "height"):
                settings[name] = gr.Number(default(name), label=f"{name.capitalize()} in pixels", step=32, precision=0)
        with gr.Row():
            settings["num_inference_steps"] = gr.Slider(
                1,
                limits.max_num_inference_steps,
                most_steps(default("num_inference_steps")),
                step=1,
                label="Steps per latent frame",
            )
            settings["guidance_scale"] = gr.Slider(
                1, max(20, default("guidance_scale")), default("guidance_scale"), step=0.1, label="Guidance scale"
            )
        settings["history_mask_ratio"] = gr.Slider(
            0, 1, default("history_mask_ratio"), step=0.05, label="Share of finished frames that later ones do not see"
        )
        settings["negative_prompt"] = gr.Textbox("", label="What is not to be seen", max_length=2000)
        settings["fast"] = gr.Checkbox(False, label="Faster, with hardly another result")
        return settings

    def _build_result(self) -> None:
        self.stage = gr.HTML(_HINT, elem_id="stage")
        self.progress = gr.HTML("", elem_id="progress")
        with gr.Row():
            self.downloads = {
                ending: gr.DownloadButton(
                    ending, size="sm", min_width=80, interactive=False, elem_id=f"download-{ending}"
                )
                for ending in FORMATS
            }
        with gr.Group(visible=False) as self.further:
            self.continue_ = gr.Button("Continue with the prompt", elem_id="continue")
            with gr.Accordion("Make a part of it again: draw over it", open=False, elem_id="edit-part"):
                self.editor = gr.ImageEditor(
                    label="Where you draw, every frame becomes what the prompt says",
                    show_label=False,
                    type="pil",
                    sources=(),
                    transforms=(),
                    layers=False,
                    brush=gr.Brush(default_size=48, colors=["#ff3d81"], color_mode="fixed"),
                    elem_id="editor",
                )
                # Its pictures come from the browser, so they are opened as uploads are.
                self.editor.convert_and_format_image = _opened_drawing
                self.edit = gr.Button("Make that part again", elem_id="edit")
            with gr.Accordion("How it was made", open=False, visible=False) as self.record:
                self.made = gr.JSON(show_label=False, elem_id="made")

    def _connect(self) -> None:
        settings = list(self.settings.values())
        outputs = [
            *(self.stage, self.progress, self.further, self.editor, self.record, self.made),
            *(self.generate, self.change, self.stop, self.upload, self.continue_, self.edit, *self.downloads.values()),
        ]
        self.generate.click(
            self._generate, [self.prompt, *settings], outputs, api_name="generate", show_progress="hidden"
        )
        self.prompt.submit(
            self._generate, [self.prompt, *settings], outputs, api_visibility="private", show_progress="hidden"
        )
        self.continue_.click(
            self._continue,
            [self.prompt, *settings],
            outputs,
            api_visibility="private",
            show_progress="hidden",
        )
        self.edit.click(
            self._edit,
            [self.editor, self.prompt, *settings],
            outputs,
            api_visibility="private",
            show_progress="hidden",
        )
        self.upload.upload(
            self._show_upload,
            [self.upload, self.settings["height"], self.settings["width"]],
            outputs,
            api_visibility="private",
            show_progress="hidden",
        )
        self.stop.click(self._stop, queue=False, api_name="stop")
        self.change.click(self._change_prompt, self.prompt, queue=False, api_visibility="private")
        self.blocks.unload(self._leave)

    # What happens on it

    async def _generate(self, request: gr.Request, prompt: str, *settings: Any) -> AsyncIterator[_Updates]:
        async for updates in self._make(self._arguments(prompt, settings), [], request):
            yield updates

    async def _continue(self, request: gr.Request, prompt: str, *settings: Any) -> AsyncIterator[_Updates]:
        """The last frames are given; what was before them stands before the result."""
        clip = self._existing_clip(request)
        arguments = self._arguments(prompt, settings)
        num_given = min(1 + self._frame_step, 1 + (len(clip.frames) - 1) // self._frame_step * self._frame_step)
        first = len(clip.frames) - num_given
        num_frames = max(arguments["num_frames"] or 0, num_given + self._frame_step)
        try:
            self.runner.limits.check(**self._size(clip), num_frames=first + num_frames)
        except ValueError as error:
            raise gr.Error(f"The video would be too long: {error}", print_exception=False) from error
        arguments |= {"video": clip.frames[first:], "num_frames": num_frames, **self._size(clip)}
        async for updates in self._make(arguments, clip.frames[:first], request, clip):
            yield updates

    async def _edit(
        self, request: gr.Request, drawing: dict[str, Any] | None, prompt: str, *settings: Any
    ) -> AsyncIterator[_Updates]:
        clip = self._existing_clip(request)
        layers = (drawing or {}).get("layers") or []
        if not layers:
            raise gr.Error("Draw over the part of the picture that is to be made again.", print_exception=False)
        arguments = self._arguments(prompt, settings)
        try:
            mask = read_mask(layers[0], **self._size(clip))
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        num_frames = len(clip.frames) - (len(clip.frames) - 1) % self._frame_step
        arguments |= {"video": clip.frames[:num_frames], "num_frames": num_frames, "mask": mask, **self._size(clip)}
        async for updates in self._make(arguments, [], request, clip):
            yield updates

    async def _show_upload(self, request: gr.Request, path: str, height: int, width: int) -> _Updates:
        limits, fps = self.runner.limits, int(self._default("fps"))
        try:
            check_settings(height=height, width=width)
            limits.check(height, width)
            clip = await asyncio.to_thread(
                read_upload, path, height=height, width=width, max_num_frames=limits.max_num_frames, fps=fps
            )
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        # The files are those of what was there before.
        downloads = dict.fromkeys(self.downloads.values(), gr.update(interactive=False))
        self.clips[str(request.session_hash)] = clip
        shown = await asyncio.to_thread(self._shown, clip, Path(path).name)
        return {**self._idle(), **shown, **downloads, self.progress: ""}

    def _stop(self, request: gr.Request) -> None:
        for job in list(self._jobs.get(str(request.session_hash), ())):
            self.runner.cancel(job)

    def _leave(self, request: gr.Request) -> None:
        self._stop(request)
        self.clips.discard(str(request.session_hash))

    def _change_prompt(self, request: gr.Request, prompt: str) -> None:
        try:
            for job in list(self._jobs.get(str(request.session_hash), ())):
                self.runner.change_prompt(job, prompt)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        self._warn_of_unknown_words(prompt)
        gr.Info("The video goes on with this prompt from the next latent frame on.", duration=3)

    # Jobs

    async def _make(
        self, arguments: dict[str, Any], before: list[Any], request: gr.Request, source: Clip | None = None
    ) -> AsyncIterator[_Updates]:
        """Runs a job and shows it; `before` are frames that stand before its own, `source` is what it goes on from."""
        seed = arguments.pop("seed")
        try:
            job = self.runner.submit(str(request.session_hash), arguments, seed)
        except (ValueError, QueueFull) as error:
            raise gr.Error(str(error), print_exception=False) from error
        self._warn_of_unknown_words(job.arguments["prompt"])
        jobs = self._jobs.setdefault(job.client, set())
        jobs.add(job)
        try:
            async for updates in self._follow(job, before):
                yield updates
            with tempfile.TemporaryDirectory(dir=self.directory) as directory:
                yield await asyncio.to_thread(self._finished, job, before, source, directory)
        except OSError as error:
            yield self._idle()
            raise gr.Error(f"The video could not be written: {error}.", print_exception=False) from error
        finally:
            # Of whoever leaves in the middle, nothing is made any more.
            self.runner.cancel(job)
            jobs.discard(job)
            if not jobs:
                self._jobs.pop(job.client, None)
        if job.status.state is JobState.FAILED:
            raise gr.Error(str(job.error), print_exception=False)

    async def _follow(self, job: Job, before: list[Any]) -> AsyncIterator[_Updates]:
        num_shown, last_told = 0, -math.inf
        yield self._busy()
        async for status in job.watch():
            # The end is told together with what it brings.
            if status.state.is_final:
                continue
            has_new_frames = status.num_frames > num_shown
            if status.step and not has_new_frames and time.monotonic() - last_told < _SHORTEST_INTERVAL:
                continue
            last_told = time.monotonic()
            updates: _Updates = {self.progress: _progress(status)}
            if has_new_frames:
                num_shown = status.num_frames
                updates[self.stage] = await asyncio.to_thread(self._picture, [*before, *job.frames], job.arguments)
            yield updates

    def _finished(self, job: Job, before: list[Any], source: Clip | None, directory: str) -> _Updates:
        """What the page shows once a job has ended, with files in `directory`."""
        frames = [*before, *job.frames]
        ended = {**self._idle(), self.progress: _progress(job.status)}
        if not job.frames:
            return ended
        arguments = {**job.arguments, "prompt_segments": job.prompt_segments or None}
        record = generation_record(self.pipe, arguments, seed=job.seed, checkpoint=self.checkpoint)
        if source is not None and source.settings:
            record["made_from"] = source.settings
        if job.status.state is not JobState.DONE:
            record["stopped_after"] = len(job.frames)
        clip = Clip(frames, record["fps"], record)
        self.clips[job.client] = clip
        files = write_files(clip, directory, f"lumos-{job.seed}")
        downloads = {
            self.downloads[ending]: gr.DownloadButton(value=path, interactive=True) for ending, path in files.items()
        }
        return {**ended, **self._shown(clip, record["prompt"]), **downloads}

    def _warn_of_unknown_words(self, prompt: str) -> None:
        words = unknown_words(self.pipe.tokenizer, [prompt])
        if words:
            gr.Warning(f"The checkpoint does not know: {html.escape(', '.join(words))}.")

    # What is shown

    def _busy(self) -> _Updates:
        hidden, shown = gr.update(visible=False), gr.update(visible=True)
        disabled = gr.update(interactive=False)
        return {
            self.generate: hidden,
            self.stop: shown,
            self.change: gr.update(visible=getattr(self.pipe, "can_change_prompt", True)),
            **dict.fromkeys((self.upload, self.continue_, self.edit, *self.downloads.values()), disabled),
        }

    def _idle(self) -> _Updates:
        hidden, shown = gr.update(visible=False), gr.update(visible=True)
        enabled = gr.update(interactive=True)
        return {
            self.generate: shown,
            **dict.fromkeys((self.change, self.stop), hidden),
            **dict.fromkeys((self.upload, self.continue_, self.edit), enabled),
        }

    def _shown(self, clip: Clip, description: str) -> _Updates:
        canvas = clip.frames[0].convert("RGB")
        factor = max(1, _CANVAS // max(canvas.size))
        return {
            self.stage: clip_html(clip.frames, clip.fps, description),
            self.further: gr.update(visible=True),
            self.editor: canvas.resize((canvas.width * factor, canvas.height * factor)),
            self.record: gr.update(visible=bool(clip.settings)),
            self.made: clip.settings,
        }

    def _picture(self, frames: list[Any], arguments: dict[str, Any]) -> str:
        return clip_html(frames, int(self._default("fps")), arguments["prompt"])

    # Arguments

    def _arguments(self, prompt: str, values: tuple[Any, ...]) -> dict[str, Any]:
        """Of a call, and `seed`."""
        arguments = dict(zip(self.settings, values, strict=True))
        # Numbers of a page are floats.
        for name in ("seed", "num_frames", "height", "width", "num_inference_steps"):
            arguments[name] = None if arguments[name] is None else int(arguments[name])
        arguments["negative_prompt"] = arguments["negative_prompt"] or None
        arguments["approximations"] = "fast" if arguments.pop("fast") else None
        return {"prompt": prompt, **arguments}

    def _existing_clip(self, request: gr.Request) -> Clip:
        clip = self.clips[str(request.session_hash)]
        if clip is None:
            raise gr.Error("There is nothing to go on from yet: make or upload something.", print_exception=False)
        return clip

    @staticmethod
    def _size(clip: Clip) -> dict[str, int]:
        return {"height": clip.frames[0].height, "width": clip.frames[0].width}

    def _default(self, name: str) -> Any:
        return resolve_default(name, None, self.pipe.config)

    @property
    def _frame_step(self) -> int:
        """Pixel frames of a latent frame."""
        return self.pipe.transformer.config.temporal_compression


def _opened_drawing(file: Any, flatten_on_white: bool = False) -> Any:
    if file is None:
        return None
    try:
        return read_drawing(file if isinstance(file, bytes) else Path(file.path).read_bytes())
    except ValueError as error:
        raise gr.Error(f"The drawing cannot be used: {error}.", print_exception=False) from error


def _progress(status: JobStatus) -> str:
    text = _progress_text(status)
    percent = 100 * status.step // max(status.num_steps, 1)
    bar = "" if status.state.is_final else f'<div class="lumos-bar"><div style="width: {percent}%"></div></div>'
    return f'{bar}<span role="status" data-state="{status.state}">{html.escape(text)}</span>'


def _progress_text(status: JobStatus) -> str:
    if status.state is JobState.QUEUED:
        return f"Waiting: {status.num_ahead} before you." if status.num_ahead else "Next."
    if status.state is JobState.RUNNING:
        left = "" if status.seconds_left is None else f", about {max(1, round(status.seconds_left))} s left"
        return f"Step {status.step} of {status.num_steps}{left}" if status.num_steps else "Starting"
    ends = {JobState.DONE: "Done", JobState.CANCELLED: "Stopped", JobState.FAILED: "Failed"}
    return f"{ends[status.state]} after {status.step} steps: {status.num_frames} frames."


@contextmanager
def served_page(
    runner: JobRunner,
    checkpoint: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    is_quiet: bool = False,
) -> Iterator[str]:
    """
    Serves the page from threads of its own.

    Args:
        runner: makes the videos.
        checkpoint: where its pipeline was loaded from.
        host: the address to listen on.
        port: the port; None takes a free one from 7860 on.
        share: whether gradio makes a public address that leads here.
        is_quiet: whether gradio prints no addresses.

    Returns:
        its address.

    Raises:
        OSError: if the port is not free.
    """
    with temporary_room() as directory:
        blocks = Page(runner, checkpoint, directory).blocks
        try:
            with limited_size(directory, _MAX_FILE_BYTES, _FILE_SIZE_INTERVAL, partial(_forget_files, blocks)):
                yield _launched(blocks, server_name=host, server_port=port, share=share, quiet=is_quiet)
        finally:
            blocks.close()


def _forget_files(blocks: gr.Blocks, paths: set[str]) -> None:
    """Of a file that gradio does not find when its time has come, it would keep the path for good."""
    for paths_of_component in blocks.temp_file_sets:
        paths_of_component -= paths


def _launched(blocks: gr.Blocks, **options: Any) -> str:
    # No font is fetched from elsewhere.
    theme = gr.themes.Soft(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    _, address, _ = blocks.launch(
        **options,
        prevent_thread_lock=True,
        max_file_size=MAX_UPLOADED_BYTES,
        state_session_capacity=_MAX_SESSIONS,
        footer_links=["api", "settings"],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        theme=theme,
        css_paths=Path(__file__).with_name("page.css"),
    )
    return address
