# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import pytest


# By which the mixins of diffusers mark their tests; its own conftest.py registers them.
_MARKERS_OF_DIFFUSERS = """
    attention autoround big_accelerator bitsandbytes cache compile context_parallel cpu_offload
    gguf group_offload ip_adapter lora memory modelopt nightly quantization
    quanto sdnq single_file slow tensor_parallel torchao training
""".split()


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS_OF_DIFFUSERS:
        config.addinivalue_line("markers", f"{marker}: of the tests of diffusers")
