# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Seconds from a click on the page of `lumos-hf app` to its first frame and to the whole video, in a real browser.

    python benchmarks/app_page.py --runs 7
    python benchmarks/app_page.py --runs 1 --screenshots docs/assets      # what README shows

The app runs in a process of its own, with the demo checkpoint and its defaults; each run is a visitor of its own. A plain
call of the pipeline in this process, after each, says what the page adds. Wants playwright and a chromium.
"""

import argparse
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from app_visitors import running_app
from measure import device_name, median_and_range
from playwright.sync_api import Browser, Page, sync_playwright
from results import RESULTS, append_rows, table

from lumos_hf import LumosVideoPipeline, demo_checkpoint


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
VIEWPORTS = {"laptop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 1000}}
PROMPT = "A purple heart floats up by the sea."
COLUMNS = ("date", "device", "runs", "page shown, s", "first frame, s", "whole video, s", "a plain call, s")
# Milliseconds.
_TIMEOUT = 300_000
# Clicks, and gives the milliseconds until the first frame and the end. Timed in the page, as Playwright looks every half
# second only.
_CLICK_AND_WATCH = """(timeout) => new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`There was no video within ${timeout} ms.`)), timeout);
    const begin = performance.now();
    let first = null;
    const observer = new MutationObserver(() => {
        const elapsed = performance.now() - begin;
        if (first === null && document.querySelector("#stage img.lumos-clip")) first = elapsed;
        if (document.querySelector("#progress [data-state=done]")) { observer.disconnect(); resolve([first, elapsed]); }
    });
    observer.observe(document.body, { childList: true, subtree: true, attributes: true });
    document.querySelector("#generate").click();
})"""


@contextmanager
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise FileNotFoundError(f"There is none of the browsers {', '.join(BROWSERS)} on the PATH.")
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=program, args=["--no-sandbox"])


def open_page(browser: Browser, address: str, device: str = "laptop", scheme: str = "light") -> Page:
    page = browser.new_context(viewport=VIEWPORTS[device], color_scheme=scheme).new_page()
    page.set_default_timeout(_TIMEOUT)
    page.goto(address)
    page.wait_for_selector("#generate")
    return page


def visit(browser: Browser, address: str) -> tuple[float, float, float]:
    """Seconds until a page is shown, and from the click to its first frame and to the end."""
    start = time.perf_counter()
    page = open_page(browser, address)
    page.locator("#prompt textarea").fill(PROMPT)
    shown = time.perf_counter() - start
    first, done = page.evaluate(_CLICK_AND_WATCH, _TIMEOUT)
    page.context.close()
    return shown, first / 1e3, done / 1e3


def save_screenshots(browser: Browser, address: str, directory: Path) -> None:
    """The page while a video grows: on a laptop and on a phone, light and dark."""
    for device in VIEWPORTS:
        for scheme, ending in (("light", ""), ("dark", "_dark")):
            page = open_page(browser, address, device, scheme)
            page.locator("#prompt textarea").fill(PROMPT)
            page.click("#generate")
            page.wait_for_selector("#stage img.lumos-clip")
            page.screenshot(path=directory / f"app_{device}{ending}.png")
            page.wait_for_selector("#progress [data-state=done]")
            page.context.close()


def seconds_of_a_call(pipe: LumosVideoPipeline) -> float:
    start = time.perf_counter()
    pipe(PROMPT)
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--screenshots", type=Path, help="directory that gets pictures of the page; no rows then")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that gets the row")
    options = parser.parse_args(arguments)
    with running_app() as (address, _), browser() as opened:
        if options.screenshots is not None:
            save_screenshots(opened, address, options.screenshots)
            return
        pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
        pipe.set_progress_bar_config(disable=True)
        visit(opened, address), seconds_of_a_call(pipe)
        runs = [(*visit(opened, address), seconds_of_a_call(pipe)) for _ in range(options.runs)]
    device = device_name(argparse.Namespace(device="cpu", threads=torch.get_num_threads()))
    figures = [median_and_range(list(values)) for values in zip(*runs, strict=True)]
    row = (time.strftime("%Y-%m-%d"), device, str(options.runs), *figures)
    print(table(COLUMNS, [row]))
    append_rows(options.results, "The page (app_page.py)", COLUMNS, [row])


if __name__ == "__main__":
    main()
