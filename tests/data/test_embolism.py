"""What an embolism's signs tell in virtual patients: as much as embolism.py says."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.stats.delong import auc
from x2c.data.atlas.parameters import sample_parameters as atlas_parameters
from x2c.data.embolism import passed_on
from x2c.data.phantom.parameters import BLOOD_HU
from x2c.data.phantom.parameters import sample_parameters as phantom_parameters

PATIENTS = 3000


def phantom_signs() -> tuple[list[bool], list[list[float]], list[list[float]]]:
    drawn = [phantom_parameters(f"e{number}", 0) for number in range(PATIENTS)]
    seen = [
        [p.heart_width_mm / p.cage_width_mm, p.effusion_left_ml, p.effusion_right_ml, p.diaphragm_raised_left_mm]
        for p in drawn
    ]
    contrast = [[p.vein_hu / p.artery_hu, p.aorta_hu / p.artery_hu] for p in drawn]
    return [p.embolism for p in drawn], seen, contrast


def atlas_signs() -> tuple[list[bool], list[list[float]], list[list[float]]]:
    drawn = [atlas_parameters(f"e{number}", 0) for number in range(PATIENTS)]
    seen = [
        [p.weights["heart_growth"], p.disease.effusion_left_ml, p.disease.effusion_right_ml, p.weights["raised_left"]]
        for p in drawn
    ]
    contrast = [[p.densities.vein / p.densities.artery, p.densities.aorta / p.densities.artery] for p in drawn]
    return [p.disease.embolism for p in drawn], seen, contrast


def telling(signs: list[list[float]], present: list[bool]) -> float:
    """AUC of a logistic regression on signs, cross-validated."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return auc(present, cross_val_predict(model, np.array(signs), present, cv=5, method="decision_function")).auc


@pytest.mark.parametrize("signs", [phantom_signs, atlas_signs])
def test_an_xray_tells_about_as_much_as_the_papers_and_the_contrast_more(signs):
    present, seen, contrast = signs()
    assert 0.68 < telling(seen, present) < 0.78
    assert 0.84 < telling(contrast, present) < 0.91


def test_a_strained_ventricle_passes_less_contrast_on():
    assert passed_on(300, 0, BLOOD_HU) == 300
    assert passed_on(300, 0.5, BLOOD_HU) == pytest.approx((300 + BLOOD_HU) / 2)
    assert passed_on(BLOOD_HU, 0.8, BLOOD_HU) == BLOOD_HU
