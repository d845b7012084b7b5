# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Runs the node pack by ComfyUI's own loader, validation and executor: `run_in_comfyui.py COMFYUI PACK WORK`, in a process of its
own, since ComfyUI's modules are at the top level. Prints what came out as JSON.

Only the server is a stand-in: it takes the executor's messages instead of sending them to a browser.
"""

import asyncio
import json
import sys
from pathlib import Path


class Messages:
    """What the executor needs of `PromptServer`."""

    def __init__(self):
        self.client_id, self.last_node_id, self.last_prompt_id = "test", None, None
        self.sent = []

    def send_sync(self, event, data, client_id=None):
        self.sent.append((event, data))


LOADED = {"class_type": "LumosLoader", "inputs": {"model": "demo", "dtype": "auto"}}
STEPS = {"num_inference_steps": 2}


def made(kind, prompt="A red star jumps in the snow.", seed=3, source="1", **inputs):
    return {"class_type": kind, "inputs": {"lumos": [source, 0], "prompt": prompt, "seed": seed, **STEPS, **inputs}}


def graphs(lora: str) -> dict:
    """Prompts as the frontend sends them; each ends in ComfyUI's own PreviewImage."""
    text = {"1": LOADED, "2": made("LumosTextToVideo", num_frames=5)}
    mask = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 128, "height": 128}}
    part = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}}
    whole = {
        "class_type": "MaskComposite",
        "inputs": {"destination": ["5", 0], "source": ["6", 0], "x": 32, "y": 32, "operation": "add"},
    }
    weights = {"class_type": "LumosLora", "inputs": {"lumos": ["1", 0], "lora": lora, "strength": 1.0}}
    return {
        "text": (text, "2"),
        "image": ({**text, "4": made("LumosImageToVideo", image=["2", 0], num_frames=5)}, "4"),
        "continued": ({**text, "4": made("LumosContinue", frames=["2", 0], num_new_frames=4)}, "4"),
        "edited": (
            {**text, "5": mask, "6": part, "7": whole, "4": made("LumosEdit", frames=["2", 0], mask=["7", 0])},
            "4",
        ),
        "lora": ({**text, "8": weights, "4": made("LumosTextToVideo", source="8", num_frames=5)}, "4"),
        "without again": ({"1": LOADED, "2": made("LumosTextToVideo", num_frames=5, seed=3)}, "2"),
    }


async def main(comfyui: str, pack: str, work: str) -> None:
    sys.path.insert(0, comfyui)
    from comfy.cli_args import args

    args.cpu = True
    import comfy.model_management as management
    import comfy.utils
    import execution
    import folder_paths
    import nodes
    import torch

    folder_paths.set_temp_directory(work)
    masks = str(Path(comfyui) / "comfy_extras" / "nodes_mask.py")
    loaded = [await nodes.load_custom_node(pack), await nodes.load_custom_node(masks, module_parent="comfy_extras")]
    results: dict = {"loaded": loaded}

    progress: list = []
    comfy.utils.set_progress_bar_global_hook(
        lambda value, total, preview, node_id=None: progress.append((value, total))
    )
    server = Messages()
    executor = execution.PromptExecutor(server)
    kept: dict[str, torch.Tensor] = {}

    class Keep:
        """An output node that keeps the frames for this script."""

        CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "test", "keep", (), True

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"frames": ("IMAGE",), "name": ("STRING", {})}}

        def keep(self, frames, name):
            kept[name] = frames
            return {}

    nodes.NODE_CLASS_MAPPINGS["Keep"] = Keep
    for name, (graph, last) in graphs(str(Path(work) / "lora")).items():
        ends = {"99": {"class_type": "Keep", "inputs": {"frames": [last, 0], "name": name}}}
        ends["98"] = {"class_type": "PreviewImage", "inputs": {"images": [last, 0]}}
        prompt = {**graph, **ends}
        valid, error, outputs, node_errors = await execution.validate_prompt(name, prompt, None)
        if not valid:
            raise AssertionError(f"{name}: {error} {node_errors}")
        await executor.execute_async(prompt, name, {}, outputs)
        if not executor.success:
            raise AssertionError(f"{name}: {executor.status_messages[-1]}")
    results["shapes"] = {name: list(frames.shape) for name, frames in kept.items()}
    results["range"] = [min(x.min().item() for x in kept.values()), max(x.max().item() for x in kept.values())]
    results["progress"] = progress[-2:]
    results["previews"] = len(list(Path(work).glob("ComfyUI_temp_*.png")))
    torch.save(kept, Path(work) / "kept.pt")

    # Interrupted at its first step.
    comfy.utils.set_progress_bar_global_hook(lambda *_, **__: management.interrupt_current_processing())
    ends = {"99": {"class_type": "Keep", "inputs": {"frames": ["2", 0], "name": "interrupted"}}}
    prompt = {"1": LOADED, "2": made("LumosTextToVideo", seed=9, num_frames=5), **ends}
    _, _, outputs, _ = await execution.validate_prompt("interrupted", prompt, None)
    await executor.execute_async(prompt, "interrupted", {}, outputs)
    results["interrupted"] = [executor.status_messages[-1][0], "interrupted" in kept]

    wrong = {"1": LOADED, "2": made("LumosTextToVideo", seed=-1), **ends}
    results["refused"] = not (await execution.validate_prompt("wrong", wrong, None))[0]
    print(json.dumps(results))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
