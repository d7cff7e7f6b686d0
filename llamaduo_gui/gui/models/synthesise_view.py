"""What the Synthesise page shows, read from the project; no widgets here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.types import Origin, RecordStatus, RejectReason, RunStatus, Split, Stage
from llamaduo_gui.gui.models.data_view import last_question, reason_text
from llamaduo_gui.gui.models.overlap import Span, shared_spans
from llamaduo_gui.gui.models.text_lines import shared_beginning
from llamaduo_gui.store.rows import RecordFilter, Usage

if TYPE_CHECKING:
    from llamaduo_gui.core.config import PipelineConfig
    from llamaduo_gui.store.project import Project
    from llamaduo_gui.store.rows import RecordRow, RunRow

FILTER_SETTING = "view.synthesise_filter"
CHIPS: tuple[tuple[str, str], ...] = (
    ("kept", "Kept"),
    ("rejected", "Rejected"),
    ("by_hand", "By hand"),
)
# Rejects in the order in which a reply goes through the tests.
REASONS = tuple(RejectReason)
Partner = Literal["seed", "too_close"]
_SAMPLE = 200


class StrategyText(NamedTuple):
    """A strategy for a list."""

    name: str
    title: str
    explanation: str


@dataclass(frozen=True, slots=True)
class YieldCounts:
    """What became of the pairs of a round; `by_hand` were rejected by a person."""

    kept: int = 0
    rejects: Mapping[RejectReason, int] = field(default_factory=dict)
    by_hand: int = 0

    @property
    def rejected(self) -> int:
        """All rejects."""
        return sum(self.rejects.values()) + self.by_hand

    @property
    def total(self) -> int:
        """All pairs."""
        return self.kept + self.rejected


@dataclass(frozen=True, slots=True)
class SynthesiseView:
    """A snapshot for the page.

    Attributes:
        round: the round that new pairs are for; `counts`, `asked` and `usage` are of it.
        rounds: rounds that have pairs.
        total: synthetic pairs of all rounds.
        categories: of the training records, with how many there are.
        strategies: what can be chosen.
        config: the settings; None where `pipeline.yaml` is not valid.
        problem: why nothing can be started, one sentence or empty.
        status, error: how the round's last run ended.
        beginning: what the prompts begin with, left out in tables.
    """

    round: int = 1
    rounds: tuple[int, ...] = ()
    counts: YieldCounts = field(default_factory=YieldCounts)
    asked: int = 0
    usage: Usage = field(default_factory=Usage)
    total: int = 0
    train: int = 0
    categories: tuple[tuple[str, int], ...] = ()
    strategies: tuple[StrategyText, ...] = ()
    config: PipelineConfig | None = None
    problem: str = ""
    status: RunStatus | None = None
    error: str = ""
    beginning: str = ""
    filter_text: str = ""
    filter_chips: frozenset[str] = frozenset()

    @property
    def wanted(self) -> int:
        """Pairs the round is to have."""
        return self.config.synthesis.pairs_per_round if self.config else 0


@dataclass(frozen=True, slots=True)
class PairSide:
    """One of two records side by side, with the places of its words that the other has too."""

    row: RecordRow
    question_spans: tuple[Span, ...] = ()
    target_spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A pair beside another record."""

    pair: PairSide
    other: PairSide | None


@dataclass(frozen=True, slots=True)
class PairDetail:
    """One synthetic pair beside its seed and, if there is one, the record it is too close to."""

    row: RecordRow
    sides: Mapping[Partner, Comparison]


def read_synthesise(project: Project) -> SynthesiseView:
    """Read everything but the table's rows; tenths of a second with 256k pairs."""
    # Imported here: it brings the settings' library, which would slow the window's start down.
    from llamaduo_gui.pipeline.plan import next_synthesis_round

    number = next_synthesis_round(
        [
            run.round
            for run in project.runs.all(Stage.FINETUNE)
            if run.status is RunStatus.SUCCEEDED and run.round is not None
        ]
    )
    run = project.runs.by_key(f"synthesize:r{number}")
    config, problem = _read_config(project)
    counts = project.records.counts()
    kept: dict[str, Any] = project.get_setting(FILTER_SETTING) or {}
    sample = project.records.page(
        RecordFilter(splits=frozenset({Split.TRAIN})), offset=0, limit=_SAMPLE
    )
    return SynthesiseView(
        round=number,
        rounds=tuple(project.records.synthetic_rounds()),
        counts=count_yield(project.records.yield_counts(number)),
        asked=_asked(run),
        usage=project.replies.usage(run.id) if run else Usage(),
        total=sum(n for (origin, _, _), n in counts.items() if origin is Origin.SYNTHETIC),
        train=counts.get((Origin.COVERAGE, Split.TRAIN, RecordStatus.KEPT), 0),
        categories=tuple(project.records.category_counts(Split.TRAIN)),
        strategies=_strategies(),
        config=config,
        problem=problem,
        status=run.status if run else None,
        error=run.error if run else "",
        beginning=shared_beginning([last_question(row.record) for row in sample]),
        filter_text=str(kept.get("text", "")),
        filter_chips=frozenset(kept.get("chips", ())) & {key for key, _ in CHIPS},
    )


def count_yield(
    found: Mapping[tuple[RecordStatus, RejectReason | None], int],
) -> YieldCounts:
    """Pairs kept, and rejected by reason; pairs accepted by hand are kept."""
    rejects = {
        reason: number
        for (status, reason), number in found.items()
        if status is RecordStatus.REJECTED and reason is not None
    }
    return YieldCounts(
        kept=sum(n for (status, _), n in found.items() if status is RecordStatus.KEPT),
        rejects=rejects,
        by_hand=found.get((RecordStatus.REJECTED, None), 0),
    )


