"""A response depends on its prompt and seed, not on its batch, and greedy equals `generate`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from llamaduo_gui.core.errors import JobCancelledError, UserError
from llamaduo_gui.core.types import Message
from llamaduo_gui.inference.base import Generation, GenerationSettings, PromptJob
from llamaduo_gui.inference.transformers_backend import TransformersBackend
from tests.tiny_models import Architecture, make_tiny_model

WORDS = ["how", "many", "metres", "are", "in", "kilometres", "customer", "weather", "spring"]
SAMPLED = GenerationSettings(temperature=0.8, max_new_tokens=24)
GREEDY = GenerationSettings(temperature=0.0, max_new_tokens=24)

Found = dict[tuple[int, int], Generation]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"), context=128)


def make_jobs(prompts: int, samples: int) -> list[PromptJob]:
    words = random.Random(0)
    jobs = []
    for number in range(prompts):
        text = " ".join(words.choices(WORDS, k=words.randint(1, 12)))
        messages = (Message("user", f"{text} {number}"),)
        jobs += [
            PromptJob(number, sample, messages, 100 * number + sample) for sample in range(samples)
        ]
    return jobs


def answer(
    backend: TransformersBackend, jobs: list[PromptJob], settings: GenerationSettings
) -> Found:
    found: Found = {}

    def keep(job: PromptJob, generation: Generation) -> None:
        assert (job.record_id, job.sample) not in found
        found[job.record_id, job.sample] = generation

    backend.generate(jobs, settings, keep, lambda: None)
    return found


def texts(found: Found) -> dict[tuple[int, int], tuple[str, str, int]]:
    return {
        key: (item.text, item.finish_reason, item.completion_tokens) for key, item in found.items()
    }


def test_responses_are_the_same_whatever_the_batch(base: Path) -> None:
    jobs = make_jobs(10, 3)
    whole = answer(TransformersBackend.load(base, max_rows=64), jobs, SAMPLED)
    assert len(whole) == len(jobs)
    for rows in (1, 7):
        other = answer(TransformersBackend.load(base, max_rows=rows), jobs, SAMPLED)
        assert texts(other) == texts(whole)


def test_what_is_left_after_an_interruption_is_answered_the_same(base: Path) -> None:
    jobs = make_jobs(6, 4)
    whole = texts(answer(TransformersBackend.load(base), jobs, SAMPLED))
    left = jobs[3::2]
    assert texts(answer(TransformersBackend.load(base), left, SAMPLED)) == {
        (job.record_id, job.sample): whole[job.record_id, job.sample] for job in left
    }


def test_samples_of_a_prompt_differ(base: Path) -> None:
    found = answer(TransformersBackend.load(base), make_jobs(1, 4), SAMPLED)
    assert len({item.text for item in found.values()}) == 4


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_greedy_equals_generate_of_transformers(tmp_path: Path, arch: Architecture) -> None:
    backend = TransformersBackend.load(make_tiny_model(tmp_path / arch, arch))
    jobs = make_jobs(5, 1)
    found = answer(backend, jobs, GREEDY)
    for job in jobs:
        ids = torch.tensor([backend.encode_prompt(job.messages)])
        expected = backend._model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
        )[0, ids.shape[1] :]
        text = backend._tokenizer.decode(expected, skip_special_tokens=True).strip()
        own = found[job.record_id, job.sample]
        assert (own.text, own.completion_tokens) == (text, len(expected))
        assert own.prompt_tokens == ids.shape[1]


def test_both_ends_happen_and_are_told_apart(base: Path) -> None:
    found = answer(TransformersBackend.load(base), make_jobs(30, 2), SAMPLED)
    for item in found.values():
        assert (item.finish_reason == "stop") or item.completion_tokens == 24
        assert "<|im_end|>" not in item.text
        assert item.text == item.text.strip()
    assert {item.finish_reason for item in found.values()} == {"stop", "length"}


def test_an_answer_ends_with_the_context(base: Path) -> None:
    backend = TransformersBackend.load(base)
    messages = (Message("user", "7 " * 40),)
    room = 128 - len(backend.encode_prompt(messages))
    assert 0 < room < 60
    jobs = [PromptJob(1, sample, messages, sample) for sample in range(4)]
    found = answer(backend, jobs, GenerationSettings(0.8, 1.0, 500))
    assert max(item.completion_tokens for item in found.values()) == room


def test_a_prompt_that_fills_the_context_is_an_error_and_the_others_go_on(base: Path) -> None:
    long = PromptJob(99, 0, (Message("user", "7 " * 200),), 1)
    found = answer(TransformersBackend.load(base), [long, *make_jobs(2, 1)], SAMPLED)
    assert len(found) == 3
    assert found[99, 0].finish_reason == "error"
    assert "context 128" in found[99, 0].error
    assert not found[0, 0].error


def test_an_embedding_row_without_a_token_is_never_chosen(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "padded", embedding_rows=2048)
    backend = TransformersBackend.load(folder)
    seen: list[int] = []
    decode = backend._tokenizer.decode
    backend._tokenizer.decode = lambda ids, **settings: seen.extend(ids) or decode(ids, **settings)
    answer(backend, make_jobs(8, 2), GenerationSettings(5.0, 1.0, 16))
    assert seen
    assert max(seen) < len(backend._tokenizer)


def test_cancelling_stops_between_tokens(base: Path) -> None:
    calls = 0

    def cancel_soon() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise JobCancelledError

    with pytest.raises(JobCancelledError):
        TransformersBackend.load(base).generate(
            make_jobs(4, 2), SAMPLED, lambda job, found: None, cancel_soon
        )
    assert calls == 5


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError, RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    ids=["gpu", "cpu"],
)
def test_after_a_batch_that_did_not_fit_the_token_budget_is_halved_and_said_so(
    base: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    jobs = make_jobs(6, 2)
    expected = texts(answer(TransformersBackend.load(base), jobs, SAMPLED))
    backend = TransformersBackend.load(base, max_rows=8)
    advance = backend._advance
    sizes: list[int] = []

    def limited(state: Any, chosen: torch.Tensor) -> None:
        sizes.append(len(state.rows))
        if len(state.rows) > 3:
            raise error
        advance(state, chosen)

    monkeypatch.setattr(backend, "_advance", limited)
    found: Found = {}
    notes: list[str] = []
    backend.generate(
        jobs,
        SAMPLED,
        lambda job, got: found.__setitem__((job.record_id, job.sample), got),
        lambda: None,
        notes.append,
    )
    assert texts(found) == expected
    assert max(sizes) == 8
    assert notes[0].startswith("A batch of 8 responses of ")
    assert len(notes) == sum(size > 3 for size in sizes)


def test_other_errors_of_torch_are_not_taken_for_a_lack_of_memory(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend.load(base)

    def fail(groups: object) -> object:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(backend, "_prefill", fail)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        answer(backend, make_jobs(1, 1), SAMPLED)


def test_the_note_says_where_and_in_which_numbers_it_computes(base: Path) -> None:
    assert TransformersBackend.load(base).note.endswith("in float32")
    assert TransformersBackend.load(base, dtype="bfloat16").note.endswith("in bfloat16")


def test_a_single_response_too_large_for_memory_says_what_to_do(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend.load(base)

    def refuse(groups: object) -> object:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(backend, "_prefill", refuse)
    with pytest.raises(UserError, match="max_new_tokens"):
        answer(backend, make_jobs(1, 1), SAMPLED)


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fine-tune again"):
        TransformersBackend.load(base, tmp_path)
