"""Pretrained weights: what each is for, where it comes from, and where it is on this machine.

    python -m x2c.weights               the table
    python -m x2c.weights --verify      hash what was found and compare; exit code 1 if anything differs
    python -m x2c.weights --record      list what is in X2C_WEIGHTS in its SHA256SUMS, and trust that from now on

A copy is looked for in this order:

    1. the path given by the asset's option, such as --autoencoder.source=FOLDER;
    2. the folder that the environment variable X2C_WEIGHTS names: X2C_WEIGHTS/kl_f8/ for what is a folder,
       X2C_WEIGHTS/i3d.pt (or .pth, .safetensors, .bin, .ckpt) for what is a file;
    3. the library's own cache (Hugging Face's, torch's);
    4. the network, for what is on the hub or torchvision's, unless HF_HUB_OFFLINE=1.

What lies in X2C_WEIGHTS or in a cache must have the digest that X2C_WEIGHTS/SHA256SUMS lists, or else the published
one. What an option names is taken as it is and told apart from others by its content. Only tensors are read, with one
exception: I3D is an archive of code, and is loaded only if its digest is the published one or listed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from x2c.core.script import begin

begin(__name__, "x2c.weights")

from x2c.core import hub
from x2c.core.cli import Parser
from x2c.core.digests import SUMS, read_sums, sha256, write_sums
from x2c.core.errors import UserError, exit_on_user_error
from x2c.core.weights import WEIGHTS, Weights, expectations, find, standing, weight_files, weights_folder

VOUCHED = {"published": "as published", "recorded": f"as in {SUMS}", "unknown": "nothing to compare with"}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, record or verify if asked, and print the table; returns the exit code."""
    parser = Parser(prog="python -m x2c.weights", description=__doc__)
    parser.add_argument("--verify", action="store_true", help="hash what was found and compare it")
    parser.add_argument("--record", action="store_true", help=f"write the digests of X2C_WEIGHTS to its {SUMS}")
    options = parser.parse_args(argv)
    if options.record:
        record()
    found = {name: find(name) for name in WEIGHTS}
    differing = verify(found) if options.verify else {}
    show(found, differing, verified=options.verify)
    wrong = [line for lines in differing.values() for line in lines]
    if options.verify:
        wrong += lost(found)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def record() -> None:
    """Write the digest of every asset's files in X2C_WEIGHTS to SHA256SUMS there; its other lines are kept."""
    root = weights_folder()
    if root is None:
        raise UserError("--record: expected X2C_WEIGHTS to name the folder of your weights; it is not set; set it")
    sums = read_sums(root)
    for name, weights in WEIGHTS.items():
        path = find(name)
        if path is None or not path.is_relative_to(root):
            continue
        digests = {
            str(file.relative_to(root)): sha256(file, fresh=True)
            for file in (weight_files(path) if path.is_dir() else [path])
        }
        changed = sum(sums.get(file) != digest for file, digest in digests.items())
        gone = [file for file in sums if (root / file).is_relative_to(path) and not (root / file).exists()]
        sums = {file: digest for file, digest in {**sums, **digests}.items() if file not in gone}
        foreign = weights.sha256 and standing(weights, path) != "published"
        print(
            f"{name}: {changed} of {len(digests)} digests are new{'; these are not the published ones' * bool(foreign)}"
        )
    write_sums(root, sums)
    print(f"wrote {root / SUMS}")


def verify(found: dict[str, Path | None]) -> dict[str, list[str]]:
    """Return, for each asset found, a line for each file whose digest, hashed again, is not the expected one."""
    differing: dict[str, list[str]] = {}
    for name, path in found.items():
        if path is None:
            continue
        lines = differing[name] = []
        for file, digests, where in expectations(WEIGHTS[name], path, published=True):
            came = sha256(file, fresh=True) if file.is_file() else "no such file"
            if came not in digests:
                lines.append(f"{file}: expected {' or '.join(digests)} ({where}); got {came}")
    return differing


def lost(found: dict[str, Path | None]) -> list[str]:
    """Return a line for each file that SHA256SUMS lists and that is gone together with its asset."""
    root = weights_folder()
    if root is None:
        return []
    gone = [root / name for name in read_sums(root) if not (root / name).exists()]
    kept = [path for path in found.values() if path]
    return [f"{file}: listed in {SUMS}; no such file" for file in gone if not any(map(file.is_relative_to, kept))]


def show(found: dict[str, Path | None], differing: dict[str, list[str]], *, verified: bool) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    # A pipe has no width of its own, and its reader needs whole paths.
    console = console if console.is_terminal else Console(width=1000)
    table = Table("asset", "source, licence, size, published SHA-256", "found, or how to provide it", show_lines=True)
    for name, weights in WEIGHTS.items():
        path = found[name]
        place = str(path) if path else how(weights)
        if path and verified:
            place += f"\n{'DIFFERS' if differing[name] else VOUCHED[standing(weights, path)]}"
        cells = (about(weights), place)
        # Paths and digests are wrapped at the end of the line, not truncated.
        table.add_row(Text(f"{name}\n{weights.purpose}", no_wrap=True), *(Text(c, overflow="fold") for c in cells))
    console.print(table)


def about(weights: Weights) -> str:
    """Describe an asset's source, licence, size and digests, shortened."""
    size = f"{weights.size_mb} MB" if weights.size_mb else "size not known"
    digests = [f"{digest[:12]}… {name}" for name, digest in weights.sha256.items()] or ["no digest published"]
    return "\n".join([weights.source, f"{weights.licence}, {size}", *digests])


def how(weights: Weights) -> str:
    """Describe how to provide an asset that is not there."""
    fetchable = weights.kind == "FOLDER" or weights.url
    state = "not found" if not fetchable or hub.offline() else "fetched when first used"
    return f"{state}\n--{weights.option}={weights.kind}\nX2C_WEIGHTS/{weights.place}"


if __name__ == "__main__":
    exit_on_user_error(main)
