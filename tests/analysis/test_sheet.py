"""Sheets with any text in them: LaTeX that compiles, Markdown and HTML that stay whole, terminals that show it as it is."""

from __future__ import annotations

import io
import itertools
import re
import shutil
import subprocess
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from analysis.render import sheet
from analysis.render.footnotes import Footnote
from analysis.render.sheet import Entry, Sheet
from x2c.core.files import write_text

needs_pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
BLOCKS = {
    "Latin": (0x20, 0x250), "letters of phonetics": (0x250, 0x300), "marks": (0x300, 0x370), "Greek": (0x370, 0x400),
    "Cyrillic": (0x400, 0x500), "more Latin": (0x1E00, 0x1F00), "more Greek": (0x1F00, 0x2000), "punctuation": (0x2000, 0x2070),
    "superscripts, currency": (0x2070, 0x2100), "numbers": (0x2100, 0x2190), "arrows": (0x2190, 0x2200),
    "maths": (0x2200, 0x2300), "technical": (0x2300, 0x2400), "enclosed": (0x2460, 0x2500), "shapes": (0x2500, 0x2600),
    "symbols": (0x2600, 0x27C0), "more maths": (0x27C0, 0x2800), "still more": (0x2900, 0x2B00), "Chinese": (0x4E00, 0x4E20),
    "Korean": (0xAC00, 0xAC10), "Hebrew and Arabic": (0x5D0, 0x660), "forms": (0xFB00, 0xFB50), "wide": (0xFF00, 0xFFF0),
    "letters of maths": (0x1D400, 0x1D800), "emoji": (0x1F300, 0x1F650),
}  # fmt: skip
TRAPS = (
    "", " ", "[x", "*", " [0pt]", "?`", "!`", "--", "---", "<<", ">>", ",,", "''", "``", '"', r"\end{document}", "%", "a & b",
    "#1", "${", "}$", "^^M", "_", "~", "|", "`", "\n\n", "a\n\nb", "\x00\x07\x1b[31m", "\ud800", "\udfff\ud800", "\ufffe", "\u0301",
    "o" + "\u0301" * 400, "α" + "\u0300\u0323\u0345" * 90, "\u200b", "\u200d", "\ufeff", "\u202e", "\u2028", "W" * 2000, "中" * 2000,
    "words " * 2000, " " * 2000, "https://" + "very/long/" * 80, "👩\u200d⚕️", "1️⃣", "|---|", "- a", "# a", "1. a", "> a", "[a]: b",
    "[a](b)", "![a](b)", "<b>a</b>", "&lt;", "a_b_c", "_a_", "__a__", "**a**", "~~a~~", "$a$", "a\\", "a\\|b", "\\`", "`a", "<!--",
    "</td>", "``<b>``", "[red]a[/red]", "\t", "\r\n", "===", "***", "+ a", "    a", "```", "a  ",
)  # fmt: skip
ANY_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=())), st.text("\\`*_[]()<>|&~$#-=+.!1a \n\t\u0301é\ud800", max_size=12)
)


def with_text(text: str) -> Sheet:
    """A sheet with the text wherever there can be one."""
    row = (Entry(text), Entry(text, "bold"), Entry(text, "italic", (text, text)))
    notes = (Footnote("", text), Footnote(text, text), Footnote("a", text), Footnote("", f"a {text}"))
    return Sheet(text, row, (("", row), (text, row), ("s", (*row[1:], row[0]))), notes)


def tex(text: str) -> str:
    """The LaTeX of a text."""
    made = sheet.latex([Sheet(text, (Entry("a"),), ())])
    return re.search(r"\\noindent\\textbf\{(.*)\}\\par\\medskip", made, re.DOTALL)[1]  # type: ignore[index]


