# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Every call of the Videos API over HTTP, against what the pipeline makes by itself; and requests that are refused."""

import base64
import io
import json
import re

import av
import numpy as np
import PIL.Image
import pytest
import torch
from test_pipeline_lumos_video import CAPTIONS, random_image

from lumos_hf.generation_record import generation_record
from lumos_hf.media import read_settings, write_media
from lumos_hf.serving.job_requests import DEFAULT_STRENGTH
from lumos_hf.serving.job_store import NewJob, new_job_id
from lumos_hf.serving.job_worker import read_given


SEED = 2**40 + 3
COMPLETE = {
    "width": 64,
    "height": 32,
    "num_frames": 9,
    "fps": 4,
    "num_inference_steps": 3,
    "guidance_scale": 3.0,
    "history_mask_ratio": 0.7,
}


def png(height=32, width=64, seed=0):
    buffer = io.BytesIO()
    random_image(height, width, seed).save(buffer, "PNG")
    return buffer.getvalue()


def as_data_url(content, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def direct(pipe, seed=SEED, **arguments):
    """The frames of a call of the pipeline, and the settings that it had."""
    arguments = {**COMPLETE, "prompt": CAPTIONS[0], **arguments}
    frames = pipe(**arguments, generator=torch.Generator().manual_seed(seed)).frames[0]
    return frames, generation_record(pipe, arguments, seed=seed, checkpoint="tiny")


def mp4_of(tmp_path, frames, settings, fps=4):
    write_media(tmp_path / "direct.mp4", frames, fps=fps, settings=settings)
    return (tmp_path / "direct.mp4").read_bytes()


def content(served, id, variant="video"):
    return served.client.get(f"/v1/videos/{id}/content", params={"variant": variant}).content


def num_frames(mp4):
    with av.open(io.BytesIO(mp4)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_video_is_to_the_byte_what_a_call_gives(served, tiny_pipe, tmp_path):
    answer = served.client.post("/v1/videos", data={"prompt": CAPTIONS[0], "seed": str(SEED)})
    job = answer.json()
    assert (job["object"], job["status"], job["model"], job["prompt"]) == ("video", "queued", "tiny", CAPTIONS[0])
    assert 50 <= int(answer.headers["openai-poll-after-ms"]) <= 1000
    done = served.wait(job["id"])
    assert (done["progress"], done["seconds"], done["size"], done["seed"]) == (100, "2", "64x32", SEED)
    assert done["created_at"] <= done["completed_at"] < done["expires_at"]
    frames, settings = direct(tiny_pipe)
    assert content(served, job["id"]) == mp4_of(tmp_path, frames, settings)
    (tmp_path / "served.mp4").write_bytes(content(served, job["id"]))
    assert read_settings(tmp_path / "served.mp4")["prompt"] == CAPTIONS[0]


def test_pictures_of_a_video(served):
    id = served.make()
    thumbnail = PIL.Image.open(io.BytesIO(content(served, id, "thumbnail")))
    sheet = PIL.Image.open(io.BytesIO(content(served, id, "spritesheet")))
    assert thumbnail.size == (64, 32) and sheet.width > 3 * 64 and sheet.height > 3 * 32
    answer = served.client.get(f"/v1/videos/{id}/content")
    assert answer.headers["content-type"] == "video/mp4" and f"{id}.mp4" in answer.headers["content-disposition"]
    part = served.client.get(f"/v1/videos/{id}/content", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")


def test_settings_of_a_form_reach_the_call(served, tiny_pipe, tmp_path):
    settings = {"size": "32x64", "seconds": "1", "fps": "8", "num_inference_steps": "2", "guidance_scale": "1.5"}
    extra = {"history_mask_ratio": 0.2, "approximations": "fast"}
    form = {**settings, "negative_prompt": CAPTIONS[1], "extra_params": json.dumps(extra), "seed": str(SEED)}
    job = served.client.post("/v1/videos", data={"prompt": CAPTIONS[0], **form, "user": "me"}).json()
    assert (job["num_frames"], job["fps"], job["size"]) == (9, 8, "32x64")
    frames, record = direct(
        tiny_pipe,
        height=64,
        width=32,
        fps=8,
        num_inference_steps=2,
        guidance_scale=1.5,
        negative_prompt=CAPTIONS[1],
        **extra,
    )
    assert content(served, served.wait(job["id"])["id"]) == mp4_of(tmp_path, frames, record, fps=8)


def test_a_synchronous_call_answers_with_the_video(served, tiny_pipe, tmp_path):
    answer = served.client.post("/v1/videos/sync", data={"prompt": CAPTIONS[0], "seed": SEED})
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.content == mp4_of(tmp_path, *direct(tiny_pipe))


@pytest.mark.parametrize("way", ["file", "data", "object", "member", "image_reference"])
def test_a_video_begins_with_an_image(served, tiny_pipe, tmp_path, way):
    picture, url = png(40, 70), as_data_url(png(40, 70))
    form = {"prompt": CAPTIONS[0], "seed": str(SEED), "size": "64x32"}
    parts = {
        "file": {"data": form, "files": {"input_reference": ("any name", picture)}},
        "data": {"json": {**form, "input_reference": url}},
        "object": {"data": {**form, "input_reference": json.dumps({"image_url": url})}},
        "member": {"data": {**form, "input_reference[image_url]": url}},
        "image_reference": {"json": {**form, "image_reference": {"image_url": {"url": url}}}},
    }
    id = served.wait(served.client.post("/v1/videos", **parts[way]).json()["id"])["id"]
    assert content(served, id) == mp4_of(tmp_path, *direct(tiny_pipe, image=random_image(40, 70)))


def test_an_image_without_a_size_chooses_among_those_of_the_checkpoint(served):
    files = {"input_reference": ("a.png", png(500, 500))}
    job = served.client.post("/v1/videos", data={"prompt": CAPTIONS[0]}, files=files).json()
    assert job["size"] == "64x64"


def test_a_video_begins_with_a_video(served):
    source = content(served, served.make(num_frames=17))
    answer = served.client.post("/v1/videos", data={"prompt": CAPTIONS[1]}, files={"input_reference": source})
    # What is given leaves something to make.
    job = served.store.get(answer.json()["id"])
    assert job.arguments["given"]["video"]["max_frames"] == 5
    assert num_frames(content(served, served.wait(job.id)["id"])) == 9


@pytest.mark.parametrize("by", ["id", "file"])
def test_an_edit_with_a_strength(served, tiny_pipe, tmp_path, by):
    source = served.make(seed=1)
    reference = {"data": {"video": json.dumps({"id": source})}, "files": None}
    if by == "file":
        reference = {"data": {}, "files": {"video": content(served, source)}}
    reference["data"] |= {"prompt": CAPTIONS[1], "seed": SEED}
    job = served.client.post("/v1/videos/edits", **reference).json()
    video = read_given(served.files.path(source, "video.mp4"), "video", 4, 9)
    frames, record = direct(tiny_pipe, prompt=CAPTIONS[1], video=video, strength=DEFAULT_STRENGTH)
    assert content(served, served.wait(job["id"])["id"]) == mp4_of(tmp_path, frames, record)


def test_an_edit_with_a_mask(served, tiny_pipe, tmp_path):
    source = served.make(seed=1)
    mask = np.zeros((32, 64), dtype=np.uint8)
    mask[:, 32:] = 255
    buffer = io.BytesIO()
    PIL.Image.fromarray(mask).save(buffer, "PNG")
    form = {"prompt": CAPTIONS[1], "seed": str(SEED), "video[id]": source}
    answer = served.client.post("/v1/videos/edits", data=form, files={"mask": buffer.getvalue()})
    video = read_given(served.files.path(source, "video.mp4"), "video", 4, 9)
    frames, record = direct(tiny_pipe, prompt=CAPTIONS[1], video=video, mask=PIL.Image.fromarray(mask).convert("RGB"))
    assert content(served, served.wait(answer.json()["id"])["id"]) == mp4_of(tmp_path, frames, record)


def test_an_extension_goes_on_after_the_end(served, tiny_pipe, tmp_path):
    source = served.make(seed=1)
    body = {"prompt": CAPTIONS[1], "seconds": "1", "video": {"id": source}, "seed": SEED}
    job = served.client.post("/v1/videos/extensions", json=body).json()
    assert (job["seconds"], job["num_frames"]) == ("3", 13)
    video = read_given(served.files.path(source, "video.mp4"), "video", 4, 9)
    frames, record = direct(tiny_pipe, prompt=CAPTIONS[1], video=video, num_frames=13)
    assert content(served, served.wait(job["id"])["id"]) == mp4_of(tmp_path, frames, record)


def test_a_remix_is_the_same_call_with_another_prompt(served, tiny_pipe, tmp_path):
    form = {"prompt": CAPTIONS[1], "seed": str(SEED), "size": "64x32"}
    answer = served.client.post("/v1/videos", data=form, files={"input_reference": png()})
    source = served.wait(answer.json()["id"])["id"]
    job = served.client.post(f"/v1/videos/{source}/remix", json={"prompt": CAPTIONS[0]}).json()
    assert (job["remixed_from_video_id"], job["seed"]) == (source, SEED)
    assert content(served, served.wait(job["id"])["id"]) == mp4_of(
        tmp_path, *direct(tiny_pipe, image=random_image(32, 64))
    )


def test_pages_of_videos(served):
    made = [served.make(num_frames=5, num_inference_steps=1) for _ in range(3)]
    page = served.client.get("/v1/videos", params={"limit": 2}).json()
    assert [job["id"] for job in page["data"]] == [made[2], made[1]]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, made[2], made[1])
    page = served.client.get("/v1/videos", params={"limit": 2, "after": page["last_id"]}).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([made[0]], False)
    page = served.client.get("/v1/videos", params={"order": "asc"}).json()
    assert [job["id"] for job in page["data"]] == made


def test_a_deleted_video_is_gone_with_its_files(served):
    id = served.make()
    assert served.client.delete(f"/v1/videos/{id}").json() == {"id": id, "object": "video.deleted", "deleted": True}
    for path in (f"/v1/videos/{id}", f"/v1/videos/{id}/content"):
        assert served.client.get(path).status_code == 404
    assert served.client.delete(f"/v1/videos/{id}").status_code == 404
    assert not served.files.path(id, "").exists()


def test_a_running_job_is_cancelled_within_a_step(served):
    id = served.client.post("/v1/videos", json={"prompt": CAPTIONS[0], "num_inference_steps": 400}).json()["id"]
    while (progress := served.worker.progress(id)) is None or progress.step == 0:
        pass
    (job,) = served.worker.runner._running
    assert served.client.delete(f"/v1/videos/{id}").status_code == 200
    step = job.status.step
    served.make()
    assert job.status.state == "cancelled" and job.status.step <= step + 2
    assert not served.files.path(id, "").exists()


@pytest.mark.parametrize("response_format", ["b64_json", "url"])
def test_images(served, tiny_pipe, response_format):
    body = {"prompt": CAPTIONS[0], "n": 2, "size": "32x32", "seed": 5, "response_format": response_format}
    answer = served.client.post("/v1/images/generations", json=body).json()
    assert answer["size"] == "32x32" and len(answer["data"]) == 2
    for index, item in enumerate(answer["data"]):
        data = base64.b64decode(item["b64_json"] or "") or served.client.get(item["url"]).content
        (expected,), _ = direct(tiny_pipe, seed=5 + index, num_frames=1, width=32, height=32)
        assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(data))), np.asarray(expected))
    # What was handed over is not kept.
    assert served.store.count().get("completed", 0) == (2 if response_format == "url" else 0)


