"""The report of a search: its trials as a table, their history, and the effect of each parameter on the metric."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from x2c.core.files import replacing, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 10
FEW = 30
"""Number of finished trials below which importances are called rough."""
GREY, DARK, ACCENT = "#9aa0a6", "#202124", "#1a73e8"


@dataclass(frozen=True)
class Search:
    """The results of a search."""

    name: str
    about: str
    """Method, scale, data and seed."""
    metric: str
    maximize: bool
    trials: pd.DataFrame
    """Trials in the order of their draws: draw, state, value, one column a parameter, step, seconds, run."""
    parameters: tuple[str, ...]
    logarithmic: frozenset[str]
    """Parameters on a log scale."""
    importances: dict[str, float]
    """Share of the metric's variance by parameter; empty for too few trials."""
    again: str
    """The command line of the best trial with another seed."""

    @property
    def ranked(self) -> pd.DataFrame:
        """The trials that finished, the best first."""
        done = self.trials[self.trials.state == "done"]
        return done.sort_values("value", ascending=not self.maximize, kind="stable")


def show(search: Search, out: Path) -> None:
    """Print the best trials; write search_<name>.{md,csv,png,pdf} to `out`."""
    stem = f"search_{search.name}"
    with replacing(out / f"{stem}.csv") as path:
        search.trials.to_csv(path, index=False)
    write_text(out / f"{stem}.md", markdown(search))
    draw(search, out / f"{stem}.png")
    console = Console() if Console().is_terminal else Console(width=120)
    console.print(_table(search))
    for line in notes(search):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"all trials, importances and pictures: {out / stem}.{{md,csv,png,pdf}}", highlight=False)


def notes(search: Search) -> list[str]:
    """Return notes for reading the numbers."""
    states = search.trials.state.value_counts()
    counts = ", ".join(f"{states[state]} {state}" for state in sorted(states.index))
    lines = [
        f"{len(search.trials)} draws: {counts}; {search.metric} of validation patients, one seed: no test patient was seen."
    ]
    finished = len(search.ranked)
    if search.importances:
        shares = ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in search.importances.items())
        rough = f", which is rough below {FEW}" if finished < FEW else ""
        lines.append(f"Share of the variance explained (fANOVA over the {finished} finished trials{rough}): {shares}.")
    else:
        lines.append(f"{finished} finished trials: too few for the importance of parameters.")
    lines.append(
        "The best of many trials is biased upwards; train it again with other seeds before it goes into a table:"
    )
    lines.append(f"  {search.again}")
    return lines


def markdown(search: Search) -> str:
    """Return all trials, the finished ones first, and the notes."""
    rest = search.trials[search.trials.state != "done"]
    rows = pd.concat([search.ranked, rest])
    columns = ["draw", "state", "value", *search.parameters, "step", "seconds", "run"]
    lines = [f"# Search {search.name}", "", f"{search.about}; {search.metric}, {_better(search)} is better.", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_text(row[column]) for column in columns) + " |" for _, row in rows.iterrows()]
    return "\n".join([*lines, "", *notes(search), ""])


def draw(search: Search, png: Path) -> None:
    """Draw history, importances, and the metric against every parameter, as PNG and PDF."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    panels = 1 + bool(search.importances) + len(search.parameters)
    columns = min(3, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.2 * columns, 3.3 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    _history(axes[0], search)
    if search.importances:
        _importances(axes[1], search)
    for axis, name in zip(axes[1 + bool(search.importances) :], search.parameters, strict=False):
        _against(axis, search, name)
    for axis in axes[panels:]:
        axis.set_axis_off()
    n = len(search.trials)
    figure.suptitle(f"{search.name}: {n} draws · {search.about}", fontsize=10, color=DARK)
    for path in (png, png.with_suffix(".pdf")):
        with replacing(path) as temporary:
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
            figure.savefig(temporary, format=path.suffix[1:], dpi=160, metadata=metadata)


def _history(axis: Axes, search: Search) -> None:
    done, other = _split(search)
    if len(other):
        axis.plot(other.draw, other.value, "x", color=GREY, label="pruned: its last value")
    axis.plot(done.draw, done.value, "o", color=ACCENT, ms=4, label="finished")
    best = done.value.cummax() if search.maximize else done.value.cummin()
    axis.step(done.draw, best, where="post", color=DARK, lw=1, label="best so far")
    axis.set_xlabel("draw")
    axis.set_ylabel(search.metric)
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.legend(fontsize=7, frameon=False)


def _importances(axis: Axes, search: Search) -> None:
    names = list(search.importances)[::-1]
    axis.barh(names, [search.importances[name] for name in names], color=ACCENT)
    axis.set_xlabel(f"share of variance (fANOVA, n = {len(search.ranked)})")
    axis.tick_params(axis="y", labelsize=7)


def _against(axis: Axes, search: Search, name: str) -> None:
    for part, mark, colour in zip(_split(search), ("o", "x"), (ACCENT, GREY), strict=True):
        part = part[part[name].notna()]
        numeric = pd.api.types.is_numeric_dtype(part[name])
        axis.plot(part[name] if numeric else part[name].astype(str), part.value, mark, color=colour, ms=4, ls="")
    if name in search.logarithmic:
        axis.set_xscale("log")
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel(name)
    axis.set_ylabel(search.metric)


def _split(search: Search) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return trials that finished, and pruned ones with a value."""
    with_value = search.trials[search.trials.value.notna()]
    done = with_value.state == "done"
    return with_value[done], with_value[~done]


def _table(search: Search) -> Table:
    table = Table(
        title=f"{search.name} · {search.about}: the best {min(SHOWN, len(search.ranked))}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for heading in (search.metric, *search.parameters, "draw"):
        table.add_column(heading, justify="right", overflow="fold")
    for _, row in search.ranked.head(SHOWN).iterrows():
        table.add_row(*(_text(row[column]) for column in ("value", *search.parameters, "draw")))
    return table


def _better(search: Search) -> str:
    return "higher" if search.maximize else "lower"


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
