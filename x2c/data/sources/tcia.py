"""Collections of the Cancer Imaging Archive with CTs and radiographs of the same patients, such as COVID-19-NY-SBU."""

from __future__ import annotations

from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.sources.by_patient import pairs_by_patient
from x2c.data.sources.candidate import Candidate
from x2c.data.sources.listing import label_of, read_lines

LABELS_FILE = "labels.csv"
PATIENT, LABEL = "patient", "label"


@SOURCES.register("tcia")
def tcia(root: Path) -> list[Candidate]:
    """A pair per patient's folder in ROOT, ROOT/PATIENT/…/*.dcm, told apart by modality (see `pairs_by_patient`).

    Labels are in ROOT/labels.csv, columns patient and label (0, 1), where there is such a table; of patients who are not
    in it nobody knows. Raises UserError where the table has a line that cannot be read, or two labels of a patient.
    """
    return pairs_by_patient(root, _labels(root / LABELS_FILE))


def _labels(path: Path) -> dict[str, int]:
    labels: dict[str, int] = {}
    if not path.exists():
        return labels
    for line in read_lines(path, (PATIENT, LABEL)):
        try:
            if line.problem:
                raise ValueError(line.problem)
            label = label_of(line.cells[LABEL])
            if labels.setdefault(line.cells[PATIENT], label) != label:
                raise ValueError("expected one label for a patient; got another in a line above; leave one of them")
        except ValueError as error:
            raise UserError(f"{line.where}: {error}") from None
    return labels
