"""W&B's own judgement of a sweep file, by the schema of its package `sweeps` (wandb_schema/SOURCE.md)."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft7Validator, FormatChecker

FORMATS = FormatChecker(formats=())


# As that package defines them: a whole number with a point is a float to W&B.
@FORMATS.checks("float")
def _is_float(value):
    return isinstance(value, float)


@FORMATS.checks("integer")
def _is_integer(value):
    return isinstance(value, int)


SCHEMA = json.loads((Path(__file__).parent / "wandb_schema/schema.json").read_text())
VALIDATOR = Draft7Validator(SCHEMA, format_checker=FORMATS)


def violations(sweep):
    """What W&B's schema objects to, as `path: message`."""
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in VALIDATOR.iter_errors(sweep)]
