"""TorchXRayVision's DenseNet-121, trained on seven chest X-ray data sets (Cohen et al. 2022)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from x2c.core.config import Section
from x2c.core.registry import ENCODERS
from x2c.core.weights import local_copy, source_fingerprint
from x2c.models.encoders.base import Encoder
from x2c.models.pretrained import expecting, read_state

IMAGE_SIZE = 224
EXPORT = (
    "the release is a pickled module, which is code and not loaded here; where torchxrayvision is installed, export "
    'its tensors: python -c "import torch, torchxrayvision as xrv; '
    "torch.save(xrv.models.DenseNet(weights='densenet121-res224-all').state_dict(), 'torchxrayvision.pt')\""
)


@ENCODERS.register("torchxrayvision")
class TorchXRayVision(Encoder):
    """The pooled features before the classifier of `densenet121-res224-all`: 1024 dimensions, not normalised.

    The network is torchvision's DenseNet-121 with one input channel, which has the same layers under the same names.
    The package itself would silence every warning of the process that imports it.
    """

    dimension = 1024

    class Options(Section):
        """Source of the weights."""

        source: str = ""
        """File with the state dict (.pt or .safetensors) of torchxrayvision's DenseNet."""

    options: Options

    def __init__(self, options: Options) -> None:
        self.options = options

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the embeddings depend on besides the radiographs."""
        return {"name": "torchxrayvision", "source": source_fingerprint(self.options.source, "torchxrayvision")}

    def build(self) -> nn.Module:
        """Return the network without its classifier."""
        from torchvision.models import densenet121

        path = local_copy("torchxrayvision", self.options.source)
        with expecting("torchxrayvision", path, EXPORT):
            # Thresholds of the classifier, which is not used here.
            state = {name: value for name, value in read_state(path).items() if name != "op_threshs"}
            network = densenet121(weights=None, num_classes=state["classifier.bias"].shape[0])
            network.features.conv0 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
            network.load_state_dict(state, strict=True)
        network.classifier = nn.Identity()
        whole: nn.Module = network
        return whole

    def embed(self, radiographs: Tensor) -> Tensor:
        """Embed the central square of radiographs [B, h, w] in [0, 1], as 224² in [-1024, 1024], to [B, 1024]."""
        height, width = radiographs.shape[-2:]
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        square = radiographs[:, None, top : top + edge, left : left + edge]
        images = F.interpolate(square, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)
        embeddings: Tensor = self.network((2 * images - 1) * 1024)
        return embeddings
