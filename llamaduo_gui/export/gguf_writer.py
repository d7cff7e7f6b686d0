"""Writes a GGUF file: metadata first, then one tensor after another as it is merged."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.text_rules import NORMALIZER_KEY, SPACE_PREFIX_KEY, STRIP_AFTER_KEY
from llamaduo_gui.export.architectures import long_rope_attention_factor
from llamaduo_gui.export.gemma import add_gemma
from llamaduo_gui.export.shards import Float32
from llamaduo_gui.export.tensors import MergedTensor, ModelTensors
from llamaduo_gui.export.tokenizer import TokenizerSpec

# Types written directly; K-quants go through llama.cpp from one of these.
DIRECT_TYPES: dict[str, tuple[Type, gguf.LlamaFileType]] = {
    "F32": (Type.F32, gguf.LlamaFileType.ALL_F32),
    "F16": (Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "BF16": (Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "Q8_0": (Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
OUR_PREFIX = "llamaduo."
# From here on, rounding to F16 gives infinity (its largest number is 65504).
_F16_OVERFLOW = 65520.0


@dataclass(frozen=True, slots=True)
class Description:
    """What the file says about itself (`general.*`); empty values are left out.

    Attributes:
        name: the model's full name.
        basename: the base model's name without organisation.
        finetune: what it was tuned for.
        base_model: Hub id or name of the base model.
        license: of the base model, as its model card has it.
        datasets: names of the training data.
        extra: further text entries of this program, stored as `llamaduo.KEY`.
    """

    name: str
    basename: str = ""
    finetune: str = ""
    base_model: str = ""
    license: str = ""
    datasets: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)


def tensor_type(tensor: MergedTensor, quant: str) -> Type:
    """The type a tensor is written in.

    Vectors and norms stay F32, as llama.cpp's operations want them; rows that are not a multiple
    of the block become F16, as llama.cpp's converter makes them.
    """
    wanted, _ = DIRECT_TYPES[quant]
    is_vector = len(tensor.shape) == 1 or tensor.name.endswith("_norm.weight")
    if is_vector or not tensor.name.endswith(".weight"):
        return Type.F32
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if tensor.shape[-1] % block == 0 else Type.F16


def tensor_bytes(tensor: MergedTensor, kind: Type) -> int:
    """Size of a tensor in the file, without padding."""
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return tensor.weights // block * block_bytes


def estimate_bytes(model: ModelTensors, quant: str, tokenizer: TokenizerSpec | None = None) -> int:
    """Size of the file to be written, within a few percent."""
    data = sum(tensor_bytes(item, tensor_type(item, quant)) + 128 for item in model.tensors)
    if tokenizer is None:
        return data
    texts = (*tokenizer.tokens, *tokenizer.merges)
    return data + sum(len(text.encode()) + 16 for text in texts) + len(tokenizer.chat_template)


def expected_metadata(model: ModelTensors, tokenizer: TokenizerSpec) -> dict[str, Any]:
    """What a GGUF of this model has to say about its shape and its vocabulary, by key."""
    writer = gguf.GGUFWriter(None, model.architecture.name)
    try:
        _add_architecture(writer, model)
        _add_tokenizer(writer, tokenizer)
        return {key: value.value for part in writer.kv_data for key, value in part.items()}
    finally:
        writer.close()


def write_gguf(
    path: Path,
    model: ModelTensors,
    tokenizer: TokenizerSpec,
    description: Description,
    quant: str,
    on_tensor: Callable[[str], None],
) -> None:
    """Write a whole GGUF.

    Memory stays at a few blocks of rows (tensors.BLOCK_WEIGHTS), whatever the model's size.

    Args:
        path: file to write; an existing one is replaced.
        model: the merged tensors.
        tokenizer: the vocabulary, of as many tokens as the embedding has rows.
        description: the file's `general.*` metadata.
        quant: one of DIRECT_TYPES.
        on_tensor: called with each tensor's name after it was written; may raise to stop.

    Raises:
        UserError: a weight is not finite or too large for F16.
        OSError: the file cannot be written, for instance because the disk is full.
    """
    kind, file_type = DIRECT_TYPES[quant]
    writer = gguf.GGUFWriter(None, model.architecture.name)
    try:
        _add_description(writer, description, model, tokenizer)
        _add_architecture(writer, model)
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_tokenizer(writer, tokenizer)
        for tensor in model.tensors:
            kind = tensor_type(tensor, quant)
            writer.add_tensor_info(
                tensor.name, tensor.shape, np.dtype(np.float32), tensor_bytes(tensor, kind), kind
            )
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_data(writer, model, quant, on_tensor)
    finally:
        writer.close()


def _write_data(
    writer: gguf.GGUFWriter, model: ModelTensors, quant: str, on_tensor: Callable[[str], None]
) -> None:
    # GGUFWriter takes whole tensors, and numpy's tofile hides that a disk is full: written here.
    (file,) = writer.fout
    writer.write_padding(file, file.tell())
    for tensor in model.tensors:
        kind = tensor_type(tensor, quant)
        for block in tensor.blocks():
            file.write(_encode(block, kind, tensor.name).data.cast("B"))
        writer.write_padding(file, tensor_bytes(tensor, kind))
        on_tensor(tensor.name)
    file.flush()


def _encode(block: Float32, kind: Type, name: str) -> npt.NDArray[Any]:
    if kind is Type.F16:
        if max(block.max(), -block.min()) >= _F16_OVERFLOW:
            raise UserError(
                f"The weight {name} has values beyond the range of F16; export as BF16 or F32."
            )
        return block.astype(np.float16)
    encoded = gguf.quants.quantize(np.ascontiguousarray(block), kind)
    return np.ascontiguousarray(encoded)


def _add_description(
    writer: gguf.GGUFWriter,
    description: Description,
    model: ModelTensors,
    tokenizer: TokenizerSpec,
) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(_name_for_llama_cpp(description.name, strips=tokenizer.strips_as_phi3))
    writer.add_basename(description.basename)
    writer.add_finetune(description.finetune)
    writer.add_size_label(gguf.size_label(model.weights, model.weights, 0, 0))
    writer.add_license(description.license)
    if description.base_model:
        organization, _, name = description.base_model.rpartition("/")
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, name)
        writer.add_base_model_organization(0, organization)
        if organization:
            url = f"https://huggingface.co/{description.base_model}"
            writer.add_base_model_repo_url(0, url)
    if description.datasets:
        writer.add_dataset_count(len(description.datasets))
        for index, name in enumerate(description.datasets):
            writer.add_dataset_name(index, name)
    for key, text in description.extra.items():
        writer.add_string(OUR_PREFIX + key, text)


def _name_for_llama_cpp(name: str, *, strips: bool) -> str:
    """The model's name, which says Phi-3 exactly if llama.cpp is to apply its rule for Phi-3.

    It looks for `phi-3` or `phi3` in `general.name`, and then drops white space after special
    tokens; a model so named without Phi-3's tokens does not load.
    """
    if strips:
        return name if re.search("phi-?3", name, re.IGNORECASE) else f"{name} (Phi-3)"
    return re.sub("(phi)-?(3)", r"\1 \2", name, flags=re.IGNORECASE)


def _add_architecture(writer: gguf.GGUFWriter, model: ModelTensors) -> None:
    architecture = model.architecture
    writer.add_block_count(architecture.layers)
    writer.add_context_length(architecture.context_length)
    writer.add_embedding_length(architecture.hidden_size)
    writer.add_feed_forward_length(architecture.feed_forward_size)
    writer.add_head_count(architecture.heads)
    writer.add_head_count_kv(architecture.kv_heads)
    writer.add_layer_norm_rms_eps(architecture.norm_epsilon)
    if architecture.head_dim is not None:
        writer.add_key_length(architecture.head_dim)
        writer.add_value_length(architecture.head_dim)
    writer.add_vocab_size(model.embedding_rows)
    if architecture.name in ("llama", "phi3", "smollm3"):
        writer.add_rope_dimension_count(architecture.rope_dimensions)
    if architecture.name == "phi3":
        # Zero is how llama.cpp tells Phi-4 from the others.
        writer.add_sliding_window(architecture.sliding_window or 0)
    if architecture.gemma is not None:
        add_gemma(writer, architecture.gemma)
    _add_rope(writer, model)


def _add_rope(writer: gguf.GGUFWriter, model: ModelTensors) -> None:
    rope = model.architecture.rope
    writer.add_rope_freq_base(rope.theta)
    settings = rope.parameters
    if model.architecture.name == "phi3":
        writer.add_rope_scaling_orig_ctx_len(int(settings["original_max_position_embeddings"]))
    if rope.kind == "longrope":
        factor = long_rope_attention_factor(model.architecture)
        writer.add_rope_scaling_attn_factors(factor)
    elif rope.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(settings["factor"]))
    elif rope.kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(settings["factor"]))
        writer.add_rope_scaling_orig_ctx_len(int(settings["original_max_position_embeddings"]))
        if settings.get("attention_factor") is not None:
            writer.add_rope_scaling_yarn_attn_factor(float(settings["attention_factor"]))
        if settings.get("beta_fast") is not None:
            writer.add_rope_scaling_yarn_beta_fast(float(settings["beta_fast"]))
        if settings.get("beta_slow") is not None:
            writer.add_rope_scaling_yarn_beta_slow(float(settings["beta_slow"]))


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: TokenizerSpec) -> None:
    writer.add_tokenizer_model(tokenizer.model)
    writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(list(tokenizer.tokens))
    writer.add_token_types(list(tokenizer.token_types))
    if tokenizer.scores:
        writer.add_token_scores(list(tokenizer.scores))
        # llama.cpp's own default is True.
        writer.add_add_space_prefix(tokenizer.space_prefix in ("each", "always"))
    if tokenizer.merges:
        writer.add_token_merges(list(tokenizer.merges))
    for role, index in tokenizer.special_ids.items():
        getattr(writer, f"add_{role}_token_id")(index)
    # llama.cpp would put a bos before every text for some of the names in tokenizer.ggml.pre.
    writer.add_add_bos_token(tokenizer.add_bos)
    writer.add_add_eos_token(tokenizer.add_eos)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
    if tokenizer.normalizer:
        writer.add_string(NORMALIZER_KEY, tokenizer.normalizer)
    if tokenizer.space_prefix in ("first", "always"):
        writer.add_string(SPACE_PREFIX_KEY, tokenizer.space_prefix)
    if tokenizer.strips_after:
        writer.add_array(STRIP_AFTER_KEY, list(tokenizer.strips_after))
