"""Look up a config's data sets and frozen networks by name and options; none of them is loaded.

A registry does not know the type of its entries; these functions return the family's type. No family is imported.
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
    """Return a data set of a config."""
    made: DataSet = DATASETS.get(slot.name)(slot.options)
    return made


def autoencoder_of(config: Config) -> Autoencoder:
    """Return the autoencoder between volumes and latents."""
    made: Autoencoder = AUTOENCODERS.get(config.autoencoder.name)(config.autoencoder.options)
    return made


def encoder_of(config: Config) -> Encoder:
    """Return the encoder of the X-ray."""
    made: Encoder = ENCODERS.get(config.encoder.name)(config.encoder.options)
    return made


def perceptual_of(config: Config) -> Perceptual:
    """Return the network of the metric LPIPS. Raises UserError if its weights cannot be found."""
    made: Perceptual = PERCEPTUAL.get(config.perceptual.name)(config.perceptual.options)
    return made


def features_of(config: Config) -> FeatureNetwork:
    """Return the network of the Fréchet and kernel distances. Raises UserError if its weights cannot be found."""
    made: FeatureNetwork = FEATURES.get(config.features.name)(config.features.options)
    return made
