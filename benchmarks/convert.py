# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Seconds and peak memory to convert a release of the size of Lumos-1 1B: `python benchmarks/convert.py`.

The release is made for it, in the official layout and with arbitrary weights: 3.2 GB in shards of at most 1 GB, in
bfloat16. It is converted by a process of its own, and removed with the result. The peak is the process's highest resident
set, which counts the parts of files that are mapped too; it must stay below one shard and 1 GB. A row is added to
benchmarks/RESULTS.md. Twice the size of the release must be free on the disk.
"""

import argparse
import datetime
import math
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from results import RESULTS, append_rows, table
from safetensors.torch import save_file

from lumos_hf import CosmosVideoTokenizer, LumosConfig, LumosForCausalLM
from lumos_hf.conversion.cosmos import official_cosmos_names
from lumos_hf.conversion.lumos import official_lumos_config


sys.path.append(str(Path(__file__).parents[1] / "tests" / "conversion"))

from official_release import (
    as_official_script_writes,
    chameleon_tokenizer,
    release_in,
    save_archives,
    write_json,
)  # noqa: E402


MAX_SHARD_BYTES = 10**9
MARGIN_BYTES = 10**9
COLUMNS = ("date", "device", "weights, GB", "largest shard, GB", "peak memory, GB", "limit, GB", "seconds")
CONVERT = "from lumos_hf.cli import main; main()"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that a row is added to")
    parser.add_argument("--directory", type=Path, help="where there is space; default: that of temporary files")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        # Not in this process: the peak of a process begins with that of the one that started it.
        make = multiprocessing.get_context("spawn").Process(target=make_release, args=(Path(directory),))
        make.start()
        make.join()
        if make.exitcode != 0:
            raise RuntimeError(f"The release could not be made in '{directory}'.")
        shards = [path.stat().st_size for path in release_in(Path(directory)).lumos.glob("*.safetensors")]
        seconds, peak = convert(Path(directory))

    limit = max(shards) + MARGIN_BYTES
    gigabytes = [f"{number / 1e9:.2f}" for number in (sum(shards), max(shards), peak, limit)]
    row = (str(datetime.date.today()), platform.processor() or platform.machine(), *gigabytes, f"{seconds:.0f}")
    print(table(COLUMNS, [row]))
    append_rows(options.results, "Conversion (convert.py)", COLUMNS, [row])
    if peak > limit:
        sys.exit("The peak is above the limit.")


def make_release(directory: Path) -> None:
    """Writes the release, one shard at a time."""
    release = release_in(directory)
    config = LumosConfig(dtype=torch.bfloat16)

    release.lumos.mkdir()
    write_json(release.lumos / "config.json", official_lumos_config(config))
    with torch.device("meta"):
        weights = LumosForCausalLM(config).to(torch.bfloat16).state_dict()
    plan = split_torch_state_dict_into_shards(
        weights, filename_pattern="model{suffix}.safetensors", max_shard_size=MAX_SHARD_BYTES
    )
    # The same numbers again and again: so many new ones would take longer than the conversion.
    numbers = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for file, names in plan.filename_to_tensors.items():
        shard = {name: fill(weights[name].shape, numbers * config.initializer_range) for name in names}
        save_file(shard, release.lumos / file)
    index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
    write_json(release.lumos / "model.safetensors.index.json", index)

    release.cosmos.mkdir()
    vqvae = CosmosVideoTokenizer().to(torch.bfloat16)
    names = official_cosmos_names(vqvae)
    official = {names[name]: tensor for name, tensor in vqvae.state_dict().items()}
    save_archives(official, release.cosmos, list(vqvae.config.levels))
    write_json(release.text_tokenizer, as_official_script_writes(chameleon_tokenizer(), config.visual_vocab_size))


def fill(shape: torch.Size, numbers: torch.Tensor) -> torch.Tensor:
    return numbers.repeat(math.ceil(shape.numel() / len(numbers)))[: shape.numel()].view(shape).clone()


def convert(directory: Path) -> tuple[float, int]:
    """Seconds and peak memory in bytes of the command on the release in `directory`."""
    release = release_in(directory)
    sources = ["--lumos", release.lumos, "--cosmos", release.cosmos, "--text-tokenizer", release.text_tokenizer]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", CONVERT, "convert", *sources, "-o", directory / "checkpoint"])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"The conversion ended with exit status {process.returncode}.")
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * bytes_per_unit


if __name__ == "__main__":
    main()
