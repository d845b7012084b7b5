# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Figures that others published, to stand beside a user's: with the source, and with the prompts where the source says which.

Scores depend on the prompts: a reviewer of Lumos-1 noted that NOVA's VBench total of 80.1 is one of long prompts, and that
Show-o has .68 on GenEval without rewriting. Figures for single dimensions are in the papers; none is repeated here that
could not be checked.
"""

from dataclasses import dataclass

from .benchmarks import GENEVAL, VBENCH_I2V, VBENCH_T2V


_REWRITTEN, _ORIGINAL, _UNSAID = "rewritten", "original", "not said"
_LUMOS_NEWS = "official README, News 2026-03; tables of arXiv 2507.08801v2 as quoted elsewhere"
_LUMOS_TABLE = "tables of arXiv 2507.08801, as quoted elsewhere"


@dataclass(frozen=True)
class PublishedScore:
    """
    Args:
        benchmark: its name.
        model: and its size.
        scores: shares from 0 to 1, by the name of a total.
        prompts: that were used.
        source: where it stands.
    """

    benchmark: str
    model: str
    scores: dict[str, float]
    prompts: str
    source: str


PUBLISHED = (
    PublishedScore(GENEVAL, "Lumos-1 3.6B, fine-tuned, 512x512", {"overall": 0.791}, _REWRITTEN, _LUMOS_NEWS),
    PublishedScore(GENEVAL, "Lumos-1 3.6B", {"overall": 0.725}, _REWRITTEN, "list of the paper's results on wizwand.com"),
    PublishedScore(GENEVAL, "URSA 1.7B", {"overall": 0.68}, _ORIGINAL, "README of baaivision/URSA"),
    PublishedScore(GENEVAL, "URSA 1.7B", {"overall": 0.80}, _REWRITTEN, "README of baaivision/URSA"),
    PublishedScore(GENEVAL, "Emu3 8B", {"overall": 0.66}, _UNSAID, _LUMOS_TABLE),
    PublishedScore(GENEVAL, "Show-o2 7B", {"overall": 0.76}, _UNSAID, _LUMOS_TABLE),
    PublishedScore(VBENCH_T2V, "Lumos-1 3.6B, fine-tuned", {"total": 0.789}, _REWRITTEN, _LUMOS_NEWS),
    PublishedScore(VBENCH_T2V, "Lumos-1 3.6B", {"total": 0.783}, _REWRITTEN, "notes on URSA, ICLR 2026"),
    PublishedScore(VBENCH_T2V, "URSA 1.7B", {"total": 0.824}, _UNSAID, "README of baaivision/URSA"),
    PublishedScore(VBENCH_T2V, "Emu3 8B", {"total": 0.810}, _UNSAID, _LUMOS_TABLE),
    PublishedScore(VBENCH_T2V, "InfinityStar 8B", {"total": 0.8374}, _UNSAID, "README of FoundationVision/InfinityStar"),
    PublishedScore(VBENCH_I2V, "Lumos-1 3.6B", {"total": 0.8472, "i2v": 0.9334}, _REWRITTEN, _LUMOS_TABLE),
    PublishedScore(VBENCH_I2V, "COSMOS-Video2World 5B+11B", {"total": 0.8416, "i2v": 0.9251}, _UNSAID, _LUMOS_TABLE),
    PublishedScore(VBENCH_I2V, "CogVideoX 5.6B+4.8B", {"total": 0.8670, "i2v": 0.9479}, _UNSAID, _LUMOS_TABLE),
    PublishedScore(VBENCH_I2V, "VideoMAR 1.4B+1.5B", {"total": 0.8482, "i2v": 0.9402}, _UNSAID, _LUMOS_TABLE),
    PublishedScore(VBENCH_I2V, "URSA 1.7B", {"total": 0.862}, _UNSAID, "README of baaivision/URSA"),
)  # fmt: skip
