"""The procedural data set: made-up chests, nothing to download, every truth known."""

from __future__ import annotations

from pathlib import Path

from x2c.core.registry import DATASETS
from x2c.data.phantom import make_patient, make_structures
from x2c.data.virtual import Maker, StructureMaker, VirtualCohort


@DATASETS.register("phantom")
class Phantom(VirtualCohort):
    """Procedural thorax pairs."""

    name = "phantom"
    version = 3

    def maker(self, cache: Path) -> Maker:
        """Return the maker of patients; nothing is prepared, since all of a patient is drawn from its id."""
        return make_patient

    def structure_maker(self, cache: Path) -> StructureMaker:
        """Return the maker of structures, which are drawn from the patient's id as well."""
        return make_structures