def test_models_health_and_metrics(served):
    served.make()
    (model,) = served.client.get("/v1/models").json()["data"]
    assert served.client.get("/v1/models/tiny").json() == model
    assert model["defaults"]["num_frames"] == 9 and model["limits"]["max_num_frames"] == 17
    assert served.client.get("/v1/models/other").status_code == 404
    assert served.client.get("/health").json() == {"status": "ok", "problem": None, "jobs": {"completed": 1}}
    metrics = served.client.get("/metrics").text
    assert 'lumos_jobs{status="completed"} 1.0' in metrics
    assert 'route="/v1/videos/{video_id}"' in metrics


def refused(answer):
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["param"], error["message"]


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"prompt": " "}, "prompt", "must not be empty"),
        ({"prompt": "kite " * 600}, "prompt", "longer than the context"),
        ({"size": "big"}, "size", "multiples of 32 pixels and at most 4096 pixels in all, such as 64x32, got big"),
        ({"size": "33x32"}, "size", "got 33x32"),
        ({"size": "640x320"}, "size", "at most 4096 pixels in all"),
        ({"size": "64x32", "width": 64}, "size", "At most one of"),
        ({"width": 64}, "size", "got width 64, height None"),
        ({"seconds": "soon"}, "seconds", "from 1 to 4 seconds at 4 frames per second, 5 to 17 frames, got 'soon'"),
        ({"seconds": "5"}, "seconds", "from 1 to 4 seconds at 4 frames per second, 5 to 17 frames in all, got 21"),
        ({"seconds": "nan"}, "seconds", "must be a number"),
        ({"seconds": "1", "num_frames": 5}, "seconds", "At most one of"),
        ({"num_frames": 18}, "num_frames", "5 to 17 frames in all, got 21"),
        ({"num_frames": "many"}, "num_frames", "valid integer"),
        ({"fps": 10**7}, "fps", "must be at most"),
        ({"num_inference_steps": 401}, "num_inference_steps", "must be at most 400 here"),
        ({"guidance_scale": 1e9}, "guidance_scale", "must be at most"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**63}, "seed", "less than"),
        ({"lora": {"name": "x"}}, "lora", "has no adapters"),
        ({"extra_params": {"generator": 1}}, "extra_params", "JSON object of history_mask_ratio"),
        ({"extra_params": "{"}, "extra_params", "JSON object"),
        ({"extra_params": {"history_mask_ratio": 2}}, "history_mask_ratio", r"in \[0, 1\], got 2"),
        ({"extra_params": {"approximations": "none of these"}}, "approximations", "must be"),
        ({"colour": "red"}, "colour", "not permitted"),
        ({"input_reference": "data:image/png;base64,AAAA"}, "input_reference", "no image or video of the kinds png"),
        ({"input_reference": as_data_url(png()[:-40])}, "image", "cannot be used"),
        ({"input_reference": {"image_url": 1}}, "input_reference", "with one URL"),
        ({"input_reference": "ftp://host/a.png"}, "input_reference", "must begin with data:"),
        ({"video_reference": as_data_url(png())}, "video_reference", "must be a video"),
        ({"image_reference": as_data_url(png()), "input_reference": as_data_url(png())}, None, "At most one of"),
    ],
)
def test_what_cannot_be_made_is_refused_before_it_is_stored(served, changes, param, message):
    answer = served.client.post("/v1/videos", json={"prompt": CAPTIONS[0], **changes})
    status, meant, text = refused(answer)
    assert (status, meant) == (400, param), text
    assert re.search(message, text), text
    assert served.store.count() == {}
    assert list(served.files.root.glob("video_*")) == []


