# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import importlib
import subprocess
import sys

import pytest

from lumos_hf.import_hooks import when_imported


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that is not imported yet: its name and a function that writes its source."""
    monkeypatch.syspath_prepend(tmp_path)
    name = "waited_for_module"
    yield name, lambda source: (tmp_path / f"{name}.py").write_text(source)
    sys.modules.pop(name, None)


def test_callbacks_wait_for_the_whole_module_and_are_called_once(module):
    name, write = module
    write("value = 3")
    calls = []
    when_imported(name, lambda: calls.append(sys.modules[name].value))
    assert calls == []
    imported = importlib.import_module(name)
    assert calls == [3]
    importlib.reload(imported)
    assert calls == [3]
    when_imported(name, lambda: calls.append("at once"))
    assert calls == [3, "at once"]


def test_a_module_that_waits_for_itself_is_complete_first(module):
    name, write = module
    write(
        "import builtins\n"
        "from lumos_hf.import_hooks import when_imported\n"
        f"when_imported('{name}', lambda: calls.append(complete))\n"
        "calls = []\ncomplete = True\n"
    )
    when_imported(name, lambda: None)
    assert importlib.import_module(name).calls == [True]


def test_an_import_that_fails_is_waited_for_again(module):
    name, write = module
    calls = []
    when_imported(name, lambda: calls.append(True))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)
    write("raise OSError('broken')")
    importlib.invalidate_caches()
    with pytest.raises(OSError, match="broken"):
        importlib.import_module(name)
    assert calls == []


def test_modules_keep_their_loader(module):
    name, write = module
    write("")
    when_imported(name, lambda: None)
    imported = importlib.import_module(name)
    assert type(imported.__loader__).__name__ == "SourceFileLoader"
    assert imported.__spec__.loader is imported.__loader__


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_importing_the_package_or_its_command_imports_no_large_library():
    large = ("torch", "transformers", "diffusers", "numpy", "PIL", "av")
    code = f"import lumos_hf.cli, sys; print([name for name in {large} if name in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.parametrize(
    "imports",
    [
        "import lumos_hf; from transformers import AutoModelForCausalLM",
        "from transformers import AutoModelForCausalLM; import lumos_hf",
        "from lumos_hf.modeling_lumos import LumosModel; from transformers import AutoModelForCausalLM",
    ],
)
@pytest.mark.slow
def test_the_auto_classes_know_lumos_whatever_is_imported_first(imports):
    code = (
        f"{imports}\n"
        "from transformers import AutoConfig\n"
        "config = AutoConfig.for_model('lumos', num_hidden_layers=1, hidden_size=64, num_attention_heads=2)\n"
        "model = AutoModelForCausalLM.from_config(config)\n"
        "print(type(config).__name__, config._auto_class, type(model).__name__, model._auto_class)"
    )
    assert run(code) == "LumosConfig AutoConfig LumosForCausalLM AutoModelForCausalLM"
