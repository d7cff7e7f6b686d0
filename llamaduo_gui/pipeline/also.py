"""What an export can leave beside the GGUF: the adapter, the merged model, an Ollama Modelfile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.core.weights_hash import hash_weights
from llamaduo_gui.export.model_folders import write_adapter_folder, write_merged_folder
from llamaduo_gui.export.modelfile import find_turn_texts, modelfile
from llamaduo_gui.export.provenance import describe_export
from llamaduo_gui.pipeline.certify import Student, merged_onto

ALSO = ("peft", "merged", "modelfile")


def parse_also(text: str) -> tuple[str, ...]:
    """`peft,merged` as names.

    Raises:
        UserError: a name is unknown.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in ALSO]
    if unknown:
        raise UserError(f"There is no format {unknown[0]!r}; choose of {', '.join(ALSO)}.")
    return names


def write_also(
    names: Sequence[str],
    path: Path,
    student: Student,
    project_name: str,
    config: PipelineConfig,
    check_cancelled: Callable[[], None],
) -> dict[str, str]:
    """Write further formats beside a GGUF; returns their paths by name.

    Args:
        names: of ALSO.
        path: the GGUF; the others get its name with another ending.
        student: what it was exported from.
        project_name: for the model card.
        config: names the base model and the task.
        check_cancelled: called between tensors.

    Raises:
        UserError: the adapter alone is wanted of a model that was trained whole.
    """
    file = check_gguf(path)
    about = describe_export(
        project_name,
        config,
        student.base,
        round_number=student.round,
        student_hash=hash_weights(student.trained),
        quantized_from=merged_onto(file),
    )
    found = {}
    if "peft" in names:
        if student.adapter is None:
            raise UserError("All weights were trained: there is no adapter to export.")
        target = path.with_name(f"{path.stem}-peft")
        found["peft"] = str(write_adapter_folder(student.adapter, student.base, target, about))
    if "merged" in names:
        target = path.with_name(f"{path.stem}-merged")
        merged = write_merged_folder(
            student.base,
            student.adapter,
            target,
            about,
            lambda _name: check_cancelled(),
            quantized_from=merged_onto(file),
        )
        found["merged"] = str(merged)
    if "modelfile" in names:
        found["modelfile"] = str(_write_modelfile(path))
    return found


def _write_modelfile(path: Path) -> Path:
    from llamaduo_gui.core.llama_library import LlamaModel
    from llamaduo_gui.inference.chat_template import ChatTemplate

    with LlamaModel(path, vocab_only=True) as model:
        template = ChatTemplate(model)
        bos = model.special_text("bos")
        has_bos = bool(model.file.metadata.get("tokenizer.ggml.add_bos_token"))

        def render(turns: list[dict[str, str]]) -> str:
            text = template.render_turns(turns)
            # Ollama puts the bos token there itself where the file says so.
            return text.removeprefix(bos) if has_bos and bos else text

        tokens = model.file.metadata.get("tokenizer.ggml.tokens", [])
        types = model.file.metadata.get("tokenizer.ggml.token_type", [])
        stops = [
            str(tokens[index])
            for index, kind in enumerate(types)
            if kind == _CONTROL and model.ends_answer(index)
        ]
        text = modelfile(path.name, find_turn_texts(render), stops)
    target = path.with_name(f"{path.stem}.Modelfile")
    target.write_text(text, encoding="utf-8")
    return target


_CONTROL = 3
"""llama.cpp's type of special tokens."""
