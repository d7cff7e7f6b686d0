"""Tests of text vectors and of the groups found among them."""

from __future__ import annotations

import random

import numpy as np

from llamaduo_gui.data.clusters import Clusters
from llamaduo_gui.data.vectors import DIMENSIONS, LENGTH, TextSpace, closeness, nearest

TOPICS = (
    "apple pear plum cherry orchard harvest basket",
    "train station platform ticket railway timetable delay",
    "violin piano orchestra concert melody rhythm choir",
)


def make_texts(count: int, seed: int = 0) -> list[str]:
    """`count` texts of each topic in turn, of words of that topic in random order."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(TOPICS[n % 3].split(), k=12)) for n in range(3 * count)]


def test_texts_of_one_topic_form_one_cluster() -> None:
    texts = make_texts(20)
    space = TextSpace.learn(texts)
    clusters = Clusters.find(space.encode(texts), 3, seed=1)
    numbers = clusters.assign(space.encode(texts))
    assert len(clusters) == 3
    for topic in range(3):
        assert len(set(numbers[topic::3].tolist())) == 1
    assert len(set(numbers[:3].tolist())) == 3


def test_new_texts_are_assigned_to_their_topic() -> None:
    texts = make_texts(20)
    space = TextSpace.learn(texts)
    clusters = Clusters.find(space.encode(texts), 3, seed=1)
    known = clusters.assign(space.encode(texts[:3]))
    assert (clusters.assign(space.encode(make_texts(5, seed=9)[:3])) == known).all()


def test_the_same_seed_gives_the_same_clusters() -> None:
    vectors = TextSpace.learn(make_texts(20)).encode(make_texts(20))
    first = Clusters.find(vectors, 5, seed=1).centres
    assert np.array_equal(first, Clusters.find(vectors, 5, seed=1).centres)


def test_there_are_no_more_clusters_than_different_texts() -> None:
    space = TextSpace.learn(["one text", "another thing"])
    vectors = space.encode(["one text", "another thing", "one text"])
    assert len(Clusters.find(vectors, 9, seed=1)) == 2
    assert len(Clusters.find(vectors[:1], 9, seed=1)) == 1


def test_closeness_is_a_whole_number_and_greatest_for_the_same_text() -> None:
    texts = make_texts(4)
    vectors = TextSpace.learn(texts).encode(texts)
    found = closeness(vectors, vectors)
    assert np.array_equal(found, vectors.astype(np.int64) @ vectors.astype(np.int64).T)
    assert abs(found.diagonal() / LENGTH**2 - 1).max() < 0.02
    assert (found <= found.diagonal()[:, np.newaxis] * 1.02).all()


def test_rare_words_say_more_than_frequent_ones() -> None:
    texts = [f"please tell me {word}" for word in TOPICS[0].split()]
    space = TextSpace.learn(texts)
    vectors = space.encode(["please tell me apple", "apple", "please tell me"])
    same_word, same_frame = closeness(vectors[:1], vectors[1:])[0]
    assert same_word > same_frame


def test_a_text_without_words_and_no_texts_at_all_are_zeros() -> None:
    space = TextSpace.learn([])
    assert not space.encode([""]).any()
    assert space.encode(["something"]).any()
    vectors = space.encode(["something"])
    assert nearest(vectors, np.zeros((0, DIMENSIONS), np.int8)).tolist() == [0.0]
