"""Stages ``eval``: how good a model is."""

from __future__ import annotations

from pathlib import Path

from weft.errors import RunError
from weft.evaluation.settings import EvalSettings
from weft.recipes.kinds.base import MODELS, Estimate, FolderKind, Known, Screen


class _Eval(FolderKind):
    def run(self, settings: EvalSettings, output: Path, screen: Screen) -> None:
        from weft.evaluation.evaluate import evaluate

        with screen.watch(self.name, output, None) as observer:
            found = evaluate(settings, output, observer=observer)
        for task in found.tasks:
            screen.say(f"{task.name}: accuracy {task.accuracy.shown()}, n = {task.accuracy.n:,}")
        if found.failed:
            raise RunError(
                "responses failed by an engine's error",
                where=str(output),
                remedy="the same command tries them again",
            )

    def estimate(self, settings: EvalSettings, output: Path, known: Known) -> Estimate:
        counts = [
            known.rows(
                task.prompts,
                split=task.split or settings.split,
                limit=task.limit or settings.limit,
                prompt_column=task.prompt_column or settings.prompt_column,
            )
            for task in settings.tasks
        ]
        if any(count is None for count in counts) or settings.lm_eval is not None:
            return Estimate(None, None, how="the number of questions is not known here")
        prompts = sum(count for count in counts if count is not None)
        ways = max(1, len(settings.temperatures)) * max(1, len(settings.top_ps))
        ways += bool(settings.temperatures or settings.top_ps)
        models = 1 + (settings.baseline is not None and settings.baseline_result is None)
        texts = prompts * settings.samples * (ways + models - 1)
        judged = 0 if settings.judge is None else 4 * prompts * settings.samples
        how = f"{texts:,} responses x the limits, thinking and answer asked for apart"
        if judged:
            how += f"; at most {judged:,} questions to the judge"
        limit = settings.limits.thinking + settings.limits.response
        return Estimate(2 * texts + judged, texts * limit, how=how)


EVAL = _Eval(
    "eval",
    EvalSettings,
    frozenset({"model", "tasks", "baseline", "judge", "verifier"}),
    idle=frozenset({"concurrency", "servers", "error_rate", "unsandboxed", "workers"}),
    takes={"model": MODELS},
)
