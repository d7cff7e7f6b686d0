"""The report as one HTML file that needs nothing else: tables, charts, every answer and reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any

import yaml

from llamaduo_gui.core.paths import resource
from llamaduo_gui.core.types import POOLED, Metric
from llamaduo_gui.evaluation.report_certificate import certificate_section
from llamaduo_gui.evaluation.report_charts import (
    coverage_chart,
    interval_strip,
    legend_mark,
    loss_chart,
    round_mark,
)
from llamaduo_gui.evaluation.report_costs import cost_text, costs_section
from llamaduo_gui.evaluation.report_responses import responses_section
from llamaduo_gui.evaluation.votes import votes_section

_COLUMNS = (
    ("mean", "Mean"),
    ("coverage_50", "Coverage@50"),
    ("coverage_70", "Coverage@70"),
)
_PILLS = {True: "ok", False: "bad", None: "warn"}
_DASH = "\u2013"
_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))

Report = Mapping[str, Any]


def render_report(report: Report) -> str:
    """One self-contained page of a report made by `build_report`; all text in it is escaped.

    It has light and dark colours, needs no script and no network, and its content security
    policy forbids both.
    """
    verdict, project = report["verdict"], report["project"]
    sections = [
        ("scores", "Scores", _scores(report)),
        ("curves", "How many good answers", _curves(report)),
        ("votes", "Blind votes", votes_section(report.get("votes", ()))),
        ("rounds", "Rounds", _rounds(report)),
        ("responses", "Responses and the judge's words", responses_section(report)),
        ("certificate", "The exported file", certificate_section(report["certificate"])),
        ("costs", "What it cost", costs_section(report["usage"])),
        ("method", "How this was made", _method(report)),
    ]
    shown = [(name, title, body) for name, title, body in sections if body]
    title = f"{project['name']}: {project['task']}"
    template = Template(resource("report", "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        made_at=escape(report["made_at"].replace("T", " ").replace("+00:00", " UTC")),
        style=resource("report", "report.css").read_text(encoding="utf-8"),
        verdict_class=_PILLS[verdict["is_matched"]],
        verdict_word=escape(verdict["word"]),
        verdict_claim=escape(verdict["claim"]),
        verdict_ground=escape(
            " ".join(filter(None, (verdict[name] for name in ("ground", "ceiling", "counts"))))
        ),
        caveats=_caveats(report["caveats"]),
        navigation="".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in shown),
        sections="".join(
            f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>'
            for name, title, body in shown
        ),
        resamples=f"{report['statistics']['resamples']:,}",
        seed=report["statistics"]["seed"],
        version=escape(report["application"]["version"]),
    )


def interval_text(estimate: Mapping[str, Any] | None, scale: float = 1) -> str:
    """`<b>84.5</b> (83.1-85.9)`, or a dash with the reason on hover."""
    if estimate is None:
        return _DASH
    reason = escape(estimate["reason"], quote=True)
    if estimate["value"] is None:
        return f'<span title="{reason}">{_DASH}</span>'
    text = f"<b>{estimate['value'] * scale:.1f}</b>"
    if estimate["low"] is None or estimate["high"] is None:
        return f'<span title="{reason}">{text}</span>'
    text += f" ({estimate['low'] * scale:.1f}{_DASH}{estimate['high'] * scale:.1f})"
    return f'<span title="{reason}">{text}</span>' if reason else text


def _caveats(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="caveats">{items}</ul>'


def _scores(report: Report) -> str:
    parts = []
    for split in dict.fromkeys([report["shown_split"], "validation"]):
        table = report["splits"][split]
        if not table["models"]:
            continue
        final = report["verdict"]["model"] if split == report["shown_split"] else None
        judges = table["judges"]
        whole = "all judges pooled" if len(judges) != 1 else f"judge {judges[0]}"
        parts += [
            _table(table["models"], POOLED, metric.value, f"{split} split, {whole}", final)
            for metric in Metric
        ]
        if len(judges) > 1:
            inner = "".join(
                _table(table["models"], judge, metric.value, f"{split} split, judge {judge}", final)
                for judge in judges
                for metric in Metric
            )
            parts.append(f"<details><summary>By judge, {split} split</summary>{inner}</details>")
    return "".join(parts)


def _table(
    models: Sequence[Mapping[str, Any]], judge: str, metric: str, place: str, final: str | None
) -> str:
    names = "".join(f"<th>{title}</th>" for _, title in _COLUMNS)
    rows = "".join(_table_row(model, judge, metric, final, models) for model in models)
    return (
        f'<div class="card"><table><caption>{metric.capitalize()} on the '
        f"{escape(place)}: estimate (95 % interval, clustered by prompt)</caption><thead><tr>"
        f'<th class="left">Model</th>{names}<th>P-Match <span class="unit">mean</span></th>'
        "</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _table_row(
    model: Mapping[str, Any],
    judge: str,
    metric: str,
    final: str | None,
    models: Sequence[Mapping[str, Any]],
) -> str:
    cell, kind = model["scores"][judge][metric], model["kind"]
    cells = [
        f"<td>{interval_text(cell[name])}{interval_strip(cell[name], kind, 0, 100)}</td>"
        for name, _ in _COLUMNS
    ]
    if kind == "service":
        cells.append('<td class="unit">reference</td>')
    else:
        matched = cell["p_match"]["mean"] if cell["p_match"] else None
        top = max([100.0, *_p_match_bounds(models, judge, metric)])
        strip = interval_strip(matched, kind, 0, top) if matched else ""
        cells.append(f"<td>{interval_text(matched)}{strip}</td>")
    chosen = ' class="final"' if model["key"] == final else ""
    name = f"{legend_mark(kind)}{escape(model['title'])}{_counts(model, judge, cell)}"
    return f'<tr{chosen}><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _counts(model: Mapping[str, Any], judge: str, cell: Mapping[str, Any]) -> str:
    """How many responses, and what stayed unscored of them and of the judgements behind them."""
    reports = [item for item in model["judges"] if judge in (POOLED, item["judge"])]
    lost = sum(item["unscored"] for item in reports)
    total = sum(item["judgements"] for item in reports)
    by = f"; {escape(model['answered_by'])}" if model["answered_by"] else ""
    return (
        f'<span class="reason">{cell["n_responses"]:,} responses; unscored: '
        f"{cell['n_unscored']:,}, and {lost:,} of {total:,} judgements{by}</span>"
    )


def _p_match_bounds(models: Sequence[Mapping[str, Any]], judge: str, metric: str) -> list[float]:
    found = [model["scores"][judge][metric]["p_match"] for model in models]
    return [item["mean"]["high"] or item["mean"]["value"] or 0.0 for item in found if item]


def _curves(report: Report) -> str:
    parts = []
    for metric in Metric:
        own = [c for c in report["curves"] if c["metric"] == metric.value and c["values"]]
        if own:
            legend = "".join(
                f"<span>{legend_mark(c['kind'])}{escape(c['title'])}</span>" for c in own
            )
            parts.append(
                f'<div class="card"><h3>{metric.value.capitalize()}, {report["shown_split"]} '
                f'split, all judges pooled, 95 % bands</h3><div class="legend">{legend}</div>'
                f"{coverage_chart(own, metric.value.capitalize())}</div>"
            )
    return "".join(parts)


def _rounds(report: Report) -> str:
    if not report["rounds"]:
        return ""
    rows = "".join(_round_row(item) for item in report["rounds"])
    table = (
        '<div class="card"><table class="rounds"><caption>Every round on the '
        f"{report['config']['decision']['split']} split, as decided when it ended</caption>"
        '<thead><tr><th class="left">Round</th><th>Synthetic kept</th><th>Rejected</th>'
        "<th>Trained on</th><th>Training loss</th><th>Validation loss</th>"
        "<th>Ratio, precision, %</th><th>Ratio, similarity, %</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
    losses = [
        (item["round"], item["training"]["curves"]) for item in report["rounds"] if item["training"]
    ]
    chart = loss_chart(losses)
    if chart:
        legend = "".join(f"<span>{round_mark(n)}Round {n}</span>" for n, _ in losses)
        table += (
            '<div class="card"><h3>Training loss (lines) and validation loss (diamonds)</h3>'
            f'<div class="legend">{legend}</div>{chart}</div>'
        )
    return table


def _round_row(item: Mapping[str, Any]) -> str:
    synthesis, training, decision = item["synthesis"], item["training"], item["decision"]
    cells = [
        f"{synthesis['kept']:,}" if synthesis else _DASH,
        f"{synthesis['rejected']:,}" if synthesis else _DASH,
        _number(training, "records_used", ",.0f"),
        _number(training, "train_loss", ".3f"),
        _number(training, "eval_loss", ".3f"),
    ]
    evidence = {
        entry["metric"]: entry["ratio"]
        for entry in (decision["verdict"]["evidence"] if decision else ())
    }
    for metric in Metric:
        ratio = evidence.get(metric.value)
        cells.append(interval_text(ratio["mean"] if ratio else None, 100))
    words = escape(decision["reason"]) if decision else "Not decided yet."
    return (
        f'<tr><th scope="row">{item["round"]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + f'</tr><tr class="words"><td class="left" colspan="{1 + len(cells)}">'
        f"{words}{_reject_reasons(synthesis)}</td></tr>"
    )


def _reject_reasons(synthesis: Mapping[str, Any] | None) -> str:
    if not synthesis or not synthesis["rejected_by_reason"]:
        return ""
    parts = ", ".join(
        f"{number:,} {escape(reason.replace('_', ' '))}"
        for reason, number in sorted(synthesis["rejected_by_reason"].items())
    )
    return f'<span class="reason">Rejected pairs: {parts}</span>'


def _number(values: Mapping[str, Any] | None, name: str, form: str) -> str:
    value = values.get(name) if values else None
    return _DASH if value is None else format(value, form)


def _method(report: Report) -> str:
    facts = [
        (service["role"].capitalize(), " ".join(filter(None, (service["name"], _note(service)))))
        for service in report["services"]
    ]
    data, usage = report["data"], report["usage"]
    facts += [
        (
            "Coverage data",
            f"{data['train']:,} train, {data['validation']:,} validation, {data['test']:,} test",
        ),
        (
            "Synthetic data",
            f"{data['synthetic_kept']:,} kept, {data['synthetic_rejected']:,} rejected",
        ),
        ("Judgements", f"{usage['judgements']:,}, {usage['unscored']:,} of them unscored"),
        ("Requests", _requests(usage)),
        ("Cost", cost_text(usage)),
        ("Seed", str(report["project"]["seed"])),
    ]
    if report["gguf"]:
        gguf = report["gguf"]
        size = format_size(gguf["size_bytes"])
        facts.append(("GGUF", f"{gguf['file']}, {gguf['quant']}, {size}, SHA-256 {gguf['sha256']}"))
        ready = "yes: matched and certified" if gguf["is_ready"] else "no"
        facts.append(("Ready for use", ready))
        if gguf["merge"].get("reason"):
            facts.append(("Merged", gguf["merge"]["reason"]))
    facts += [
        ("Versions", ", ".join(f"{name} {text}" for name, text in report["versions"].items()))
    ]
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts)
    config = yaml.safe_dump(report["config"], sort_keys=False, allow_unicode=True)
    return (
        f'<div class="card"><dl>{items}</dl></div><details class="card"><summary>Settings '
        f'(pipeline.yaml)</summary><div class="text">{escape(config)}</div></details>'
    )


def _note(service: Mapping[str, Any]) -> str:
    return f"({service['note']})" if service["note"] else ""


def _requests(usage: Mapping[str, Any]) -> str:
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    text = f"{usage['requests']:,}, {tokens:,} tokens"
    if usage["failed"]:
        text += f", {usage['failed']:,} failed"
    if usage["lost_in_flight"]:
        text += f", {usage['lost_in_flight']:,} lost in flight when a process ended"
    return text


def format_size(size_bytes: int) -> str:
    """`1.9 GB`, in powers of ten."""
    for unit, factor in _UNITS:
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f}\u00a0{unit}"
    return f"{size_bytes}\u00a0bytes"
