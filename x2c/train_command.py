"""Train, sample and score one variant.

    accelerate launch x2c/train.py --variant full
    python x2c/train.py --variant=l1_lpips --seed=1 --loss.lpips.weight=0.02
    python x2c/train.py --variant full --scale paper --check

Rerun the same command to resume an interrupted run; it returns at once when the run is done. Ctrl-C (exit
code 130), SIGTERM and SIGUSR1 (75) let it write a checkpoint first.
Any field of the configuration can be given as --a.b=value: --help-config tells what each is, --check prints the
resolved configuration.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from x2c.core import agent, weights
from x2c.core.arguments import seed
from x2c.core.cli import Parser, add_config_options, choices_text, overrides_from
from x2c.core.config import Config
from x2c.core.console import logged
from x2c.core.resolve import resolve
from x2c.core.stopping import install_signal_handlers


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, resolve, run, and print the scores."""
    options, config = parse(sys.argv[1:] if argv is None else argv, agent.parameters(os.environ))
    if options.help_config is not None:
        from x2c.core.console import print_page
        from x2c.core.help_config import config_help

        print_page(config_help(config, options.help_config))
        return
    if options.check:
        show(config)
        weights.check(config)
        return
    install_signal_handlers()
    from x2c.engine.belonging import belonging
    from x2c.engine.experiment import run
    from x2c.engine.identity import run_directory
    from x2c.engine.profiling import profiled_training
    from x2c.engine.summary import print_scores

    path = run_directory(config).path
    profile = profiled_training(path / "profile") if options.profile else nullcontext()
    with belonging(), logged(path / "log.txt"):
        with profile:
            directory = run(config)
        print_scores(directory)


def parse(arguments: Sequence[str], given: Mapping[str, Any]) -> tuple[argparse.Namespace, Config]:
    """Return the options of a command line, and the config that it stands for.

    `given` are the parameters that W&B's agent chose, if one started this run. Raises UserError for a command line that
    is wrong or contradicts them.
    """
    parser = Parser(prog="train.py", description=__doc__, epilog=choices_text())
    parser.add_argument("--variant", default="", metavar="NAME", help="a file of experiments/")
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="seed of weights, noise and order (default: 0)"
    )
    add_config_options(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="print the resolved configuration and the denoiser's size, tell what weights are missing, run nothing",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="profile ten training steps: print the operations that take longest, write RUN/profile/trace.json",
    )
    parser.add_argument(
        "--help-config",
        nargs="?",
        const="",
        metavar="FIELD",
        help="print every field of the configuration, or those below FIELD, such as stages or loss.lpips; run nothing",
    )
    # W&B's agent adds it to a run that it resumes.
    parser.add_argument(f"--{agent.OWN}", help=argparse.SUPPRESS)
    agent.refuse_unsaid(given, arguments)
    options, overrides = parser.split(arguments)
    overrides = [text for text in overrides if not (given and text.endswith(f"={agent.LOCAL_PATH}"))]
    overrides = overrides_from(options, overrides)
    if options.help_config is not None and not options.variant:
        options.variant = "full"
    config = resolve(options.variant, options.scale, options.seed, overrides)
    agent.refuse_changed(given, options, overrides, config)
    return options, config


def show(config: Config) -> None:
    """Print a config and the size of its denoiser, which is built without memory."""
    import torch
    import yaml

    from x2c.engine.build import build_denoiser
    from x2c.models.frozen import parameter_count

    with torch.device("meta"):
        denoiser = build_denoiser(config)
    print(
        yaml.safe_dump(config.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True), end=""
    )
    print(f"# denoiser: {parameter_count(denoiser) / 1e6:.1f} M parameters")
