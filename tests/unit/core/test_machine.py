"""What is read of the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from llamaduo_gui.core.machine import Gpu, Machine, parse_nvidia_smi, read_machine


def test_the_output_of_nvidia_smi_is_read_and_broken_lines_are_left_out() -> None:
    text = "0, NVIDIA A100-SXM4-80GB, 550.54, 81920, 1024, 80896, 37\nnonsense\n1, X, 1, [N/A]\n"

    assert parse_nvidia_smi(text) == [
        Gpu(0, "NVIDIA A100-SXM4-80GB", "550.54", 81920 * 2**20, 80896 * 2**20, 37)
    ]


def test_a_gpu_that_does_not_tell_its_load_is_kept() -> None:
    (gpu,) = parse_nvidia_smi("0, GH200, 560.1, 100, 40, 60, [N/A]")

    assert gpu.busy is None
    assert gpu.used_bytes == 40 * 2**20


def test_this_machine_is_read_without_torch() -> None:
    code = (
        "import sys; from llamaduo_gui.core.machine import read_machine; m = read_machine(); "
        "assert m.cores >= 1 and m.ram_total > m.ram_free > 0 and m.disk_free > 0; "
        "assert 'torch' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_disk_of_a_folder_that_does_not_exist_yet_is_its_parents(tmp_path: Path) -> None:
    assert read_machine(tmp_path / "a" / "b").disk_total == read_machine(tmp_path).disk_total


def test_a_gpu_is_what_trains_where_there_is_one() -> None:
    machine = Machine("cpu", 4, 100, 50, 1, 1, (Gpu(0, "NVIDIA L4", "1", 24, 20),))

    assert (machine.device, machine.model_bytes_free) == ("cuda", 20)
    assert machine.flops_per_s > Machine("cpu", 4, 100, 50, 1, 1).flops_per_s * 100
