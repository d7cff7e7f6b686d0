"""Makes tiny random-weight llama, qwen2 and qwen3 models with a byte-level tokeniser for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

Architecture = Literal["llama", "qwen2", "qwen3"]

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

# The pre-tokeniser pattern of Qwen2 (llama.cpp's `qwen2`): digits are split one by one.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)

CORPUS = (
    "How many metres are in three kilometres? There are 3000 metres.",
    "Which queue does this ticket belong to? It belongs to the billing queue.",
    "The customer cannot log in after the update and asks for a new password.",
    "Please write one sentence about the weather in spring, in plain words.",
    "A short answer is better than a long one when the question is simple.",
    "Répondez en français s'il vous plaît. 你好 世界。 Привет, мир. 日本語のテキスト。",
)


def make_tiny_model(
    folder: Path,
    arch: Architecture = "llama",
    *,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    intermediate: int | None = None,
    vocab: int = 512,
    embedding_rows: int | None = None,
    context: int = 512,
    tie: bool = False,
    rope_theta: float = 10_000.0,
    chat_template: str | None = CHAT_TEMPLATE,
    dtype: str = "float32",
    max_shard_size: str = "5GB",
) -> Path:
    """Write a random-weight model with its tokeniser to `folder` in the layout of the Hub.

    Args:
        folder: where `config.json`, `model.safetensors`, `tokenizer.json` go; made on demand.
        arch: which architecture.
        seed: of the weights.
        hidden: width of the model; `heads` divides it. 256 and its multiples quantise to K-quants.
        layers: number of blocks.
        heads: query heads.
        kv_heads: key and value heads (grouped-query attention when fewer than `heads`).
        intermediate: width of the feed-forward part, default `2 * hidden`.
        vocab: upper bound of the tokeniser's size, special tokens included (at least 259).
        embedding_rows: rows of the embedding, default the tokeniser's size; more of them make the
            padded vocabulary that real models have.
        context: longest sequence in tokens.
        tie: share the weights of embedding and output.
        rope_theta: base of the rotary embedding.
        chat_template: Jinja text kept with the tokeniser, None for none.
        dtype: type of the stored weights.
        max_shard_size: weights above it are written as several shards.

    Returns:
        `folder`.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(vocab)
    tokenizer.chat_template = chat_template
    end = tokenizer.convert_tokens_to_ids(TURN_END)
    config = _config_class(arch)(
        vocab_size=embedding_rows or len(tokenizer),
        hidden_size=hidden,
        intermediate_size=intermediate or 2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=hidden // heads,
        max_position_embeddings=context,
        tie_word_embeddings=tie,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
        # Wide enough that greedy decoding of random weights is not a coin toss between near-ties.
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(
        eos_token_id=[end, tokenizer.convert_tokens_to_ids(END_OF_TEXT)],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(vocab: int = 512) -> object:
    """A byte-level BPE tokeniser with Qwen2's pre-tokeniser, no BOS, and ChatML's turn tokens.

    Any text can be encoded and comes back unchanged.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_tokenizer(vocab)),
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[TURN_START],
        clean_up_tokenization_spaces=False,
    )


@cache
def _trained_tokenizer(vocab: int) -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer.to_str()


def _config_class(arch: Architecture) -> type:
    from transformers import LlamaConfig, Qwen2Config, Qwen3Config

    return {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}[arch]
