"""The paper's pseudo-3D U-Net (Medical Diffusion's, after Video Diffusion, Ho et al. 2022).

Convolutions see one slice at a time; depth is never downsampled and mixes only in the temporal attention.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from x2c.models.attention import Attention, RelativePositionBias, RotaryPositions, SpatialLinearAttention
from x2c.models.conditioning import Concat, Conditioning, TokenAttention

SPATIAL_DIM_HEAD = 32
NORM_GROUPS = 8


class Block(nn.Module):
    """Convolution, group norm, optional scale and shift, SiLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels_in, channels_out, (1, 3, 3), padding=(0, 1, 1))
        self.norm = nn.GroupNorm(NORM_GROUPS, channels_out)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = self.norm(self.proj(x))
        if scale_shift is not None:
            scale, shift = scale_shift
            x = torch.addcmul(shift, x, scale + 1)
        return nn.functional.silu(x)


class ResnetBlock(nn.Module):
    """Two blocks and a skip; the first is scaled and shifted by the embedding of time and condition.

    Gated, both are, and what they add to the skip starts at nothing.
    """

    def __init__(self, channels_in: int, channels_out: int, embedding_dim: int | None, *, gated: bool = False) -> None:
        super().__init__()
        self.gated = gated
        self.to_scale_shift = nn.Linear(embedding_dim, (5 if gated else 2) * channels_out) if embedding_dim else None
        if gated and self.to_scale_shift is not None:
            nn.init.zeros_(self.to_scale_shift.weight)
            nn.init.zeros_(self.to_scale_shift.bias)
        self.block1 = Block(channels_in, channels_out)
        self.block2 = Block(channels_out, channels_out)
        self.skip = nn.Conv3d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        if self.to_scale_shift is None or embedding is None:
            plain: Tensor = self.block2(self.block1(x)) + self.skip(x)
            return plain
        modulation = self.to_scale_shift(nn.functional.silu(embedding))[:, :, None, None, None]
        if not self.gated:
            scale, shift = modulation.chunk(2, dim=1)
            modulated: Tensor = self.block2(self.block1(x, (scale, shift))) + self.skip(x)
            return modulated
        scale1, shift1, scale2, shift2, gate = modulation.chunk(5, dim=1)
        output: Tensor = gate * self.block2(self.block1(x, (scale1, shift1)), (scale2, shift2)) + self.skip(x)
        return output


class Level(nn.Module):
    """Two ResNet blocks, spatial and temporal attention at one resolution, then a resampling to the next."""

    def __init__(
        self,
        resnet1: ResnetBlock,
        resnet2: ResnetBlock,
        spatial: SpatialLinearAttention,
        tokens: TokenAttention | None,
        temporal: Attention,
        resample: nn.Module,
    ) -> None:
        super().__init__()
        self.resnet1, self.resnet2 = resnet1, resnet2
        self.spatial_attention = spatial
        self.token_attention = tokens
        self.temporal_attention = temporal
        self.resample = resample

    def forward(self, x: Tensor, embedding: Tensor, bias: Tensor, tokens: Tensor | None) -> Tensor:
        """Return the level's features before resampling."""
        x = self.spatial_attention(self.resnet2(self.resnet1(x, embedding), embedding))
        if self.token_attention is not None and tokens is not None:
            x = self.token_attention(x, tokens)
        return self.temporal_attention.temporal(x, bias)


