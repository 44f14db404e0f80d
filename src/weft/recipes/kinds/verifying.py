"""Stages ``verify``: which traces are kept, and why."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from weft.errors import RunError
from weft.recipes.kinds.base import TRACES, Estimate, FileKind, Known, Screen, narrowed, several
from weft.store import rejected_path
from weft.verify.settings import VerifySettings


class VerifyStage(VerifySettings):
    """One run of `weft verify`."""

    traces: tuple[str, ...] = Field(min_length=1)
    """Files of traces."""

    _several = field_validator("traces", mode="before")(several)


class _Verify(FileKind):
    def run(self, settings: VerifyStage, output: Path, screen: Screen) -> None:
        from weft.verify.marking import verify

        plain = narrowed(settings, VerifySettings)
        with screen.watch(self.name, output, None) as observer:
            found = verify(plain, [Path(name) for name in settings.traces], output, observer=observer)
            screen.came(observer, found)
        if found.to_try_again:
            raise RunError(
                f"the verifier failed at {found.to_try_again:,} traces",
                where=str(output),
                remedy="the same command tries them again",
            )
        if not found.kept:
            raise RunError(
                "not one trace is kept",
                where=str(output),
                remedy=f"weft show {rejected_path(output)} says why",
            )

    def estimate(self, settings: VerifyStage, output: Path, known: Known) -> Estimate:
        counts = [known.rows(name) for name in settings.traces]
        asks = settings.verifier is not None and settings.verifier.startswith("judge")
        if any(count is None for count in counts):
            asked = None if asks else 0
            return Estimate(asked, asked, how="the number of traces is not known here")
        traces = sum(count for count in counts if count is not None)
        if asks:
            return Estimate(
                4 * traces, None, rows=traces, how=f"{traces:,} traces at most, up to 4 questions each"
            )
        return Estimate(rows=traces, how=f"{traces:,} traces at most; no engine is asked")


VERIFY = _Verify(
    "verify",
    VerifyStage,
    frozenset({"traces", "decontaminate", "verifier"}),
    idle=frozenset({"workers", "concurrency", "servers", "error_rate", "unsandboxed"}),
    takes={"traces": TRACES},
)
