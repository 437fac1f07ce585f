"""The machine of a measurement: one line for the head of every table."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def describe() -> str:
    """Processor, cores, threads, memory and versions."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        name = next(iter(names), name)
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = f", {size / 2**30:.0f} GiB"
    return (
        f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads{memory}, "
        f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
