"""Where the student is weak, said in weights of training records: no validation text gets out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from llamaduo_gui.core.seeds import derive_seed
from llamaduo_gui.core.types import Record
from llamaduo_gui.data.boilerplate import learn_boilerplate
from llamaduo_gui.data.clusters import Clusters
from llamaduo_gui.data.vectors import TextSpace

# A group's mean counts for as many prompts as it has; the mean of all counts for this many.
_PRIOR_PROMPTS = 2.0
_MIN_PROMPTS_PER_CLUSTER = 3
_MAX_CLUSTERS = 32
_BEST_SCORE = 101.0
_DIGITS = 4


def weigh_seeds(
    train: Sequence[Record], judged: Sequence[tuple[Record, float]], seed: int
) -> dict[str, float]:
    """How much more data is needed around each training record: 1 (none) to 100.

    The mean of two needs: that of the record's category, and that of the cluster of training
    prompts it belongs to. Clusters and the words that count are learned from training prompts
    alone; a validation prompt is only assigned to one of them, and its score counts there. A need
    is what the mean score lacks of 101; groups of few prompts are drawn towards the mean of all,
    and one without any has that mean.

    Args:
        train: coverage training records.
        judged: validation records with the mean score of the student's answers, 1..100.
        seed: of the clusters.

    Returns:
        A weight for every training record, by prompt_id.
    """
    if not train or not judged:
        return {}
    numbers = _clusters(train, [record for record, _ in judged], seed)
    scores = [score for _, score in judged]
    by_category = _needs([record.category for record, _ in judged], scores)
    by_cluster = _needs(numbers[len(train) :], scores)
    usual = _need(scores, scores)
    return {
        record.prompt_id: round(
            (by_category.get(record.category, usual) + by_cluster.get(number, usual)) / 2, _DIGITS
        )
        for record, number in zip(train, numbers, strict=False)
    }


def _clusters(train: Sequence[Record], judged: Sequence[Record], seed: int) -> list[int]:
    """Number of the cluster of every training record, then of every judged one."""
    prompts = [record.instruction for record in train]
    boilerplate = learn_boilerplate(prompts, [record.category for record in train])
    space = TextSpace.learn(prompts, boilerplate)
    vectors = space.encode(prompts)
    most = min(_MAX_CLUSTERS, len(judged) // _MIN_PROMPTS_PER_CLUSTER, math.isqrt(len(train)))
    clusters = Clusters.find(vectors, max(1, most), derive_seed(seed, "clusters"))
    others = space.encode([record.instruction for record in judged])
    return [*clusters.assign(vectors).tolist(), *clusters.assign(others).tolist()]


def _needs(groups: Sequence[Hashable], scores: Sequence[float]) -> Mapping[Hashable, float]:
    found: dict[Hashable, list[float]] = defaultdict(list)
    for group, score in zip(groups, scores, strict=True):
        found[group].append(score)
    return {group: _need(own, scores) for group, own in found.items()}


def _need(own: Sequence[float], scores: Sequence[float]) -> float:
    usual = sum(scores) / len(scores)
    mean = (sum(own) + _PRIOR_PROMPTS * usual) / (len(own) + _PRIOR_PROMPTS)
    return _BEST_SCORE - mean
