# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Work that waits until a module is imported.

transformers and diffusers take seconds to import and have no lazy registration of outside classes. With these hooks
`import lumos_hf` and `lumos-hf --help` cost nothing, and the auto classes know Lumos as soon as they exist.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast


_waiting: dict[str, list[Callable[[], None]]] = {}


def when_imported(module_name: str, callback: Callable[[], None]) -> None:
    """Calls `callback` once, after the module has been imported; at once if it has been already."""
    module = sys.modules.get(module_name)
    if module is not None and not _is_being_imported(module):
        callback()
        return
    _waiting.setdefault(module_name, []).append(callback)
    if not any(isinstance(finder, _WaitingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WaitingFinder())


def _is_being_imported(module: ModuleType) -> bool:
    return getattr(module.__spec__, "_initializing", False)


class _WaitingFinder(MetaPathFinder):
    """Finds the modules that are waited for as the other finders do, and adds the callbacks to their loaders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _waiting:
            return None
        spec = _find_without(self, fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _CallingLoader(spec.loader)
        return spec


def _find_without(
    left_out: MetaPathFinder, fullname: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = None if finder is left_out else finder.find_spec(fullname, path, target)
        if spec is not None:
            return spec
    return None


class _CallingLoader(Loader):
    """Executes a module by its own loader, then calls the callbacks; anything else is the business of that loader."""

    def __init__(self, loader: Loader):
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module keeps its own loader, which other tools look at. The import system has given it a spec.
        module.__loader__ = cast(ModuleSpec, module.__spec__).loader = self._loader
        self._loader.exec_module(module)
        for callback in _waiting.pop(module.__name__, []):
            callback()
