"""Tests of the set-up steps: which builds are chosen, and that each step is done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from setup_machine import Outcome, SetupError
from setup_steps import Options, Setup
from tests.unit.packaging.machines import FakeSystem, make_venv, read_stamp

NOT_FOUND = Outcome(1, "ERROR: No matching distribution found for it")
NO_WHEEL = {"--only-binary llama-cpp-python": NOT_FOUND}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CI", "CMAKE_ARGS", "CXX", "CUDACXX", "CUDA_PATH", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.fixture
def system(root: Path) -> FakeSystem:
    return FakeSystem(root / ".venv")


def set_up(system: FakeSystem, root: Path, *extras: str, **options: object) -> Setup:
    setup = Setup(Options(**options), root, system)  # type: ignore[arg-type]
    setup.ensure(set(extras))
    return setup


def test_without_a_gpu_the_cpu_build_of_torch_is_the_first_choice(
    system: FakeSystem, root: Path
) -> None:
    set_up(system, root)
    assert system.pip_commands() == [
        "install torch==2.13.0+cpu",
        "install --only-binary llama-cpp-python llama-cpp-python>=0.3.16",
        f"install --editable {root}",
    ]


def test_the_cpu_build_is_looked_for_in_pytorchs_own_index_next(
    system: FakeSystem, root: Path
) -> None:
    system.replies = {"torch==2.13.0+cpu": NOT_FOUND}
    set_up(system, root)
    index = "https://download.pytorch.org/whl/cpu"
    assert system.pip_commands()[1] == f"install torch>=2.6 --index-url {index}"


def test_plain_torch_is_the_last_resort(system: FakeSystem, root: Path) -> None:
    system.replies = {"torch==2.13.0+cpu": NOT_FOUND, "--index-url": NOT_FOUND}
    set_up(system, root)
    assert system.pip_commands()[2] == "install torch>=2.6"


def test_beside_an_nvidia_gpu_the_cuda_build_and_its_monitor_are_installed(
    system: FakeSystem, root: Path
) -> None:
    system.executables.add("nvidia-smi")
    system.replies = {"nvidia-smi -L": Outcome(0, "GPU 0: NVIDIA H200")}
    set_up(system, root)
    assert system.pip_commands()[0] == "install torch>=2.6"
    assert system.pip_commands()[-1] == f"install --editable {root}[gpu]"


def test_a_driver_without_a_card_counts_as_no_gpu(system: FakeSystem, root: Path) -> None:
    system.executables.add("nvidia-smi")
    system.replies = {"nvidia-smi -L": Outcome(9, "NVIDIA-SMI has failed")}
    set_up(system, root)
    assert system.pip_commands()[0] == "install torch==2.13.0+cpu"


def test_the_last_resort_is_not_started_on_a_disk_that_cannot_hold_it(
    system: FakeSystem, root: Path
) -> None:
    system.replies = {"torch==2.13.0+cpu": NOT_FOUND, "--index-url": NOT_FOUND}
    system.free = 7.0
    with pytest.raises(SetupError, match=r"7\.0 GB free and set-up needs about 9\.0 GB"):
        set_up(system, root)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_outside_linux_the_plain_torch_is_the_cpu_build(
    system: FakeSystem, root: Path, platform: str
) -> None:
    system.platform = platform
    set_up(system, root)
    assert system.pip_commands()[0] == "install torch>=2.6"


def test_without_a_wheel_llama_cpp_is_built_and_the_user_told_how_long(
    system: FakeSystem, root: Path
) -> None:
    system.replies = dict(NO_WHEEL)
    set_up(system, root)
    assert system.pip_commands()[2] == "install --verbose llama-cpp-python>=0.3.16"
    assert "Building llama.cpp, about 2-5 minutes, this happens once" in system.titles
    arguments = system.environments[-2]["CMAKE_ARGS"]
    include = root / ".venv" / "llama-build.cmake"
    assert arguments == f"-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_INCLUDE={include}"
    assert "LLAMA_BUILD_COMMON OFF" in include.read_text()


def test_a_build_in_ci_does_not_depend_on_the_processor(
    system: FakeSystem, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_BLAS=ON")
    system.replies = dict(NO_WHEEL)
    set_up(system, root)
    assert system.environments[-2]["CMAKE_ARGS"].endswith("-DGGML_NATIVE=OFF -DGGML_BLAS=ON")


def test_a_named_index_is_asked_for_the_wheel(system: FakeSystem, root: Path) -> None:
    set_up(system, root, llama_wheels="https://wheels.invalid/cpu")
    assert "--extra-index-url https://wheels.invalid/cpu" in system.pip_commands()[1]


def test_a_wheel_that_does_not_load_is_removed_and_built_instead(
    system: FakeSystem, root: Path
) -> None:
    system.replies = {"import llama_cpp": Outcome(1, "libc.musl-x86_64.so.1: cannot open")}
    set_up(system, root)
    assert system.pip_commands()[2:4] == [
        "uninstall --yes llama-cpp-python",
        "install --verbose llama-cpp-python>=0.3.16",
    ]


def test_a_cuda_build_replaces_a_cpu_build_and_keeps_out_of_pips_cache(
    system: FakeSystem, root: Path
) -> None:
    system.executables.add("nvcc")
    set_up(system, root)
    system.commands.clear()
    set_up(system, root, cuda=True)
    assert system.pip_commands() == [
        "uninstall --yes torch",
        "install torch>=2.6",
        "uninstall --yes llama-cpp-python",
        "install --verbose --no-cache-dir llama-cpp-python>=0.3.16",
        f"install --editable {root}[gpu]",
    ]
    assert "-DGGML_CUDA=on" in system.environments[-2]["CMAKE_ARGS"]


def test_a_later_start_keeps_the_cuda_build(system: FakeSystem, root: Path) -> None:
    system.executables.add("nvcc")
    set_up(system, root, cuda=True)
    assert Setup(Options(), root, system).is_complete(set())


def test_a_second_start_runs_nothing(system: FakeSystem, root: Path) -> None:
    set_up(system, root)
    system.commands.clear()
    again = set_up(system, root)
    assert again.is_complete(set())
    assert system.commands == []


def test_the_test_extra_is_added_once_and_kept(system: FakeSystem, root: Path) -> None:
    set_up(system, root)
    system.commands.clear()
    set_up(system, root, "test")
    assert system.pip_commands() == [f"install --editable {root}[test]"]
    assert Setup(Options(), root, system).is_complete(set())


def test_a_changed_pyproject_reinstalls_the_project_only(system: FakeSystem, root: Path) -> None:
    set_up(system, root)
    system.commands.clear()
    system.free = 0.5
    (root / "pyproject.toml").write_text("[project]\nname = 'changed'\n")
    set_up(system, root)
    assert system.pip_commands() == [f"install --editable {root}"]


@pytest.mark.parametrize(
    ("failing", "expected_first"),
    [
        ("--editable", "install --editable"),
        ("llama-cpp-python", "install --only-binary llama-cpp-python"),
    ],
)
def test_an_interrupted_set_up_goes_on_with_the_step_it_stopped_at(
    system: FakeSystem, root: Path, failing: str, expected_first: str
) -> None:
    system.replies = {failing: Outcome(1, "ERROR: killed")}
    with pytest.raises(SetupError):
        set_up(system, root)
    system.replies = {}
    system.commands.clear()
    set_up(system, root)
    assert system.pip_commands()[0].startswith(expected_first)
    assert not any("-m venv" in command for command in system.commands)


def test_a_half_made_environment_is_made_anew(system: FakeSystem, root: Path) -> None:
    (root / ".venv" / "bin").mkdir(parents=True)
    set_up(system, root)
    assert f"/usr/bin/python3.12 -m venv --clear {root / '.venv'}" in system.commands


def test_an_environment_of_the_users_own_is_kept(system: FakeSystem, root: Path) -> None:
    make_venv(root / ".venv")
    set_up(system, root)
    assert not any("-m venv" in command for command in system.commands)


def test_an_environment_whose_python_changed_is_gone_through_again(
    system: FakeSystem, root: Path
) -> None:
    set_up(system, root)
    make_venv(root / ".venv", version="3.13.0")
    assert not Setup(Options(), root, system).is_complete(set())


def test_a_damaged_stamp_costs_a_check_and_nothing_else(system: FakeSystem, root: Path) -> None:
    set_up(system, root)
    (root / ".venv" / "llamaduo-setup.json").write_text("{")
    set_up(system, root)
    assert read_stamp(root / ".venv")["torch"] == "cpu"


def test_a_small_memory_disk_is_not_used_for_unpacking(system: FakeSystem, root: Path) -> None:
    system.temporary_free = 1.0
    set_up(system, root)
    assert system.environments[-1]["TMPDIR"] == str(root / ".venv" / "tmp")
    assert not (root / ".venv" / "tmp").exists()


def test_pip_is_shielded_from_settings_for_other_environments(
    system: FakeSystem, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PIP_USER", "1")
    set_up(system, root)
    assert "PYTHONPATH" not in system.environments[-1]
    assert system.environments[-1]["PIP_USER"] == "0"
