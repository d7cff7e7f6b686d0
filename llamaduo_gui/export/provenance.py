"""What an exported file says about itself: names, licence, base model and training data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import yaml

from llamaduo_gui.core.base_model import BUILTIN_PREFIX
from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.export.gguf_writer import Description


def describe_export(
    project_name: str,
    config: PipelineConfig,
    base: Path,
    *,
    round_number: int,
    student_hash: str,
    quantized_from: str | None = None,
) -> Description:
    """The `general.*` metadata of a round's student.

    Args:
        project_name: the project folder's name.
        config: names the base model and the task.
        base: folder of the base model, whose model card may name a licence.
        round_number: which round trained the student.
        student_hash: SHA-256 of the adapter's or model's weights.
        quantized_from: number format of the 4-bit weights a QLoRA adapter is merged onto, None for
            the stored base.
    """
    reference = config.student.base_model
    basename = _basename(reference)
    task = config.task if config.task != "untitled" else project_name
    is_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", reference) and not Path(reference).exists()
    return Description(
        name=f"{basename} {task}",
        basename=basename,
        finetune=_slug(task),
        base_model=reference if is_hub_id else basename,
        license=read_license(base),
        datasets=(f"{task} coverage dataset",),
        extra={
            "project": project_name,
            "round": str(round_number),
            "student_sha256": student_hash,
            "merged_onto": f"nf4 from {quantized_from}" if quantized_from else "base",
        },
    )


def file_name(description: Description, weights: int, quant: str) -> str:
    """Name after GGUF's convention: base name, size, what it was tuned for, type of the weights."""
    size = gguf.size_label(weights, weights, 0, 0)
    parts = (_slug(description.basename), size, description.finetune, quant)
    return "-".join(part for part in parts if part) + ".gguf"


def read_license(folder: Path) -> str:
    """Licence in the front matter of the model card, empty if there is none."""
    card = folder / "README.md"
    if not card.is_file():
        return ""
    match = re.match(r"---\r?\n(.*?)\r?\n---", card.read_text("utf-8", errors="replace"), re.DOTALL)
    if match is None:
        return ""
    try:
        data: Any = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return ""
    license_id = data.get("license") if isinstance(data, dict) else None
    return license_id if isinstance(license_id, str) else ""


def _basename(reference: str) -> str:
    """The base model's own name: neither organisation nor a path of this machine."""
    text = reference.removeprefix(BUILTIN_PREFIX).rstrip("/\\")
    return re.split(r"[/\\]", text)[-1] or "model"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-.")