def plain(text: str) -> str:
    """What Markdown and HTML should show of a text."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text)
    return re.sub("[\ud800-\udfff\ufffe\uffff]", lambda found: f"[U+{ord(found[0]):04X}]", text)


def compiled(folder: Path, *sheets: Sheet) -> str:
    """What pdflatex says, which must come to an end with every character in a font that is there."""
    write_text(folder / "t.tex", sheet.latex(sheets))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]
    log = (folder / "t.log").read_text(encoding="latin-1").replace("\n", "")
    assert "Missing character" not in log and "LaTeX Warning" not in log and "LaTeX Font Warning" not in log
    # Fonts of pixels are made for one printer, and only where Metafont is.
    assert "pk>" not in log
    return log


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("α", r"$\alpha$"),
        ("ς ϑ", r"$\varsigma$ $\vartheta$"),
        ("ΑΩ", r"$\mathrm{A}$$\Omega$"),
        ("ά", r"$\acute{\alpha}$"),
        ("ΐ", r"$\acute{\ddot{\iota}}$"),
        ("ᾳ", r"$\alpha$$_{\iota}$"),
        ("µΩ", r"$\mu$$\Omega$"),
        ("é ï ő Å", r"\'{e} \"{\i{}} \H{o} \r{A}"),
        ("e\u0301", r"\'{e}"),
        ("ế", r"$\acute{\hbox{\^{e}}}$"),
        ("ệ", r"\d{\^{e}}"),
        ("łßØ", r"\l{}\ss{}\O{}"),
        ("x² H₂O xⁿ", r"x\textsuperscript{2} H\textsubscript{2}O x\textsuperscript{n}"),
        ("½ ⅓", r"$\frac{1}{2}$ $\frac{1}{3}$"),
        ("≤ ± ≠ ∉ → ⇒", r"$\le$ $\pm$ $\ne$ $\not\in$ $\rightarrow$ $\Rightarrow$"),
        ("ﬁ ™ ＡＢ", r"fi \textsuperscript{TM} AB"),
        ("ℝ𝛼", r"$\mathbb{R}$$\alpha$"),
        ("–—“a”‘b’…", r"-----``a''`b'\ldots{}"),
        ("a\u00a0b\u200bc\u00add", r"a~b\hspace{0pt}c\-d"),
        ("中Жй😀", "[U+4E2D][U+0416][U+0439][U+1F600]"),
        ("ж\u0301x\u20dd", "[U+0436][U+0301]x[U+20DD]"),
        ("a\ud800\x07", "a[U+D800][U+0007]"),
        ("a\n\n b", "a b"),
        (r"\{}$&#^_~%", r"\textbackslash{}\{\}$\mathdollar$\&\#\textasciicircum{}\_\textasciitilde{}\%"),
        ("-- --- ''", "-{}- -{}-{}- '{}'"),
        ("?‘ a<<b", "?{}` a$<$$<$b"),
    ],
)
def test_latex_of_a_text(text: str, expected: str) -> None:
    # An en dash before an em dash would be five hyphens, which TeX reads the other way round.
    assert tex(text) == expected.replace("-----", "--{}---")


@pytest.mark.parametrize("text", TRAPS, ids=ascii)
def test_latex_is_ascii_with_every_group_closed(text: str) -> None:
    assert_safe(with_text(text))


@given(ANY_TEXT)
@example("\x1b\x1b\x1b\x1b&")
def test_latex_of_any_text_is_ascii_with_every_group_closed(text: str) -> None:
    assert_safe(with_text(text))


def assert_safe(made: Sheet) -> None:
    """Plain ASCII, whose special characters are those that LaTeX needs here."""
    text = sheet.latex([made])
    assert text.isascii() and text.count("\\end{document}") == 1
    assert all(len(line) < 50_000 for line in text.splitlines()) and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    body = re.sub(r"\\[\\{}$&#%_^~]", "x", text.replace(r"\\", ""))
    assert body.count("{") == body.count("}") and body.count("$") % 2 == 0
    assert not re.search(r"#|%(?!\n)|\n\s*\n", body)
    # The head and three rows of three cells each, of which none begins with what the row before would take.
    assert body.count("&") == 8 and text.count(r" \\") == 4 + len({made.title, "s"} - {""})
    assert not re.search(r"(?:\\\\|rule)\s*[\[*]", text)


@pytest.mark.parametrize("block", BLOCKS)
def test_no_character_is_dropped(block: str) -> None:
    known = [c for c in map(chr, range(*BLOCKS[block])) if unicodedata.category(c) != "Cn" and not c.isspace()]
    made = tex(" ".join(f"a{c}b" for c in known))
    assert "ab" not in made.split() and len(made.split()) >= len(known)


@needs_pdflatex
def test_every_block_that_people_use_compiles(tmp_path: Path) -> None:
    notes = []
    for name, (first, end) in BLOCKS.items():
        known = [chr(code) for code in range(first, end) if unicodedata.category(chr(code)) != "Cn"]
        notes.append(
            Footnote("", f"{name}: {' '.join(f'o{c}' if unicodedata.category(c)[0] == 'M' else c for c in known)}")
        )
        notes.append(Footnote("", f"together: {''.join(known)}"))
    compiled(tmp_path, Sheet("Ωmega", (Entry("α"),), (), tuple(notes)))


@needs_pdflatex
def test_traps_compile_wherever_they_stand(tmp_path: Path) -> None:
    compiled(tmp_path, *map(with_text, TRAPS))


@needs_pdflatex
def test_any_text_compiles(tmp_path: Path) -> None:
    texts: list[str] = []

    @given(ANY_TEXT)
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    compiled(tmp_path, *map(with_text, texts))


@needs_pdflatex
def test_a_row_of_long_cells_compiles(tmp_path: Path) -> None:
    cells = tuple(Entry(text, "bold", ("a",)) for text in ("W" * 3000, "Þ words " * 500, "中" * 300) * 8)
    compiled(tmp_path, Sheet("t", cells, (("Þ" + "W" * 20_000, cells), ("", cells))))


def markdown_of(made: Sheet) -> list[Token]:
    """As GitHub reads it, or nearly."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(sheet.markdown([made]))


