# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import email
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

import lumos_hf
from lumos_hf import demo


REPOSITORY = Path(__file__).parents[1]
LOCK_CHECK = REPOSITORY / "scripts" / "check_lock.py"


@pytest.fixture(scope="module")
def model():
    config = lumos_hf.LumosConfig(
        vocab_size=9216 + 16,
        visual_token_offset=9216,
        visual_vocab_size=16,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    return lumos_hf.LumosForCausalLM(config).eval()


@pytest.mark.parametrize("name", lumos_hf.__all__)
def test_public_names_exist(name):
    assert name in dir(lumos_hf)
    assert getattr(lumos_hf, name).__name__ == name


def test_unknown_names_are_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'LumosImagePipeline'"):
        lumos_hf.LumosImagePipeline


def test_version_is_the_installed_one():
    assert lumos_hf.__version__ == importlib.metadata.version("lumos_hf")


@pytest.mark.slow
def test_import_leaves_diffusers_for_later():
    code = "import sys, lumos_hf; sys.exit('diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_auto_classes_know_lumos(model, tmp_path):
    model.save_pretrained(tmp_path)
    input_ids = torch.tensor([[0, 8710, 9220]])
    causal_lm = AutoModelForCausalLM.from_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)

    assert type(AutoConfig.from_pretrained(tmp_path)) is lumos_hf.LumosConfig
    assert type(causal_lm) is lumos_hf.LumosForCausalLM
    assert type(base) is lumos_hf.LumosModel
    with torch.no_grad():
        assert torch.equal(causal_lm(input_ids=input_ids).logits, model(input_ids=input_ids).logits)
        expected = model.model(input_ids=input_ids).last_hidden_state
        assert torch.equal(base(input_ids=input_ids).last_hidden_state, expected)


