# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The page in a real browser, as a visitor meets it."""

import PIL.Image
import pytest

from lumos_hf.media import read_settings, write_media


pytestmark = pytest.mark.slow

# Milliseconds; machines that test are busy.
TIMEOUT = 120_000
LAPTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
CLIP = "#stage img.lumos-clip"


@pytest.fixture
def visitor(browser, address):
    """Opens the page as somebody new; problems of its scripts, and requests to elsewhere, fail the test."""
    contexts, problems = [], []

    def visit(viewport=LAPTOP, **options):
        contexts.append(browser.new_context(viewport=viewport, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: note_outside(request.url))
        page.goto(address)
        page.wait_for_selector("#generate")
        return page

    def note_outside(url):
        if not url.startswith((address, "data:", "blob:")):
            problems.append(f"asks for {url}")

    yield visit
    for context in contexts:
        context.close()
    assert problems == []


def num_frames(page):
    return int(page.get_attribute(CLIP, "data-frames"))


def wait_for_end(page, state="done"):
    page.wait_for_selector(f"#progress [data-state={state}]")
    page.wait_for_selector("#generate")


def choose_steps(page, steps):
    page.get_by_text("Settings", exact=True).first.click()
    page.get_by_label("number input for Steps per latent frame").fill(str(steps))
    page.get_by_label("number input for Steps per latent frame").press("Tab")


def generate(page, prompt=None):
    if prompt is not None:
        page.locator("#prompt textarea").fill(prompt)
    page.click("#generate")


def download(page, ending, directory):
    with page.expect_download() as download:
        page.click(f"#download-{ending}")
    path = directory / download.value.suggested_filename
    download.value.save_as(path)
    return path


def upload(page, path):
    with page.expect_file_chooser() as chooser:
        page.click("#upload")
    chooser.value.set_files(path)


def toast(page):
    return page.locator(".toast-body").first.inner_text()


def test_a_video_grows_and_downloads_with_its_settings(visitor, tmp_path):
    page = visitor()
    choose_steps(page, 20)
    generate(page)
    page.wait_for_selector(CLIP)
    assert num_frames(page) < 9
    assert page.locator("#stop").is_visible()
    assert "Step" in page.inner_text("#progress")
    wait_for_end(page)
    assert num_frames(page) == 9
    for ending in ("mp4", "gif", "png"):
        settings = read_settings(download(page, ending, tmp_path))
        assert settings["prompt"] == "A purple heart floats up by the sea."
        assert (settings["checkpoint"], settings["num_inference_steps"]) == ("demo", 20)


def test_words_are_added_by_a_click(visitor):
    page = visitor()
    page.locator("#prompt textarea").fill("A red.")
    page.click("button.lumos-shapes:has-text('star')")
    page.click("button.lumos-motions:has-text('jumps')")
    assert page.locator("#prompt textarea").input_value() == "A red star jumps"


def test_a_video_is_stopped_and_continued(visitor):
    page = visitor()
    choose_steps(page, 50)
    generate(page)
    page.wait_for_selector(CLIP)
    page.click("#stop")
    wait_for_end(page, "cancelled")
    stopped = num_frames(page)
    assert stopped < 9
    page.get_by_label("number input for Steps per latent frame").fill("4")
    page.get_by_label("number input for Steps per latent frame").press("Tab")
    page.click("#continue")
    page.wait_for_selector(f"{CLIP}[data-frames='9']")
    wait_for_end(page)
    page.click("#continue")
    page.wait_for_selector(f"{CLIP}[data-frames='13']")


def test_the_prompt_changes_while_frames_come(visitor, tmp_path):
    page = visitor()
    choose_steps(page, 50)
    generate(page, "A red star jumps in the snow.")
    page.wait_for_selector(CLIP)
    page.locator("#prompt textarea").fill("A red star sinks in the snow.")
    page.click("#change")
    wait_for_end(page)
    (segment,) = read_settings(download(page, "png", tmp_path))["prompt_segments"]
    assert segment["text"] == "A red star sinks in the snow."


def test_a_part_is_made_again(visitor, tmp_path):
    page = visitor()
    path = tmp_path / "blue.png"
    write_media(path, [PIL.Image.new("RGB", (128, 128), "blue")])
    upload(page, path)
    page.wait_for_selector(CLIP)
    page.locator("#edit-part button").first.click()
    canvas = page.locator("#editor canvas").first
    canvas.scroll_into_view_if_needed()
    canvas.wait_for()
    page.wait_for_timeout(1000)
    box = canvas.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(middle[0] - 40, middle[1])
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1], steps=8)
    page.mouse.up()
    generate_edit(page)
    settings = read_settings(download(page, "png", tmp_path))
    assert (settings["given"], settings["is_edit"]) == ("video", True)
    with PIL.Image.open(download(page, "png", tmp_path)) as picture:
        assert picture.getpixel((2, 2)) == (0, 0, 255)
        assert len(picture.convert("RGB").getcolors(1 << 14)) > 1


def generate_edit(page):
    page.wait_for_timeout(1000)
    page.click("#edit")
    wait_for_end(page)


@pytest.mark.parametrize("name", ["text.png", "text.mp4"])
def test_bad_uploads_are_told(visitor, tmp_path, name):
    page = visitor()
    (tmp_path / name).write_text("This is no picture.")
    upload(page, tmp_path / name)
    page.wait_for_selector(".toast-body")
    assert f"'{name}' cannot be used" in toast(page)
    assert page.locator(CLIP).count() == 0


def test_bad_requests_are_told_and_the_page_goes_on(visitor):
    page = visitor()
    generate(page, "   ")
    page.wait_for_selector(".toast-body")
    assert "`prompt` must not be empty" in toast(page)
    page.wait_for_selector("#generate")
    choose_steps(page, 2)
    generate(page, "A red star jumps in the snow.")
    wait_for_end(page)


def test_words_that_are_not_known_are_told(visitor):
    page = visitor()
    choose_steps(page, 2)
    generate(page, "A red zebra jumps in the snow.")
    page.wait_for_selector(".toast-body")
    assert "does not know: zebra." in toast(page)
    wait_for_end(page)


def test_two_visitors_take_turns_and_see_their_own(visitor, tmp_path):
    pages = [visitor(), visitor(PHONE)]
    prompts = ["A red star jumps in the snow.", "A blue circle rises at night."]
    choose_steps(pages[0], 30)
    for page, prompt in zip(pages, prompts, strict=True):
        generate(page, prompt)
    pages[1].wait_for_selector("#progress [data-state=queued]")
    assert "1 before you" in pages[1].inner_text("#progress")
    for page, prompt in zip(pages, prompts, strict=True):
        wait_for_end(page)
        assert page.get_attribute(CLIP, "alt") == prompt
        assert read_settings(download(page, "gif", tmp_path))["prompt"] == prompt


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_the_page_fits_the_window_in_both_schemes(visitor, viewport, scheme):
    page = visitor(viewport, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.strip("rgba()").split(",")[:3]) / 3
    assert (brightness < 100) == (scheme == "dark")
