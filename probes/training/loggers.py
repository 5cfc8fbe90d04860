"""Further places that losses are sent to. `metrics.csv` is always written; these packages are extras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from probes.errors import ProbesError, UnknownNameError
from probes.terminal import LOGGERS
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from probes.plan import Plan

PROJECT = "probes"


def make_loggers(names: Sequence[str], plan: Plan) -> list[Logger]:
    """The loggers that are asked for.

    Raises:
        UnknownNameError: there is no such logger.
        ProbesError: its package is not installed.
    """
    loggers: list[Logger] = []
    for name in names:
        if name not in LOGGERS:
            raise UnknownNameError(f"--logger: {did_you_mean('logger', name, LOGGERS)}")
        if find_spec(name) is None:
            raise ProbesError(f"--logger {name}: the package {name} is not installed. Get it: pip install {name}")
        run = plan.out.name
        if name == "tensorboard":
            loggers.append(TensorBoardLogger(plan.out.parent / ".tensorboard", name=run, version=""))
        elif name == "wandb":
            loggers.append(WandbLogger(name=run, project=PROJECT, config=plan.recorded))
        else:
            loggers.append(TrackioLogger(run, plan.recorded))
    return loggers


class TrackioLogger(Logger):
    """Sends losses to trackio, which keeps them on this machine.

    Args:
        run: name of the run.
        config: what is shown with it.
    """

    def __init__(self, run: str, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._run, self._config = run, dict(config)
        self._begun, self._resume = False, "never"

    @property
    def name(self) -> str:
        """The project."""
        return PROJECT

    @property
    def version(self) -> str:
        """The run."""
        return self._run

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration was sent when the run began."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send numbers; the run begins with the first."""
        import trackio

        if not self._begun:
            trackio.init(project=PROJECT, name=self._run, config=self._config, resume=self._resume)
            self._begun = True
        trackio.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run."""
        if self._begun:
            import trackio

            trackio.finish()
            self._begun, self._resume = False, "allow"  # the next pass goes on with it