def read_pair(project: Project, record_id: int) -> PairDetail | None:
    """One synthetic pair with what it is to be compared with; None if it is gone."""
    row = project.records.get(record_id)
    if row is None:
        return None
    sides: dict[Partner, Comparison] = {}
    if row.rejected_against and row.rejected_against != row.record.seed_prompt:
        sides["too_close"] = _compare(row, project.records.by_prompt_id(row.rejected_against))
    seed = row.record.seed_prompt
    sides["seed"] = _compare(row, project.records.by_prompt_id(seed) if seed else None)
    return PairDetail(row, sides)


def pair_filter(
    text: str, chips: frozenset[str], reason: RejectReason | None, round_number: int | None
) -> RecordFilter:
    """The filters of the page; a reason shows what is rejected for it."""
    statuses = {RecordStatus(key) for key in ("kept", "rejected") if key in chips}
    if reason is not None:
        statuses = {RecordStatus.REJECTED}
    return RecordFilter(
        text=text,
        origins=frozenset({Origin.SYNTHETIC}),
        statuses=frozenset(statuses),
        reasons=frozenset({reason} if reason else ()),
        round=round_number,
        is_by_hand="by_hand" in chips,
    )


def forecast_text(project: Project, config: PipelineConfig, round_number: int, kept: int) -> str:
    """What the rest of a round will take, in a line."""
    from llamaduo_gui.gui.models.forecast_text import describe_step
    from llamaduo_gui.pipeline.estimate import make_forecast

    if kept >= config.synthesis.pairs_per_round:
        return "Nothing more to ask for."
    steps = make_forecast(project, config).steps
    step = next((item for item in steps if item.key == f"synthesize:r{round_number}"), None)
    if step is not None:
        return describe_step(step)
    left = config.synthesis.pairs_per_round - kept
    requests = -(-left // config.synthesis.pairs_per_request)
    return f"At least {requests:,} requests, at most {3 * requests:,}."


def other_title(detail: PairDetail, partner: Partner) -> str:
    """Heading of the record beside a pair."""
    if partner == "seed":
        return "Its seed"
    other = detail.sides[partner].other
    if detail.row.reject_reason is RejectReason.CONTAMINATED:
        split = other.row.split.value if other else "evaluation"
        return f"The {split} record it is too close to"
    return "The record it is too close to"


def reject_title(reason: RejectReason | None) -> str:
    """A reason as a heading; without one, a person rejected the pair."""
    return reason_text(reason).capitalize() if reason else "By hand"


def _compare(row: RecordRow, other: RecordRow | None) -> Comparison:
    if other is None:
        return Comparison(PairSide(row), None)
    return Comparison(_side(row, other), _side(other, row))


def _side(row: RecordRow, other: RecordRow) -> PairSide:
    texts = (last_question(other.record), other.record.target)
    return PairSide(
        row, shared_spans(last_question(row.record), texts), shared_spans(row.record.target, texts)
    )


def _read_config(project: Project) -> tuple[PipelineConfig | None, str]:
    try:
        config = project.config
    except ConfigError as error:
        return None, str(error)
    if config.teacher is None:
        return config, "No teacher is set: name the service LLM to ask in the project's settings."
    return config, ""


def _asked(run: RunRow | None) -> int:
    return int(run.summary.get("asked", 0)) if run else 0


def _strategies() -> tuple[StrategyText, ...]:
    from llamaduo_gui.synthesis.seeds import all_strategies

    found = all_strategies().values()
    return tuple(StrategyText(item.name, item.title, item.explanation) for item in found)


@dataclass(frozen=True, slots=True)
class AcceptCheck:
    """Pairs a person wants to accept, and those of them that are too close to evaluation data.

    Attributes:
        ids: row ids of all pairs.
        contaminated: row id of each that is, prompt_id of the record it is too close to, and what
            they have in common.
        splits: of those records, "validation" or "test" or both.
    """

    ids: tuple[int, ...]
    contaminated: tuple[tuple[int, str, str], ...] = ()
    splits: str = ""

    @property
    def question(self) -> tuple[str, str, str]:
        """Title, text and button of the question to ask before accepting them."""
        is_one = len(self.contaminated) == 1
        what = "a contaminated pair" if is_one else f"{len(self.contaminated):,} contaminated pairs"
        them = "it" if is_one else "them"
        text = (
            f"{'It is' if is_one else 'They are'} too close to the {self.splits} data: "
            f"a student trained on {them} has seen part of its own examination. Scores on "
            f"{self.splits} will be too good, and the report will say that "
            f"{'it was' if is_one else 'they were'} accepted by hand."
        )
        return f"Accept {what}?", text, "Accept all the same"


def check_accept(project: Project, ids: Sequence[int]) -> AcceptCheck:
    """Look at pairs again before a person accepts them.

    A pair rejected for another reason, such as a near-duplicate, was not compared with
    validation and test at all. One that a person rejected had passed every test.
    """
    from llamaduo_gui.synthesis.recheck import find_contaminated

    rows = [row for row in project.records.by_ids(ids) if row.status is RecordStatus.REJECTED]
    found = find_contaminated(project, [row for row in rows if row.reject_reason is not None])
    names = [item.against.split.value for item in found]
    return AcceptCheck(
        ids=tuple(row.id for row in rows),
        contaminated=tuple(
            (item.pair.id, item.against.record.prompt_id, item.detail) for item in found
        ),
        splits=" and ".join(split.value for split in Split if split.value in names),
    )
