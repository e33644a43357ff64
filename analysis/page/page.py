"""The results page: RESULTS.md and its pictures, from finished runs and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from analysis.judge.verdicts_sheet import SMOKE
from analysis.page import facts, questions, readme, sheets
from analysis.page import pictures as results_pictures
from analysis.page.asides import SUFFIXES, Aside, Beside, remove_others
from analysis.page.finetuned import tuned_run
from analysis.page.parts import USUAL, Part, letters_of, parts_of, tests_of
from analysis.page.pictures import FIRST, Picture
from analysis.read.groups import Choice, NothingToShowError
from analysis.render import sheet
from analysis.render.footnotes import NOT_FOR_DIAGNOSIS, Footnote
from analysis.tabulate import embolism, quality
from analysis.tabulate.show import NEEDS, classifications
from analysis.tabulate.source import Source
from x2c.core.files import write_text

PAGE = "RESULTS.md"
_CHECKS = "Do the results make sense?"
_CLAIMS = "The paper's claims"
_STAND_INS = "Stand-ins"
_MADE = "How it was made"


@dataclass(frozen=True)
class Files:
    """The files beside the page, and the page's letters of stand-ins by their text."""

    letters: Mapping[str, str]
    asides: list[Beside] = field(default_factory=list)

    def put(self, made: tuple[str, Aside], prefix: str) -> list[str]:
        """Put a table beside the page; return its text on the page, and the line that leads to the files."""
        text, aside = made
        return [text, self.line([self.add(aside, prefix)])]

    def add(self, aside: Aside, prefix: str) -> Beside:
        """Put a table beside the page."""
        self.asides.append(Beside(aside, prefix))
        return self.asides[-1]

    def line(self, asides: Sequence[Beside], *, lettered: bool = True) -> str:
        """Return the line of the page that leads to files, and with `lettered` to the meaning of letters."""
        letters = f" Letters: [{_STAND_INS.lower()}](#{_anchor(_STAND_INS)})." if lettered and self.letters else ""
        return f"{'; '.join(one.links() for one in asides)}.{letters}\n"


def show(choice: Choice) -> bool:
    """Write the page and its pictures; return whether all could be read. Raises NothingToShowError if no run is done."""
    parts, out = parts_of(choice), choice.out or Path()
    files = Files(letters_of(parts))
    sections: list[str] = []
    pictures: list[Picture] = []
    for part in parts:
        drawn, missing = _drawn(part, choice.runs, out)
        pictures += drawn
        sections.append(section(part, drawn, missing, files))
        for name, why in missing.items():
            print(f"{part.title}: {name}: not drawn: {why}")
    text = "\n".join([head(choice, parts), *sections, *answers(parts, files), closing(choice, parts)])
    write_text(out / PAGE, sheets.without_paths(text))
    best = next((picture for picture in pictures if picture.name == FIRST), None)
    if best is not None:
        readme.refresh(out / "README.md", [part.table for part in parts if not part.alone], best, PAGE)
    for beside in files.asides:
        beside.write(out)
    links = [beside.link(suffix) for beside in files.asides for suffix in SUFFIXES]
    remove_others(out, [*(picture.link for picture in pictures), *links])
    size = sum((out / picture.link).stat().st_size for picture in pictures) / 1e6
    print(f"Wrote {out / PAGE} and {len(pictures)} pictures ({size:.1f} MB) in {out / results_pictures.FOLDER}")
    return not any(part.group.unreadable for part in parts) and all(
        c.state != "unreadable" for c in classifications(choice)
    )


def _drawn(part: Part, runs_dir: Path, out: Path) -> tuple[list[Picture], dict[str, NothingToShowError]]:
    """Draw the pictures of a part; return them, and why the runs do not allow others."""
    drawn: list[Picture] = []
    missing: dict[str, NothingToShowError] = {}
    # A fine-tuned model's picture shows its own patients.
    wanted = [] if part.alone else [(part.source, part.prefix, False if part.tuned else None)]
    of_tuned = [(Source(one.group, runs_dir, found=()), one.prefix, True) for one in part.tuned]
    for source, prefix, tuned in [*wanted, *of_tuned]:
        some, why = results_pictures.draw(source, prefix, out, tuned=tuned)
        drawn += some
        missing |= why
    return drawn, missing


