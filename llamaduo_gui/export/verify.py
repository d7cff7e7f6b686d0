"""Checks an exported file by loading it: types, stop tokens, and how it reads varied texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaduo_gui.core.gguf_file import GgufFile
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.export.quantize import fallback_types
from llamaduo_gui.export.tokenizer import TokenizerSpec

# What tokenisers cut differently: blank lines, digits, line ends, case, scripts, marks, emoji.
PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "It's we'll I'M YOU'RE they'd 've",
    "  leading, trailing and   inner   spaces  ",
    "tabs\tand\t\ttabs\n\n\nblank lines\n",
    "Windows\r\nline\r\n\r\nends\r",
    "1 12 123 1234 12345 3.14159 1,000,000 0x1F 2nd",
    "e-mail@example.org https://example.org/a?b=c&d=%20#e",
    "def f(x):\n    return {'a': [x, 1.5e-3], \"b\": None}\n",
    "<b>bold</b> &amp; `code` **bold** _it_ ~~no~~ | a | b |",
    "Grüße, señor! Où? Ça va. Žluťoučký kůň. İstanbul",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם",
    "你好，世界！ こんにちは世界。 안녕하세요 세계",
    "مرحبا بالعالم ٠١٢٣ नमस्ते दुनिया สวัสดีชาวโลก",
    "e\u0301 a\u0308 o\u0302 n\u0303 combining marks",
    "😀 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️",
    "½ ² ³ Ⅷ ① ㊗ ﬁ ™ … — “quotes” ‘q’",
    "zero\u200bwidth\u00a0nbsp\u2028line\ufeffbom",
    "\x01\x02\x1b[31mcontrol\x7f",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|><|not_a_token|>",
    "ﷺ𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 \U0001f9ff",
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found in an exported file.

    Attributes:
        file: its header.
        fallbacks: tensors whose type is not the one asked for, counted by type.
        differing_probes: texts that llama.cpp cuts into other tokens than the tokeniser.
        deaf_stops: stop tokens at which llama.cpp would not stop.
    """

    file: GgufFile
    fallbacks: dict[str, int]
    differing_probes: tuple[str, ...]
    deaf_stops: tuple[int, ...]

    def sentences(self, quant: str) -> list[str]:
        """What a person should know, one sentence each."""
        found = []
        if self.fallbacks:
            kinds = ", ".join(f"{count} as {name}" for name, count in self.fallbacks.items())
            found.append(
                f"Some tensors could not be stored as {quant} because their rows do not divide "
                f"into its blocks: {kinds}."
            )
        if self.differing_probes:
            found.append(
                f"llama.cpp reads {len(self.differing_probes)} of {len(PROBES)} test texts "
                f"differently from the tokeniser, for example {self.differing_probes[0][:40]!r}."
            )
        if self.deaf_stops:
            found.append(f"llama.cpp does not stop at the tokens {list(self.deaf_stops)}.")
        return found


def verify_gguf(path: Path, quant: str, tokenizer: Any, spec: TokenizerSpec) -> Findings:
    """Load the file in llama.cpp and compare its tokens with the tokeniser's.

    Raises:
        UserError: the file is incomplete or llama.cpp cannot load it.
    """
    with LlamaModel(path) as model:
        differing = tuple(
            text
            for text in PROBES
            if model.tokenize(text) != tokenizer(text, add_special_tokens=False)["input_ids"]
        )
        deaf = tuple(token for token in spec.stop_ids if not model.ends_answer(token))
        return Findings(model.file, fallback_types(model.file, quant), differing, deaf)
