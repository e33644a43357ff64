"""The atlas data set: one real chest, bent and altered into a cohort of virtual patients."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from x2c.core.registry import DATASETS
from x2c.data.atlas import make_patient, make_structures
from x2c.data.atlas.template import prepare_template
from x2c.data.virtual import Maker, StructureMaker, VirtualCohort


@DATASETS.register("atlas")
class Atlas(VirtualCohort):
    """Virtual patients whose anatomy is that of a contrast-enhanced thorax CT."""

    name = "atlas"
    version = 4

    def maker(self, cache: Path) -> Maker:
        """Return the maker of patients from the template, which is prepared in the cache first."""
        return partial(make_patient, prepare_template(cache))

    def structure_maker(self, cache: Path) -> StructureMaker:
        """Return the maker of structures from the template's labels."""
        return partial(make_structures, prepare_template(cache))
