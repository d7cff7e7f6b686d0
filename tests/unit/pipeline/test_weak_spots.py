"""Tests of the weights that tell synthesis where the student is weak."""

from __future__ import annotations

import random
from statistics import fmean

from llamaduo_gui.core.types import Message, Record
from llamaduo_gui.pipeline.weak_spots import weigh_seeds

TOPICS = (
    "apple pear plum cherry orchard harvest basket",
    "train station platform ticket railway timetable delay",
)


def make_records(count: int, name: str, category: str = "") -> list[Record]:
    """Records of both topics in turn; the topic is the category unless one is given."""
    rng = random.Random(name)
    found = []
    for number in range(count):
        topic = number % 2
        asked = " ".join(rng.choices(TOPICS[topic].split(), k=10))
        turns = (Message("user", asked), Message("assistant", "x"))
        found.append(Record(turns, category or str(topic), f"{name}-{number:03}"))
    return found


TRAIN = make_records(60, "train")


def mean_weight(weights: dict[str, float], train: list[Record], topic: int) -> float:
    return fmean(weights[record.prompt_id] for record in train[topic::2])


def test_training_records_of_a_failed_category_weigh_more() -> None:
    judged = [
        (record, 90.0 if record.category == "0" else 20.0) for record in make_records(20, "v")
    ]
    weights = weigh_seeds(TRAIN, judged, seed=1)
    assert mean_weight(weights, TRAIN, 1) > 3 * mean_weight(weights, TRAIN, 0)


def test_clusters_find_the_weak_spot_where_categories_do_not() -> None:
    train, held_out = make_records(60, "train", "all"), make_records(20, "v", "all")
    judged = [(record, 90.0 if number % 2 == 0 else 20.0) for number, record in enumerate(held_out)]
    weights = weigh_seeds(train, judged, seed=1)
    assert mean_weight(weights, train, 1) > 1.5 * mean_weight(weights, train, 0)


def test_only_weights_of_training_records_come_out() -> None:
    judged = [(record, 50.0) for record in make_records(20, "v")]
    weights = weigh_seeds(TRAIN, judged, seed=1)
    assert set(weights) == {record.prompt_id for record in TRAIN}
    assert all(isinstance(weight, float) and 1 <= weight <= 100 for weight in weights.values())


def test_words_that_only_validation_has_change_nothing() -> None:
    judged = [(record, float(number)) for number, record in enumerate(make_records(20, "v"), 40)]
    marked = []
    for record, score in judged:
        asked = Message("user", f"{record.instruction} zebra{score:.0f}")
        marked.append((Record((asked, record.messages[1]), record.category, "v"), score))
    assert weigh_seeds(TRAIN, marked, seed=1) == weigh_seeds(TRAIN, judged, seed=1)


def test_a_group_of_one_prompt_is_drawn_towards_the_mean() -> None:
    held_out = make_records(20, "v")
    one = [(record, 80.0) for record in held_out[::2]] + [(held_out[1], 10.0)]
    many = [(record, 80.0) for record in held_out[::2]] + [(r, 10.0) for r in held_out[1::2]]
    lonely, plenty = (weigh_seeds(TRAIN, judged, seed=1) for judged in (one, many))
    assert mean_weight(lonely, TRAIN, 1) < 0.75 * mean_weight(plenty, TRAIN, 1)


def test_a_category_that_was_not_judged_weighs_as_much_as_the_mean() -> None:
    train = [*TRAIN, *make_records(10, "other", "other")]
    judged = [(record, 60.0) for record in make_records(20, "v")]
    weights = weigh_seeds(train, judged, seed=1)
    assert set(weights.values()) == {41.0}


def test_nothing_judged_or_nothing_to_train_on_gives_no_weights() -> None:
    assert weigh_seeds(TRAIN, [], seed=1) == {}
    assert weigh_seeds([], [(TRAIN[0], 50.0)], seed=1) == {}