def shown(tokens: list[Token]) -> str:
    """What is read in them, without spaces and backticks; of markup there is only that of sheets."""
    own = {"text", "text_special", "code_inline", "strong_open", "strong_close", "em_open", "em_close"}
    texts = []
    for child in (child for token in tokens for child in token.children or ()):
        if child.type == "html_inline":
            assert child.content in ("<sup>", "</sup>")
        else:
            assert child.type in own
            texts.append(child.content)
    return squeezed("".join(texts))


def squeezed(text: str) -> str:
    return "".join(text.split()).replace("`", "")


@given(ANY_TEXT)
@example("a|b\\|c\n`d`")
@example("[a](b) [c]: d <b>&lt;</b>")
@example("a\ud800\x85\u2028")
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    assert_markdown_whole(text)


@pytest.mark.parametrize("text", TRAPS, ids=ascii)
def test_markdown_of_traps_stays_whole(text: str) -> None:
    assert_markdown_whole(text)


def assert_markdown_whole(text: str) -> None:
    """One table with all its cells, one list with all its notes, and the text in each of them."""
    made = with_text(text)
    tokens = markdown_of(made)
    blocks = [token.type for token in tokens if token.level == 0 and token.nesting >= 0]
    said = plain(text)
    assert blocks == (["paragraph_open"] if said.strip() else []) + ["table_open", "bullet_list_open"]
    cells = [[t] for before, t in itertools.pairwise(tokens) if before.type in ("td_open", "th_open")]
    assert len(cells) == 3 * (4 + len({text, "s"} - {""}))
    of_row = [squeezed(said), squeezed(said), squeezed(f"{said}{said},{said}")]
    assert [shown(cell) for cell in cells[:6]] == 2 * of_row
    starts = [place for place, token in enumerate(tokens) if token.type == "list_item_open"]
    ends = [place for place, token in enumerate(tokens) if token.type == "list_item_close"]
    listed = [tokens[start:end] for start, end in zip(starts, ends, strict=True)]
    assert {token.type for item in listed for token in item} <= {
        "list_item_open",
        "paragraph_open",
        "inline",
        "paragraph_close",
    }
    assert [shown(item) for item in listed] == [squeezed(plain(note.mark + note.text)) for note in made.notes]


def test_code_and_marks_in_a_note_stay() -> None:
    note = Footnote("", "run: `make a | b` at <sup>a</sup> l1_lpips & *, not <b>")
    text = sheet.markdown([Sheet("t", (Entry("a"),), (("", (Entry("run: `make a | b`"),)),), (note,))])
    assert "- run: `make a | b` at <sup>a</sup> l1_lpips & \\*, not &lt;b>\n" in text
    assert "| run: `make a \\| b` |" in text


class Reader(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        self.texts[-1:] = [self.texts[-1] + data] if self.texts else [data]


@given(ANY_TEXT)
@example("</td><script>a</script>&lt;\"'\n\ud800")
def test_html_shows_any_text_as_it_is(text: str) -> None:
    usual, other = Reader(), Reader()
    usual.feed(sheet.html([with_text("a")]))
    other.feed(sheet.html([with_text(text or "a")]))
    assert other.tags == usual.tags
    cell = other.tags.index("th")
    assert other.texts[cell].removesuffix("\n") == plain(text or "a")


@pytest.mark.parametrize("text", TRAPS, ids=ascii)
def test_every_form_can_be_written(tmp_path: Path, text: str) -> None:
    made = with_text(text)
    for name, content in {"md": sheet.markdown([made]), "tex": sheet.latex([made]), "html": sheet.html([made])}.items():
        write_text(tmp_path / f"t.{name}", content)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    console = Console(file=stream, width=200)
    console.print(sheet.terminal(made))
    console.print(sheet.notes(made.notes))


def test_a_terminal_shows_markup_and_no_control() -> None:
    console = Console(file=io.StringIO(), width=300, force_terminal=True, color_system=None, record=True)
    console.print(sheet.terminal(with_text("[red]a[/red] \x1b[31mb")))
    console.print(sheet.notes([Footnote("[red]", "[bold]c \x1b]0;d")]))
    out = console.export_text()
    assert out.count("[red]a[/red]  [31mb") >= 10 and "[red] [bold]c  ]0;d" in out and "\x1b" not in out
