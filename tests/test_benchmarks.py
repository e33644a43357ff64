"""What the benchmarks claim and a test can hold: every variant fits the smallest GPU; recipes never see a test patient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from benchmarks import memory, recipes
from benchmarks.peaks import peak_gib
from x2c.core.resolve import resolve
from x2c.data.cohort import Cohort
from x2c.engine.build import build_denoiser
from x2c.models.unet3d import UNet3D

LIMIT_GIB = memory.SMALLEST_GPU_GIB - memory.RESERVED_GIB
DISTINCT = {memory.same_memory(memory.resolved(name)): name for name in reversed(memory.variants())}
"""The first variant of each need of memory."""
WORST = [("res_512", "loss=full"), ("vqgan_3d", "loss=full")]
"""What the sweeps do not have, and a user may ask for."""
UNDER = {
    "full": ("l1", "l1_lpips", "l1_adv", "l1_cls", "l1_lpips_adv"),
    "res_512 loss=full": ("res_512",),
    "vqgan_3d loss=full": ("vqgan_3d",),
}
"""What is counted, and the variants that have but some terms of its loss: they need no more than it."""
BELOW = {name for names in UNDER.values() for name in names}
COUNTED = [(name,) for name in sorted(DISTINCT.values()) if name not in BELOW] + WORST
KNOWN: dict[str, float] = {}
"""What pieces of work take, counted once for all variants."""


def test_every_variant_of_the_sweeps_is_counted():
    assert {"l1", "full", "res_512", "vqgan_3d", "clip", "cross_attention", "lidc_lora"} <= set(memory.variants())
    assert {"full", "res_512", "vqgan_3d", "clip", "cfg", "lidc_lora", "l1_cls"} <= set(DISTINCT.values())


@pytest.mark.parametrize("more", UNDER)
def test_a_variant_that_is_not_counted_has_fewer_terms_than_one_that_is(more):
    name, *overrides = more.split()
    most = memory.resolved(name, "fp32", *overrides)
    assert (name, *overrides) in COUNTED and set(UNDER[more]) <= set(DISTINCT.values())
    for less in map(memory.resolved, UNDER[more]):
        assert less.loss.terms.items() < most.loss.terms.items()
        assert memory.same_memory(less.model_copy(update={"loss": most.loss})) == memory.same_memory(most)


@pytest.mark.slow
@pytest.mark.parametrize("asked", COUNTED, ids=" ".join)
def test_every_variant_fits_24_gb_at_full_scale(asked):
    name, *overrides = asked
    config = memory.resolved(name, "fp32", *overrides)
    peaks = memory.peaks_gib(config, KNOWN)
    phases = {"encoding", "training", "sampling", "scoring"}
    assert set(peaks) == phases | ({"classifier"} if "cls" in config.loss.terms else set())
    # Weights alone would be a tenth of that: activations are counted.
    assert all(0.5 < peak < LIMIT_GIB for peak in peaks.values()), peaks


def small() -> UNet3D:
    return UNet3D(dim=16, dim_mults=(1, 2), channels=4, cond_dim=6, attn_heads=2, attn_dim_head=16)


def step(network: UNet3D) -> None:
    """Forward and backward of two volumes."""
    inputs = torch.zeros(2, 4, 8, 32, 32), torch.zeros(2, dtype=torch.long), torch.zeros(2, 6)
    with sdpa_kernel(SDPBackend.MATH):
        network(*inputs).square().mean().backward()


def allocated_gib(network: UNet3D, folder: Path) -> float:
    """The most that PyTorch's allocator has handed out during a step, and the weights."""
    step(small())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(network)
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    sizes = [(event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"]
    most = now = 0
    for _, size in sorted(sizes, key=lambda event: event[0]):
        now += size
        most = max(most, now)
    return (most + sum(parameter.nbytes for parameter in network.parameters())) / memory.GIB


def test_what_is_counted_is_what_the_allocator_hands_out(tmp_path):
    with FakeTensorMode():
        network = small()
        counted = peak_gib(lambda: step(network), network)
    assert counted == pytest.approx(allocated_gib(small(), tmp_path), rel=0.05)


def test_networks_that_are_loaded_and_gradients_count():
    network = torch.nn.Linear(1024, 1024, bias=False)
    inputs = torch.zeros(1, 1024)
    weights = network.weight.nbytes / memory.GIB

    def train() -> None:
        network(inputs).sum().backward()

    assert peak_gib(lambda: network(inputs), network) == pytest.approx(weights, rel=0.01)
    assert peak_gib(train, network) == pytest.approx(2 * weights, rel=0.02)


def test_recipes_are_judged_by_validation_patients_alone(smoke_parts, monkeypatch):
    asked, rows = [], Cohort.rows
    monkeypatch.setattr(Cohort, "rows", lambda self, split: asked.append(split) or rows(self, split))
    config = resolve("l1", "smoke")
    own, other = recipes.sampled(config, smoke_parts, build_denoiser(config).eval())
    assert own.shape == other.shape == (config.dataset.options.val,)
    assert (own != other).all(), "sampled with another patient's X-ray"
    assert "val" in asked and "test" not in asked