def head(choice: Choice, parts: Sequence[Part]) -> str:
    """Return the page's first lines: the command that made it, and its contents."""
    scale = parts[0].group.scale
    command = command_of(choice, scale)
    listed = [f"- [{part.title}](#{_anchor(part.title)})" for part in parts]
    if choice.data is None:
        shown = {part.group.dataset for part in parts}
        # Every data set is available to everyone, so a missing one has a command.
        listed += [
            f"- {name.capitalize()}: no finished run at this scale; `{_reproduce(scale, [name])}`"
            for name in USUAL
            if name not in shown
        ]
    if not all(part.alone for part in parts):
        listed += [f"- [{title}](#{_anchor(title)})" for title in (_CHECKS, _CLAIMS)]
    return "\n".join(
        [
            f"<!-- Generated by `{command}` from finished runs. Do not edit: run it again. -->",
            "",
            f"# Results at scale {scale}",
            "",
            f"Written from finished runs; no number was typed. [{_MADE}](#{_anchor(_MADE)}) has the commands. "
            "The files beside a table have all its columns, and the notes that say how its numbers are to be read. "
            + NOT_FOR_DIAGNOSIS
            + (f" {SMOKE}" if scale == "smoke" else ""),
            "",
            *listed,
            "",
        ]
    )


def section(part: Part, pictures: Sequence[Picture], missing: Mapping[str, NothingToShowError], files: Files) -> str:
    """Return a group's part of the page, the main results first; what lies beside it is added to `files`."""
    group, table = part.group, part.table
    lines = [f"## {part.title}", ""]
    beside = {} if part.alone else facts.beside(group, table)
    if not part.alone:
        lines += [facts.headline(group, table, part.row, part.found, part.checks, part.claims), ""]
        lines += [line for picture in pictures if picture.name == FIRST for line in _pictured(picture)]
        made = sheets.quality(table, files.letters, facts.beside_text(beside))
        lines += [f"### {table.titled(cohort=part.namesakes)}", "", *files.put(made, part.prefix)]
        lines += _first_table(part, files)
        lines += _classifications(part, files)
    lines += _fourth_table(part, pictures, files)
    of_tuned = {one.link for one in part.tuned}
    others = [picture for picture in pictures if picture.name != FIRST and picture.link not in of_tuned]
    if others or missing:
        lines += ["### Figures", ""]
        lines += [line for picture in others for line in _pictured(picture)]
        # The remedy is for the person running this, not for the reader.
        lines += [f"- Not drawn: {name}: {why.reason}." for name, why in sorted(missing.items())]
        lines += [""] if missing else []
    tables = [*([] if part.alone else [table]), *(one.table for one in part.tuned)]
    text, ids = facts.provenance(tables, part.found, beside)
    lines += ["### Provenance", "", text, files.line([files.add(ids, part.prefix)], lettered=False)]
    return "\n".join(lines)


def answers(parts: Sequence[Part], files: Files) -> list[str]:
    """Return the sections on the whole page: the checks, the claims, and the stand-ins that letters mark."""
    asked = [part for part in parts if not part.alone]
    lines: list[str] = []
    if asked:
        tests = tests_of(asked)
        beside = [files.add(questions.checks_beside(part, tests, files.letters), part.prefix) for part in asked]
        lines += [f"## {_CHECKS}", "", questions.checks(asked, tests, files.letters)]
        lines += [f"In words, with what was measured, p and n: {files.line(beside)}"]
        beside = [files.add(questions.claims_beside(part), part.prefix) for part in asked]
        lines += [f"## {_CLAIMS}", "", questions.claims(asked, files.letters)]
        lines += [f"Effects, intervals, margins, reasons, and the rules: {files.line(beside)}"]
    if files.letters:
        lines += [f"## {_STAND_INS}", ""]
        lines += [
            "A small network takes the place of a pretrained one. Every number that it touched carries its letter, at the "
            "number, at the name of its row or at the head of its column.",
            "",
        ]
        notes = [Footnote(letter, text) for text, letter in files.letters.items()]
        lines += [*sheet.markdown_notes(notes), ""]
    return lines


