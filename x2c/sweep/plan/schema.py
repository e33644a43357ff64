"""The schema of a sweep file, which is W&B's, and the metrics that cells can be compared by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import InstanceOf

from x2c.core.section import Section
from x2c.sweep.plan.conditions import Conditions
from x2c.sweep.plan.space import Count, Hyperband, Parameter, Range

PATIENT_METRICS = ("psnr", "ssim_2d", "ssim_3d", "mae_hu", "lpips", "paired_feature_sqdist")
SET_METRICS = ("frechet", "kernel")
TEST_METRICS = (*PATIENT_METRICS, *(f"{metric}_other_xray" for metric in PATIENT_METRICS), *SET_METRICS)
"""Metrics of test patients, by which a grid compares its cells."""
SEARCH_METRICS = ("validation_psnr", "validation_mae_hu", "validation_ssim_3d", "validation_loss")
"""Metrics of validation patients: a score of test patients that chose the run would be biased in its favour."""
VALIDATION_PATIENTS = 16
"""Default number of validation patients that a search samples and scores at each validation."""


class Metric(Section):
    """The score that a sweep compares."""

    name: str
    """Name of the metric: a column of scores.parquet (its mean is used) or a key of set_scores.json."""
    goal: Literal["minimize", "maximize"] = "minimize"
    target: float | None = None
    impute: Literal["latest", "best", "worst"] | None = None
    impute_while_running: Literal["latest", "best", "worst", "false"] | None = None


class Sweep(Section):
    """A file of sweeps/ in W&B's sweep schema. Fields without documentation are for W&B's own agents."""

    name: str
    """Name of the file; the file's own key `name` is the title at W&B."""
    title: str | None = None
    program: str | None = None
    method: Literal["grid", "random", "bayes"]
    metric: Metric
    parameters: dict[str, Parameter | Range]
    """Parameters by dotted name, nested ones too. A grid has no ranges."""
    run_cap: Count | None = None
    """Number of cells to run at most; a grid runs the first ones. None: all of them."""
    early_terminate: Hyperband | None = None
    """Rule by which a search prunes runs; None: no run is pruned."""
    conditions: InstanceOf[Conditions] | None = None
    """Content of sweeps/search/<name>.yaml; not a key of the file. None if there is no such file."""
    command: list[str] | None = None
    description: str | None = None
    project: str | None = None
    entity: str | None = None
    controller: dict[str, Any] | None = None
    apiVersion: str | None = None
    kind: Literal["sweep"] | None = None
    job: str | None = None
    image_uri: str | None = None

    @property
    def is_search(self) -> bool:
        """Whether its cells are drawn one after the other, rather than known beforehand."""
        return self.method != "grid"

    @property
    def defaults(self) -> dict[str, Any]:
        """Fields of the configuration that the sweep sets, by dotted name, unless the command line does."""
        return {"compute.validation_patients": VALIDATION_PATIENTS} if self.is_search else {}

    def active_values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the drawn values without parameters that are inactive under the sweep's conditions."""
        if self.conditions is None:
            return dict(drawn)
        found: dict[str, Any] = {}
        for name in (*self.conditions.order, *(drawn.keys() - self.parameters.keys())):
            if name in drawn and self.conditions.active(name, found):
                found[name] = drawn[name]
        return found


FILE_KEYS = (Sweep.model_fields.keys() | {"name"}) - {"title", "conditions"}
