"""The typed configuration of a variant: every field that can change a result, and a few that cannot.

Fields are documented where they stand. Resolution (files, layers, command line) is in `x2c.core.resolve`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    field_validator,
    model_serializer,
    model_validator,
)

from x2c.core.compute import Compute as Compute
from x2c.core.errors import unknown
from x2c.core.section import Section as Section
from x2c.core.seeding import LARGEST_SEED
from x2c.core.weights import needed, source_fingerprint

PositiveInts = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
DATA_ROLES = ("dataset", "pretraining", "finetuning")
"""The data sets that a variant's stages are trained on."""
PUBLISHED_HEIGHT = 256
"""The image height at which the authors' width rule gives `denoiser.dim`."""


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
    """The sample size, named as the paper names it and made smaller by a scale."""

    size: Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*x[1-9]\d*$")]
    """Height, width and depth in voxels as published, such as `256x256x64`."""
    reduction: PositiveInt
    """Every axis is divided by this."""

    @model_validator(mode="after")
    def _divides(self) -> Resolution:
        if any(voxels % self.reduction for voxels in self._published):
            raise ValueError(f"every axis of {self.size} must be divisible by reduction {self.reduction}")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        height, width, depth = (voxels // self.reduction for voxels in self._published)
        return depth, height, width

    @property
    def _published(self) -> tuple[int, int, int]:
        height, width, depth = map(int, self.size.split("x"))
        return height, width, depth


WINDOWS_HU = {"ctpa": (-100.0, 900.0), "ctpa_narrow": (-200.0, 500.0), "lidc": (-1200.0, 600.0)}
"""By name: the paper's, the one in some of the authors' scripts, and LIDC's."""


class Window(Section):
    """The HU range mapped to [-1, 1] for the model and [0, 1] for the metrics; in a file, a name of WINDOWS_HU will do."""

    low_hu: float = -100.0
    high_hu: float = 900.0

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in WINDOWS_HU:
            raise unknown("window", "window", value, WINDOWS_HU)
        return dict(zip(("low_hu", "high_hu"), WINDOWS_HU[value], strict=True))

    @model_validator(mode="after")
    def _is_a_range(self) -> Window:
        if self.low_hu >= self.high_hu:
            raise ValueError(f"low_hu must lie below high_hu; got {self.low_hu} and {self.high_hu}")
        return self


class DataOptions(Section):
    """What every data set has."""

    window: Window = Window()
    flip: bool = False
    """Train on every pair in a mirror as well: volume and radiograph with left and right exchanged."""
    radiographs: Literal["xray", "drr"] = "xray"
    """Real radiographs of the patients, or projections of their volumes. These differ: of phantom and atlas they are
    postero-anterior, in a field of view fitted to the volume (`x2c.data.radiograph.fitted_drr`); of prepared data
    antero-posterior, on the paper's detector of fixed size (`x2c.data.drr.render_drr`)."""
    fold: Annotated[str, Field(pattern=r"^([1-9]\d*/[1-9]\d*)?$")] = ""
    """`2/6`: in the place of the data set's own splits, the second of six stratified folds is tested and the third
    validates (x2c.data.folds). Empty: the own splits."""

    @field_validator("fold")
    @classmethod
    def _is_a_fold(cls, fold: str) -> str:
        number, count = map(int, fold.split("/")) if fold else (1, 3)
        if number > count or count < 3:
            raise ValueError(f"expected K/N with K up to N and N at least 3; got {fold}")
        return fold


class GuidanceOptions(Section):
    """What every guidance has."""

    sampling_only: ClassVar[frozenset[str]] = frozenset()
    """Options that do not change the training: stages are shared across them."""


class Stage(Section):
    """One stretch of training. It starts from the averaged weights of the stage before."""

    data: Literal["dataset", "pretraining", "finetuning"]
    """Which of the variant's data sets."""
    condition: Literal["none", "drr", "xray"]
    """What the denoiser is given: nothing (the learned null condition), or the radiographs of that kind."""
    learning_rate: PositiveFloat
    """Falls to zero over the stage on a cosine."""
    steps: PositiveInt
    """Optimizer steps."""
    loss: Annotated[str, Field(pattern=r"^[^_\s]+(_[^_\s]+)*$")] = "l1"
    """`l1`: L1 alone, so that rows with other losses share the stage; `variant`: the variant's loss; or the names of some
    of its terms, joined as in a loss, such as `l1_lpips`."""
    lora_rank: NonNegativeInt = 0
    """Train adapters of this rank on the denoiser's linear layers and nothing else; 0 trains all weights."""


class Stages(BaseModel):
    """The training of a variant, stage after stage."""

    model_config = ConfigDict(frozen=True)

    start: str
    """Weights before the first stage: a denoiser's .safetensors, or a public checkpoint (.pt); empty: drawn from the seed."""
    each: dict[str, Stage]

    @property
    def last(self) -> Stage:
        """The stage whose weights are scored, on its data set."""
        return list(self.each.values())[-1]

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        stages = {name: stage.model_dump(mode="json") for name, stage in self.each.items()}
        return {"start": self.start, "order": list(self.each), **stages}


class Latents(Section):
    """How the autoencoder's latents are scaled for the denoiser."""

    scaling: Literal["standard", "min_max", "codebook"]
    """`standard`: per channel to mean 0 and SD 1. `min_max`: the data set's extremes to ±1, as in the paper's code; of unit
    latents this leaves an SD of about .09, which shifts the schedule's SNR. `codebook`: a VQ-GAN's code range to ±1."""


class Embeddings(Section):
    """How the encoder's embeddings are scaled for the denoiser."""

    scaling: Literal["standard", "none"] = "standard"
    """`standard`: per dimension to mean 0 and SD 1 over the training patients of each data set, projections (DRRs) and
    radiographs apart. `none`: as the encoder gives them, of length 1 where it is BiomedCLIP, as in the paper's code."""


class Denoiser(Section):
    """The paper's pseudo-3D U-Net, which its public code has from Medical Diffusion (Khader et al. 2022)."""

    dim: Annotated[int, Field(gt=0, multiple_of=8)]
    """Channels of the first level; group norm takes them in eights."""
    dim_mults: PositiveInts
    """Channels of each level as multiples of `dim`; every level but the last halves height and width."""
    attn_heads: PositiveInt
    attn_dim_head: Annotated[int, Field(gt=0, multiple_of=2)]
    """Channels per head of the temporal attention."""
    width: Literal["fixed", "latent_size"]
    """`fixed`: `dim` at every sample size. `latent_size`: the authors' rule, `dim` times image height over 256."""
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

    later = frozenset({"every", "after"})
    decay: Annotated[float, Field(ge=0, lt=1)]
    """The average's share in an update; the weights have the rest."""
    every: PositiveInt = 1
    """Optimizer steps from one update to the next."""
    after: NonNegativeInt = 0
    """Optimizer steps before the first update: until then the average is the weights as they are, and from then on `decay`
    holds. With 0 the first `every` steps are updates, and the decay grows: after k of them it is min(decay, (1+k)/(10+k))."""


class Training(Section):
    """Optimisation, alike in all stages."""

    batch_size: PositiveInt
    """Volumes per micro-step, over all processes: how many there are does not change a result."""
    accumulation: PositiveInt
    """Micro-steps per optimizer step."""
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
    samples: PositiveInt
    """Volumes of each test patient, from as many draws of noise. The first is scored as ever; what the others say of the
    spread is in columns of their own."""


class Config(Section):
    """A resolved variant."""

    later = frozenset({"embeddings"})
    variant: str
    scale: str
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)]
    table2: TableRow | None = None
    dataset: Slot
    """The paired data the model is for; the autoencoder's stand-in and the classifier are trained on it."""
    pretraining: Slot | None = None
    finetuning: Slot | None = None
    """More data sets, where a stage uses them."""
    resolution: Resolution
    autoencoder: Slot
    latents: Latents
    encoder: Slot
    embeddings: Embeddings = Embeddings()
    denoiser: Denoiser
    conditioning: Slot
    """How the X-ray's embedding enters the denoiser."""
    guidance: Slot
    stages: Stages
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

    def data(self, role: str) -> Slot:
        """The data set in a role: `dataset`, `pretraining` or `finetuning`."""
        slot = getattr(self, role)
        assert isinstance(slot, Slot)
        return slot

    @property
    def evaluated(self) -> Slot:
        """The data set whose test patients are scored: the last stage's."""
        return self.data(self.stages.last.data)

    @property
    def denoiser_dim(self) -> int:
        """Channels of the denoiser's first level, after the rule of `denoiser.width`."""
        d, height = self.denoiser, self.resolution.shape[1] * self.resolution.reduction
        return d.dim if d.width == "fixed" else d.dim * height // PUBLISHED_HEIGHT

    def terms_of(self, stage: Stage) -> tuple[str, ...]:
        """The terms of the variant's loss that a stage is trained with; none where it is L1 alone."""
        if stage.loss == "l1":
            return ()
        return tuple(self.loss.terms) if stage.loss == "variant" else tuple(stage.loss.split("_"))

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages.each.values())


def identity(config: Config) -> dict[str, Any]:
    """The part of a config that can change a result: what run ids are hashed from. Weights count by their content."""
    dump = config.model_dump(mode="json", exclude={"compute", "table2", "variant"})
    dump["denoiser"].pop("gradient_checkpointing")
    dump["evaluation"].pop("batch_size")
    dump["encoder"].pop("instead_of", None)
    dump["loss"].pop("name")
    for role in DATA_ROLES:
        # Where a prepared data set lies; what it is, its fingerprint says.
        (dump[role] or {}).pop("folder", None)
    for when in ("validate_every", "checkpoint_every"):
        dump["training"].pop(when)
    dump["stages"]["start"] = config.stages.start and source_fingerprint(config.stages.start)
    for option, weights, value in needed(config):
        *sections, field = option.split(".")
        section = dump
        for name in sections:
            section = section[name]
        section[field] = source_fingerprint(value, weights.name)
    return dump