LOADED_BY_DIFFUSERS = """
import sys
{imports}
assert "lumos_hf.pipeline_lumos_video" not in sys.modules
import torch
def draw(pipe):
    generator = torch.Generator().manual_seed(0)
    return pipe("A star.", num_frames=1, num_inference_steps=2, generator=generator, output_type="latent").frames
demo = lumos_hf.demo_checkpoint()
pipe = DiffusionPipeline.from_pretrained(demo, torch_dtype=torch.float32)
assert type(pipe) is lumos_hf.LumosVideoPipeline
assert torch.equal(draw(pipe), draw(lumos_hf.LumosVideoPipeline.from_pretrained(demo)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import lumos_hf; from diffusers import DiffusionPipeline",
        "from diffusers import DiffusionPipeline; import lumos_hf",
    ],
)
def test_diffusers_knows_the_pipeline(imports):
    subprocess.run([sys.executable, "-c", LOADED_BY_DIFFUSERS.format(imports=imports)], check=True)


def test_demo_checkpoint_is_a_directory_with_a_pipeline(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_CHECKPOINT", tmp_path)
    (tmp_path / "model_index.json").write_text("{}", encoding="utf-8")
    assert lumos_hf.demo_checkpoint() == tmp_path


def test_missing_demo_checkpoint_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_CHECKPOINT", tmp_path)
    with pytest.raises(FileNotFoundError, match="make demo-train"):
        lumos_hf.demo_checkpoint()


def check_lock(tmp_path: Path, replace: dict[str, tuple[str, str]]) -> subprocess.CompletedProcess:
    """`make lock-check` on a copy of the files it reads, in which text was replaced."""
    for name in (
        "pyproject.toml",
        "requirements/base.txt",
        "requirements/app.txt",
        "requirements/dev.txt",
        "scripts/check_lock.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        old, new = replace.get(name, ("", ""))
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new), encoding="utf-8")
    script = tmp_path / LOCK_CHECK.relative_to(REPOSITORY)
    return subprocess.run([sys.executable, script], capture_output=True, text=True)


@pytest.mark.slow
def test_the_locks_fit_pyproject(tmp_path):
    result = check_lock(tmp_path, {})
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replace", "messages"),
    [
        (
            {"pyproject.toml": ('"transformers>=', '"transformers>=5.999,>=')},
            [
                "requirements/base.txt does not fit pyproject.toml",
                "requirements/dev.txt does",
                "transformers",
                "5.999",
            ],
        ),
        (
            {"pyproject.toml": ('"pytest>=', '"sentencepiece", "pytest>=')},
            ["requirements/dev.txt does not fit pyproject.toml: sentencepiece is asked for, but not locked"],
        ),
        (
            {"pyproject.toml": ('"typer>=0.25",', "")},
            ["requirements/base.txt does not fit pyproject.toml: typer is locked, but no longer asked for"],
        ),
        (
            {"requirements/base.txt": ("\npillow==", "\npillow==9.")},
            ["requirements/base.txt does not fit pyproject.toml: pillow>="],
        ),
    ],
    ids=["a newer one is wanted", "one is missing", "one is too many", "an older one is locked"],
)
def test_a_lock_that_does_not_fit_is_named_with_what_differs(tmp_path, replace, messages):
    result = check_lock(tmp_path, replace)
    assert result.returncode == 1
    assert "make lock" in result.stderr
    for message in messages:
        assert message in result.stderr


def test_torch_that_is_tested_is_named_once():
    asked = re.search(r"^torch==(.+)$", (REPOSITORY / "requirements" / "torch.txt").read_text(encoding="utf-8"), re.M)
    lowest = re.search(r'"torch>=(.+)"', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^TORCH_LOWEST \?= torch=={re.escape(lowest[1])}\b", makefile, re.M)
    assert tuple(map(int, asked[1].split("."))) >= tuple(map(int, lowest[1].split(".")))


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist of this repository, and the wheel that is built from it, as `build` makes them."""
    directory = tmp_path_factory.mktemp("distributions")
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", "outputs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache"
    )
    copy = Path(shutil.copytree(REPOSITORY, directory / "copy", ignore=ignored))
    (sdist,) = build("sdist", copy, directory)
    with tarfile.open(sdist) as archive:
        archive.extractall(directory / "unpacked", filter="data")
    (unpacked,) = (directory / "unpacked").iterdir()
    (wheel,) = build("wheel", unpacked, directory)
    return unpacked, wheel


def build(kind: str, source: Path, directory: Path) -> list[Path]:
    code = f"import setuptools.build_meta as b; b.build_{kind}({str(directory / kind)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    return list((directory / kind).iterdir())


@pytest.mark.slow
def test_the_sdist_can_be_tested(distributions):
    unpacked, _ = distributions
    tracked = [path for path in REPOSITORY.glob("tests/**/*") if path.is_file() and "__pycache__" not in path.parts]
    assert not [path for path in tracked if not (unpacked / path.relative_to(REPOSITORY)).is_file()]
    for name in ("Makefile", ".ci/run", "requirements/dev.txt", "scripts/check_lock.py", "examples/finetune.py"):
        assert (unpacked / name).read_bytes() == (REPOSITORY / name).read_bytes()
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "tests/test_token_layout.py", "tests/test_configuration_lumos.py"],
        cwd=unpacked,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
def test_the_wheel_holds_what_is_used_and_its_links_work_on_an_index(distributions):
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
        metadata = email.message_from_bytes(wheel.read("lumos_hf-0.1.0.dist-info/METADATA"))
    checkpoint = lumos_hf.demo_checkpoint()
    package = checkpoint.parents[1]
    for path in [*checkpoint.rglob("*"), *package.rglob("*.py"), *package.glob("hub/*.md"), package / "py.typed"]:
        assert path.is_dir() or path.relative_to(package.parent).as_posix() in names
    assert {name.split("/")[0] for name in names} == {"lumos_hf", "lumos_hf-0.1.0.dist-info"}
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    assert len(links) > 10 and all(link.startswith("https://") for link in links)
    assert metadata["Requires-Python"] == ">=3.11"
