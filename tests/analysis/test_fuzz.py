"""One bad file is one bad row: whatever happens to a file of a run, its neighbours keep their numbers and no page falls."""

from __future__ import annotations

import json
import math
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml
from conftest import hashed, write_run

from analysis.judge.sanity import sense
from analysis.judge.verdicts import judge
from analysis.pictures import page as figure_page
from analysis.pictures.draw import draw_figures
from analysis.pictures.samples import VOLUMES, WORST, read_sample
from analysis.read.derived_id import MADE_FROM
from analysis.read.groups import NothingToShowError
from analysis.read.runs import group_runs, load_runs
from analysis.tabulate import quality, quality_sheet
from analysis.tabulate.source import Source
from x2c.core.files import digest

Random = np.random.Generator
Mutation = Callable[[Path, Random], None]
GRID = (8, 12, 16)
VICTIM = "full"
CONFIG = {
    "table2": {"section": "Full", "label": "X-ray2CTPA", "note": "as published"},
    "loss": {"name": "l1_lpips", "l1": {"weight": 1.0}, "lpips": {"weight": 0.01}},
    "guidance": {"name": "label", "given": "known", "scale": 2.0},
    "evaluation": {"batch_size": 2, "samples": 1},
}
ABOUT: dict[str, Any] = {
    "commit": "c0ffee" * 6, "dirty": False, "metrics": 5, "format": 4, "x2c": "0.1.0", "python": "3.11.7",
    "packages": {"torch": "2.14.1", "numpy": "2.4.6"}, "device": "x86_64", "processor": "a CPU", "threads": 1,
    "stages": [{"name": "rspect", "key": "7e2deadf0a2c"}, {"name": "xray", "key": "d29dc4b20dc7"}],
    "weights": {"encoder.source": {"name": "clip_l14", "source": "hf-hub:clip", "sha256": "ab" * 32, "standing": "published"}},
}  # fmt: skip
"""What provenance.json has beside what its other readers need."""
Numbers = dict[tuple[str, str], tuple[Any, ...]]


# What may happen to any file.


def flip(path: Path, random: Random) -> None:
    """Other bytes in some places."""
    content = bytearray(path.read_bytes())
    for place in random.integers(len(content), size=random.integers(1, 12)):
        content[place] ^= int(random.integers(1, 256))
    path.write_bytes(content)


def cut(path: Path, random: Random) -> None:
    path.write_bytes(path.read_bytes()[: int(random.integers(1, path.stat().st_size))])


def empty(path: Path, random: Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, random: Random) -> None:
    path.unlink()


def make_folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def garbage(path: Path, random: Random) -> None:
    path.write_bytes(random.bytes(int(random.integers(1, 2000))))


ANY = (flip, cut, empty, delete, make_folder, garbage)

# What may happen to a file of options.

MARK = "a place that is written anew"
VALUES = {
    "null": "null",
    "list": "[1, 2]",
    "text": '"x"',
    "empty text": '""',
    "huge": "1" + "0" * 400,
    "NaN": "NaN",
    "infinity": "-Infinity",
    "deep": "[" * 5000 + "]" * 5000,
    "deep mapping": '{"a": ' * 5000 + "1" + "}" * 5000,
    "negative": "-7",
    "zero": "0",
    "real": "1.5",
    "true": "true",
    "mapping": '{"a": 1}',
    "empty mapping": "{}",
    "empty list": "[]",
    "half a character": '"\\ud800"',
    "two lines": '"a\\n| b"',
    "long": json.dumps("long " * 2000),
}
YAML = {"NaN": ".nan", "infinity": "-.inf"}


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in nested options."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield (*path, key)
        # Whatever is changed in it, the id is another.
        if key != MADE_FROM:
            yield from places(value, (*path, key))


