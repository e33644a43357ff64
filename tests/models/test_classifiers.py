"""Training a classifier and asking it: the objective, its optimiser, and where the X-rays' ResNet-50 starts from."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50

from x2c.core.errors import UserError
from x2c.models.classifier import fit, logits, xray_classifier
from x2c.models.frozen import seeded
from x2c.models.radimagenet import CHILDREN

RECIPE = {"steps": 20, "batch_size": 8, "learning_rate": 0.05, "what": "a test"}
SIZE = 32


class Bias(nn.Module):
    """The same logit for every input."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(start))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logit.expand(len(inputs), 1)


def labels_of(positive: int, negative: int) -> Tensor:
    return torch.tensor([1] * positive + [0] * negative)


def xrays(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def torchvisions() -> dict[str, Tensor]:
    """ResNet-50 without its head, as torchvision names it; every tensor is one number, so that files are small."""
    with torch.device("meta"):
        shapes = {name: value for name, value in resnet50().state_dict().items() if not name.startswith("fc.")}
    numbers = {name: 1.0 if name.endswith("var") else place / 10_000 for place, name in enumerate(shapes, start=1)}
    return {name: torch.tensor(numbers[name]).to(v.dtype).expand(v.shape) for name, v in shapes.items()}


def authors() -> dict[str, Tensor]:
    """The same as github BMEII-AI/RadImageNet saves it: ResNet-50's children by number, in `backbone`."""
    numbers = {layer: number for number, layer in CHILDREN.items()}
    parts = {name: name.split(".", 1) for name in torchvisions()}
    return {f"backbone.{numbers[parts[name][0]]}.{parts[name][1]}": value for name, value in torchvisions().items()}


@pytest.fixture
def file_of(tmp_path):
    """Saves a state as a file."""

    def save(state: dict[str, Tensor], name: str = "resnet50.pt") -> Path:
        torch.save(state, tmp_path / name)
        assert (tmp_path / name).stat().st_size < 1_000_000
        return tmp_path / name

    return save


def started(source: Path | None, seed: int = 0) -> nn.Module:
    with seeded(seed):
        return xray_classifier(source)


def test_an_xray_has_one_logit_which_is_that_of_its_grey_value_in_three_channels():
    network = started(None).eval()
    with torch.no_grad():
        came = network(xrays())
        assert came.shape == (3, 1)
        torch.testing.assert_close(came, network[1](xrays()[:, None].repeat(1, 3, 1, 1)))
    assert len(came.unique()) == 3


def test_without_weights_the_seed_is_the_start():
    states = [started(None, seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["1.conv1.weight"], states[2]["1.conv1.weight"])


@pytest.mark.parametrize("layout", [torchvisions, authors])
def test_every_layer_but_the_last_starts_from_the_file(layout, file_of):
    state = started(file_of(layout())).state_dict()
    head = started(None).state_dict()
    for name, value in torchvisions().items():
        assert torch.equal(state.pop(f"1.{name}"), value), name
    assert set(state) == {"1.fc.weight", "1.fc.bias"}
    for name, value in state.items():
        # Drawn, as the file's own has another task.
        assert torch.equal(value, head[name]) and value.shape[0] == 1


def test_a_head_in_the_file_is_left_there(file_of):
    own = {"fc.weight": torch.zeros(()).expand(165, 2048), "fc.bias": torch.zeros(165)}
    state = started(file_of({**torchvisions(), **own})).state_dict()
    assert state["1.fc.weight"].shape == (1, 2048) and state["1.fc.weight"].any()


@pytest.mark.parametrize("change", ["missing", "foreign", "shape", "number"])
def test_a_file_that_is_another_network_is_refused(change, file_of):
    state = torchvisions()
    if change == "missing":
        del state["layer4.2.conv3.weight"]
    elif change == "foreign":
        state = {"features.0.weight": torch.zeros(3)}
    elif change == "shape":
        state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    else:
        state = {**authors(), "backbone.9.weight": torch.zeros(3)}
    with pytest.raises(UserError, match=r"expected the weights of RadImageNet.*resnet50\.pt is another file") as caught:
        xray_classifier(file_of(state))
    assert "\n" not in str(caught.value)


class Bomb:
    """A pickle that runs code when it is read."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return (Path.touch, (self.victim,))


def test_no_code_in_a_file_is_run(tmp_path):
    torch.save({"conv1.weight": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pt")
    with pytest.raises(UserError, match=r"bomb\.pt is another file \(it does not hold tensors alone\)"):
        xray_classifier(tmp_path / "bomb.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("positive", "negative"), [(3, 30), (30, 3)])
def test_how_rare_embolism_is_moves_no_logit(positive, negative):
    """Weighted by its rarity, the positive class is worth what the negative is; unweighted, this would end at log(p/n)."""
    network, labels = Bias(start=1.0), labels_of(positive, negative)
    with seeded(0):
        fit(network, torch.zeros(len(labels), 1), labels, **{**RECIPE, "steps": 300, "batch_size": 256})
    assert abs(network.logit.item()) < 0.1


def test_the_loss_is_weighted_binary_cross_entropy():
    labels = labels_of(2, 6)
    with seeded(3):
        came = fit(Bias(start=0.7), torch.zeros(8, 1), labels, **{**RECIPE, "steps": 1, "batch_size": 5})
    with seeded(3):
        drawn = labels[torch.randint(8, (5,))].float()
    p = 1 / (1 + math.exp(-0.7))
    expected = -(3 * drawn * math.log(p) + (1 - drawn) * math.log(1 - p)).mean()
    assert 0 < drawn.sum() < 5
    assert came == pytest.approx(float(expected))


@pytest.mark.parametrize("labels", [labels_of(0, 6), labels_of(6, 0)])
def test_one_class_alone_is_no_division_by_zero(labels):
    network = nn.Linear(2, 1)
    loss = fit(network, torch.ones(6, 2), labels, **RECIPE)
    assert math.isfinite(loss) and all(p.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("decay", "steps"), [(0.5, 1), (0.5, 7), (0.0, 7)])
def test_weights_decay_as_adamws_do_at_a_rate_that_falls_on_a_cosine(decay, steps):
    """Of inputs that are zero no gradient reaches the weights: what is left is Π (1 − λ·η_t), η_t = η (1 + cos πt/T) / 2."""
    network = nn.Linear(3, 1)
    before = network.weight.detach().clone()
    recipe = {**RECIPE, "steps": steps, "learning_rate": 0.2, "weight_decay": decay}
    fit(network, torch.zeros(6, 3), labels_of(2, 4), **recipe)
    rates = [0.2 * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps)]
    torch.testing.assert_close(network.weight.detach(), before * math.prod(1 - decay * rate for rate in rates))


def test_what_can_be_told_apart_is_learned():
    labels = labels_of(10, 30)
    inputs = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    inputs[:, 2] += 8.0 * labels
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))
    with seeded(0):
        loss = fit(network, inputs, labels, **{**RECIPE, "steps": 200})
    scores = logits(network, inputs, 7)
    assert scores[:10].min() > scores[10:].max()
    assert loss < 0.2


def test_training_is_a_function_of_the_seed():
    inputs, labels = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)), labels_of(5, 15)

    def trained(seed: int) -> Tensor:
        with seeded(seed):
            network = nn.Linear(4, 1)
            nn.init.zeros_(network.weight)
            fit(network, inputs, labels, **RECIPE)
        return network.weight.detach()

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


def test_a_classifier_is_asked_as_it_is_and_not_trained_by_it():
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1)).train()
    inputs = torch.randn(10, 4, generator=torch.Generator().manual_seed(1)) * 3 + 1
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scores = logits(network, inputs, 4)
    assert scores.shape == (10,) and not scores.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    weight, bias = network[2].weight.detach(), network[2].bias.detach()
    torch.testing.assert_close(scores, F.linear(inputs / math.sqrt(1 + 1e-5), weight, bias)[:, 0])


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_logits_do_not_depend_on_who_is_asked_together(batch_size):
    network = started(None)
    with torch.no_grad():
        network[1].bn1.running_mean.add_(0.3)
    torch.testing.assert_close(logits(network, xrays(5), batch_size), logits(network, xrays(5), 2))