def test_another_model_is_not_there(served):
    answer = served.client.post("/v1/videos", json={"prompt": CAPTIONS[0], "model": "sora-2"})
    assert refused(answer) == (404, "model", "`model` must be 'tiny', got 'sora-2'.")


def test_a_video_that_is_none_is_refused(served):
    for body in (b"", b"not a video at all", b"\0\0\0\x20ftypisom" + bytes(100)):
        answer = served.client.post("/v1/videos/edits", data={"prompt": CAPTIONS[0]}, files={"video": body})
        assert refused(answer)[:2] == (400, "video")
    answer = served.client.post("/v1/videos/edits", data={"prompt": CAPTIONS[0]}, files={"video": png()})
    assert refused(answer) == (400, "video", "`video` must be a video, got an image.")
    assert list(served.files.root.glob("video_*")) == []


def test_two_references_at_once_are_refused(served):
    files = [("input_reference", png()), ("input_reference", png())]
    answer = served.client.post("/v1/videos", data={"prompt": CAPTIONS[0]}, files=files)
    assert refused(answer) == (400, "input_reference", "`input_reference` must be given once.")
    both = {"prompt": CAPTIONS[0], "image_reference": as_data_url(png())}
    answer = served.client.post("/v1/videos", data=both, files={"input_reference": png()})
    assert refused(answer)[0] == 400 and "At most one of `input_reference`, `image_reference`" in refused(answer)[2]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: nonsense\r\n\r\n"),
        ("multipart/form-data", b"--x"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na'),
        ("application/json", b"{"),
        ("application/json", b"[" * 100_000),
        ("application/json", b"[]"),
        ("application/json", b'{"prompt": "\xff"}'),
        ("application/json", b'{"prompt": "a", "input_reference": "(file)"}'),
        ("text/plain", b"a red kite"),
    ],
)
def test_malformed_bodies_are_refused(served, kind, body):
    answer = served.client.post("/v1/videos", content=body, headers={"Content-Type": kind})
    assert refused(answer)[0] == 400
    served.make(num_frames=5, num_inference_steps=1)


