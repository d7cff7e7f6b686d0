"""The registry of tiny models: one of each family, in that family's real shape, scaled down.

To add a family, add an entry to FAMILIES; every test that is parametrised by `FAMILIES` then
covers it: against llama.cpp's converter, in tokens, in logits, and through training and export.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.tiny_gemma import GEMMA_TEMPLATE, write_gemma_tokenizer
from tests.tiny_models import CHAT_TEMPLATE
from tests.tiny_tokenizers import (
    GPT4O_PATTERN,
    LLAMA3_PATTERN,
    TEKKEN_PATTERN,
    split,
    write_bpe,
    write_sentencepiece,
)

CHATML = ("<|im_start|>", "<|im_end|>")
LLAMA3_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
)
LLAMA3_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{%- endif %}"
)
# GAP is a blank in v0.3 and nothing in Tekken's models.
MISTRAL_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}{{- '[INST]GAP' + message['content'] + '[/INST]' }}"
    "{%- elif message['role'] == 'assistant' %}{{- 'GAP' + message['content'] + eos_token }}"
    "{%- else %}{{- raise_exception('roles must be user and assistant') }}{%- endif %}"
    "{%- endfor %}"
)
PHI3_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
PHI4_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SMOLLM3_TEMPLATE = (
    CHAT_TEMPLATE.removesuffix("{%- endif -%}")
    + "{%- if not enable_thinking %}{{ '<think>\\n\\n</think>\\n' }}{% endif -%}{%- endif -%}"
)
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# Phi's factors grow along the head; the long ones far more than the short ones.
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 10_000.0}

_llama3 = partial(
    write_bpe,
    cuts=[split(LLAMA3_PATTERN)],
    special=LLAMA3_TOKENS,
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
    pad="<|finetune_right_pad_id|>",
    adds_bos=True,
    ignore_merges=True,
)
_PHI3_TOKENS = ("<|assistant|>", "<|system|>", "<|end|>", "<|user|>")


@dataclass(frozen=True, slots=True)
class TinyFamily:
    """How to make a tiny model of a family.

    Attributes:
        family: name of the file of resources/model_families it must be found to be.
        config: name of transformers' configuration class.
        shape: its arguments: the real ratios (heads to KV heads, width to inner width, width of
            heads) at a small width, and the real rotary embedding at a short length.
        write_tokenizer: writes tokeniser files of the family's kind to a folder.
        chat_template: Jinja text with the family's markers.
        eos_texts: texts of the tokens in generation_config.json.
        extra_rows: rows of the embedding beyond the tokeniser's size.
        turn_end: text of the token that ends an answer.
        is_read_exactly: whether llama.cpp cuts every text as the tokeniser does; where it cannot,
            words with combining marks or with capitals beyond A to Z differ.
    """

    family: str
    config: str
    shape: dict[str, Any]
    write_tokenizer: Callable[[Path], None]
    chat_template: str
    turn_end: str
    eos_texts: tuple[str, ...] = ()
    extra_rows: int = 0
    is_read_exactly: bool = True


def _shape(width: int, heads: int, kv_heads: int, inner: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "num_hidden_layers": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        **more,
    }


def _phi3(name: str, **shape: Any) -> TinyFamily:
    rope = shape.pop("rope_parameters", {"rope_type": "default", "rope_theta": 10_000.0})
    return TinyFamily(
        family=name,
        config="Phi3Config",
        shape=_shape(96, 4, 4, 256, rope_parameters=rope, **shape),
        write_tokenizer=partial(
            write_sentencepiece,
            special=("<|endoftext|>", *_PHI3_TOKENS),
            strips=("</s>", *_PHI3_TOKENS),
            eos="<|endoftext|>",
            pad="<|endoftext|>",
            prefix="each",
        ),
        chat_template=PHI3_TEMPLATE,
        turn_end="<|end|>",
        eos_texts=("<|endoftext|>", "<|end|>"),
        extra_rows=19,
    )


def _gemma(name: str, **shape: Any) -> TinyFamily:
    is_third = name == "gemma3"
    return TinyFamily(
        family=name,
        config={"gemma": "GemmaConfig", "gemma2": "Gemma2Config", "gemma3": "Gemma3TextConfig"}[
            name
        ],
        shape={**shape, "rms_norm_eps": 1e-6, "tie_word_embeddings": True},
        write_tokenizer=partial(
            write_gemma_tokenizer, beyond=("<image_soft_token>",) if is_third else ()
        ),
        chat_template=GEMMA_TEMPLATE,
        turn_end="<end_of_turn>",
        eos_texts=("<eos>", "<end_of_turn>") if name != "gemma" else ("<eos>",),
        # The embedding of Gemma 3 1B has no row for the picture token of its tokeniser.
        extra_rows=-1 if is_third else 24,
    )


FAMILIES: dict[str, TinyFamily] = {
    "llama3-8b": TinyFamily(
        family="llama3",
        config="LlamaConfig",
        shape=_shape(
            128, 8, 2, 448, rope_parameters={"rope_type": "default", "rope_theta": 500_000.0}
        ),
        write_tokenizer=_llama3,
        chat_template=LLAMA3_TEMPLATE,
        turn_end="<|eot_id|>",
        eos_texts=("<|end_of_text|>", "<|eot_id|>"),
    ),
    "llama3.1-8b": TinyFamily(
        family="llama3",
        config="LlamaConfig",
        shape=_shape(
            256,
            8,
            2,
            896,
            rope_parameters={**LLAMA3_SCALING, "factor": 8.0, "rope_theta": 500_000.0},
        ),
        write_tokenizer=_llama3,
        chat_template=LLAMA3_TEMPLATE,
        turn_end="<|eot_id|>",
        eos_texts=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
    "llama3.2-1b": TinyFamily(
        family="llama3",
        config="LlamaConfig",
        shape=_shape(
            128,
            8,
            2,
            512,
            head_dim=16,
            tie_word_embeddings=True,
            rope_parameters={**LLAMA3_SCALING, "factor": 32.0, "rope_theta": 500_000.0},
        ),
        write_tokenizer=_llama3,
        chat_template=LLAMA3_TEMPLATE,
        turn_end="<|eot_id|>",
        eos_texts=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
    "mistral-v0.3": TinyFamily(
        family="mistral",
        config="MistralConfig",
        shape=_shape(
            128,
            8,
            2,
            448,
            sliding_window=None,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        ),
        write_tokenizer=partial(write_sentencepiece, control=("[INST]", "[/INST]")),
        chat_template=MISTRAL_TEMPLATE.replace("GAP", " "),
        turn_end="</s>",
        eos_texts=("</s>",),
    ),
    "mistral-nemo": TinyFamily(
        family="mistral-tekken",
        config="MistralConfig",
        # 32 heads of 128 in a width of 5120: the heads are narrower than the model.
        shape=_shape(
            160,
            8,
            2,
            448,
            head_dim=16,
            sliding_window=None,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        ),
        write_tokenizer=partial(
            write_bpe,
            cuts=[split(TEKKEN_PATTERN)],
            special=("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "<SPECIAL_999>"),
            bos="<s>",
            eos="</s>",
            pad="<pad>",
            adds_bos=True,
        ),
        chat_template=MISTRAL_TEMPLATE.replace("GAP", ""),
        turn_end="</s>",
        eos_texts=("</s>",),
        is_read_exactly=False,
    ),
    "gemma-2b": _gemma("gemma", **_shape(64, 4, 1, 512, head_dim=16)),
    # 16 heads of 256 in a width of 3072.
    "gemma-7b": _gemma("gemma", **_shape(96, 4, 4, 768, head_dim=32)),
    "gemma2-2b": _gemma(
        "gemma2",
        **_shape(
            144,
            8,
            4,
            576,
            head_dim=16,
            num_hidden_layers=4,
            sliding_window=32,
            query_pre_attn_scalar=16,
        ),
    ),
    "gemma3-1b": _gemma(
        "gemma3",
        **_shape(
            144,
            4,
            1,
            432,
            head_dim=32,
            num_hidden_layers=7,
            sliding_window=32,
            query_pre_attn_scalar=32,
            rope_parameters={
                "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        ),
    ),
    "smollm2-135m": TinyFamily(
        family="smollm2",
        config="LlamaConfig",
        shape=_shape(
            96,
            3,
            1,
            256,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        ),
        write_tokenizer=partial(
            write_bpe,
            cuts=[{"type": "Digits", "individual_digits": True}],
            cuts_as_gpt2=True,
            special=("<|endoftext|>", *CHATML, "<repo_name>"),
            bos="<|im_start|>",
            eos="<|im_end|>",
            pad="<|im_end|>",
        ),
        chat_template=CHAT_TEMPLATE,
        turn_end="<|im_end|>",
        eos_texts=("<|im_end|>",),
    ),
    "smollm3-3b": TinyFamily(
        family="smollm3",
        config="SmolLM3Config",
        shape=_shape(
            128,
            8,
            2,
            704,
            num_hidden_layers=5,
            tie_word_embeddings=True,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 5e6},
        ),
        write_tokenizer=partial(
            _llama3,
            special=("<|begin_of_text|>", "<|end_of_text|>", *CHATML, "<think>", "</think>"),
            bos=None,
            eos="<|im_end|>",
            pad="<|im_end|>",
            adds_bos=False,
        ),
        chat_template=SMOLLM3_TEMPLATE,
        turn_end="<|im_end|>",
        eos_texts=("<|im_end|>",),
    ),
    "phi3-mini-4k": _phi3("phi3", sliding_window=511),
    "phi3-mini-128k": _phi3(
        "phi3",
        sliding_window=1024,
        original_max_position_embeddings=256,
        rope_parameters={
            **LONG_ROPE,
            "short_factor": [1.0 + 0.05 * i for i in range(12)],
            "long_factor": [1.0 + 0.9 * i for i in range(12)],
        },
    ),
    "phi4-mini": TinyFamily(
        family="phi4-mini",
        config="Phi3Config",
        shape=_shape(
            96,
            6,
            2,
            256,
            tie_word_embeddings=True,
            sliding_window=1024,
            original_max_position_embeddings=256,
            rope_parameters={
                **LONG_ROPE,
                "partial_rotary_factor": 0.75,
                "short_factor": [1.0] * 6,
                "long_factor": [1.0 + 1.5 * i for i in range(6)],
            },
        ),
        write_tokenizer=partial(
            write_bpe,
            cuts=[split(GPT4O_PATTERN)],
            special=("<|endoftext|>", *_PHI3_TOKENS, "<|tool_call|>"),
            bos="<|endoftext|>",
            eos="<|endoftext|>",
            pad="<|endoftext|>",
            strips=_PHI3_TOKENS,
            tokenizer_class="GPT2Tokenizer",
        ),
        chat_template=PHI4_TEMPLATE,
        turn_end="<|end|>",
        eos_texts=("<|endoftext|>", "<|end|>"),
        is_read_exactly=False,
    ),
}


def make_family_model(
    folder: Path, name: str, *, seed: int = 0, dtype: str = "float32", **shape: Any
) -> Path:
    """Write a random-weight model of a family with its tokeniser, in the layout of the Hub.

    Args:
        folder: where the files go; made on demand.
        name: a key of FAMILIES.
        seed: of the weights.
        dtype: type of the stored weights.
        shape: arguments of the configuration that replace the family's.

    Returns:
        `folder`.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tiny = FAMILIES[name]
    tiny.write_tokenizer(folder)
    (folder / "chat_template.jinja").write_text(tiny.chat_template, encoding="utf-8")
    (folder / "config.json").write_text(
        json.dumps({"model_type": getattr(transformers, tiny.config).model_type}), encoding="utf-8"
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = [tokenizer.convert_tokens_to_ids(text) for text in tiny.eos_texts]
    config = getattr(transformers, tiny.config)(
        vocab_size=len(tokenizer) + tiny.extra_rows,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends,
        pad_token_id=tokenizer.pad_token_id,
        # Near the spread of trained weights: wider ones blow rounding up from layer to layer.
        initializer_range=0.05,
        **{**tiny.shape, **shape},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    return folder
