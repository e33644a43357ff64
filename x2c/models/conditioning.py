"""Conditioning: a condition vector enters the denoiser with the time embedding, by attention, or by modulation."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from x2c.core.config import Section
from x2c.core.registry import CONDITIONING
from x2c.models.attention import ChannelNorm


class Conditioning(nn.Module, ABC):
    """Turns time and condition into the inputs of the denoiser's blocks: an embedding, and possibly tokens."""

    gated = False
    """Whether ResNet blocks are modulated twice and gated (adaLN-zero)."""
    token_dim = 0
    """Channels of the tokens; 0 if there are none."""

    class Options(Section):
        """No options."""

    def __init__(self, options: Section, time_dim: int, cond_dim: int) -> None:
        super().__init__()
        self.options = options
        self.embedding_dim = time_dim

    @abstractmethod
    def embedding(self, time: Tensor, condition: Tensor) -> Tensor:
        """Embed time [B, T] and condition [B, K] as the scale and shift of every ResNet block, [B, embedding_dim]."""

    def tokens(self, condition: Tensor) -> Tensor | None:
        """Return tokens [B, N, token_dim] for condition [B, K], if the levels attend to some."""
        return None


@CONDITIONING.register("concat")
class Concat(Conditioning):
    """The condition concatenated to the time embedding, the paper's."""

    def __init__(self, options: Section, time_dim: int, cond_dim: int) -> None:
        super().__init__(options, time_dim, cond_dim)
        self.embedding_dim = time_dim + cond_dim

    def embedding(self, time: Tensor, condition: Tensor) -> Tensor:
        return torch.cat((time, condition.to(time.dtype)), dim=-1)


@CONDITIONING.register("cross_attention")
class CrossAttention(Conditioning):
    """Tokens made of the condition, to which every level's pixels attend (as IP-Adapter's, Ye et al. 2023)."""

    class Options(Section):
        """Number of tokens."""

        tokens: PositiveInt = 8
        """Number of tokens made of the embedding; attention to a single token would only add it."""

    def __init__(self, options: Options, time_dim: int, cond_dim: int) -> None:
        super().__init__(options, time_dim, cond_dim)
        self.token_dim = time_dim
        self.to_tokens = nn.Linear(cond_dim, options.tokens * time_dim)
        self.norm = nn.LayerNorm(time_dim)

    def embedding(self, time: Tensor, condition: Tensor) -> Tensor:
        return time

    def tokens(self, condition: Tensor) -> Tensor | None:
        tokens: Tensor = self.norm(self.to_tokens(condition).unflatten(-1, (-1, self.token_dim)))
        return tokens


@CONDITIONING.register("adaln")
class AdaLN(Conditioning):
    """Time plus condition scales and shifts both norms of a ResNet block and gates it: adaLN-zero (Peebles & Xie 2023)."""

    gated = True

    def __init__(self, options: Section, time_dim: int, cond_dim: int) -> None:
        super().__init__(options, time_dim, cond_dim)
        self.project = nn.Sequential(nn.Linear(cond_dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim))

    def embedding(self, time: Tensor, condition: Tensor) -> Tensor:
        embedding: Tensor = time + self.project(condition.to(time.dtype))
        return embedding


class TokenAttention(nn.Module):
    """Every pixel of x [B, C, D, H, W] attends to tokens [B, N, K]; adds nothing at the start."""

    def __init__(self, channels: int, token_dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(channels)
        self.to_q = nn.Linear(channels, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(token_dim, 2 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, channels, bias=False)
        nn.init.zeros_(self.to_out.weight)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        query = self.to_q(pixels).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.to_kv(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        output: Tensor = x + self.to_out(mixed).transpose(1, 2).view_as(x)
        return output
