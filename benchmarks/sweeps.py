"""What the harness costs: planning and looking at ten thousand cells, and the time between one cell and the next.

Cells here take no time at all, so that what is left is the queue's: its database, claims, leases and records.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=10_000, metavar="N", help="cells to plan (default: 10000)")
    parser.add_argument("--queued", type=int, default=200, metavar="N", help="cells to run, empty ones (default: 200)")
    parser.add_argument("--storage", metavar="URL", help="database to run them on (default: SQLite)")
    options = parser.parse_args()
    from rich.console import Console
    from rich.table import Table

    from x2c.core.run import RunDirectory
    from x2c.sweep.plan.cells import Plan, make_plan
    from x2c.sweep.queue.queue import Queue
    from x2c.sweep.run.worker import drain
    from x2c.sweep.show.status import gather, screen

    console = Console()
    shown = Table(title="x2c sweeps")
    for name in ("what", "seconds"):
        shown.add_column(name, justify="left" if name == "what" else "right")

    def timed(what: str, action: Callable[[], object], per: int = 1) -> object:
        began = time.perf_counter()
        made = action()
        shown.add_row(what, f"{(time.perf_counter() - began) / per:.3g}")
        return made

    def plan_of(cells: int, runs: Path) -> Plan:
        seeds = tuple(range(-(-cells // 5)))
        return make_plan("losses", "cpu", seeds, [f"compute.runs={runs}", f"compute.cache={runs}"])

    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        plan = timed(f"plan {options.cells} cells, imports included", lambda: plan_of(options.cells, runs))
        assert isinstance(plan, Plan)
        for number, cell in enumerate(plan.cells):
            if number % 3 == 0:
                cell.run.report("done", "done", 1200, 1200)
            elif number % 100 == 1:
                cell.run.report("failed", "train xray", 600, 1200, reason="ValueError: made up")
        out = Console(file=(Path(folder) / "screen.txt").open("w"), width=160)
        timed(
            f"status of {len(plan.cells)} cells, a third of them done",
            lambda: out.print(screen(plan, gather(plan), 40)),
        )

        small = plan_of(options.queued, Path(folder) / "small")
        queue = Queue(small, options.storage, create=True)
        timed("enqueue, per cell", lambda: queue.enqueue(small.cells), len(small.cells))
        by_config = {id(cell.config): cell.run for cell in small.cells}

        def nothing(config: object) -> RunDirectory:
            run = by_config[id(config)]
            run.report("done", "done", 1, 1)
            return run

        # As a worker does once it has imported everything.
        gc.freeze()
        with (Path(folder) / "log.txt").open("w") as log:
            sys.stdout = log
            try:
                timed("from cell to cell, per cell", lambda: drain(queue, small.cells, nothing), len(small.cells))
            finally:
                sys.stdout = sys.__stdout__
    console.print(shown)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
