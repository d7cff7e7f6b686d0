"""What the batch engine needs of the project database beside the replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol


class LedgerBatch(Protocol):
    """A stored batch; open until all its results are stored."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def provider(self) -> str: ...  # noqa: D102
    @property
    def base_url(self) -> str: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def remote_id(self) -> str | None: ...  # noqa: D102
    @property
    def total(self) -> int: ...  # noqa: D102
    @property
    def created_at(self) -> float: ...  # noqa: D102
    @property
    def is_open(self) -> bool: ...  # noqa: D102


class BatchLedger(Protocol):
    """The part of the project database the batch engine writes; `store.batches` has it.

    Every call commits before it returns.
    """

    def note(
        self,
        label: str,
        *,
        run_id: int | None,
        provider: str,
        base_url: str,
        model: str,
        requests: Iterable[tuple[str, str, Mapping[str, Any]]],
    ) -> int:
        """Note that a batch is about to be handed in: key, purpose and content of its requests."""
        ...

    def get(self, batch_id: int) -> LedgerBatch:
        """The batch of this id."""
        ...

    def all(self, run_id: int | None = None) -> Sequence[LedgerBatch]:
        """All batches, or those of one run."""
        ...

    def keys_under_way(self, batch_id: int) -> set[str]:
        """Keys of the batch's requests that have no result yet."""
        ...

    def set_remote(self, batch_id: int, remote_id: str) -> None:
        """Store the id the service gave a batch."""
        ...

    def set_done(self, batch_id: int, done: int) -> None:
        """Keep how many of its requests the service says are answered."""
        ...

    def finish(self, batch_id: int, done: int) -> None:
        """End a batch whose results are all stored."""
        ...

    def fail(self, batch_id: int, problem: str) -> None:
        """End a batch of which nothing was answered and nothing cost."""
        ...

    def lose(self, batch_id: int, problem: str, lost_usd: Mapping[str, float | None]) -> None:
        """End a batch nobody can find: what each request by key may have cost in vain."""
        ...
