"""A pilot: about twenty real calls of each service, kept and used by the stages later."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llamaduo_gui.core.budget import format_usd
from llamaduo_gui.core.config import JudgeConfig, PipelineConfig, ServiceConfig
from llamaduo_gui.core.events import Started
from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.core.seeds import derive_seed
from llamaduo_gui.core.types import ModelKind, Record, RunStatus, Split, Stage, TokenCounts
from llamaduo_gui.evaluation.judges import judge_request, parse_judgement
from llamaduo_gui.evaluation.scores import records_of_run
from llamaduo_gui.evaluation.stage import RETRIES
from llamaduo_gui.inference.stage import service_request
from llamaduo_gui.pipeline.estimate import make_forecast
from llamaduo_gui.pipeline.feedback import seed_weights
from llamaduo_gui.pipeline.plan import Step, first_repeat
from llamaduo_gui.pipeline.spending import PAID_STAGES, put_budget_in_force
from llamaduo_gui.pipeline.upcoming import open_steps
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.providers.ledger import StoredReply
from llamaduo_gui.providers.pricing import cost_usd, estimate_usd
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RunRow
from llamaduo_gui.synthesis.stage import plan_requests

PILOT_CALLS = 20
# Requests with a reply, and those a batch that was handed in will bring.
_PAID = ("done", "in_batch")

Answer = tuple[Record, str]


@dataclass(frozen=True, slots=True)
class PilotPart:
    """Calls of one service for one step of the loop; their replies become that step's.

    Attributes:
        requests: real requests of the step; empty for judging answers that do not exist yet,
            whose number is then `count`.
        most_usd: the most they may cost, None without a price.
    """

    step: Step
    service: ServiceConfig
    requests: tuple[ChatRequest, ...]
    count: int
    most_usd: float | None


def plan_pilot(
    project: Project, config: PipelineConfig, *, has_further_rounds: bool = False
) -> list[PilotPart]:
    """The calls a pilot would make now: those of steps whose requests are settled already.

    Synthesis that is driven by failures, for one, has no settled requests before a round was
    judged. A service that was called often enough for the same purpose is left out.

    Args:
        project: an open project.
        config: its settings.
        has_further_rounds: also try steps that come only if a round does not match; if it does,
            their replies were paid for in vain.
    """
    found = open_steps(project, config)
    steps = [step for step, is_certain in found if is_certain or has_further_rounds]
    return list(_Planner(project, config, steps).parts())


def pilot_limit_usd(parts: Sequence[PilotPart]) -> float | None:
    """The most a pilot may cost, None if a price is not known."""
    return _sum([part.most_usd for part in parts])


def describe_pilot(parts: Sequence[PilotPart]) -> str:
    """What a pilot would send and what it may cost, in a sentence."""
    if not parts:
        return "No pilot is needed: the calls made so far say enough, or no request is settled yet."
    most = pilot_limit_usd(parts)
    price = f"at most about {format_usd(most)}" if most is not None else "an unknown amount"
    calls = sum(part.count for part in parts)
    services = len({part.service.name for part in parts})
    return (
        f"The pilot makes {calls} calls to {services} "
        f"{'service' if services == 1 else 'services'} and may cost {price}; "
        "their replies are kept for the loop."
    )


def run_pilot(
    project: Project, context: JobContext, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Make the pilot's calls, then forecast with them.

    `options` may have `has_further_rounds`, as of `plan_pilot`.

    Calls go out live, also those of a service whose stages use batches. The replies are stored
    under the steps they belong to, which find them there and pay nothing for them again.

    Returns:
        The forecast as `Forecast.to_dict`, and `pilot`: calls made and what they cost.

    Raises:
        BudgetReachedError, ConfigError, FatalProviderError, JobCancelledError: as in a stage;
            replies that came are kept.
    """
    config = project.config
    config.require_services()
    put_budget_in_force(project, context, config, PAID_STAGES)
    before = project.costs.spent_usd()
    is_wide = bool((options or {}).get("has_further_rounds"))
    parts = plan_pilot(project, config, has_further_rounds=is_wide)
    calls = sum(part.count for part in parts)
    context.emit(Started(0, "pilot"))
    context.log("pilot", describe_pilot(parts))
    _Pilot(project, context, config, ProgressMeter(context, 0, calls, "calls")).run(parts)
    spent = project.costs.spent_usd() - before
    context.log("pilot", f"The pilot cost {format_usd(spent)}.")
    forecast = make_forecast(project, config).to_dict()
    pilot = {"calls": calls, "most_usd": pilot_limit_usd(parts), "spent_usd": spent}
    return {**forecast, "pilot": pilot}


