"""A trained run and requests to sample from it; a finished classification and requests for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState
from classification_parts import SHORT, Painter, Seen, asked, watch
from sampling_files import write_xray

from x2c.core.run import RunDirectory
from x2c.data.cohort import Cohort
from x2c.engine.classification import generated as generating
from x2c.engine.classification import run as classifying
from x2c.engine.parts import open_parts
from x2c.engine.sampling_paths import Request


@pytest.fixture
def run(smoke_run) -> Path:
    """A trained run; not to be changed."""
    return smoke_run().path


@pytest.fixture
def request_of(run, tmp_path):
    """Makes requests for one X-ray of the trained run."""
    xray = write_xray(tmp_path / "in" / "Smith_Jane.png")

    def make(**changes: object) -> Request:
        return replace(Request(run, xray, tmp_path / "out" / "volume.nii.gz"), **changes)

    return make


@pytest.fixture
def undisturbed(offline) -> Iterator[None]:
    """No weights, and a process that has trained nothing yet and leaves nothing to other tests."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def finished(smoke_cache, tmp_path_factory) -> tuple[classifying.Request, RunDirectory, Seen]:
    """A request, its classification with nothing left out, and what its generators saw."""
    request = asked(smoke_cache, tmp_path_factory.mktemp("runs"), "l1", *SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("X2C_WEIGHTS", raising=False)
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        seen = watch(patch, generating.train_stages, generating.Generator)
        return request, classifying.classify(request), seen


@pytest.fixture
def painted(monkeypatch) -> Seen:
    """Nothing is trained: generators paint, classifiers stay as they were drawn."""
    seen = watch(monkeypatch, lambda *_: None, Painter)
    monkeypatch.setattr(generating, "trained_denoiser", lambda *_: None)
    monkeypatch.setattr(classifying, "fit", lambda *_, **__: 0.0)
    return seen


@pytest.fixture
def ask(smoke_cache, tmp_path) -> Callable[..., classifying.Request]:
    """Makes requests whose results go to the test's own folder."""
    return lambda variant="l1", *overrides, **kind: asked(smoke_cache, tmp_path / "runs", variant, *overrides, **kind)


@pytest.fixture(scope="module")
def cohort(smoke_cache, tmp_path_factory) -> Cohort:
    return open_parts(asked(smoke_cache, tmp_path_factory.mktemp("none")).config()).evaluated.cohort
