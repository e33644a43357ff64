"""The typed configuration of a variant: the fields that can change a result, and `compute`, which cannot.

Each field's documentation is the text below it. Resolution (files, layers, command line) is in `x2c.core.resolve`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

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
from x2c.core.slot import Slot as Slot

PositiveInts = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
DATA_ROLES = ("dataset", "pretraining", "finetuning")
"""The data sets that a variant's stages are trained on."""
PUBLISHED_HEIGHT = 256
"""The image height at which the authors' width rule gives `denoiser.dim`."""


class TermOptions(Section):
    """Options that every loss term has."""

    weight: NonNegativeFloat
    """Weight λ of this term in the sum of the loss."""


class Loss(BaseModel):
    """A sum of registered terms; the name joins them: `l1_lpips` is `l1` plus `lpips`."""

    model_config = ConfigDict(frozen=True)

    name: str
    terms: dict[str, SerializeAsAny[TermOptions]]

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **{term: o.model_dump(mode="json") for term, o in self.terms.items()}}


class TableRow(Section):
    """The place of a variant in a table of the paper."""

    section: str
    """Section of the paper's Table 2 that contains the row."""
    label: str
    """Name of the row in tables and figures."""
    note: str = ""
    """Remark printed below the row's name, such as what the row lacks compared with the paper's. Empty: no remark."""


class Resolution(Section):
    """The sample size, named as the paper names it and made smaller by a scale."""

    size: str
    """Height, width and depth in voxels as published, such as `256x256x64`."""
    reduction: PositiveInt
    """Divisor of all three axes: with 4, `256x256x64` becomes 64×64×16."""

    @field_validator("size")
    @classmethod
    def _is_a_size(cls, size: str) -> str:
        if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", size):
            raise ValueError("expected height, width and depth joined by x, such as 256x256x64")
        return size

    @model_validator(mode="after")
    def _divides(self) -> Resolution:
        if any(voxels % self.reduction for voxels in self._published):
            raise ValueError(f"every axis of {self.size} must be divisible by reduction {self.reduction}")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (D, H, W)."""
        height, width, depth = (voxels // self.reduction for voxels in self._published)
        return depth, height, width

    @property
    def _published(self) -> tuple[int, int, int]:
        height, width, depth = map(int, self.size.split("x"))
        return height, width, depth


WINDOWS_HU = {"ctpa": (-100.0, 900.0), "ctpa_narrow": (-200.0, 500.0), "lidc": (-1200.0, 600.0)}
"""HU windows by name: the paper's, the one in some of the authors' scripts, and LIDC's."""


class Window(Section):
    """The HU range mapped to [-1, 1] for the model and [0, 1] for the metrics; a file may give a name of WINDOWS_HU."""

    low_hu: float = -100.0
    """HU that is mapped to −1 for the model and to 0 for the metrics; lower values are clipped."""
    high_hu: float = 900.0
    """HU that is mapped to 1 for the model and for the metrics; higher values are clipped."""

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
    """Options that every data set has."""

    window: Window = Window()
    """HU window of the volumes: `{low_hu: -100, high_hu: 900}`, or the name of one: ctpa, ctpa_narrow, lidc."""
    flip: bool = False
    """Whether training also uses a mirrored copy of every pair: volume and radiograph with left and right exchanged."""
    radiographs: Literal["xray", "drr"] = "xray"
    """`xray`: the patients' real radiographs. `drr`: projections of their volumes, which differ between data sets: of
    phantom and atlas they are postero-anterior, in a field of view fitted to the volume
    (`x2c.data.radiograph.fitted_drr`); of prepared data antero-posterior, on the paper's detector of fixed size
    (`x2c.data.drr.render_drr`)."""
    fold: Annotated[str, Field(pattern=r"^([1-9]\d*/[1-9]\d*)?$")] = ""
    """Cross-validation fold as K/N: with `2/6` the second of six stratified folds is tested and the third validates, in
    place of the data set's own splits (x2c.data.folds). Empty: the data set's own splits."""

    @field_validator("fold")
    @classmethod
    def _is_a_fold(cls, fold: str) -> str:
        number, count = map(int, fold.split("/")) if fold else (1, 3)
        if number > count or count < 3:
            raise ValueError(f"expected K/N with K up to N and N at least 3; got {fold}")
        return fold


class GuidanceOptions(Section):
    """Options that every guidance has."""

    sampling_only: ClassVar[frozenset[str]] = frozenset()
    """Names of options that do not change the training; stages are shared across their values."""


