"""From a source's labels of slices to those of stored slices; and notes, which leave a pair as good as it was."""

from __future__ import annotations

import numpy as np
import pytest
from ct_files import write_ct, write_picture
from prepare_files import SMALL, grainy_xray, noisy, request, write_pairs

from x2c.data.ingest.scan import Scan
from x2c.data.prepare.make import _slices_with_emboli
from x2c.data.prepare.run import prepare
from x2c.data.preprocess.box import Box
from x2c.data.sources.candidate import UNKNOWN_LABEL, Emboli
from x2c.data.volume import Volume

BOX = Box((0.0, 0.0, 0.0), (80.0, 10.0, 10.0))
"""Ten slices of 8 mm, whose middles lie at 4, 12, …, 76 mm."""
SIZE = (10, 4, 4)


def scan(step_mm: float) -> Scan:
    heights = np.arange(-20.0, 120.0, step_mm)
    return Scan(
        Volume(np.zeros((2, 2, 2), np.float32), (1.0, 1.0, 1.0)),
        slice_z_mm={f"u{height:g}": height for height in heights},
    )


def emboli(*heights: float) -> Emboli:
    return Emboli(1, 0, UNKNOWN_LABEL, frozenset(f"u{height:g}" for height in heights))


@pytest.mark.parametrize(
    ("step", "heights", "expected"),
    [
        (1.0, (13.0,), [1]),
        (1.0, (13.0, 14.0, 17.0), [1, 2]),
        (1.0, (-10.0, 100.0), []),
        (20.0, (40.0,), [4, 5]),
    ],
)
def test_a_stored_slice_has_the_emboli_of_the_source_slices_in_it(step, heights, expected):
    halves = _slices_with_emboli(emboli(*heights), scan(step), BOX, SIZE)
    whole = np.empty(10, int)
    whole[0::2], whole[1::2] = halves
    assert set(np.flatnonzero(whole)) - {0} == set(expected) - {0}


def test_slices_that_are_not_labelled_are_unknown():
    assert _slices_with_emboli(None, scan(1.0), BOX, SIZE) is None
    assert _slices_with_emboli(emboli(3.0), Scan(scan(1.0).volume), BOX, SIZE) is None
    assert _slices_with_emboli(emboli(3.5), scan(1.0), BOX, SIZE) is None, "a slice that the series has not"
    assert _slices_with_emboli(emboli(), scan(1.0), BOX, SIZE) == ((0,) * 5, (0,) * 5)


def test_a_note_leaves_a_pair_ok_and_strict_keeps_it(tmp_path):
    root = tmp_path / "root"
    volume = noisy(0)
    framed = Volume(np.pad(volume.hu, [(3, 3), (9, 9), (9, 9)]), volume.spacing_mm)
    write_ct(root / "ct.nii.gz", framed)
    write_picture(root / "x.png", grainy_xray(0))
    write_pairs(root, [{"patient": "P", "ct": "ct.nii.gz", "xray": "x.png", "label": 0}])
    for strict in (False, True):
        recipe = SMALL.model_copy(update={"strict": strict})
        (record,) = prepare(request(root, tmp_path / f"out{strict}", recipe=recipe))
        assert record.status == "ok"
        assert record.reasons == ("6 outer slices hold nothing and were taken away",)


def test_a_projection_that_shows_no_chest_is_doubtful(tmp_path, monkeypatch):
    from x2c.data.prepare import make

    root = tmp_path / "root"
    write_ct(root / "ct.nii.gz", noisy(0))
    write_picture(root / "x.png", grainy_xray(0))
    write_pairs(root, [{"patient": "P", "ct": "ct.nii.gz", "xray": "x.png", "label": 0}])
    monkeypatch.setattr(make, "render_drr", lambda _volume, size, *_, **__: np.eye(size, dtype=np.float32))
    (record,) = prepare(request(root, tmp_path / "out"))
    assert record.status == "warning" and record.reasons[0].startswith("projection: ")
