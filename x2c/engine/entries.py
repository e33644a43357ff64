"""From the names and options of a config to its data sets and frozen networks, none of them loaded.

What an entry is, its registry does not know: here its family's type is given back. Importing this imports no family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from x2c.core.config import Config, DataSlot
from x2c.core.registry import AUTOENCODERS, DATASETS, ENCODERS, FEATURES, PERCEPTUAL

if TYPE_CHECKING:
    from x2c.data.data_set import DataSet
    from x2c.models.autoencoders.base import Autoencoder
    from x2c.models.encoders.base import Encoder
    from x2c.models.features import FeatureNetwork
    from x2c.models.perceptual import Perceptual


def data_set_of(slot: DataSlot) -> DataSet:
    """A data set of a config."""
    made: DataSet = DATASETS.get(slot.name)(slot.options)
    return made


def autoencoder_of(config: Config) -> Autoencoder:
    """The autoencoder between volumes and latents."""
    made: Autoencoder = AUTOENCODERS.get(config.autoencoder.name)(config.autoencoder.options)
    return made


def encoder_of(config: Config) -> Encoder:
    """The encoder of the X-ray."""
    made: Encoder = ENCODERS.get(config.encoder.name)(config.encoder.options)
    return made


def perceptual_of(config: Config) -> Perceptual:
    """The network of the metric LPIPS. Raises UserError where its weights cannot be had."""
    made: Perceptual = PERCEPTUAL.get(config.perceptual.name)(config.perceptual.options)
    return made


def features_of(config: Config) -> FeatureNetwork:
    """The network of the Fréchet and kernel distances. Raises UserError where its weights cannot be had."""
    made: FeatureNetwork = FEATURES.get(config.features.name)(config.features.options)
    return made
