"""I3D as Carreira & Zisserman 2017 draw it, under the names of pytorch-i3d's weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from x2c.core.errors import UserError
from x2c.core.registry import FEATURES
from x2c.models.frozen import seeded
from x2c.models.i3d import CLASSES, FEWEST_FRAMES, I3DNetwork, _padded, _pooled, _Unit

pytestmark = pytest.mark.usefixtures("offline")

# Figure 3 of the paper with Inception v1's widths (Szegedy et al. 2015, table 1): 1×1; 3×3 reduce and 3×3; the second
# 3×3's, which stand where Inception v1 has 5×5; the point after the pooling.
INCEPTION = {
    "3b": (64, (96, 128), (16, 32), 32),
    "3c": (128, (128, 192), (32, 96), 64),
    "4b": (192, (96, 208), (16, 48), 64),
    "4c": (160, (112, 224), (24, 64), 64),
    "4d": (128, (128, 256), (24, 64), 64),
    "4e": (112, (144, 288), (32, 64), 64),
    "4f": (256, (160, 320), (32, 128), 128),
    "5b": (256, (160, 320), (32, 128), 128),
    "5c": (384, (192, 384), (48, 128), 128),
}
PUBLISHED = 12_697_264
"""Parameters of the paper's network for 400 classes."""


def convolutions() -> Iterator[tuple[str, int, int, int]]:
    """name, channels in and out, and edge of the kernel of every convolution that a batch norm follows."""
    yield "Conv3d_1a_7x7", 3, 64, 7
    yield "Conv3d_2b_1x1", 64, 64, 1
    yield "Conv3d_2c_3x3", 64, 192, 3
    channels = 192
    for block, (point, three, second_three, pooled) in INCEPTION.items():
        yield f"Mixed_{block}.b0", channels, point, 1
        for branch, (reduced, out) in (("b1", three), ("b2", second_three)):
            yield f"Mixed_{block}.{branch}a", channels, reduced, 1
            yield f"Mixed_{block}.{branch}b", reduced, out, 3
        yield f"Mixed_{block}.b3b", channels, pooled, 1
        channels = point + three[1] + second_three[1] + pooled
    assert channels == 1024


@pytest.fixture(scope="module")
def network() -> I3DNetwork:
    """Weights and running statistics under which activations keep their scale and no two volumes are alike."""
    with seeded(4):
        made = I3DNetwork().eval()
        for name, parameter in made.named_parameters():
            if parameter.ndim == 5:
                torch.nn.init.kaiming_normal_(parameter)
            elif "bn" in name:
                torch.nn.init.uniform_(parameter, 0.7 if name.endswith("weight") else -0.2, 1.2)
        for name, buffer in made.named_buffers():
            if name.endswith(("mean", "var")):
                torch.nn.init.uniform_(buffer, 0.5 if name.endswith("var") else -0.2, 1.5 if "var" in name else 0.2)
    return made


@pytest.fixture(scope="module")
def state_file(network: I3DNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("i3d") / "rgb_imagenet.pt"
    torch.save(network.state_dict(), file)
    return file


def extractor(source: Path | str):
    entry = FEATURES.get("i3d_pytorch")
    return entry(entry.Options(source=str(source)))


def volumes(count: int = 2, slices: int = FEWEST_FRAMES) -> Tensor:
    return torch.rand(count, slices, 20, 16, generator=torch.Generator().manual_seed(3))


def test_it_has_the_papers_parameters(network: I3DNetwork) -> None:
    expected = sum(into * out * edge**3 + 2 * out for _, into, out, edge in convolutions()) + 1024 * 400 + 400
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == PUBLISHED


def test_its_state_is_named_and_shaped_as_pytorch_i3ds(network: I3DNetwork) -> None:
    expected: dict[str, tuple[int, ...]] = {"logits.conv3d.weight": (400, 1024, 1, 1, 1), "logits.conv3d.bias": (400,)}
    for name, into, out, edge in convolutions():
        expected[f"{name}.conv3d.weight"] = (out, into, edge, edge, edge)
        expected |= {f"{name}.bn.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")}
        expected[f"{name}.bn.num_batches_tracked"] = ()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == expected
    assert "Mixed_3b.b1a.conv3d.weight" in expected


