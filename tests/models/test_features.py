"""Volume features: what the networks receive, and one row a volume whatever else is in the batch."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from x2c.core.errors import UserError
from x2c.core.registry import FEATURES
from x2c.core.weights import WEIGHTS
from x2c.models.i3d import FEWEST_FRAMES
from x2c.weights import record

# torch itself is retiring TorchScript, the format of the public I3D weights.
pytestmark = [pytest.mark.filterwarnings("ignore:`torch.jit"), pytest.mark.usefixtures("offline")]


class Witness(nn.Module):
    """Answers with what it was given, in I3D's calling convention."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        flags = torch.tensor([float(rescale), float(resize), float(return_features)]).expand(x.shape[0], -1)
        return torch.cat((flags, x[:, :, :, 0, 0].flatten(1)), dim=1)


@pytest.fixture(scope="module")
def i3d_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("i3d") / "i3d.pt"
    torch.jit.script(Witness()).save(str(file))
    return file


def features(name: str, **options):
    entry = FEATURES.get(name)
    return entry(entry.Options(**options))


def volumes(count: int = 3, shape: tuple[int, int, int] = (FEWEST_FRAMES, 16, 12)) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def recorded_i3d(i3d_file, tmp_path, monkeypatch) -> Path:
    """The file in X2C_WEIGHTS, its digest listed there."""
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "i3d.pt"
    file.write_bytes(i3d_file.read_bytes())
    monkeypatch.setenv("X2C_WEIGHTS", str(tmp_path / "weights"))
    record()
    return file


@pytest.mark.parametrize("by_option", [True, False])
def test_i3d_gets_slices_as_grey_frames_from_0_to_255(by_option, recorded_i3d):
    batch = volumes()
    received = features("i3d", source=str(recorded_i3d) if by_option else "")(batch)
    assert (received[:, :3] == 1).all()
    colours = received[:, 3:].unflatten(1, (3, FEWEST_FRAMES))
    torch.testing.assert_close(colours, (255 * batch[:, :, 0, 0])[:, None].expand(-1, 3, -1))


def test_i3d_refuses_fewer_slices_than_it_can_pool(recorded_i3d):
    with pytest.raises(ValueError, match=f"expected at least {FEWEST_FRAMES} slices; got {FEWEST_FRAMES - 1}"):
        features("i3d", source=str(recorded_i3d))(volumes(shape=(FEWEST_FRAMES - 1, 16, 12)))


def test_i3d_is_code_and_is_not_run_unless_its_digest_is_known(i3d_file):
    digest = hashlib.sha256(i3d_file.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=rf"^features\.source: .*code.*SHA-256 {digest}.*--record") as error:
        features("i3d", source=str(i3d_file))
    assert "\n" not in str(error.value)


def test_i3d_is_loaded_when_its_digest_is_the_published_one(i3d_file, monkeypatch):
    digest = hashlib.sha256(i3d_file.read_bytes()).hexdigest()
    monkeypatch.setitem(WEIGHTS, "i3d", replace(WEIGHTS["i3d"], sha256={"i3d_torchscript.pt": digest}))
    assert features("i3d", source=str(i3d_file))(volumes()).shape[0] == 3


@pytest.mark.parametrize("by_option", [True, False])
def test_i3d_that_was_changed_after_it_was_recorded_is_not_run(by_option, recorded_i3d, monkeypatch):
    monkeypatch.setattr("x2c.core.digests.REMEMBERED_BYTES", 0)
    features("i3d", source=str(recorded_i3d))
    times = recorded_i3d.stat()
    torch.jit.script(nn.Identity()).save(str(recorded_i3d))
    recorded_i3d.write_bytes(recorded_i3d.read_bytes().ljust(times.st_size, b"\0")[: times.st_size])
    # Not even with the old size and time, by which a digest is remembered.
    os.utime(recorded_i3d, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UserError, match=r"i3d\.pt: expected SHA-256 .*SHA256SUMS.*got"):
        features("i3d", source=str(recorded_i3d) if by_option else "")


@pytest.mark.parametrize("source", ["", "gone.pt"])
def test_i3d_without_its_file_is_an_error_that_names_the_option(source):
    with pytest.raises(UserError, match=r"^features\.source: .*--features\.source=FILE"):
        features("i3d", source=source)


def test_the_stand_in_is_the_same_whenever_it_is_built():
    torch.manual_seed(1)
    first = features("conv3d_standin", width=4)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = features("conv3d_standin", width=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first(volumes()), second(volumes()))


def test_the_stand_in_gives_a_row_a_volume_whatever_else_is_in_the_batch():
    extractor = features("conv3d_standin", width=4)
    rows = extractor(volumes())
    assert rows.shape == (3, 16)
    for number, volume in enumerate(volumes()):
        torch.testing.assert_close(extractor(volume[None])[0], rows[number])
    assert (torch.cdist(rows, rows)[~torch.eye(3, dtype=torch.bool)] > 1e-3).all()