class UNet3D(nn.Module):
    """Predicts [B, C, D, H, W] from noisy latents, timesteps and a condition vector.

    H and W must be divisible by 2^(levels - 1). A learned null vector stands in where there is no condition, and for
    the samples that `drop_condition` marks. `condition_inputs` is the condition's width where it is first projected to
    `cond_dim`; `labels` is the number of label embeddings, which start at zero and are added to the condition;
    `conditioning(time_dim, cond_dim)` makes the way the condition enters, by default the paper's.
    """

    def __init__(
        self,
        dim: int,
        dim_mults: Sequence[int],
        channels: int,
        cond_dim: int,
        attn_heads: int,
        attn_dim_head: int,
        *,
        condition_inputs: int | None = None,
        labels: int = 0,
        conditioning: Callable[[int, int], Conditioning] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.reduction = 2 ** (len(dim_mults) - 1)
        self.gradient_checkpointing = gradient_checkpointing
        widths = [dim, *(dim * mult for mult in dim_mults)]
        time_dim = 4 * dim
        self.conditioning = (
            conditioning(time_dim, cond_dim) if conditioning else Concat(Concat.Options(), time_dim, cond_dim)
        )
        embedding_dim, gated = self.conditioning.embedding_dim, self.conditioning.gated

        self.rotary = RotaryPositions(min(32, attn_dim_head))
        self.depth_bias = RelativePositionBias(attn_heads)

        def temporal(width: int) -> Attention:
            return Attention(width, attn_heads, attn_dim_head, self.rotary)

        def resnet(width_in: int, width_out: int) -> ResnetBlock:
            return ResnetBlock(width_in, width_out, embedding_dim, gated=gated)

        def tokens(width: int) -> TokenAttention | None:
            dim = self.conditioning.token_dim
            return TokenAttention(width, dim, attn_heads, attn_dim_head) if dim else None

        def level(width_in: int, width_out: int, resample: nn.Module) -> Level:
            linear = SpatialLinearAttention(width_out, attn_heads, SPATIAL_DIM_HEAD)
            first, second = resnet(width_in, width_out), resnet(width_out, width_out)
            return Level(first, second, linear, tokens(width_out), temporal(width_out), resample)

        self.stem = nn.Conv3d(channels, dim, (1, 7, 7), padding=(0, 3, 3))
        self.stem_attention = temporal(dim)
        self.time_mlp = nn.Sequential(nn.Linear(dim, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim))
        self.null_condition = nn.Parameter(torch.randn(1, cond_dim))
        self.condition_projection = nn.Linear(condition_inputs, cond_dim) if condition_inputs else nn.Identity()
        self.label_embedding = nn.Embedding(labels, cond_dim) if labels else None
        if self.label_embedding is not None:
            nn.init.zeros_(self.label_embedding.weight)

        pairs = list(itertools.pairwise(widths))
        last = len(pairs) - 1
        self.downs = nn.ModuleList(
            level(w_in, w_out, _downsample(w_out) if i < last else nn.Identity())
            for i, (w_in, w_out) in enumerate(pairs)
        )
        self.middle1 = resnet(widths[-1], widths[-1])
        self.middle_spatial = Attention(widths[-1], attn_heads, SPATIAL_DIM_HEAD)
        self.middle_temporal = temporal(widths[-1])
        self.middle2 = resnet(widths[-1], widths[-1])
        self.ups = nn.ModuleList(
            level(2 * w_out, w_in, _upsample(w_in) if i < last else nn.Identity())
            for i, (w_in, w_out) in enumerate(reversed(pairs))
        )
        self.head = ResnetBlock(2 * dim, dim, None)
        self.to_out = nn.Conv3d(dim, channels, 1)

    def forward(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        condition: Tensor | None,
        drop_condition: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """noisy_latents [B, C, D, H, W], timesteps [B], condition [B, K], drop_condition bool [B] -> [B, C, D, H, W].

        Without a condition every sample gets the null condition. labels [B] are indices of the label embeddings.
        """
        if noisy_latents.shape[-1] % self.reduction or noisy_latents.shape[-2] % self.reduction:
            raise ValueError(
                f"noisy_latents: height and width must be divisible by {self.reduction}; got {tuple(noisy_latents.shape)}"
            )
        vector = self._condition(condition, drop_condition, len(noisy_latents))
        if labels is not None and self.label_embedding is not None:
            vector = vector + self.label_embedding(labels)
        time = self.time_mlp(_sinusoids(timesteps, self.dim).to(noisy_latents.dtype))
        embedding, tokens = self.conditioning.embedding(time, vector), self.conditioning.tokens(vector)
        bias = self.depth_bias(noisy_latents.shape[2])

        stem = self.stem(noisy_latents)
        x = self.stem_attention.temporal(stem, bias)
        skips: list[Tensor] = []
        for down in self.downs:
            assert isinstance(down, Level)
            x = self._run(down, x, embedding, bias, tokens)
            skips.append(x)
            x = down.resample(x)
        x = self._run(self.middle1, x, embedding)
        x = self.middle_temporal.temporal(self.middle_spatial.spatial(x), bias)
        x = self._run(self.middle2, x, embedding)
        for up in self.ups:
            assert isinstance(up, Level)
            x = up.resample(self._run(up, torch.cat((x, skips.pop()), dim=1), embedding, bias, tokens))
        output: Tensor = self.to_out(self.head(torch.cat((x, stem), dim=1)))
        return output

    def _condition(self, condition: Tensor | None, drop: Tensor | None, batch: int) -> Tensor:
        """Return the condition vector [B, cond_dim], null where it is absent or dropped."""
        if condition is None:
            return self.null_condition.expand(batch, -1)
        projected = self.condition_projection(condition)
        return projected if drop is None else torch.where(drop[:, None], self.null_condition, projected)

    def _run(self, block: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)


def _downsample(channels: int) -> nn.Module:
    return nn.Conv3d(channels, channels, (1, 4, 4), (1, 2, 2), (0, 1, 1))


def _upsample(channels: int) -> nn.Module:
    return nn.ConvTranspose3d(channels, channels, (1, 4, 4), (1, 2, 2), (0, 1, 1))


def _sinusoids(timesteps: Tensor, channels: int) -> Tensor:
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, device=timesteps.device) * -(math.log(10000) / (half - 1)))
    angles = timesteps[:, None].float() * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


