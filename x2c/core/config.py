"""The typed configuration of a variant: every field that can change a result, and a few that cannot.

Fields are documented where they stand. Resolution (files, layers, command line) is in `x2c.core.resolve`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    model_serializer,
)

PositiveInts = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A block of fields; unknown keys are errors and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Slot(BaseModel):
    """A registry entry by name, with that entry's own options."""

    model_config = ConfigDict(frozen=True)

    name: str
    options: SerializeAsAny[Section]

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **self.options.model_dump(mode="json")}


class TermOptions(Section):
    """What every loss term has."""

    weight: NonNegativeFloat
    """λ, the factor of this term in the sum."""


class Loss(BaseModel):
    """A sum of registered terms; the name joins them: `l1_lpips` is `l1` plus `lpips`."""

    model_config = ConfigDict(frozen=True)

    name: str
    terms: dict[str, SerializeAsAny[TermOptions]]

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **{term: o.model_dump(mode="json") for term, o in self.terms.items()}}


class TableRow(Section):
    """Where a variant stands in a table of the paper."""

    section: str
    label: str
    note: str = ""
    """What the row lacks beside the paper's, shown under its label."""


class Resolution(Section):
    """Voxels of a volume, axes D H W."""

    depth: PositiveInt
    height: PositiveInt
    width: PositiveInt

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return self.depth, self.height, self.width


class Window(Section):
    """The HU range mapped to [-1, 1] for the model and [0, 1] for the metrics."""

    low_hu: float
    high_hu: float


class Denoiser(Section):
    """The pseudo-3D U-Net (FACTS.md, the model)."""

    dim: Annotated[int, Field(gt=0, multiple_of=8)]
    """Channels of the first level; group norm takes them in eights."""
    dim_mults: PositiveInts
    """Channels of each level as multiples of `dim`; every level but the last halves height and width."""
    attn_heads: PositiveInt
    attn_dim_head: Annotated[int, Field(gt=0, multiple_of=2)]
    """Channels per head of the temporal attention."""
    gradient_checkpointing: bool
    """Recompute activations in the backward pass: less memory, the same numbers."""


class Diffusion(Section):
    """The forward process and how losses on the predicted clean latents are weighted over it."""

    num_train_timesteps: PositiveInt
    max_beta: Annotated[float, Field(gt=0, lt=1)]
    """The cosine schedule's β is clipped here; the paper's code has .9999."""
    x0_weight: Literal["alpha_bar", "uniform"]
    """Weight of a loss on the predicted x0 at timestep t: `alpha_bar` is ᾱ_t = SNR/(1+SNR), which cancels the factor
    1/√ᾱ by which ε-prediction would blow up at low SNR; `uniform` is 1 and refused with ε-prediction."""


class EMA(Section):
    """Exponential moving average of the denoiser's weights."""

    decay: Annotated[float, Field(ge=0, lt=1)]
    """Upper bound; after k updates the decay in force is min(decay, (1+k)/(10+k))."""


class Training(Section):
    """One stage of optimisation."""

    steps: PositiveInt
    """Optimizer steps."""
    batch_size: PositiveInt
    """Volumes per micro-step, over all processes: how many there are does not change a result."""
    accumulation: PositiveInt
    """Micro-steps per optimizer step."""
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    clip_norm: PositiveFloat
    mixed_precision: Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(lambda v: "no" if v is False else v)]
    """YAML reads a bare `no` as false."""
    ema: EMA
    validate_every: PositiveInt
    checkpoint_every: PositiveInt


class Evaluation(Section):
    """How a trained model is scored."""

    batch_size: PositiveInt
    """Volumes sampled at once; does not change a volume, which is seeded by its patient."""
    pictures: PositiveInt
    """Test patients whose volumes are kept for figures and trackers."""


class Compute(Section):
    """What may differ between two runs of the same result; not part of a run's identity."""

    threads: Annotated[int, Field(ge=0)]
    """Torch threads per process; 0 leaves the choice to torch. Fixed at the CPU scales so that reruns are bit-exact."""
    workers: PositiveInt
    """Sweep workers, where --workers does not say."""
    cpu: bool
    """Stay on the CPU even where there is a GPU."""
    tracker: tuple[str, ...]
    """Trackers Accelerate knows: wandb, tensorboard, trackio, mlflow, ..."""
    project: str
    """The trackers' project name."""
    runs: str
    """Folder of the run directories."""
    cache: str
    """Folder of everything computed once: data sets, latents, embeddings, stand-in weights."""


class Config(Section):
    """A resolved variant."""

    variant: str
    scale: str
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    table2: TableRow | None = None
    dataset: Slot
    resolution: Resolution
    window: Window
    autoencoder: Slot
    encoder: Slot
    denoiser: Denoiser
    diffusion: Diffusion
    prediction: Slot
    sampler: Slot
    loss: Loss
    training: Training
    perceptual: Slot
    """The network behind the metric LPIPS (the loss term has its own)."""
    features: Slot
    """The network behind the Fréchet and kernel distances."""
    evaluation: Evaluation
    compute: Compute


def identity(config: Config) -> dict[str, Any]:
    """The part of a config that can change a result: what run ids are hashed from."""
    dump = config.model_dump(mode="json", exclude={"compute", "table2", "variant"})
    dump["denoiser"].pop("gradient_checkpointing")
    dump["evaluation"].pop("batch_size")
    return dump