@dataclass(slots=True)
class _Planner:
    project: Project
    config: PipelineConfig
    steps: Sequence[Step]

    def parts(self) -> Iterator[PilotPart]:
        """The parts in the order they are sent in: answers before the judging of them."""
        found = [*self._answers(), *self._judging(), *self._synthesis()]
        yield from (part for part in found if part.count)

    def _lacks(self, service: ServiceConfig, purpose: str) -> bool:
        made = self.project.costs.calls(service.provider, service.model, purpose, PILOT_CALLS)
        return len(made) < PILOT_CALLS

    def _can_judge(self, step: Step, answering: Step | None) -> bool:
        """Whether the answers to judge are there, or the pilot itself brings some."""
        if step.stage is not Stage.JUDGE:
            return False
        key = step.key.replace("judge:", "infer:", 1)
        return (answering is not None and key == answering.key) or _has_answers(self.project, key)

    def _answers(self) -> Iterator[PilotPart]:
        teacher, step = self.config.teacher, self._answering()
        if teacher is not None and step is not None and self._lacks(teacher, "answer"):
            pairs = answer_requests(self.project, self.config, step)
            yield self._part(step, teacher, [request for request, _ in pairs])

    def _judging(self) -> Iterator[PilotPart]:
        answering = self._answering()
        step = next((step for step in self.steps if self._can_judge(step, answering)), None)
        if step is None:
            return
        answers = known_answers(self.project, self.config, step)
        for judge in self.config.judges:
            if not self._lacks(judge, "judge"):
                continue
            if answers:
                yield self._part(step, judge, judging_requests(self.config, step, judge, answers))
            elif answering is not None:
                pairs = answer_requests(self.project, self.config, answering)
                longest = self.config.teacher.max_tokens if self.config.teacher else 0
                amounts = [_judging_usd(judge, record, longest) for _, record in pairs]
                yield PilotPart(step, judge, (), len(pairs), _sum(amounts))

    def _synthesis(self) -> Iterator[PilotPart]:
        teacher, settings = self.config.teacher, self.config.synthesis
        step = next((step for step in self.steps if step.stage is Stage.SYNTHESIZE), None)
        if teacher is None or step is None or not self._lacks(teacher, "synthesize"):
            return
        number = step.round or 1
        if not self._is_settled(number):
            return
        weights = seed_weights(self.project, self.config, number)
        plan = plan_requests(
            self.project, round_number=number, config=self.config, seed_weights=weights
        )
        # More than would fill the round if every pair were kept might not be needed.
        needed = math.ceil(settings.pairs_per_round / settings.pairs_per_request)
        count = min(PILOT_CALLS, needed, len(plan))
        yield self._part(step, teacher, [plan.request(index, teacher) for index in range(count)])

    def _answering(self) -> Step | None:
        """The first step in which the teacher answers."""
        return next(
            (
                step
                for step in self.steps
                if step.kind is ModelKind.SERVICE and step.stage is Stage.INFER
            ),
            None,
        )

    def _part(
        self, step: Step, service: ServiceConfig, requests: Sequence[ChatRequest]
    ) -> PilotPart:
        """Those of `requests` that have no reply yet."""
        rows = ((request, self.project.replies.find(request.key())) for request in requests)
        open_ones = [request for request, row in rows if row is None or row.state not in _PAID]
        amounts = [estimate_usd(service, request) for request in open_ones]
        return PilotPart(step, service, tuple(open_ones), len(open_ones), _sum(amounts))

    def _is_settled(self, number: int) -> bool:
        """Whether nothing can change the seeds of a round any more.

        They are kept from the first time they are asked for, so it must not be too early.
        """
        is_driven = self.config.synthesis.strategy == "failure_driven"
        stage = "decide" if is_driven else "synthesize"
        if number == 1 and not is_driven:
            return True
        before = self.project.runs.by_key(f"{stage}:r{number - 1}")
        return before is not None and before.status is RunStatus.SUCCEEDED


