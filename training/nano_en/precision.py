"""The precision in which models are run and trained."""

import torch

WITHOUT = ("DEFAULT", "NO AVX", "AVX2")
"""What torch calls processors without instructions for bfloat16, which takes them fifteen times as long as float32."""


def mixed(device: torch.device) -> torch.autocast:
    """Compute products in bfloat16 where the device can, and leave the rest in float32."""
    can = device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in WITHOUT
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=can)