@runtime_checkable
class LabelOptions(Protocol):
    """Options of a guidance by label."""

    @property
    def given(self) -> str:
        """The label to sample with."""


class SamplerOptions(Section):
    """Options that every sampler has."""

    steps: PositiveInt
    """Sampling steps, each a call of the denoiser (diffusers' `num_inference_steps`)."""


# Named here so that a config can be pickled: the class of a slot is found by its name in this module.
AnySlot = Slot[Section]
DataSlot = Slot[DataOptions]
GuidanceSlot = Slot[GuidanceOptions]
SamplerSlot = Slot[SamplerOptions]


class Stage(Section):
    """One stretch of training. It starts from the averaged weights of the stage before."""

    data: Literal["dataset", "pretraining", "finetuning"]
    """Data set of the stage: `dataset`, `pretraining` or `finetuning` of this configuration."""
    condition: Literal["none", "drr", "xray"]
    """Condition given to the denoiser: `none` (the learned null condition), or the radiographs of that kind."""
    learning_rate: PositiveFloat
    """Learning rate of AdamW at the beginning of the stage; it falls to zero over the stage on a cosine."""
    steps: PositiveInt
    """Number of optimizer steps."""
    loss: Annotated[str, Field(pattern=r"^[^_\s]+(_[^_\s]+)*$")] = "l1"
    """`l1`: L1 alone, so that rows with other losses share the stage. `variant`: the loss of the variant. Or the names of
    some of the variant's terms, joined as in a loss, such as `l1_lpips`."""
    lora_rank: NonNegativeInt = 0
    """Rank of the adapters (LoRA) that are trained on the denoiser's linear layers, and nothing else; 0 trains all
    weights."""


class Stages(BaseModel):
    """The stages of a variant's training, in their order."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    start: str
    """File with weights to start from before the first stage: a denoiser's .safetensors, or a public checkpoint (.pt).
    Empty: weights are drawn from the seed."""
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
    """Scaling of the autoencoder's latents for the denoiser."""

    scaling: Literal["standard", "min_max", "codebook"]
    """Scaling of the latents for the denoiser. `standard`: per channel to mean 0 and SD 1. `min_max`: the data set's
    extremes to ±1, as in the paper's code; of unit latents this leaves an SD of about .09, which shifts the
    schedule's SNR. `codebook`: a VQ-GAN's code range to ±1."""


class Embeddings(Section):
    """Scaling of the encoder's embeddings for the denoiser."""

    scaling: Literal["standard", "none"] = "standard"
    """Scaling of embeddings. `standard`: per dimension to mean 0 and SD 1 over the training patients of each data set, projections (DRRs) and
    radiographs apart. `none`: as the encoder gives them, of length 1 where it is BiomedCLIP, as in the paper's code."""


class Denoiser(Section):
    """The paper's pseudo-3D U-Net, which its public code has from Medical Diffusion (Khader et al. 2022)."""

    dim: Annotated[int, Field(gt=0, multiple_of=8)]
    """Channels of the first level; a multiple of 8, the groups of group norm."""
    dim_mults: PositiveInts
    """Channels of each level as multiples of `dim`; every level but the last halves height and width."""
    attn_heads: PositiveInt
    """Heads of the spatial and of the temporal attention."""
    attn_dim_head: Annotated[int, Field(gt=0, multiple_of=2)]
    """Channels of each attention head."""
    width: Literal["fixed", "latent_size"]
    """Rule for the first level's channels. `fixed`: `dim` at every sample size. `latent_size`: the authors' rule, `dim`
    times image height over 256."""
    gradient_checkpointing: bool
    """Whether activations are recomputed in the backward pass: less memory and more time, with the same numbers."""


class Diffusion(Section):
    """The forward process and how losses on the predicted clean latents are weighted over it."""

    num_train_timesteps: PositiveInt
    """Number of timesteps of the forward process."""
    max_beta: Annotated[float, Field(gt=0, lt=1)]
    """Upper bound of β in the cosine schedule."""
    x0_weight: Literal["alpha_bar", "uniform"]
    """Weight over timesteps t of losses on the predicted x0. `alpha_bar`: ᾱ_t = SNR/(1+SNR), which cancels the factor
    1/√ᾱ by which ε-prediction would blow up at low SNR. `uniform`: 1, which is refused with ε-prediction."""