@dataclass(slots=True)
class _Pilot:
    """Makes the calls of a pilot's parts, one part after the other."""

    project: Project
    context: JobContext
    config: PipelineConfig
    meter: ProgressMeter

    def run(self, parts: Sequence[PilotPart]) -> None:
        """Make them; what came is kept, however this ends."""
        for part in parts:
            self.context.check_cancelled()
            requests: Sequence[ChatRequest] = part.requests
            if not requests and isinstance(part.service, JudgeConfig):
                answers = known_answers(self.project, self.config, part.step)
                requests = judging_requests(self.config, part.step, part.service, answers)
            self._send(part, requests)
            self.context.changed("replies", "runs")

    def _send(self, part: PilotPart, requests: Sequence[ChatRequest]) -> None:
        """Send requests under the run of their step, live whatever the service's mode."""
        is_judging = part.step.stage is Stage.JUDGE

        def take(_: None, reply: StoredReply) -> ChatRequest | None:
            # As the stage itself does it: replies that cannot be used are part of the cost.
            may_ask_again = reply.reply is not None and reply.request.attempt < RETRIES
            if is_judging and may_ask_again and not parse_judgement(reply.text).is_complete:
                return reply.request.again()
            self.meter.update()
            return None

        run = self._run_of(part.step)
        provider = make_provider(part.service, self.context.secrets)
        engine = RequestEngine(provider, part.service, self.project.replies, run.id, self.context)
        engine.run_blocking(((request, None) for request in requests), take)

    def _run_of(self, step: Step) -> RunRow:
        return self.project.runs.find_or_create(
            step.key,
            step.stage,
            round_number=step.round,
            label=step.label,
            split=step.split,
            config=self.config.model_dump(mode="json"),
            seed=self.config.seed,
        )


def answer_requests(
    project: Project, config: PipelineConfig, step: Step
) -> list[tuple[ChatRequest, Record]]:
    """A sample of the requests of the teacher's inference step, of different prompts first."""
    teacher = config.teacher
    if teacher is None:
        return []
    records = [row.record for row in project.records.by_split(step.split or Split.VALIDATION)]
    random.Random(derive_seed(config.seed, "pilot", step.key)).shuffle(records)
    first = first_repeat(config, step)
    pairs = [
        (service_request(teacher, record, first + sample, config), record)
        for sample in range(config.inference.samples)
        for record in records
    ]
    return pairs[:PILOT_CALLS]


def known_answers(project: Project, config: PipelineConfig, judging: Step) -> list[Answer]:
    """Answers that a judging step will judge: those of its inference run, else of a pilot."""
    key = judging.key.replace("judge:", "infer:", 1)
    run = project.runs.by_key(key)
    if run is None:
        return []
    candidates = [item for item in project.candidates.of_run(run.id) if not item.error]
    if candidates:
        records = {row_id: row.record for row_id, row in records_of_run(project, run.id).items()}
        return [(records[item.record_id], item.text) for item in candidates]
    if judging.kind not in (ModelKind.SERVICE, ModelKind.CEILING):
        return []
    answering = dataclasses.replace(judging, key=key, stage=Stage.INFER)
    rows = [
        (record, project.replies.find(request.key()))
        for request, record in answer_requests(project, config, answering)
    ]
    texts = [(record, row.text.strip()) for record, row in rows if row and row.state == "done"]
    return [(record, text) for record, text in texts if text]


def judging_requests(
    config: PipelineConfig, step: Step, judge: JudgeConfig, answers: Sequence[Answer]
) -> list[ChatRequest]:
    """A sample of the requests of one judge in a judging step, of different answers first."""
    mixed = list(answers)
    random.Random(derive_seed(config.seed, "pilot", step.key, judge.name)).shuffle(mixed)
    requests = [
        judge_request(judge, record, text, repeat)
        for repeat in range(judge.repeats)
        for record, text in mixed
    ]
    return requests[:PILOT_CALLS]


def _sum(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def _judging_usd(judge: JudgeConfig, record: Record, answer_tokens: int) -> float | None:
    """The most that judging an answer of so many tokens may cost."""
    asked = estimate_usd(judge, judge_request(judge, record, ""))
    read = cost_usd(judge, TokenCounts(prompt=answer_tokens))
    return None if asked is None or read is None else asked + read


def _has_answers(project: Project, run_key: str) -> bool:
    run = project.runs.by_key(run_key)
    return run is not None and bool(project.candidates.existing(run.id))