def by_tensorflows_rules(state: dict[str, Tensor], frames: Tensor) -> Tensor:
    """The forward pass of figure 3, written with plain functions and padding by the size that must come out."""

    def same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        for axis, (k, s) in enumerate(zip(kernel, stride, strict=True), start=2):
            n = x.shape[axis]
            missing = max((-(-n // s) - 1) * s + k - n, 0)
            before, behind = list(x.shape), list(x.shape)
            before[axis], behind[axis] = missing // 2, missing - missing // 2
            x = torch.cat([x.new_zeros(before), x, x.new_zeros(behind)], dim=axis)
        return x

    def unit(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv3d.weight"]
        x = F.conv3d(same(x, tuple(weight.shape[2:]), (stride,) * 3), weight, stride=stride)
        scale, shift, mean, var = (
            state[f"{name}.bn.{part}"][:, None, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return ((x - mean) / (var + 1e-3).sqrt() * scale + shift).relu()

    def pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        return F.max_pool3d(same(x, kernel, stride), kernel, stride)

    def mixed(x: Tensor, name: str) -> Tensor:
        branches = [unit(x, f"{name}.b0")]
        branches += [unit(unit(x, f"{name}.{branch}a"), f"{name}.{branch}b") for branch in ("b1", "b2")]
        return torch.cat([*branches, unit(pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b")], dim=1)

    x = pool(unit(frames, "Conv3d_1a_7x7", stride=2), (1, 3, 3), (1, 2, 2))
    x = pool(unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3"), (1, 3, 3), (1, 2, 2))
    x = pool(mixed(mixed(x, "Mixed_3b"), "Mixed_3c"), (3, 3, 3), (2, 2, 2))
    for block in "bcdef":
        x = mixed(x, f"Mixed_4{block}")
    x = mixed(mixed(pool(x, (2, 2, 2), (2, 2, 2)), "Mixed_5b"), "Mixed_5c")
    # The average pooling slides over time alone; the logits are linear, so their mean is that of the pooled maps.
    assert x.shape[3:] == (7, 7)
    pooled = torch.stack([x[:, :, t : t + 2].mean((2, 3, 4)) for t in range(x.shape[2] - 1)]).mean(0)
    return F.linear(pooled, state["logits.conv3d.weight"][:, :, 0, 0, 0], state["logits.conv3d.bias"])


@torch.no_grad()
def test_a_state_dict_loads_through_the_option_and_gives_the_papers_logits(state_file: Path) -> None:
    batch = volumes()
    rows = extractor(state_file)(batch)
    assert rows.shape == (2, CLASSES) and rows.dtype == torch.float32
    resized = F.interpolate(batch, size=(224, 224), mode="bilinear", align_corners=False) * 2 - 1
    frames = torch.stack([resized] * 3, dim=1)
    expected = by_tensorflows_rules(torch.load(state_file, weights_only=True), frames)
    torch.testing.assert_close(rows, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert float((rows[0] - rows[1]).norm()) > 1e-3 * float(rows.norm())


@torch.no_grad()
def test_logits_are_averaged_over_time(network: I3DNetwork) -> None:
    # 17 slices leave three frames before the last pooling, hence two logits to average.
    frames = torch.rand(1, 3, 17, 224, 224, generator=torch.Generator().manual_seed(5)) * 2 - 1
    logits = network(frames)
    expected = by_tensorflows_rules(network.state_dict(), frames)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_the_network_that_is_loaded_is_frozen(state_file: Path) -> None:
    loaded = extractor(state_file)
    assert not loaded.network.training and not any(p.requires_grad for p in loaded.network.parameters())
    assert loaded.stand_in is None


def test_weights_that_were_saved_before_batch_norms_counted_load_as_well(network: I3DNetwork, tmp_path: Path) -> None:
    # As torch 0.3 saved them, and the public file may have been.
    old = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pt")
    loaded = extractor(tmp_path / "old.pt").network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in old.items())


class Code:
    """What a pickle must not run."""

    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("content", ["no pickle", "other names", "other classes", "a tensor", "code"])
def test_another_file_is_the_users_to_mend(content: str, network: I3DNetwork, tmp_path: Path, capsys) -> None:
    file, state = tmp_path / "weights.pt", network.state_dict()
    made = {
        "other names": {f"module.{name}": value for name, value in state.items()},
        "other classes": {**state, "logits.conv3d.weight": torch.zeros(157, 1024, 1, 1, 1)},
        "a tensor": torch.zeros(3),
        "code": {"Conv3d_1a_7x7.conv3d.weight": Code()},
    }
    if content == "no pickle":
        file.write_text("not found")
    else:
        torch.save(made[content], file)
    expected = r"^features\.source: expected the weights of pytorch-i3d's rgb_imagenet\.pt.*weights\.pt is another file"
    with pytest.raises(UserError, match=expected) as error:
        extractor(file)
    assert "\n" not in str(error.value) and "run" not in capsys.readouterr().out


@pytest.mark.parametrize("source", ["", "gone.pt"])
def test_without_its_file_the_error_names_the_option(source: str) -> None:
    with pytest.raises(UserError, match=r"^features\.source: .*--features\.source=FILE"):
        extractor(source)


def test_fewer_slices_than_the_poolings_take_are_refused(state_file: Path) -> None:
    with pytest.raises(ValueError, match="expected at least 9 slices; got 8; take deeper volumes"):
        extractor(state_file)(volumes(1, slices=8))


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 13])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
def test_padding_is_tensorflows_same(size: int, stride: int, kernel: int) -> None:
    x = torch.arange(1.0, size + 1).view(1, 1, 1, 1, size)
    padded = _padded(x, (1, 1, kernel), (1, 1, stride)).flatten()
    out = -(-size // stride)
    missing = max((out - 1) * stride + kernel - size, 0)
    # One more behind than before, where their number is odd.
    assert padded.tolist() == [0] * (missing // 2) + x.flatten().tolist() + [0] * (missing - missing // 2)


@pytest.mark.parametrize("shape", [(9, 14, 15), (10, 7, 8)])
def test_an_axis_of_n_comes_out_as_n_over_the_stride_rounded_up(shape: tuple[int, int, int]) -> None:
    x = torch.rand(1, 3, *shape)
    halves = tuple(-(-n // 2) for n in shape)
    assert _Unit(3, 4, 7, stride=2)(x).shape[2:] == halves
    assert _Unit(3, 4, 3)(x).shape[2:] == shape
    assert _pooled(x, (3, 3, 3), (2, 2, 2)).shape[2:] == halves
    assert _pooled(x, (1, 3, 3), (1, 2, 2)).shape[2:] == (shape[0], *halves[1:])
    assert _pooled(x, (2, 2, 2), (2, 2, 2)).shape[2:] == halves
