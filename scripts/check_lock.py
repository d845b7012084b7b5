# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Compares the locks in requirements/ with pyproject.toml, without a network: `make lock-check`.

Ends with an error that names the lock and every requirement that it does not meet. Whether the locked packages fit each
other is uv's business when it writes them, and that of `pip check` once they are installed.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


REPOSITORY = Path(__file__).parents[1]
# torch is chosen by its build, not locked: requirements/torch.txt.
NOT_LOCKED = {"torch"}
LOCKS: dict[str, tuple[str, ...]] = {
    "requirements/base.txt": (),
    "requirements/app.txt": ("app",),
    "requirements/dev.txt": ("dev",),
}


def asked_for(project: dict[str, Any], extras: tuple[str, ...]) -> Iterator[Requirement]:
    """Requirements of the `[project]` table of pyproject.toml and of some extras, which may name other extras."""
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    for requirement in map(Requirement, lines):
        if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
            for extra in sorted(requirement.extras):
                yield from map(Requirement, project["optional-dependencies"][extra])
        else:
            yield requirement


def locked_versions(text: str) -> dict[str, set[str]]:
    """The versions of each package in a lock that uv wrote: more than one where Pythons or systems differ."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE):
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return versions


def directly_locked(text: str, project_name: str) -> set[str]:
    """Packages that a lock says it has for this project's sake."""
    direct: set[str] = set()
    for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE):
        if re.search(rf"^\s+#\s+(via )?{re.escape(project_name)} \(pyproject\.toml\)", entry, re.MULTILINE):
            direct.add(canonicalize_name(entry.split("==")[0]))
    return direct


def differences(pyproject: Path, lock: Path, extras: tuple[str, ...]) -> list[str]:
    """What the lock does not have as pyproject.toml asks for it, one sentence each."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    text = lock.read_text(encoding="utf-8")
    versions = locked_versions(text)
    found, names = [], set()
    for requirement in asked_for(project, extras):
        name = canonicalize_name(requirement.name)
        names.add(name)
        if name in NOT_LOCKED or (requirement.marker and not requirement.marker.evaluate()):
            continue
        if name not in versions:
            found.append(f"{requirement} is asked for, but not locked")
        for version in sorted(versions.get(name, ())):
            if version not in requirement.specifier:
                found.append(f"{requirement} is asked for, but {version} is locked")
    unasked = directly_locked(text, canonicalize_name(project["name"])) - names
    return found + [f"{name} is locked, but no longer asked for" for name in sorted(unasked)]


def main(repository: Path = REPOSITORY) -> None:
    problems = [
        f"{lock} does not fit pyproject.toml: {difference}."
        for lock, extras in LOCKS.items()
        for difference in differences(repository / "pyproject.toml", repository / lock, extras)
    ]
    if problems:
        sys.exit("\n".join([*problems, "`make lock` writes it again."]))


if __name__ == "__main__":
    main()