def of_tree(act: Callable[[Any, Any], None], raw: str = "") -> Mutation:
    """A mutation of one value, told by what holds it and its key there. `raw` is written in the place of MARK."""

    def mutate(path: Path, random: Random) -> None:
        tree = yaml.safe_load(path.read_text())
        found = list(places(tree))
        *parents, key = found[int(random.integers(len(found)))]
        inner = tree
        for parent in parents:
            inner = inner[parent]
        act(inner, key)
        written = YAML.get(raw, VALUES.get(raw, "")) if path.suffix == ".yaml" else VALUES.get(raw, "")
        # JSON is YAML, with which no value is written that the one in its place could not be.
        path.write_text(json.dumps(tree).replace(json.dumps(MARK), written))

    return mutate


def replace(raw: str) -> Mutation:
    def act(inner: Any, key: Any) -> None:
        inner[key] = MARK

    mutate = of_tree(act, raw)
    mutate.__name__ = f"replace by {raw}"
    return mutate


def _drop(inner: Any, key: Any) -> None:
    del inner[key]


def drop(path: Path, random: Random) -> None:
    of_tree(_drop)(path, random)


def add(path: Path, random: Random) -> None:
    """A number as a key, or one more entry."""
    tree = json.dumps(yaml.safe_load(path.read_text()))
    path.write_text(f"{tree[:-1]}, " + ('7: "x"}' if path.suffix == ".yaml" else '"x": {"value": 1}}'))


TREE = (*(replace(raw) for raw in VALUES), drop, add)


def made_again(mutation: Mutation) -> Mutation:
    """The mutation of a config, and an id that is made from it: what is left to find is what the fields hold."""

    def mutate(path: Path, random: Random) -> None:
        mutation(path, random)
        folder = path.parent
        try:
            config = hashed(yaml.safe_load(path.read_text()))
            about = json.loads((folder / "provenance.json").read_text())
            made_from = about[MADE_FROM] | {"config": config}
            name = folder.name.rpartition("-")[0] + f"-{digest(made_from)}"
        except (ValueError, AttributeError, RecursionError, yaml.YAMLError):
            return
        (folder / "provenance.json").write_text(json.dumps(about | {MADE_FROM: made_from}))
        folder.rename(folder.with_name(name))

    mutate.__name__ = f"{mutation.__name__}, id made again"
    return mutate


# What may happen to a table of scores.


def of_scores(act: Callable[[pd.DataFrame, str, Random], pd.DataFrame]) -> Mutation:
    """A mutation of one of the columns of scores."""

    def mutate(path: Path, random: Random) -> None:
        table = pd.read_parquet(path)
        column = str(random.choice(table.columns))
        act(table, column, random).to_parquet(path)

    mutate.__name__ = act.__name__
    return mutate