def closing(choice: Choice, parts: Sequence[Part]) -> str:
    """Return the commands that made the page."""
    scale = parts[0].group.scale
    data = list(dict.fromkeys(Source(part.group).data for part in parts))
    lines = [line for part in parts for line in facts.commands(part.group, part.found)]
    lines += [line for part in parts for one in part.tuned for line in facts.commands(one.group, ())]
    return "\n".join(
        [
            f"## {_MADE}",
            "",
            "Everything, page and pictures included; rerun the same command to resume:",
            "",
            "```",
            _reproduce(scale, data),
            "```",
            "",
            "Or one by one:",
            "",
            "```",
            *dict.fromkeys(lines),
            command_of(choice, scale),
            "```",
            "",
            "Options beside these are in each run's `config.yaml`; the hash in its id covers all that can change a number.",
            "",
        ]
    )


def command_of(choice: Choice, scale: str) -> str:
    """Return the command behind the page with its scale. It names no folders, which differ between machines."""
    given = {"scale": scale, "data": choice.data, "only": choice.only}
    return "python analysis/results.py" + "".join(f" --{k} {value}" for k, value in given.items() if value is not None)


def _classifications(part: Part, files: Files) -> list[str]:
    first = part.source.classification
    broken = [c for c in part.source.found or () if (c.scale, c.state) == (part.group.scale, "unreadable")]
    told = [f"- Unreadable: classification of {c.variant} ({c.path.name}): {c.reason}." for c in broken]
    if first is None:
        command = Source(part.group).script("classify.py", part.row.variant if part.row else "full")
        return ["### Table 3", "", f"Nothing was classified on these patients; run: `{command}`.", *told, ""]
    lines: list[str] = [*told, ""] if told else []
    for c in (first, *(other for other in part.found if other is not first)):
        table = embolism.collect(c)
        title = table.titled(cohort=part.namesakes)
        text, whole = sheets.classification(table, files.letters, "table3" if c is first else f"table3_{c.path.name}")
        if c is first:
            lines += [f"### {title}", "", *files.put((text, whole), part.prefix)]
        else:
            lines.append(files.line([files.add(replace(whole, title=title), part.prefix)], lettered=False))
    return lines


def _first_table(part: Part, files: Files) -> list[str]:
    """Return the line that leads to Table 1, which is a row of Table 2 and its baselines."""
    if not any((run.variant, run.state) == (NEEDS[1][0], "done") for run in part.group.runs):
        return []
    table = quality.collect(part.group, 1)
    title = f"{table.titled(cohort=part.namesakes)}: `{NEEDS[1][0]}` of Table 2, against the nearest training X-ray"
    _, whole = sheets.quality(table, files.letters)
    return [files.line([files.add(replace(whole, title=title), part.prefix)], lettered=False)]


def _fourth_table(part: Part, pictures: Sequence[Picture], files: Files) -> list[str]:
    """Return Table 4 of the model fine-tuned to other patients, with its picture; else of these patients."""
    lines: list[str] = []
    for one in part.tuned:
        lines += [f"### {one.title}", "", facts.tuning(tuned_run(one.group)), ""]
        lines += [line for picture in pictures if picture.link == one.link for line in _pictured(picture)]
        lines += files.put(sheets.quality(one.table, files.letters), one.prefix)
    finished = {run.variant for run in part.group.runs if run.state == "done"}
    if not part.alone and NEEDS[4][0] in finished:
        table = quality.collect(part.group, 4)
        made = sheets.quality(table, files.letters)
        lines += [f"### {table.titled(cohort=part.namesakes)}", "", *files.put(made, part.prefix)]
    return lines


def _pictured(picture: Picture) -> list[str]:
    return [f"![{picture.shows}]({picture.link})", "", f"*{picture.caption}*", ""]


def _reproduce(scale: str, data: Sequence[str]) -> str:
    told = [("scale", scale)] * (scale != "cpu") + [("data", ",".join(data))] * (set(data) != set(USUAL))
    return "make reproduce" + "".join(f" {name}={value}" for name, value in told)


def _anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
