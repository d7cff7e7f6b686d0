"""The report's part on requests and money: in all, by stage, round, service and run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from llamaduo_gui.core.budget import format_usd
from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.types import Stage
from llamaduo_gui.store.costs import CostRow, CostTotal, total_by
from llamaduo_gui.store.project import Project

_NOT_COUNTED = (Stage.PIPELINE, Stage.REPORT, Stage.CHAT)
_PURPOSES = {"synthesize": "synthesis", "judge": "judging", "answer": "answers", "chat": "chat"}


def usage_section(project: Project, config: PipelineConfig) -> dict[str, Any]:
    """Requests, tokens, money and time of a project.

    Every request counts: those asked again after an unusable reply, those that failed, and those
    lost in flight, whose cost is an estimate (`lost_usd`). `cost_usd` is of replies that came.

    Args:
        project: an open project.
        config: its settings; they name the services whose prices are stated.
    """
    rows = project.costs.rows()
    total = CostTotal.of(rows)
    judgements, unscored = project.judgements.totals()
    return {
        "requests": total.requests,
        "asked_again": total.asked_again,
        "failed": total.failed,
        "attempts": total.attempts,
        "lost_in_flight": total.lost,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
        "cost_usd": total.cost_usd,
        "lost_usd": total.lost_usd,
        "spent_usd": total.spent_usd,
        "budget_usd": config.budget.usd,
        "unpriced_requests": total.unpriced,
        "judgements": judgements,
        "unscored": unscored,
        "stages": _stages(project, rows),
        "rounds": [
            {"round": number, **_money(own)}
            for number, own in total_by(rows, lambda row: row.round).items()
        ],
        "services": [
            {"service": service, "purpose": purpose, **_money(own)}
            for (service, purpose), own in total_by(
                rows, lambda row: (row.service, row.purpose)
            ).items()
        ],
        "runs": [
            {"run": key, **_money(own)}
            for key, own in total_by(rows, lambda row: row.run_key).items()
        ],
        "prices": _prices(config),
    }


def costs_section(usage: Mapping[str, Any]) -> str:
    """HTML tables of what each service and each round cost; empty without requests."""
    if not usage["requests"]:
        return ""
    services = [
        _row(f"{item['service']}, {_PURPOSES.get(item['purpose'], item['purpose'])}", item)
        for item in usage["services"]
    ]
    services.append(_row("Together", {**usage, "lost": usage["lost_in_flight"]}, "final"))
    rounds = [
        _row(_round_title(item["round"]), item)
        for item in sorted(usage["rounds"], key=lambda item: (item["round"] is None, item["round"]))
    ]
    note = "every request counts, also one that failed, was asked again or was lost"
    prices = "".join(f'<p class="small">{escape(sentence)}</p>' for sentence in usage["prices"])
    return (
        _table(f"By service; {note}", services)
        + (_table("By round", rounds) if len(rounds) > 1 else "")
        + prices
    )


def _round_title(number: int | None) -> str:
    return "Outside the rounds (baselines, chat)" if number is None else f"Round {number}"


def _table(caption: str, rows: Sequence[str]) -> str:
    return (
        f'<div class="card"><table class="rounds"><caption>{caption}</caption><thead><tr>'
        '<th class="left">What</th><th>Requests</th><th>Asked again</th><th>Failed</th>'
        "<th>Lost</th><th>Tokens read</th><th>Tokens written</th><th>Cost</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def cost_text(usage: Mapping[str, Any]) -> str:
    """What the project cost, in words."""
    text = format_usd(usage["spent_usd"])
    if usage["lost_usd"]:
        text += f", {format_usd(usage['lost_usd'])} of it estimated for requests that were lost"
    if usage["unpriced_requests"]:
        text += f", and {usage['unpriced_requests']:,} requests without a known price"
    return text


def _stages(project: Project, rows: Sequence[CostRow]) -> dict[str, dict[str, float]]:
    stages: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for run in project.runs.all():
        if run.stage in _NOT_COUNTED:
            continue
        own = stages[run.stage.value]
        own["seconds"] += run.elapsed_s
        used = CostTotal.of([row for row in rows if row.run_id == run.id])
        for name, value in _money(used).items():
            own[name] += value
    return {name: dict(own) for name, own in stages.items()}


def _money(total: CostTotal) -> dict[str, Any]:
    return {
        "requests": total.requests,
        "asked_again": total.asked_again,
        "failed": total.failed,
        "lost": total.lost,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
        "tokens": total.prompt_tokens + total.completion_tokens,
        "cost_usd": total.cost_usd,
        "lost_usd": total.lost_usd,
        "spent_usd": total.spent_usd,
        "unpriced": total.unpriced,
    }


def _prices(config: PipelineConfig) -> list[str]:
    # The window imports this module, and the price list takes a fifth of a second to load.
    from llamaduo_gui.providers.pricing import describe_price

    services = [*([config.teacher] if config.teacher else []), *config.judges]
    try:
        return list(dict.fromkeys(describe_price(service) for service in services))
    except ConfigError as error:
        return [str(error)]


def _row(name: str, item: Mapping[str, Any], kind: str = "") -> str:
    counts = (
        item["requests"],
        item["asked_again"],
        item["failed"],
        item["lost"],
        item["prompt_tokens"],
        item["completion_tokens"],
    )
    unknown = item.get("unpriced", item.get("unpriced_requests", 0))
    money = format_usd(item["spent_usd"]) + (f" + {unknown:,} unpriced" if unknown else "")
    cells = "".join(f"<td>{number:,}</td>" for number in counts)
    row_class = f' class="{kind}"' if kind else ""
    return f'<tr{row_class}><th scope="row">{escape(name)}</th>{cells}<td>{money}</td></tr>'