def renamed(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return table.rename(columns={column: f"{column} "})


def dropped(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return table.drop(columns=column)


def as_text(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return table.assign(**{column: table[column].astype(str)})


def as_objects(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return table.assign(**{column: [[1.0]] * len(table)})


def as_integers(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return table.assign(**{column: range(len(table))})


def all_of(value: Any) -> Callable[[pd.DataFrame, str, Random], pd.DataFrame]:
    def act(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
        return table.assign(**{column: value})

    act.__name__ = f"all {value!r}"
    return act


def one_of(value: Any) -> Callable[[pd.DataFrame, str, Random], pd.DataFrame]:
    def act(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
        scores = [name for name in table.columns if name not in ("patient", "label")]
        column = column if column in scores else str(random.choice(scores))
        table.loc[int(random.integers(len(table))), column] = value
        return table

    act.__name__ = f"one {value!r}"
    return act


def same_patient(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return pd.concat([table, table[: int(random.integers(1, len(table)))]])


def other_patient(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return table.replace({"patient": {"p001": "someone else"}})


def other_labels(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return table.assign(label=int(random.integers(4)))


def fewer(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return table[: int(random.integers(len(table)))]


def in_another_order(table: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    return table.sample(frac=1, random_state=int(random.integers(99)))


SCORES = tuple(
    of_scores(act)
    for act in (
        renamed, dropped, as_text, as_objects, as_integers, all_of(math.nan), all_of(math.inf), all_of(None), all_of(5.0),
        one_of(math.nan), one_of(math.inf), one_of(-math.inf), one_of(1e300), all_of(True), same_patient, other_patient,
        other_labels, fewer, in_another_order,
    )
)  # fmt: skip

# What may happen to volumes that are kept for pictures.


def of_arrays(act: Callable[[dict[str, Any], str, Random], object]) -> Mutation:
    def mutate(path: Path, random: Random) -> None:
        with np.load(path) as file:
            arrays = dict(file)
        act(arrays, str(random.choice(sorted(arrays))), random)
        np.savez_compressed(path, **arrays)

    mutate.__name__ = act.__name__
    return mutate


def without(arrays: dict[str, Any], name: str, random: Random) -> None:
    del arrays[name]


def shorter(arrays: dict[str, Any], name: str, random: Random) -> None:
    axis = int(random.integers(arrays[name].ndim))
    arrays[name] = np.take(arrays[name], range(int(random.integers(arrays[name].shape[axis]))), axis=axis)


def flat(arrays: dict[str, Any], name: str, random: Random) -> None:
    arrays[name] = arrays[name].reshape(-1)


def of_kind(kind: str) -> Callable[[dict[str, Any], str, Random], None]:
    def act(arrays: dict[str, Any], name: str, random: Random) -> None:
        numeric = [one for one in sorted(arrays) if one != "patients"]
        name = name if name in numeric or kind == "U8" else str(random.choice(numeric))
        arrays[name] = arrays[name].astype(kind)

    act.__name__ = f"as {kind}"
    return act


def spaced(*mm: float) -> Callable[[dict[str, Any], str, Random], None]:
    def act(arrays: dict[str, Any], name: str, random: Random) -> None:
        arrays["spacing_mm"] = np.array(mm)

    act.__name__ = f"spacing {mm}"
    return act


def twice(arrays: dict[str, Any], name: str, random: Random) -> None:
    arrays["patients"] = arrays["patients"][[0] * len(arrays["patients"])]


def renamed_patients(arrays: dict[str, Any], name: str, random: Random) -> None:
    arrays["patients"] = np.array([f"$x_{i}\n^" for i in range(len(arrays["patients"]))])


def constant(arrays: dict[str, Any], name: str, random: Random) -> None:
    arrays["generated_hu"] = np.full_like(arrays["generated_hu"], 32767)
    arrays["truth_hu"] = np.full_like(arrays["truth_hu"], -32768)


def in_another_language(path: Path, random: Random) -> None:
    """One array, not several by name."""
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


ARRAYS = tuple(
    of_arrays(act)
    for act in (
        shorter, without, flat, twice, constant, spaced(math.nan, 1, 1), spaced(0, 1, 1), spaced(-1, 1, 1), spaced(1, 1),
        spaced(1e9, 1, 1), spaced(1, 1, 1e-9), spaced(math.inf, 1, 1), of_kind("float64"), of_kind("int64"), of_kind("U8"),
        of_kind("object"), of_kind("complex128"), of_kind("bool"), renamed_patients,
    )
)  # fmt: skip

# What may happen to a log.


def of_line(path: Path, random: Random) -> None:
    """Another value in some line."""
    lines = path.read_text().splitlines()
    number, raw = int(random.integers(len(lines))), str(random.choice(sorted(VALUES)))
    entry = json.loads(lines[number])
    entry[str(random.choice(sorted(entry)))] = MARK
    lines[number] = json.dumps(entry).replace(json.dumps(MARK), VALUES[raw])
    path.write_text("\n".join(lines))


def of_all_lines(path: Path, random: Random) -> None:
    """Another value in every line."""
    raw, key = str(random.choice(sorted(VALUES))), str(random.choice(["step", "stage", "loss", "validation_loss"]))
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    texts = (json.dumps(entry | ({key: MARK} if key in entry else {})) for entry in entries)
    path.write_text("\n".join(text.replace(json.dumps(MARK), VALUES[raw]) for text in texts))


def of_odd_lines(path: Path, random: Random) -> None:
    path.write_text(path.read_text() + "\n".join(["", "[]", "null", "{}", '{"stage": []', '{"stage": "x", "step": 1}']))


def of_lines_in_another_order(path: Path, random: Random) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[i] for i in random.permutation(len(lines))))


LOG = (of_line, of_all_lines, of_line, of_all_lines, of_odd_lines, of_lines_in_another_order)

# Each file with its mutations.


@dataclass(frozen=True)
class Target:
    """A file of a run, what may happen to it, and the figures that read it."""

    file: str
    mutations: tuple[Mutation, ...]
    figures: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.file


TARGETS = (
    Target("config.yaml", (*TREE, *map(made_again, TREE), *ANY)),
    Target("provenance.json", (*TREE, *ANY)),
    Target("status.json", (*TREE, *ANY)),
    Target("set_scores.json", (*TREE, *ANY)),
    Target("scores.parquet", (*SCORES, *ANY)),
    Target(f"samples/{VOLUMES}", (*ARRAYS, *ANY), ("volumes", "emboli", "visual_ablation")),
    Target(f"samples/{WORST}", (*ARRAYS[::3], *ANY), ("worst", "emboli")),
    Target("metrics.jsonl", (*LOG, *ANY), ("training",)),
)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished variants and a baseline, and apart from them the run that something is going to happen to."""
    root = tmp_path_factory.mktemp("intact")
    for variant in ("l1", "l1_lpips", "baseline_nearest"):
        write_run(root / "runs", variant, psnr=14.0 + len(variant) / 10)
    victim = write_run(root / "victim", VICTIM, psnr=15.0, samples=GRID, config=CONFIG, status={"starts": 2})
    for run in (*(root / "runs").iterdir(), victim):
        about = json.loads((run / "provenance.json").read_text()) | ABOUT
        about["data"]["window_hu"] = [-100.0, 900.0]
        (run / "provenance.json").write_text(json.dumps(about))
    with np.load(victim / "samples" / VOLUMES) as file:
        arrays = dict(file)
    arrays["clot_share"] = (255 * (arrays["truth_hu"] > 60)).astype(np.uint8)
    for name in (VOLUMES, WORST):
        np.savez_compressed(victim / "samples" / name, **arrays)
    lines: list[dict[str, Any]] = []
    for start, stage in ((0, "rspect"), (12, "xray")):
        lines += [{"step": start + k, "stage": stage, "loss": 2 / k} for k in range(1, 13)]
        lines += [{"step": start + k, "stage": stage, "validation_loss": 1 / k} for k in range(3, 13, 3)]
    (victim / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drawn in full, and stored in few pixels and without their PDF."""
    monkeypatch.setattr(figure_page, "WIDTH_PIXELS", 200)
    with figure_page.without_pdf():
        yield


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wilcoxon's exact test takes most of the time, and is asked the same hundreds of times."""
    known: dict[bytes, Any] = {}
    compute = scipy.stats.wilcoxon

    def wilcoxon(differences: np.ndarray) -> Any:
        key = np.asarray(differences).tobytes()
        if key not in known:
            known[key] = compute(differences)
        return known[key]

    monkeypatch.setattr(scipy.stats, "wilcoxon", wilcoxon)


def numbers_of(tables: Iterable[quality.Table]) -> Numbers:
    """The cells of the rows that nothing happened to, wherever they are."""
    return {
        (row.variant, key): (cell.mean, cell.sd, cell.n, cell.seeds, cell.ci_low, cell.ci_high, cell.p)
        for table in tables
        for row in table.rows
        if row.variant != VICTIM
        for key, cell in row.cells.items()
    }


def same(a: Numbers, b: Numbers) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(defined(ours), defined(b[key])) for key, ours in a.items())


def defined(numbers: tuple[Any, ...]) -> list[float]:
    """Numbers of which those that are not defined equal each other."""
    return [-1.0 if number is None or math.isnan(number) else number for number in numbers]


def show(runs: Path, out: Path, figures: tuple[str, ...], expected: Numbers, victim: str) -> None:
    """Make everything that is made of a folder of runs."""
    groups = group_runs(load_runs(runs))
    tables: list[quality.Table] = []
    for number, group in enumerate(groups):
        others = tuple(other for other in groups if other is not group)
        table = quality.collect(group, elsewhere=others)
        tables.append(table)
        for made in (quality_sheet.markdown, quality_sheet.latex, quality_sheet.html, quality_sheet.tidy_csv):
            made(table).encode("utf-8")
        source = Source(group, runs, others)
        judge(source)
        sense(group, [])
        if figures and not number:
            drawn, missing = draw_figures(figures, source, out)
            assert {path.stem for path in drawn} | missing.keys() == set(figures)
            assert all("p00" not in str(why) for why in missing.values())
    found, said = numbers_of(tables), " ".join(note.text for table in tables for note in table.footnotes)
    # A row is named by its run, or by its label where it lacks the scores of some patients.
    named = victim in said or f"others lack one in {CONFIG['table2']['label']}" in said
    assert same(found, expected) or named, "the neighbours' numbers are others, and nothing says so"


def mutated(intact: Path, target: Target, out: Path) -> list[str]:
    """Return a line for each mutation of a file that ends in an error: its number, its description, and the error."""
    runs, victim = intact / "runs", next((intact / "victim").iterdir())
    expected = numbers_of(map(quality.collect, group_runs(load_runs(runs))))
    assert {variant for variant, _ in expected} == {"l1", "l1_lpips", "baseline_nearest"}
    failed: list[str] = []
    for number, mutation in enumerate(target.mutations):
        folder = Path(shutil.copytree(victim, runs / victim.name))
        before = {path.name for path in runs.iterdir()}
        try:
            mutation(folder / target.file, np.random.default_rng([number, *target.file.encode()]))
            (left,) = [p for p in runs.iterdir() if p.name == folder.name or p.name not in before]
            show(runs, out, target.figures, expected, left.name)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno} {where.name}"
            failed.append(f"{number} {mutation.__name__}: {type(error).__name__} at {place}: {str(error)[:200]}")
        finally:
            for path in runs.iterdir():
                if path.name.startswith(f"{VICTIM}-"):
                    shutil.rmtree(path)
    return failed


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_broken_file_takes_nothing_down(intact: Path, tmp_path: Path, target: Target) -> None:
    failed = mutated(intact, target, tmp_path)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (without, "radiographs: expected an array; got none"),
        (twice, "patients: expected each once"),
        (flat, "radiographs: expected uint8 [2, h, w]; got uint8 [256]"),
        (of_kind("float64"), "radiographs: expected uint8 [2, h, w]; got float64 [2, 8, 16]"),
        (spaced(1.0, 1.0), "spacing_mm: expected three numbers; got float64 [2]"),
        (spaced(math.nan, 1, 1), "spacing_mm: expected that of a body; got nan, 1, 1 for [8, 12, 16] voxels"),
        (spaced(50, 1, 1), "spacing_mm: expected that of a body; got 50, 1, 1 for [8, 12, 16] voxels"),
    ],
)
@pytest.mark.parametrize("file", [VOLUMES, WORST])
def test_volumes_that_do_not_fit_together_are_told(
    intact: Path, tmp_path: Path, act: Callable[..., None], why: str, file: str
) -> None:
    (victim,) = (intact / "victim").iterdir()
    with np.load(victim / "samples" / file) as arrays:
        arrays = dict(arrays)
    act(arrays, "radiographs", np.random.default_rng(0))
    np.savez_compressed(tmp_path / file, **arrays)
    with pytest.raises(NothingToShowError) as raised:
        read_sample(tmp_path / file)
    assert str(raised.value) == f"{tmp_path / file}: cannot be read ({why}); delete the run and train it again"


def test_mutations_reach_what_they_are_meant_to(intact: Path, tmp_path: Path) -> None:
    runs, (victim,) = intact / "runs", (intact / "victim").iterdir()
    expected = numbers_of(map(quality.collect, group_runs(load_runs(runs))))
    shutil.copytree(victim, runs / victim.name)
    try:
        groups = group_runs(load_runs(runs))
        assert (len(groups), len(groups[0].runs), groups[0].unreadable) == (1, 4, ())
        show(runs, tmp_path, sum((target.figures for target in TARGETS), ()), expected, victim.name)
        assert {path.stem for path in tmp_path.glob("*.png")} == {name for t in TARGETS for name in t.figures}
    finally:
        shutil.rmtree(runs / victim.name)
