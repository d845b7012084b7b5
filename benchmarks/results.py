# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Tables of benchmark results in Markdown, kept in one file with a section per benchmark."""

from collections.abc import Sequence
from pathlib import Path


RESULTS = Path(__file__).with_name("RESULTS.md")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def append_rows(path: Path, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Adds rows to the table of that title and those columns, which is begun if the file does not have it."""
    text = path.read_text(encoding="utf-8") if path.is_file() else "# Results of the benchmarks\n"
    heading = f"\n## {title}\n\n{table(columns, [])}"
    before, _, after = text.partition(heading)
    old_rows, _, other_sections = after.partition("\n\n")
    new_table = table(columns, rows).removeprefix(table(columns, []))
    parts = [f"{before.rstrip()}\n{heading}{old_rows}".rstrip() + f"\n{new_table}", other_sections]
    path.write_text("\n".join(part for part in parts if part), encoding="utf-8")
