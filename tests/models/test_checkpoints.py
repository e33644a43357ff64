"""Weights from files: all or none."""

from __future__ import annotations

import pytest
import torch

from x2c.core.errors import UserError
from x2c.models.checkpoints import LABELS, load_into, read_start
from x2c.models.unet3d import UNet3D


def denoiser(dim: int = 8, **changes) -> UNet3D:
    return UNet3D(dim, (1, 2), 4, 6, 2, 16, **changes)


def test_what_is_missing_unknown_or_of_another_shape_is_named_and_nothing_is_loaded():
    net = denoiser()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = denoiser().state_dict()
    cases = {
        "1 missing (to_out.bias)": {name: value for name, value in state.items() if name != "to_out.bias"},
        "1 unknown (extra)": {**state, "extra": torch.ones(1)},
        "of another shape (": denoiser(16).state_dict(),
    }
    for message, wrong in cases.items():
        with pytest.raises(UserError) as caught:
            load_into(net, wrong, "file.safetensors")
        assert message in str(caught.value) and str(caught.value).startswith("file.safetensors: ")
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_label_embeddings_may_come_in_and_start_at_nothing():
    plain, labelled = denoiser(), denoiser(labels=3)
    with pytest.raises(UserError, match="label_embedding"):
        load_into(labelled, plain.state_dict(), "file")
    load_into(labelled, plain.state_dict(), "file", introduced=LABELS)
    inputs = torch.randn(2, 4, 3, 4, 4), torch.tensor([3, 900]), torch.randn(2, 6)
    torch.testing.assert_close(labelled(*inputs, labels=torch.tensor([0, 2])), plain(*inputs))


FOREIGN = {"stem.weight": "init_conv.weight", "to_out.bias": "final_conv.1.bias", "null_condition": "null_cond_emb"}


def test_a_public_checkpoint_is_read_without_running_code(tmp_path):
    foreign = {f"denoise_fn.{name}": torch.full((2,), float(i)) for i, name in enumerate(FOREIGN.values())}
    file = tmp_path / "model.pt"
    torch.save({"step": 3, "model": {}, "ema": {**foreign, "betas": torch.ones(5)}}, file)
    assert {name: float(value[0]) for name, value in read_start(file).items()} == dict(
        zip(FOREIGN, range(3), strict=True)
    )
    for content in (["no", "state"], {"model": 3}, {"model": _Bomb()}):
        torch.save(content, file)
        with pytest.raises(UserError, match="or a checkpoint with a state dict"):
            read_start(file)


class _Bomb:
    def __reduce__(self):
        return print, ("code was run",)
