"""Every family from a tiny base model through training and export to llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from llamaduo_gui.core.config import PipelineConfig, StudentConfig
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.core.model_family import detect_family, stop_token_ids
from llamaduo_gui.core.types import Message, Record, Split, Stage
from llamaduo_gui.export.stage import run_export
from llamaduo_gui.inference.base import Generation, GenerationSettings, PromptJob
from llamaduo_gui.inference.llama_context import Entry, LlamaContext
from llamaduo_gui.inference.llama_cpp_backend import LlamaCppBackend
from llamaduo_gui.inference.transformers_backend import TransformersBackend
from llamaduo_gui.store.project import Project
from llamaduo_gui.training.stage import run_finetune
from tests.tiny_families import FAMILIES, TinyFamily, make_family_model
from tests.varied_texts import is_beyond_llama_cpp, varied_texts

STEP = {
    "epochs": 1,
    "learning_rate": 1e-2,
    "batch_size": 4,
    "gradient_accumulation": 1,
    "warmup_ratio": 0.0,
    "max_length": 256,
    "eval": "never",
}
QUESTIONS = (
    "How many metres are in three kilometres?",
    "Which queue does this ticket belong to?",
    " Two blanks  and\na line.",
)
# One of each kind of tokeniser and tensor layout; the others take another minute.
ALWAYS = ("llama3.2-1b", "mistral-v0.3", "gemma2-2b", "smollm3-3b", "phi3-mini-128k")
# Contexts are rounded up to 256 tokens, the length that the Phi families here were "trained" for.
CONTEXT = 256


@dataclass
class Student:
    """A trained family: its base model, adapter and exported files."""

    name: str
    base: Path
    project: Project

    @property
    def tiny(self) -> TinyFamily:
        return FAMILIES[self.name]

    @property
    def adapter(self) -> Path:
        return self.project.paths.round_dir(0) / "adapter"

    def gguf(self, quant: str) -> Path:
        """The exported file; made on the first call."""
        found = self.project.artifacts.all("gguf")
        for row in found:
            if row.meta["quant"] == quant:
                return self.project.artifacts.absolute(row)
        run = self.project.runs.find_or_create(f"export:{quant}", Stage.EXPORT, round_number=0)
        context = JobContext(lambda event: None)
        summary = run_export(
            self.project, run, context, round_number=0, quant=quant, config=self.project.config
        )
        return self.project.folder / str(summary["path"])

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.base)

    def prompts(self, *, tokenize: bool = True) -> list[Any]:
        """The questions as transformers renders them: token ids, or text."""
        tokenizer, arguments = self.tokenizer(), detect_family(self.base).template_arguments
        return [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                add_generation_prompt=True,
                tokenize=tokenize,
                return_dict=False,
                **arguments,
            )
            for text in QUESTIONS
        ]


def _always_or_extended(name: str) -> Any:
    return pytest.param(name, marks=() if name in ALWAYS else pytest.mark.extended)


@pytest.fixture(scope="module", params=map(_always_or_extended, FAMILIES))
def student(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Student]:
    """A family after one LoRA step."""
    folder = tmp_path_factory.mktemp("family")
    base = make_family_model(folder / request.param, request.param)
    config = PipelineConfig(
        task="units",
        student=StudentConfig(base_model=str(base), recipe="lora", overrides=STEP),
    )
    with Project.create(folder / "project", config) as project:
        turns = (Message("user", QUESTIONS[0]), Message("assistant", "3000 metres"))
        records = [(Record(turns, "units", f"p{i}"), Split.TRAIN, f"f:{i}") for i in range(4)]
        project.records.add_coverage(records)
        run = project.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0, seed=1)
        context = JobContext(lambda event: None)
        summary = run_finetune(project, run, context, round_number=0, config=config)
        assert summary["steps"] == 1
        yield Student(request.param, base, project)


def test_the_family_is_recognised_and_its_facts_are_true(student: Student) -> None:
    family = detect_family(student.base)
    assert family.name == student.tiny.family
    tokenizer = student.tokenizer()
    prompt = student.prompts(tokenize=False)[0].removesuffix("<think>\n\n</think>\n")
    assert prompt.endswith(family.response_marker)
    end = tokenizer.convert_tokens_to_ids(student.tiny.turn_end)
    assert end in stop_token_ids(tokenizer, family)
    for target in family.lora_targets:
        weights = (student.adapter / "adapter_model.safetensors").read_bytes()
        assert f".{target}.lora_A".encode() in weights


def test_llama_cpp_reads_200_texts_and_chats_as_the_tokeniser_does(student: Student) -> None:
    tokenizer = student.tokenizer()
    with LlamaModel(student.gguf("F16"), vocab_only=True) as model:
        differing = [
            text
            for text in varied_texts()
            if model.tokenize(text) != tokenizer(text, add_special_tokens=False)["input_ids"]
        ]
        chats = [model.tokenize(text) for text in student.prompts(tokenize=False)]
        assert chats == student.prompts()
    if student.tiny.is_read_exactly:
        assert differing == []
    else:
        assert [text for text in differing if not is_beyond_llama_cpp(text)] == []
        assert len(differing) < 60


# Measured means over the families: F32 4e-14..5e-13, F16 1e-7..6e-7, Q8_0 5e-5..3e-4.
@pytest.mark.parametrize(("quant", "limit"), [("F32", 1e-6), ("F16", 1e-5), ("Q8_0", 1e-3)])
def test_the_file_hardly_diverges_from_the_trained_student(
    student: Student, quant: str, limit: float
) -> None:
    tuned = TransformersBackend.load(student.base, student.adapter)
    plain = TransformersBackend.load(student.base)
    used = len(student.tokenizer())
    kl, moved = [], []
    with LlamaModel(student.gguf(quant)) as model:
        for ids in [*student.prompts(), long_text(used)]:
            length = -(-len(ids) // CONTEXT) * CONTEXT
            with LlamaContext(model, length=length, is_exact=quant == "F32") as context:
                logits = context.decode([Entry(t, i, 0, True) for i, t in enumerate(ids)])
                ours = torch.from_numpy(logits[:, :used].copy()).double().log_softmax(-1)
            theirs = logits_of(tuned, ids)[:, :used]
            kl.append(divergence(theirs, ours))
            moved.append(divergence(logits_of(plain, ids)[:, :used], theirs))
    tuned.close()
    plain.close()
    assert max(kl) < limit
    # The step changed the student by far more than the file differs from it.
    assert all(change > 10 * error for change, error in zip(moved, kl, strict=True))


def long_text(vocabulary: int) -> list[int]:
    """Random tokens, more than the Phi families were "trained" for."""
    generator = torch.Generator().manual_seed(4)
    return torch.randint(vocabulary - 8, (CONTEXT + 60,), generator=generator).tolist()


def logits_of(backend: TransformersBackend, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = backend._model(torch.tensor([ids])).logits[0].double()
    return logits.log_softmax(-1)


def divergence(theirs: torch.Tensor, ours: torch.Tensor) -> float:
    """Mean KL(theirs || ours) over positions, in nats."""
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


def test_llama_cpp_answers_as_the_trained_student_does(student: Student) -> None:
    tuned = TransformersBackend.load(student.base, student.adapter)
    exported = LlamaCppBackend(student.gguf("F32"))
    assert answers(exported) == answers(tuned)
    tuned.close()
    exported.close()


def answers(backend: LlamaCppBackend | TransformersBackend) -> dict[int, str]:
    """Greedy answers to the questions."""
    found: dict[int, str] = {}
    jobs = [
        PromptJob(index, 0, (Message("user", text),), seed=index)
        for index, text in enumerate(QUESTIONS)
    ]

    def keep(job: PromptJob, generation: Generation) -> None:
        found[job.record_id] = generation.text

    settings = GenerationSettings(temperature=0.0, max_new_tokens=8)
    backend.generate(jobs, settings, keep, lambda: None)
    return found
