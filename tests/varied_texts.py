"""Two hundred texts on which tokenisers differ when their rules do, for comparing two of them."""

from __future__ import annotations

import random
import re
import unicodedata

_WRITTEN = (
    "",
    " ",
    "\n",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "It's what we'll say, I'm sure they'd've; YOU'RE DON'T 'til 'n'",
    "  two leading, trailing two  ",
    "inner    runs of     spaces",
    "tab\tand\t\ttwo tabs\t",
    "line\nline\n\nblank\n\n\ntwo blank\n\n\n\n",
    "Windows\r\nline\r\n\r\nends\r\n",
    "old Mac\rline\r\rends\r",
    " \n \n\n  \n\t\n ",
    "trailing spaces   \nand more  \n\n  indented",
    "0 1 12 123 1234 12345 123456 1234567 12345678",
    "3.14159 1,000,000.50 -7 +8 1e-10 0x1F 0b101 2nd 3rd 10% $5 \u20ac9 \u00a37",
    "2024-02-29T23:59:59Z 12:30 +49 (0)30 123456-78",
    "\u0664\u0662 \u0967\u0968\u0969 \uff11\uff12\uff13 \u2167 \u00bd \u00b2 \u2461",
    "name.surname+tag@example.org https://example.org/a/b?c=d&e=%20f#g",
    "/usr/local/bin:~/x.tar.gz C:\\Temp\\new\\file.txt",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "def f(x: int) -> dict:\n    return {'a': [x, 1.5e-3], \"b\": None}  # note\n",
    "for (int i = 0; i < n; ++i) { a[i] *= b[i] >> 2; }\n",
    '<div class="a">&nbsp;<!-- c --></div>\n<br/>',
    '{"key": [1, 2.5, true, null, "v\\n\\u00e9"]}',
    "SELECT * FROM t WHERE a <> 'b' AND c IS NOT NULL;",
    "| a | b |\n|---|:-:|\n| 1 | **2** |\n\n- [ ] todo\n1. one\n> quote\n```py\nx=1\n```",
    "!?!? ... --- === *** ### ((())) [[]] {{}} <<>> \\\\ // && || ^^ ~~ ``",
    "\u201cquotes\u201d \u2018single\u2019 \u2014 dash \u2013 en",
    "\u2026 dots \u2122 \u00a9 \u00ae \u00b0",
    "Gr\u00fc\u00dfe aus K\u00f6ln, se\u00f1or! O\u00f9 \u00e7a?",
    "\u017dlu\u0165ou\u010dk\u00fd k\u016f\u0148",
    "\u0130stanbul \u0131\u015f\u0131k \u00c6r\u00f8 \u00de\u00f3r \u0141\u00f3d\u017a",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u0415\u0449\u0451 \u0440\u0430\u0437.",
    "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5;",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u6211\u4eec\u57282024\u5e74\u3002",
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3002\u30ab\u30bf\u30ab\u30ca\u3068\u6f22\u5b57",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4! \u1112\u1161\u11ab",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c",
    "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u05e9\u05b8\u05dc\u05d5\u05b9\u05dd",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0 \u0540\u0561\u0575",
    "e\u0301 a\u0308 o\u0302\u0323 n\u0303 combining; \u00e9 \u00e4 composed",
    "Z\u0351\u036b\u0343a\u0363\u0366l\u0349g\u030f o",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308",
    "\U0001f44d\U0001f3fd \u2764\ufe0f 1\ufe0f\u20e3 \U0001f1e9\U0001f1ea \U0001f9ff",
    "\U0001d518\U0001d52b\U0001d526 \U00010348 \U00020000 \U0010ffff",
    "zero\u200bwidth \u00a0nbsp\u00a0 \u2009thin \u3000wide",
    "\u2028line \u2029para \ufeffbom \u00adshy",
    "\x00\x01\x02\x07\x08\x0b\x0c\x1b[31mred\x1b[0m\x7f\x80\x9f",
    "next\u0085line \x1c\x1d\x1e\x1f separators",
    "\ufffd replacement \ufffe \uffff",
    "\u202eright to left\u202c \u2066isolate\u2069",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>",
    "a<|endoftext|>b <|im_end|> c",
    "<|im_end|><|im_end|>\n<|im_start|>",
    "<|not_a_token|> <|im_start <|im_start| > im_end|> <||>",
    "<s> </s> [INST] <<SYS>> <pad> <unk> <think>hm</think> [PAD5]",
    "\u0120start \u2581under \u010a not bytes",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "=" * 80,
    " " * 70 + "x",
    "\n" * 30,
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "THE CUSTOMER CANNOT LOG IN AFTER THE UPDATE",
    "mIxEd CaSe wOrDs123with456digits",
)

_FRAGMENTS = (
    "the ", "Which ", "customer", " ticket", "'s", "'LL", "n't", "\n", "\n\n", "\r\n", "\t", " ",
    "  ", "   ", "7", "42", "1999", "3.5", ",", ".", "!", "?", ":", "-", "--", "(", ")", "_", "\"",
    "/", "@", "#", "%", "&", "*", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|", "|>",
    "{", "}", "\u00e9", "e\u0301", "\u00df",
    "\u4f60", "\u597d\u5417", "\u043f\u0440\u0438", "\u0645\u0631",
    "\u0928\u092e", "\U0001f600", "\u200d", "\u00a0", "\u3000", "\x00", "\x1b", "\x7f", "A", "zZ",
)  # fmt: skip


def varied_texts(count: int = 200, seed: int = 20) -> list[str]:
    """Hand-written texts, filled up to `count` with random mixtures of awkward fragments."""
    random_source = random.Random(seed)
    texts = list(_WRITTEN[:count])
    while len(texts) < count:
        length = random_source.randint(2, 24)
        texts.append("".join(random_source.choices(_FRAGMENTS, k=length)))
    return texts


def is_beyond_llama_cpp(text: str) -> bool:
    """Whether a text has what llama.cpp's regexes for Tekken and GPT-4o do not know.

    That is combining marks, and capitals beyond A to Z inside a word.
    """
    has_marks = any(unicodedata.category(char).startswith("M") for char in text)
    letters = re.findall(r"[^\W\d_]{2,}", text)
    has_capital_inside = any(
        not char.isascii() and not char.islower() for word in letters for char in word[1:]
    )
    return has_marks or has_capital_inside
