"""Tests of batched answers from a GGUF: the same in any batch, shared prompts, limits, stops."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.errors import JobCancelledError, UserError
from llamaduo_gui.core.types import Message
from llamaduo_gui.export import tokenizer
from llamaduo_gui.inference.base import Backend, Generation, GenerationSettings, PromptJob
from llamaduo_gui.inference.llama_context import LlamaContext
from llamaduo_gui.inference.llama_cpp_backend import LlamaCppBackend
from tests.gguf_files import write_test_gguf
from tests.tiny_models import make_tiny_model

Answers = dict[tuple[int, int], Generation]
SETTINGS = GenerationSettings(temperature=0.9, top_p=0.95, max_new_tokens=12)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose rows fit K-quants."""
    return make_tiny_model(tmp_path_factory.mktemp("base"), hidden=256, intermediate=512)


@pytest.fixture(scope="module")
def path(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its F16 GGUF."""
    return write_test_gguf(base, tmp_path_factory.mktemp("gguf") / "model.gguf")


@pytest.fixture
def backend(path: Path) -> Iterator[LlamaCppBackend]:
    """The file, loaded."""
    found = LlamaCppBackend(path)
    yield found
    found.close()


def make_jobs(records: int, samples: int) -> list[PromptJob]:
    """Prompts of many lengths, several samples each."""
    return [
        PromptJob(
            record,
            sample,
            (Message("user", f"Question {record}: " + "which queue? " * (record % 5)),),
            seed=1000 * record + sample,
        )
        for record in range(records)
        for sample in range(samples)
    ]


def answer(
    backend: Backend, jobs: list[PromptJob], settings: GenerationSettings = SETTINGS
) -> Answers:
    """All responses by (record, sample); each is reported once."""
    found: Answers = {}

    def keep(job: PromptJob, generation: Generation) -> None:
        assert (job.record_id, job.sample) not in found
        found[job.record_id, job.sample] = generation

    backend.generate(jobs, settings, keep, lambda: None)
    return found


def texts(answers: Answers) -> dict[tuple[int, int], str]:
    """The texts alone."""
    return {key: value.text for key, value in answers.items()}


@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q8_0", "Q4_K_M"])
def test_an_answer_does_not_depend_on_the_batch_it_is_in(
    base: Path, tmp_path: Path, quant: str
) -> None:
    backend = LlamaCppBackend(write_test_gguf(base, tmp_path / "m.gguf", quant))
    jobs = make_jobs(records=9, samples=3)
    together = texts(answer(backend, jobs))
    assert len(together) == 27
    assert len(set(together.values())) > 20
    random.Random(3).shuffle(jobs)
    apart: dict[tuple[int, int], str] = {}
    for part in (jobs[:1], jobs[1:14], jobs[14:]):
        apart |= texts(answer(backend, part))
    backend.close()
    assert apart == together


def test_a_second_backend_gives_the_same_answers_and_another_seed_others(path: Path) -> None:
    jobs = make_jobs(records=3, samples=2)
    other = [PromptJob(job.record_id, job.sample, job.messages, job.seed + 7) for job in jobs]
    found = []
    for batch in (jobs, jobs, other):
        backend = LlamaCppBackend(path)
        found.append(texts(answer(backend, batch)))
        backend.close()
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_samples_of_a_prompt_share_its_prefill(
    backend: LlamaCppBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    prefill = LlamaContext.prefill

    def counted(context: LlamaContext, tokens: list[int], **place: int) -> object:
        runs.append(len(tokens))
        return prefill(context, tokens, **place)

    monkeypatch.setattr(LlamaContext, "prefill", counted)
    assert len(answer(backend, make_jobs(records=5, samples=20))) == 100
    assert len(runs) == 5
    assert runs == sorted(runs, reverse=True)


def test_temperature_zero_takes_the_likeliest_token(backend: LlamaCppBackend) -> None:
    found = answer(backend, make_jobs(2, 3), GenerationSettings(0.0, 1.0, 8))
    assert found[0, 0].text == found[0, 1].text == found[0, 2].text


def test_an_answer_ends_at_the_stop_token_or_the_limit(backend: LlamaCppBackend) -> None:
    found = answer(backend, make_jobs(20, 4), GenerationSettings(1.5, 1.0, 40))
    reasons = {item.finish_reason for item in found.values()}
    assert reasons == {"stop", "length"}
    for item in found.values():
        assert item.completion_tokens <= 40
        assert (item.finish_reason == "length") == (item.completion_tokens == 40) or (
            item.completion_tokens == 40
        )
        assert "<|im_end|>" not in item.text
        assert item.prompt_tokens > 5
        assert item.error == ""


def test_a_prompt_without_room_for_an_answer_is_an_error_and_the_others_go_on(
    backend: LlamaCppBackend,
) -> None:
    long = PromptJob(77, 0, (Message("user", "x y " * 400),), 1)
    nearly = PromptJob(78, 0, (Message("user", "zq" * 240),), 1)
    found = answer(backend, [long, nearly, *make_jobs(2, 1)], GenerationSettings(0.0, 1.0, 200))
    assert found[77, 0].finish_reason == "error"
    assert "context 512: there is no room" in found[77, 0].error
    used = found[78, 0].prompt_tokens + found[78, 0].completion_tokens
    assert used <= 512
    assert found[0, 0].completion_tokens > 0
    assert found[1, 0].error == ""


def test_nothing_to_do_is_done_at_once(backend: LlamaCppBackend) -> None:
    assert answer(backend, []) == {}


def test_cancelling_ends_between_tokens_and_the_backend_can_go_on(backend: LlamaCppBackend) -> None:
    jobs = make_jobs(records=6, samples=2)
    expected = texts(answer(backend, jobs))
    found: Answers = {}
    checks = 0

    def cancel() -> None:
        nonlocal checks
        checks += 1
        if checks > 25:
            raise JobCancelledError("Stopped.")

    with pytest.raises(JobCancelledError):
        backend.generate(
            jobs,
            SETTINGS,
            lambda job, got: found.update({(job.record_id, job.sample): got}),
            cancel,
        )
    assert 0 < len(found) < len(jobs)
    rest = [job for job in jobs if (job.record_id, job.sample) not in found]
    assert texts(found) | texts(answer(backend, rest)) == expected


def test_prompts_are_those_of_the_tokenisers_own_template(
    backend: LlamaCppBackend, base: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    turns = [
        Message("system", "Be brief."),
        Message("user", "Hi <|im_end|> there \u4f60\u597d\n\n\n12345"),
        Message("assistant", "Hello!"),
        Message("user", "And?\r\n"),
    ]
    expected = tokenizer.apply_chat_template(
        [turn.to_dict() for turn in turns], add_generation_prompt=True, return_dict=False
    )
    assert backend.encode_prompt(turns) == expected


def test_padding_of_the_vocabulary_is_never_said(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "padded", embedding_rows=2048)
    backend = LlamaCppBackend(write_test_gguf(folder, tmp_path / "m.gguf"))
    found = answer(backend, make_jobs(10, 2), GenerationSettings(2.0, 1.0, 20))
    backend.close()
    assert not any("[PAD" in item.text for item in found.values())


def test_a_file_without_a_chat_template_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_model(tmp_path / "plain", chat_template=None)
    # The export would lend it one.
    monkeypatch.setattr(tokenizer, "set_chat_template", lambda *_: None)
    with pytest.raises(UserError, match=r"m\.gguf has no chat template"):
        LlamaCppBackend(write_test_gguf(folder, tmp_path / "m.gguf"))


def test_a_template_that_refuses_the_conversation_is_explained(tmp_path: Path) -> None:
    template = "{{ raise_exception('System role not supported') }}"
    folder = make_tiny_model(tmp_path / "strict", chat_template=template)
    backend = LlamaCppBackend(write_test_gguf(folder, tmp_path / "m.gguf"))
    with pytest.raises(UserError, match="does not take this conversation: System role not"):
        backend.encode_prompt([Message("system", "x"), Message("user", "y")])
    backend.close()


def test_standard_output_stays_clean(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    backend = LlamaCppBackend(path)
    answer(backend, make_jobs(2, 1))
    backend.close()
    captured = capfd.readouterr()
    assert captured.out == ""
