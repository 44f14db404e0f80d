"""Where a training run logs its figures: transformers' trackers, and trackio as the local default.

Trackio writes to a database in the user's own cache (``TRACKIO_DIR``, else below ``HF_HOME``), where
``trackio show`` finds the runs of all folders side by side. It makes no request unless the user's environment
names a Space or a server of theirs.

Invariants
    - Nothing of a tracker's reaches stdout: that is for data.
    - A tracker that nobody asked for by name never ends a run.

It does not know what is trained.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any

from weft.engines.language import first_line
from weft.errors import UserError

AUTO = "auto"
"""In place of a tracker's name: trackio where it is installed, else none."""


def trackers(report_to: Sequence[str]) -> list[str]:
    """The names as transformers' ``report_to`` takes them."""
    found: list[str] = []
    for name in report_to:
        if name == AUTO:
            found += ["trackio"] if find_spec("trackio") is not None else []
        elif name != "none":
            found.append(name)
    return list(dict.fromkeys(found))


def project() -> str:
    """Trackio's project of a run whose settings name none: ``TRACKIO_PROJECT``, else weft."""
    return os.environ.get("TRACKIO_PROJECT") or "weft"


@contextmanager
def tracked(
    trainer: Any, tell: Callable[[str], None], *, name: str | None = None, required: bool = False
) -> Iterator[None]:
    """Let a trainer train and evaluate with trackio quiet, all in one run of trackio's, which is finished
    however this ends.

    Args:
        trainer: one of transformers'; its trackio callback, if there is one, is replaced.
        tell: takes one line at a time.
        name: of the run, if its settings give none. A run of the same name in the project goes on.
        required: trackio was asked for by name, so what it raises when it begins ends the training.
    """
    from transformers.integrations.integration_utils import TrackioCallback

    handler = trainer.callback_handler
    theirs = next((one for one in handler.callbacks if isinstance(one, TrackioCallback)), None)
    if theirs is None:
        yield
        return
    ours = _quiet_trackio(tell, name, required=required)
    handler.callbacks[handler.callbacks.index(theirs)] = ours
    try:
        yield
    finally:
        ours.close()


def _quiet_trackio(tell: Callable[[str], None], name: str | None, *, required: bool) -> Any:
    from transformers.integrations.integration_utils import TrackioCallback

    class Quiet(TrackioCallback):  # type: ignore[misc]
        """Transformers' callback without its prints, harmless, and open until it is closed: the evaluation of
        the trained weights comes after the training's end."""

        off = False
        ended: Callable[[], None] | None = None
        _initialized: bool

        def setup(self, args: Any, state: Any, model: Any, **more: Any) -> None:
            if self.off:
                return
            args.run_name = args.run_name or name
            try:
                with redirect_stdout(io.StringIO()):
                    super().setup(args, state, model, **more)
            except Exception as error:
                self._give_up(error)
                if required:
                    remedy = "mend it, or choose another tracker, or --report-to none"
                    raise UserError(
                        f"trackio cannot begin: {first_line(error)}", where="--report-to", remedy=remedy
                    ) from error
                return
            if state.is_world_process_zero:
                tell(f"figures go to trackio; look at them with: trackio show --project {args.project}")

        def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if self.off:
                return
            try:
                super().on_log(args, state, control, **more)
            except Exception as error:
                self._give_up(error)

        def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.ended = lambda: super(Quiet, self).on_train_end(args, state, control, **more)

        def close(self) -> None:
            """End the run, also where training did not come to its end."""
            if self.off or not self._initialized:
                return
            try:
                with redirect_stdout(io.StringIO()):
                    self.ended() if self.ended is not None else self._trackio.finish()
                self.off, self._initialized = True, False
            except Exception as error:
                self._give_up(error)

        def _give_up(self, error: Exception) -> None:
            self.off, self._initialized = True, False
            tell(f"trackio failed, and figures are not tracked: {first_line(error)}")

    return Quiet()
