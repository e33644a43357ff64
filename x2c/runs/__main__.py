"""Runs: list, show, remove and export them, and find stages and caches that no run needs.

    python -m x2c.runs list                         every run: state, PSNR, size on disk, age; --json for scripts
    python -m x2c.runs list --variant l1 --state done
    python -m x2c.runs show l1_lpips                its changes to the variant, provenance, scores, files
    python -m x2c.runs remove l1-cpu-s0-7eaa        delete runs, and list what is then unused; asks first
    python -m x2c.runs export l1 /media/usb/l1      export a run without paths, names or single patients
    python -m x2c.runs export l1 l1.tar             the same as an archive
    python -m x2c.runs stages                       list stages and caches, and those that no run needs
    python -m x2c.runs stages --remove --yes        delete those

A run is named by its folder, its id, the beginning of one that no other id has, or (not for `remove`) by its variant,
which means the newest finished run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from x2c.core.cli import Parser
from x2c.core.errors import exit_on_user_error

STATES = ("done", "running", "interrupted", "failed", "pruned", "unreadable")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and act; return the exit code."""
    parser = Parser(prog="python -m x2c.runs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
        made.add_argument(
            "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are (default: runs)"
        )
        made.set_defaults(act=act)
        return made

    listed = command("list", "list every run, with state, PSNR, size on disk and age", _list)
    for name in ("variant", "scale", "data"):
        listed.add_argument(f"--{name}", metavar="NAME", help=f"only runs of this {name}")
    listed.add_argument("--state", choices=STATES, help="only runs in this state")
    listed.add_argument("--json", action="store_true", help="print JSON, for scripts")
    shown = command("show", "show a run: its changes to its variant's config, provenance, scores, files", _show)
    shown.add_argument("run", metavar="RUN", help="folder, id, beginning of an id, or variant")
    removed = command("remove", "delete runs, and list what is then unused", _remove)
    removed.add_argument("ids", nargs="+", metavar="ID", help="id, or the beginning of one")
    removed.add_argument("--yes", action="store_true", help="do not ask")
    exported = command("export", "write a copy of a run for other machines, as a folder or a .tar", _export)
    exported.add_argument("run", metavar="RUN", help="folder, id, beginning of an id, or variant")
    exported.add_argument("out", type=Path, metavar="FOLDER|FILE.tar", help="path of the new folder or archive")
    exported.add_argument(
        "--with-weights", action="store_true", help="include published networks, which are otherwise only named"
    )
    exported.add_argument("--with-patients", action="store_true", help="include scores and volumes of single patients")
    stages = command("stages", "list stages and caches, and those that no run and no planned sweep needs", _stages)
    cache = "the cache; what runs of other folders use of it is made again when they do (default: cache)"
    stages.add_argument("--cache", type=Path, default=Path("cache"), metavar="DIR", help=cache)
    stages.add_argument("--storage", metavar="URL", help="database of the queue, where it is not beside the runs")
    stages.add_argument("--remove", action="store_true", help="list what would be deleted; with --yes delete it")
    stages.add_argument("--yes", action="store_true", help="delete it")
    stages.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args(argv)
    return int(options.act(options))


def _list(options: argparse.Namespace) -> int:
    from x2c.runs.listing import list_runs

    return list_runs(options.runs, options.variant, options.scale, options.data, options.state, as_json=options.json)


def _show(options: argparse.Namespace) -> int:
    from x2c.core.run_lookup import find_run
    from x2c.runs.showing import show_run

    return show_run(find_run(options.run, options.runs, "RUN"))


def _remove(options: argparse.Namespace) -> int:
    from x2c.runs.removing import remove_runs

    return remove_runs(options.ids, options.runs, yes=options.yes)


def _export(options: argparse.Namespace) -> int:
    from x2c.core.run_lookup import find_run

    run = find_run(options.run, options.runs, "RUN")
    from x2c.engine.export import Export, export

    left_out = export(Export(run, options.out, options.with_weights, options.with_patients))
    print(f"wrote {options.out}: {run.name}, which samples wherever x2c is installed")
    for line in left_out:
        print(f"left out: {line}")
    return 0


def _stages(options: argparse.Namespace) -> int:
    from x2c.runs.unused import show_stages

    return show_stages(
        options.runs, options.cache, options.storage, remove=options.remove, yes=options.yes, as_json=options.json
    )


if __name__ == "__main__":
    exit_on_user_error(main)
