"""What this computer has for models: processor, memory, disk, GPUs; torch is never imported."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_QUERY = "index,name,driver_version,memory.total,memory.used,memory.free,utilization.gpu"
_TIMEOUT_S = 5.0
# Training speeds in operations a second: what a core with AVX2 or better gives matrix products in
# fp32, measured at 20..60e9; for a GPU a third of its data sheet's dense 16-bit figure (e12).
_FLOPS_PER_CORE = 30e9
_GPU_TFLOPS = (
    ("H200", 990), ("H100", 990), ("B200", 2250), ("A100", 312), ("L40", 181), ("A6000", 155),
    ("L4", 121), ("A10", 125), ("T4", 65), ("V100", 112), ("5090", 209), ("5080", 112),
    ("5070", 62), ("4090", 165), ("4080", 97), ("4070", 58), ("4060", 30), ("3090", 71),
    ("3080", 60), ("3070", 40), ("3060", 26),
)  # fmt: skip
_OTHER_GPU_TFLOPS = 40
_GPU_SHARE = 0.33


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU; sizes in bytes, `busy` in per cent or None."""

    index: int
    name: str
    driver: str
    total_bytes: int
    free_bytes: int
    busy: int | None = None

    @property
    def used_bytes(self) -> int:
        """What is taken, by whatever program."""
        return self.total_bytes - self.free_bytes


@dataclass(frozen=True, slots=True)
class Machine:
    """The computer as it is now; sizes in bytes.

    Attributes:
        cpu: name of the processor; `cores` this process may use.
        disk_free: of the folder that was asked about.
    """

    cpu: str
    cores: int
    ram_total: int
    ram_free: int
    disk_total: int
    disk_free: int
    gpus: tuple[Gpu, ...] = ()

    @property
    def device(self) -> str:
        """`cuda` where there is a GPU to train on, else `cpu`."""
        return "cuda" if self.gpus else "cpu"

    @property
    def device_name(self) -> str:
        """Name of what trains: the first GPU, else the processor with its cores."""
        return self.gpus[0].name if self.gpus else f"{self.cpu}, {self.cores} cores"

    @property
    def model_bytes_free(self) -> int:
        """Memory free for a model: of the first GPU, else of the computer."""
        return self.gpus[0].free_bytes if self.gpus else self.ram_free

    @property
    def model_bytes_total(self) -> int:
        """Memory there is for a model."""
        return self.gpus[0].total_bytes if self.gpus else self.ram_total

    @property
    def flops_per_s(self) -> float:
        """A guess at training speed, in operations a second, where nothing was measured."""
        if not self.gpus:
            return _FLOPS_PER_CORE * self.cores
        name = self.gpus[0].name.upper()
        known = next((speed for mark, speed in _GPU_TFLOPS if mark in name), _OTHER_GPU_TFLOPS)
        return known * 1e12 * _GPU_SHARE

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def read_machine(folder: Path | None = None) -> Machine:
    """Look at the machine; asks the NVIDIA driver, which can take a tenth of a second.

    Args:
        folder: the disk it lies on is looked at; None for the home folder's.
    """
    import psutil

    memory = psutil.virtual_memory()
    place = folder or Path.home()
    while not place.exists() and place != place.parent:
        place = place.parent
    disk = shutil.disk_usage(place)
    return Machine(
        cpu=_cpu_name(),
        cores=_cores(),
        ram_total=int(memory.total),
        ram_free=int(memory.available),
        disk_total=disk.total,
        disk_free=disk.free,
        gpus=tuple(read_gpus()),
    )


def read_gpus() -> Sequence[Gpu]:
    """NVIDIA GPUs: through nvidia-ml-py where it is installed, else nvidia-smi; empty without."""
    found = _by_library()
    return found if found is not None else _by_command()


def parse_nvidia_smi(text: str) -> list[Gpu]:
    """GPUs in the CSV output (no header, no units) of nvidia-smi; broken lines are left out."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        with contextlib.suppress(ValueError, IndexError):
            total, _, free = (int(part) * 2**20 for part in parts[3:6])
            busy = int(parts[6]) if parts[6].isdigit() else None
            found.append(Gpu(int(parts[0]), parts[1], parts[2], total, free, busy))
    return found


def _by_library() -> list[Gpu] | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return [_read_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _read_gpu(library: Any, index: int) -> Gpu:
    handle = library.nvmlDeviceGetHandleByIndex(index)
    memory = library.nvmlDeviceGetMemoryInfo(handle)
    busy: int | None = None
    with contextlib.suppress(library.NVMLError):
        busy = int(library.nvmlDeviceGetUtilizationRates(handle).gpu)
    name, driver = library.nvmlDeviceGetName(handle), library.nvmlSystemGetDriverVersion()
    return Gpu(index, _text(name), _text(driver), int(memory.total), int(memory.free), busy)


def _by_command() -> list[Gpu]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_nvidia_smi(done.stdout) if done.returncode == 0 else []


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "processor"
