"""The report's part on the exported file's certification: what was compared, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from llamaduo_gui.core.types import RunStatus
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import ArtifactRow

_PILLS = {"passed": "ok", "failed": "bad", "skipped": "warn"}
_HASHES = (
    ("File", "sha256"),
    ("Student's weights", "student_sha256"),
    ("Base model's weights", "base_sha256"),
)


def certificate_of(project: Project, row: ArtifactRow) -> dict[str, Any] | None:
    """The certificate of an exported file; None if it was not certified since it was written."""
    run = project.runs.by_key(f"certify:{row.meta.get('quant')}:r{row.round}")
    if run is None or run.status is not RunStatus.SUCCEEDED:
        return None
    return dict(run.summary) if run.summary.get("sha256") == row.sha256 else None


def certificate_caveat(certificate: Mapping[str, Any] | None) -> list[str]:
    """What a reader has to know of a file that diverges, first."""
    if certificate is None or certificate["is_certified"]:
        return []
    return [f"The exported file is not certified and not ready for use. {certificate['causes'][0]}"]


def certificate_section(certificate: Mapping[str, Any] | None) -> str:
    """HTML of a certificate; empty without one."""
    if certificate is None:
        return ""
    state = "passed" if certificate["is_certified"] else "failed"
    checks = "".join(
        f'<tr><th scope="row">{escape(check["title"])}</th>'
        f'<td class="left"><span class="pill {_PILLS[check["state"]]}">{check["state"]}</span></td>'
        f'<td class="left">{escape(check["text"])}</td></tr>'
        for check in certificate["checks"]
    )
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _facts(certificate)
    )
    return (
        f'<div class="card"><h3><span class="pill {_PILLS[state]}">'
        f"{escape(certificate['verdict'])}</span> {escape(certificate['file'])}</h3>"
        f'<table class="rounds"><thead><tr><th class="left">Compared</th>'
        '<th class="left">Result</th><th class="left">What was found</th></tr></thead>'
        f"<tbody>{checks}</tbody></table><dl>{facts}</dl></div>"
    )


def _facts(certificate: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(f"SHA-256, {name[:1].lower()}{name[1:]}", certificate[key]) for name, key in _HASHES]
    speed = certificate.get("performance")
    if speed:
        threads = "1 thread" if speed["threads"] == 1 else f"{speed['threads']} threads"
        read, written = (
            f"{speed[f'{what}_tokens_per_second']:,.0f} {words} tokens/s"
            for what, words in (("prompt", "prompt"), ("generation", "generated"))
        )
        facts.append(("Speed", f"{read}, {written} ({threads})"))
        size = certificate["size_bytes"] / 1e6
        facts.append(("Memory", f"{speed['memory_mb']:,.0f} MB in use, file {size:,.1f} MB"))
    versions = ", ".join(f"{name} {text}" for name, text in certificate["versions"].items())
    made_at = certificate["made_at"].replace("T", " ").replace("+00:00", " UTC")
    return [*facts, ("With", versions), ("Signed off", made_at)]
