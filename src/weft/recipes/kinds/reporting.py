"""Stages ``report``: one page of everything that is named."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from weft.recipes.kinds.base import Estimate, FileKind, Known, Screen, several


class ReportStage(BaseModel):
    """One run of `weft report`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: tuple[str, ...] = Field(min_length=1)
    """Outputs of other stages, or files."""
    title: str | None = None
    max_mb: float = Field(5.0, gt=0, le=1000)

    _several = field_validator("files", mode="before")(several)


class _Report(FileKind):
    def run(self, settings: ReportStage, output: Path, screen: Screen) -> None:
        from weft.report.writing import write_report

        files = [result_of(Path(name)) for name in settings.files]
        written = write_report(files, output, title=settings.title, max_megabytes=settings.max_mb)
        for note in written.notes:
            screen.say(note)
        screen.say(f"report in {output} ({written.size / 1e6:.2f} MB)")

    def estimate(self, settings: ReportStage, output: Path, known: Known) -> Estimate:
        return Estimate(how="made of what is there")


def result_of(path: Path) -> Path:
    """The file that a report reads of a stage's output: of an evaluation's folder its result."""
    inside = path / "eval.json"
    return inside if inside.is_file() else path


REPORT = _Report("report", ReportStage, frozenset({"files"}), suffix=".html", tolerant=True)