_RENAMES = (
    (r"^init_conv\.", "stem."),
    (r"^init_temporal_attn\.", "stem_attention."),
    (r"^time_rel_pos_bias\.relative_attention_bias\.", "depth_bias.embedding."),
    (r"^time_mlp\.1\.", "time_mlp.0."),
    (r"^time_mlp\.3\.", "time_mlp.2."),
    (r"^null_cond_emb$", "null_condition"),
    (r"^mid_block(\d)\.", r"middle\1."),
    (r"^mid_(spatial|temporal)_attn\.", r"middle_\1."),
    (r"^(downs|ups)\.(\d+)\.0\.", r"\1.\2.resnet1."),
    (r"^(downs|ups)\.(\d+)\.1\.", r"\1.\2.resnet2."),
    (r"^(downs|ups)\.(\d+)\.2\.", r"\1.\2.spatial_attention."),
    (r"^(downs|ups)\.(\d+)\.3\.", r"\1.\2.temporal_attention."),
    (r"^(downs|ups)\.(\d+)\.4\.", r"\1.\2.resample."),
    (r"^final_conv\.0\.", "head."),
    (r"^final_conv\.1\.", "to_out."),
    (r"\.mlp\.1\.", ".to_scale_shift."),
    (r"\.res_conv\.", ".skip."),
    (r"\.(?:fn\.)+norm\.gamma$", ".norm.gain"),
    (r"\.(?:fn\.)+(to_qkv|to_out)\.", r".\1."),
)


def convert_reference_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a public checkpoint's denoiser weights under the names of `UNet3D`.

    Raises ValueError if the levels disagree on the rotary frequencies, which the public code shares.
    """
    converted: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith("rotary_emb.freqs"):
            known = converted.setdefault("rotary.frequencies", value)
            if not torch.equal(known, value):
                raise ValueError(f"{name}: expected the same rotary frequencies at every level; they differ")
            continue
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        converted[name] = value.flatten() if name.endswith("norm.gain") else value
    return converted