@pytest.mark.parametrize("id", ["video_none", "video_" + "0" * 48, "..%2f..%2fetc%2fpasswd", "%00", "x" * 10_000])
def test_ids_that_do_not_exist(served, id):
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content"), ("POST", "/remix")):
        answer = served.client.request(
            method, f"/v1/videos/{id}{path}", json={"prompt": "a"} if path == "/remix" else None
        )
        assert answer.status_code in (404, 405), answer.text
        assert answer.json()["error"]["message"]
    answer = served.client.post("/v1/videos/edits", json={"prompt": "a", "video": {"id": id}})
    assert refused(answer)[:2] == (404, "video")


def test_bad_questions_in_the_address(served):
    assert refused(served.client.get("/v1/videos?limit=1000"))[:2] == (422, "limit")
    assert refused(served.client.get("/v1/videos?order=up"))[:2] == (422, "order")
    assert refused(served.client.get("/v1/videos?after=video_0"))[:2] == (400, "after")
    assert refused(served.client.get(f"/v1/videos/{served.make()}/content?variant=../x"))[:2] == (422, "variant")


def test_a_job_that_runs_is_not_edited(served):
    id = served.client.post("/v1/videos", json={"prompt": CAPTIONS[0], "num_inference_steps": 400}).json()["id"]
    for path, body in (
        ("/v1/videos/edits", {"video": {"id": id}}),
        ("/v1/videos/extensions", {"video": {"id": id}}),
        (f"/v1/videos/{id}/remix", {}),
    ):
        assert refused(served.client.post(path, json={"prompt": CAPTIONS[1], **body}))[0] == 409
    assert refused(served.client.get(f"/v1/videos/{id}/content"))[0] == 409
    served.client.delete(f"/v1/videos/{id}")


