"""Near-duplicate removal of a large corpus: ours beside datasketch, in one run.

    python -m tests.benchmarks.dedup_scale [--texts 256000] [--words 150] [--json]

Each method gets the same made-up corpus (a fifth of it edited copies) in a process of its own and
has to name the texts to leave out, tokenising included. datasketch (pip install datasketch) gets
its bulk calls: one `update_batch` of hashed word 3-grams a text, 128 permutations, and an LSH
inserted in one session; its candidates are not re-checked. Memory is the peak above what the
corpus itself takes. Recall is against brute force on a sample: pairs of Jaccard 0.8 or more.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

THRESHOLD = 0.8
COPIES = 0.2
SAMPLE = 2000


def make_corpus(count: int, words: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts, and the (original, copy) places of the edited copies among them."""
    rng = random.Random(20_240_813)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(40_000)]
    originals = round(count * (1 - COPIES))
    texts = [" ".join(rng.choices(vocabulary, k=words)) for _ in range(originals)]
    pairs = []
    for place in range(originals, count):
        source = rng.randrange(originals)
        tokens = texts[source].split()
        for _ in range(rng.randint(0, words // 12)):
            tokens[rng.randrange(words)] = rng.choice(vocabulary)
        texts.append(" ".join(tokens))
        pairs.append((source, place))
    return texts, pairs


def run_ours(texts: Sequence[str]) -> dict[int, int]:
    """Left-out text by place, with the text it is too close to."""
    from llamaduo_gui.data.dedup import find_duplicates

    return {item.index: item.of for item in find_duplicates(texts, THRESHOLD)}


def run_datasketch(texts: Sequence[str]) -> dict[int, int]:
    """The same with datasketch."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    found: dict[int, int] = {}
    for place, text in enumerate(texts):
        tokens = text.lower().split()
        grams = {" ".join(tokens[at : at + 3]).encode() for at in range(len(tokens) - 2)}
        minhash = MinHash(num_perm=128)
        minhash.update_batch(grams)
        near = index.query(minhash)
        if near:
            found[place] = min(near)
        else:
            index.insert(place, minhash)
    return found


METHODS = {"ours": run_ours, "datasketch": run_datasketch}


def exact_jaccard(left: str, right: str) -> float:
    """Jaccard similarity of the word 3-grams, computed on the words themselves."""
    sets = []
    for text in (left, right):
        tokens = text.split()
        sets.append({tuple(tokens[at : at + 3]) for at in range(len(tokens) - 2)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def measure(method: str, count: int, words: int) -> dict[str, Any]:
    """Run one method in this process and check what it left out."""
    texts, pairs = make_corpus(count, words)
    before = _peak_mb()
    started = time.perf_counter()
    found = METHODS[method](texts)
    seconds = time.perf_counter() - started
    sample = random.Random(1).sample(pairs, min(SAMPLE, len(pairs)))
    wanted = [
        place for source, place in sample if exact_jaccard(texts[source], texts[place]) >= 0.8
    ]
    checked = random.Random(2).sample(sorted(found), min(SAMPLE, len(found)))
    right = [place for place in checked if exact_jaccard(texts[place], texts[found[place]]) >= 0.8]
    return {
        "method": method,
        "seconds": round(seconds, 2),
        "extra_mb": round(_peak_mb() - before),
        "left_out": len(found),
        "recall": round(sum(place in found for place in wanted) / len(wanted), 4),
        "precision": round(len(right) / max(1, len(checked)), 4),
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure every method and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--texts", type=int, default=256_000)
    parser.add_argument("--words", type=int, default=150)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--method", choices=sorted(METHODS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        print(json.dumps(measure(arguments.method, arguments.texts, arguments.words)))
        return
    results = []
    for method in METHODS:
        command = [sys.executable, "-m", "tests.benchmarks.dedup_scale", "--method", method]
        command += ["--texts", str(arguments.texts), "--words", str(arguments.words)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append(json.loads(output))
    ratio = results[1]["seconds"] / results[0]["seconds"]
    if arguments.json:
        print(json.dumps({"texts": arguments.texts, "ratio": round(ratio, 2), "results": results}))
        return
    for found in results:
        print(
            f"{found['method']:<11} {found['seconds']:7.1f} s  {found['extra_mb']:5d} MB  "
            f"left out {found['left_out']}, recall {found['recall']:.3f}, "
            f"precision {found['precision']:.3f}"
        )
    print(f"ours is {ratio:.1f} times as fast on {arguments.texts} texts")


if __name__ == "__main__":
    main()