class EMA(Section):
    """Exponential moving average of the denoiser's weights."""

    later = frozenset({"every", "after"})
    decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the average: its share in an update; the weights have the rest."""
    every: PositiveInt = 1
    """Optimizer steps from one update to the next."""
    after: NonNegativeInt = 0
    """Optimizer steps before the first update: until then the average is the weights as they are, and from then on `decay`
    holds. With 0 the first `every` steps are updates, and the decay grows: after k of them it is min(decay, (1+k)/(10+k))."""


class Training(Section):
    """Optimisation, alike in all stages."""

    batch_size: PositiveInt
    """Volumes of a micro-step over all processes; the number of processes does not change a result."""
    accumulation: PositiveInt
    """Micro-steps whose gradients are averaged for one optimizer step."""
    weight_decay: NonNegativeFloat
    """Weight decay of AdamW."""
    clip_norm: PositiveFloat
    """Norm to which the gradients of an optimizer step are clipped."""
    mixed_precision: Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(lambda v: "no" if v is False else v)]
    """Arithmetic of the forward pass: `no` (float32), `fp16` or `bf16`. YAML reads a bare `no` as false, which means
    the same."""
    ema: EMA
    """Exponential moving average of the weights, which is what is validated, sampled from and kept."""
    validate_every: PositiveInt
    """Optimizer steps between two validations."""
    checkpoint_every: PositiveInt
    """Optimizer steps between two checkpoints, from which an interrupted run resumes."""


class Evaluation(Section):
    """Scoring of a trained model."""

    batch_size: PositiveInt
    """Volumes that are sampled at once; it does not change a volume, whose noise is seeded by its patient."""
    pictures: PositiveInt
    """Test patients whose volumes are kept for figures."""
    samples: PositiveInt
    """Volumes per test patient, each from its own draw of noise. The first is scored as ever; the spread of all has
    columns of its own."""


class Config(Section):
    """A resolved variant."""

    later = frozenset({"embeddings"})
    variant: str
    """Name of a file of experiments/."""
    scale: str
    """Name of a file of experiments/scales/."""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)]
    """Seed of weights, noise and order."""
    table2: TableRow | None = None
    """Place of the variant in the paper's Table 2."""
    dataset: DataSlot
    """Paired data set that the model is for; the autoencoder's stand-in and the classifier are trained on it too."""
    pretraining: DataSlot | None = None
    """Data set of the pretraining stages, in the place of the paper's RSPECT."""
    finetuning: DataSlot | None = None
    """Data set of the fine-tuning stage, in the place of the paper's LIDC-IDRI."""
    resolution: Resolution
    """Sample size."""
    autoencoder: AnySlot
    """Frozen autoencoder between volumes and latents."""
    latents: Latents
    """Scaling of the latents."""
    encoder: AnySlot
    """Frozen encoder of the X-ray."""
    embeddings: Embeddings = Embeddings()
    """Scaling of the encoder's embeddings."""
    denoiser: Denoiser
    """Pseudo-3D U-Net."""
    conditioning: AnySlot
    """Way in which the X-ray's embedding enters the denoiser."""
    guidance: GuidanceSlot
    """Classifier-free guidance."""
    stages: Stages
    """Training stages."""
    diffusion: Diffusion
    """Forward process."""
    prediction: AnySlot
    """Quantity that the denoiser predicts."""
    sampler: SamplerSlot
    """Sampler of the reverse process."""
    loss: Loss
    """Terms of the training loss."""
    training: Training
    """Optimisation, alike in all stages."""
    perceptual: AnySlot
    """Network of the metric LPIPS; the loss term has its own."""
    features: AnySlot
    """Network of the Fréchet and kernel distances."""
    evaluation: Evaluation
    """Scoring of a trained model."""
    compute: Compute
    """Place and resources of the run; nothing of it changes a result."""

    def data(self, role: str) -> DataSlot:
        """The data set in a role: `dataset`, `pretraining` or `finetuning`."""
        slot = {"dataset": self.dataset, "pretraining": self.pretraining, "finetuning": self.finetuning}[role]
        assert slot is not None
        return slot

    @property
    def slots(self) -> dict[str, AnySlot]:
        """All slots that are filled, by name."""
        return {name: slot for name, slot in self if isinstance(slot, Slot)}

    @property
    def given_label(self) -> str | None:
        """The label that is sampled with; None where guidance is not by label."""
        options = self.guidance.options
        return options.given if isinstance(options, LabelOptions) else None

    @property
    def evaluated(self) -> DataSlot:
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