def test_a_job_that_fails_says_why(served):
    id = served.make()
    source = served.store.get(id)
    broken = {**source.arguments, "given": {"image": {"file": "gone.png", "max_frames": 1}}}
    fields = {name: getattr(source, name) for name in NewJob.__dataclass_fields__}
    (job,) = served.store.add([NewJob(**{**fields, "id": new_job_id("video"), "arguments": broken})])
    with pytest.raises(AssertionError, match="failed"):
        served.wait(job.id)
    error = served.client.get(f"/v1/videos/{job.id}").json()["error"]
    assert error["code"] == "generation_failed" and "gone.png" in error["message"]
    served.make()


def bodies(served):
    """All examples of the OpenAPI page, as method, path, content type and body."""
    for path, methods in served.client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            for kind, media in operation.get("requestBody", {}).get("content", {}).items():
                for example in media["examples"].values():
                    yield method, path, kind, example["value"]


def test_the_examples_of_the_openapi_page_work(served):
    source = served.make()
    page = served.client.get("/openapi.json").json()
    assert set(page["paths"]) >= {
        "/v1/videos",
        "/v1/videos/sync",
        "/v1/videos/edits",
        "/v1/videos/extensions",
        "/v1/videos/{video_id}",
        "/v1/videos/{video_id}/content",
        "/v1/videos/{video_id}/remix",
        "/v1/images/generations",
        "/v1/models",
        "/health",
        "/metrics",
    }
    tried = 0
    for method, path, kind, example in bodies(served):
        text = json.dumps(example).replace("VIDEO_ID", source)
        body = {"json": json.loads(text)}
        if kind == "multipart/form-data":
            fields = {
                name: value if isinstance(value, str) else json.dumps(value) for name, value in body["json"].items()
            }
            body = {"files": {name: (None, value) for name, value in fields.items()}}
        answer = served.client.request(method, path.replace("{video_id}", source), **body)
        assert answer.status_code == 200, (path, answer.text)
        tried += 1
    assert tried == 10
