"""Contract of X-ray encoders: a frozen network gives one vector per radiograph, which does not depend on the batch."""

from __future__ import annotations

import pytest
import torch
from small_encoders import SMALL, encoder, radiographs

from x2c.core.registry import ENCODERS

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize("name", ENCODERS.names())
def test_every_encoder_keeps_the_contract(name, request):
    options = SMALL[name](request.getfixturevalue)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = encoder(name, **options)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = encoder(name, **options)
    images = radiographs(3, 48)
    embeddings = first.encode(images)
    assert embeddings.shape == (3, first.dimension) and embeddings.dtype == torch.float32
    assert torch.isfinite(embeddings).all()
    assert torch.equal(second.encode(images), embeddings)
    torch.testing.assert_close(first.encode(images[1:2]), embeddings[1:2], atol=1e-4, rtol=1e-4)
    apart = torch.cdist(embeddings, embeddings)[~torch.eye(3, dtype=torch.bool)]
    assert (apart > 1e-4 * embeddings.norm(dim=1).mean()).all()
    assert not embeddings.requires_grad
    assert not any(p.requires_grad for p in first.network.parameters())
    assert not any(module.training for module in first.network.modules())
    assert first.fingerprint() == second.fingerprint() and first.fingerprint()["name"] == name
    assert first.projection is None


@pytest.mark.parametrize("name", ENCODERS.names())
def test_every_encoder_knows_its_width_before_it_is_loaded(name, request):
    entry = ENCODERS.get(name)
    options = SMALL[name](request.getfixturevalue)
    assert entry(entry.Options(**options)).dimension == encoder(name, **options).dimension
