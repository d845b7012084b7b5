# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Processor seconds of `AutoTokenizer.from_pretrained`: a checkpoint's tokenizer, which has the text vocabulary alone, against
one with an entry for each of the 64,000 visual codes, as the official file has them.

    python benchmarks/tokenizer_loading.py text_tokenizer.json

Both are made of the same official file, are measured in turns in one process, and must give the same ids for random texts.
A row is added to benchmarks/RESULTS.md.
"""

import argparse
import datetime
import gzip
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import transformers
from measure import device_name
from results import RESULTS, append_rows, table
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lumos_hf.conversion.text_tokenizer import load_text_tokenizer


COLUMNS = ("date", "device", "transformers", "with visual codes", "text alone", "ratio (range)", "texts, same ids")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text_tokenizer", type=Path, help="the official file, or the same with gzip")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--results", type=Path, default=RESULTS)
    # The tokenizers library runs there, on one thread while it loads.
    parser.set_defaults(device="cpu", threads=1)
    return parser.parse_args(arguments)


def save_tokenizers(official: Path, folder: Path) -> tuple[Path, Path]:
    """Of the whole vocabulary and of the text alone."""
    content = official.read_bytes()
    plain = folder / "text_tokenizer.json"
    plain.write_bytes(gzip.decompress(content) if official.suffix == ".gz" else content)
    load_text_tokenizer(plain).tokenizer.save_pretrained(folder / "text")

    entries = json.loads(plain.read_text(encoding="utf-8"))
    entries["version"] = "1.0"
    entries["added_tokens"] = [
        token for item in entries["added_tokens"] for token in (item if isinstance(item, list) else [item])
    ]
    whole = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(entries)))
    whole.save_pretrained(folder / "whole")
    return folder / "whole", folder / "text"


def random_text(random_numbers: random.Random) -> str:
    alphabet = "abc defg hij klm nop qrs tuv wxyz ABC .,:;!? 0123456789 éü中文🙂\n\t'\"-"
    return "".join(random_numbers.choices(alphabet, k=random_numbers.randint(1, 200)))


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    random_numbers = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = save_tokenizers(options.text_tokenizer, Path(folder))
        seconds: list[list[float]] = [[], []]
        # The first round reads the files from disk and imports modules.
        for _ in range(options.runs + 1):
            tokenizers = []
            for path, measured in zip(paths, seconds, strict=True):
                start = time.process_time()
                tokenizers.append(AutoTokenizer.from_pretrained(path))
                measured.append(time.process_time() - start)
        for _ in range(options.texts):
            text = random_text(random_numbers)
            whole_ids, ids = (tokenizer(text, add_special_tokens=False).input_ids for tokenizer in tokenizers)
            if whole_ids != ids:
                raise RuntimeError(
                    f"The two tokenizers must give the same ids for {text!r}, got {whole_ids} and {ids}."
                )
    whole_seconds, text_seconds = (measured[1:] for measured in seconds)
    ratios = [text / whole for text, whole in zip(text_seconds, whole_seconds, strict=True)]
    row = (
        datetime.date.today().isoformat(),
        device_name(options),
        transformers.__version__,
        f"{statistics.median(whole_seconds):.2f} s",
        f"{statistics.median(text_seconds):.2f} s",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        str(options.texts),
    )
    append_rows(options.results, "Loading the text tokenizer (tokenizer_loading.py)", COLUMNS, [row])
    print(table(COLUMNS, [row]))


if __name__ == "__main__":
    main()
