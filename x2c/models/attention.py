"""The denoiser's attentions and their positions, on `scaled_dot_product_attention`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """Layer norm over the channels of [B, C, ...] with a gain and no bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        normal = F.layer_norm(x.movedim(1, -1), (x.shape[1],), self.gain, None, 1e-5)
        return normal.movedim(-1, 1)


class RotaryPositions(nn.Module):
    """Rotary position embedding of the leading `2 * len(frequencies)` channels, pairs interleaved (Su et al. 2021)."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        exponents = torch.arange(0, channels, 2).float() / channels
        self.register_buffer("frequencies", 10000.0**-exponents)

    def forward(self, x: Tensor) -> Tensor:
        """Rotate x [..., N, channels per head] by its position along N."""
        # A rotation of a pair is one complex product: a third of the time of the sin/cos form on a CPU.
        angles = torch.arange(x.shape[-2], device=x.device)[:, None] * self.frequencies
        turned, rest = x.float().split((2 * angles.shape[-1], x.shape[-1] - 2 * angles.shape[-1]), dim=-1)
        pairs = torch.view_as_complex(turned.unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
        return (torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned).to(x.dtype)


class RelativePositionBias(nn.Module):
    """T5's bucketed relative position bias, one value per head and bucket (Raffel et al. 2020)."""

    def __init__(self, heads: int, buckets: int = 32, max_distance: int = 32) -> None:
        super().__init__()
        self.buckets, self.max_distance = buckets, max_distance
        self.embedding = nn.Embedding(buckets, heads)

    def forward(self, length: int) -> Tensor:
        """Return the bias [heads, length, length] for queries (rows) on keys (columns)."""
        position = torch.arange(length, device=self.embedding.weight.device)
        bias: Tensor = self.embedding(self._bucket(position[:, None] - position[None, :])).permute(2, 0, 1)
        return bias

    def _bucket(self, query_minus_key: Tensor) -> Tensor:
        # Half of the buckets for each direction; of those, half exact and half logarithmic up to max_distance.
        half = self.buckets // 2
        exact = half // 2
        distance = query_minus_key.abs()
        growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
        return torch.where(distance < exact, distance, far) + half * (query_minus_key < 0)


class SpatialLinearAttention(nn.Module):
    """Linear attention over H·W within each slice (Shen et al. 2021); softmax over channels for queries, pixels for keys."""

    def __init__(self, channels: int, heads: int, dim_head: int = 32) -> None:
        super().__init__()
        self.heads, self.scale = heads, dim_head**-0.5
        self.norm = ChannelNorm(channels)
        self.to_qkv = nn.Conv2d(channels, 3 * heads * dim_head, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dim_head, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Linear layers on channels-last tokens take about two thirds of the time of 1 x 1 convolutions on a CPU.
        slices = self.norm(x).permute(0, 2, 3, 4, 1)
        tokens = slices.flatten(2, 3).flatten(0, 1)
        qkv = F.linear(tokens, self.to_qkv.weight.flatten(1)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        context = key.transpose(-1, -2).contiguous().softmax(dim=-1) @ value
        mixed = (query.softmax(dim=-1) * self.scale) @ context
        out = F.linear(mixed.transpose(1, 2).flatten(2), self.to_out.weight.flatten(1), self.to_out.bias)
        return x + out.view(*slices.shape).permute(0, 4, 1, 2, 3)


class Attention(nn.Module):
    """Multi-head softmax attention over one axis of a volume: all pixels of a slice, or all slices of a pixel."""

    def __init__(self, channels: int, heads: int, dim_head: int, rotary: RotaryPositions | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, channels, bias=False)
        # Shared by all levels and owned by the denoiser: kept out of this module's own children.
        self._rotary = (rotary,)

    def spatial(self, x: Tensor) -> Tensor:
        """Attend over H·W within each slice of x [B, C, D, H, W]."""
        tokens = self.norm(x).permute(0, 2, 3, 4, 1)
        out = self._attend(tokens.flatten(2, 3).flatten(0, 1), None)
        return x + out.view(*tokens.shape).permute(0, 4, 1, 2, 3)

    def temporal(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attend over D at each pixel of x [B, C, D, H, W], with a bias [heads, D, D]."""
        tokens = self.norm(x).permute(0, 3, 4, 2, 1)
        out = self._attend(tokens.flatten(0, 2), bias)
        return x + out.view(*tokens.shape).permute(0, 4, 3, 1, 2)

    def _attend(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        qkv = self.to_qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        (query, key), value = qkv[:2], qkv[2]
        if (rotary := self._rotary[0]) is not None:
            query, key = rotary(qkv[:2])
        mask = None if bias is None else bias.to(query.dtype)[None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return attended
