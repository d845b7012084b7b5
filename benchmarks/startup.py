# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Processor seconds until a command does something: `python benchmarks/startup.py [--other SRC]`.

Each command runs in a process of its own, in turns with the same command of another copy of the package (the `src` of
another commit), and is ended at the first decoding step. The last row is what no import of ours can save: the modules of
transformers and diffusers that a model and its pipeline are made of, imported alone. What the time goes to is shown by
`python -X importtime -c "from lumos_hf import LumosVideoPipeline"`.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path


SOURCE = Path(__file__).parents[1] / "src"

_COMMAND = "import sys\nfrom lumos_hf.cli import main\nsys.argv = ['lumos-hf', *{arguments}]\n{stop}main()\n"
_STOP_AT_FIRST_STEP = (
    "import os, lumos_hf.import_hooks as hooks\n"
    "def stop():\n"
    "    from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler\n"
    "    MaskDecodingScheduler.draw_uniforms = lambda *_, **__: os._exit(0)\n"
    "hooks.when_imported('lumos_hf.scheduling_mask_decoding', stop)\n"
)
# Copies of the package without hooks import everything at once.
_STOP_AT_FIRST_STEP_AT_ONCE = (
    "import os\n"
    "from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler\n"
    "MaskDecodingScheduler.draw_uniforms = lambda *_, **__: os._exit(0)\n"
)
_LIBRARIES = (
    "import transformers.models.llama.modeling_llama, diffusers.pipelines.pipeline_utils\n"
    "import diffusers.models.autoencoders.autoencoder_kl_cosmos\n"
)
_PROMPT = "A red star jumps in the snow."
COMMANDS = {
    "`--help`": ["--help"],
    "`generate --help`": ["generate", "--help"],
    "a wrong option": ["generate", _PROMPT, "--height", "33"],
    "`generate`, to the first step": ["generate", _PROMPT, "-o", "startup.png"],
}


def command_seconds(source: Path, arguments: list[str]) -> float:
    """Of `lumos-hf` with these arguments, with the package in `source`."""
    has_hooks = (source / "lumos_hf" / "import_hooks.py").is_file()
    stop = ""
    if arguments[0] == "generate" and "-o" in arguments:
        stop = _STOP_AT_FIRST_STEP if has_hooks else _STOP_AT_FIRST_STEP_AT_ONCE
    return processor_seconds(_COMMAND.format(arguments=arguments, stop=stop), source)


def processor_seconds(code: str, source: Path) -> float:
    """Of a process of its own that runs `code`."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, help="src of the copy to compare with")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    sources = [SOURCE] if options.other is None else [options.other.resolve(), SOURCE]
    print("| command | " + " | ".join(["other", "this"][-len(sources) :]) + " |")
    print("| --- |" + " --- |" * len(sources))
    for name, arguments in COMMANDS.items():
        seconds: dict[Path, list[float]] = {source: [] for source in sources}
        for _ in range(options.runs + 1):
            for source in sources:
                seconds[source].append(command_seconds(source, arguments))
        # The first one compiles the modules.
        cells = [f"{statistics.median(seconds[source][1:]):.2f} s" for source in sources]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    libraries = statistics.median(processor_seconds(_LIBRARIES, SOURCE) for _ in range(options.runs))
    print("| imports of the libraries alone | " + " | ".join([f"{libraries:.2f} s"] * len(sources)) + " |")


if __name__ == "__main__":
    main()
