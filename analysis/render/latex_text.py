"""Any text as LaTeX in plain ASCII, for pdflatex with its base packages, amsmath, amssymb and graphicx."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache


def _pairs(text: str) -> dict[str, str]:
    """Return characters and their LaTeX, which alternate in the text."""
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


# Only OT1 and the maths fonts, which are scalable in any TeX: others would be bitmaps, or an error, if missing.
_GREEK = _pairs(
    """
    α alpha β beta γ gamma δ delta ε varepsilon ζ zeta η eta θ theta ι iota κ kappa λ lambda μ mu ν nu ξ xi ο mathit{o} π pi ρ rho
    ς varsigma σ sigma τ tau υ upsilon φ varphi χ chi ψ psi ω omega ϑ vartheta ϖ varpi ϱ varrho ϕ phi ϵ epsilon ϰ varkappa
    ϝ digamma ϳ mathit{j} ϶ backepsilon Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Υ Upsilon Φ Phi Ψ Psi Ω Omega
    """
) | {greek: rf"mathrm{{{latin}}}" for greek, latin in zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧϜ", "ABEZHIKMNOPTXF", strict=True)}
_SIGNS = _pairs("""
    ± pm ∓ mp × times ÷ div · cdot ⋅ cdot ∙ cdot • bullet ∘ circ ∗ ast ⋆ star √ surd ∞ infty ∝ propto ∂ partial ∇ nabla ∆ Delta
    ∑ sum ∏ prod ∐ coprod ∫ int ∮ oint ∀ forall ∃ exists ∄ nexists ∅ emptyset ∈ in ∋ ni ¬ neg ∧ wedge ∨ vee ∩ cap ∪ cup ⊂ subset
    ⊃ supset ⊆ subseteq ⊇ supseteq ⊊ subsetneq ⊋ supsetneq ∖ setminus ⊕ oplus ⊖ ominus ⊗ otimes ⊘ oslash ⊙ odot ⊥ perp ⊤ top
    ⊢ vdash ⊣ dashv ⊨ models ∠ angle ∣ mid ∥ parallel ‖ Vert ≤ le ≥ ge ⩽ leqslant ⩾ geqslant ≪ ll ≫ gg ≠ ne ≈ approx ∼ sim ≃ simeq
    ≅ cong ≡ equiv ≍ asymp ≐ doteq ≜ triangleq ≲ lesssim ≳ gtrsim ≺ prec ≻ succ ∴ therefore ∵ because ⋯ cdots ⋮ vdots ⋱ ddots
    ⟨ langle ⟩ rangle ⌈ lceil ⌉ rceil ⌊ lfloor ⌋ rfloor ← leftarrow → rightarrow ↑ uparrow ↓ downarrow ↔ leftrightarrow
    ↕ updownarrow ↖ nwarrow ↗ nearrow ↘ searrow ↙ swarrow ⇐ Leftarrow ⇒ Rightarrow ⇑ Uparrow ⇓ Downarrow ⇔ Leftrightarrow
    ⇕ Updownarrow ↦ mapsto ↩ hookleftarrow ↪ hookrightarrow ⟵ longleftarrow ⟶ longrightarrow ⟷ longleftrightarrow
    ⟸ Longleftarrow ⟹ Longrightarrow ⟺ Longleftrightarrow ⟼ longmapsto ⇄ rightleftarrows ⇆ leftrightarrows ⇌ rightleftharpoons
    ↼ leftharpoonup ⇀ rightharpoonup ↶ curvearrowleft ↷ curvearrowright ↺ circlearrowleft ↻ circlearrowright ⇝ rightsquigarrow
    † dagger ‡ ddagger § mathsection ¶ mathparagraph ✓ checkmark ✔ checkmark ✗ times ✘ times ★ bigstar ☆ star □ square
    ■ blacksquare △ triangle ▲ blacktriangle ▽ triangledown ▼ blacktriangledown ◁ triangleleft ▷ triangleright ◆ blacklozenge
    ◇ Diamond ○ bigcirc ◯ bigcirc ● bullet ♠ spadesuit ♣ clubsuit ♥ heartsuit ♦ diamondsuit ♭ flat ♮ natural ♯ sharp ℓ ell ℏ hbar
    ℘ wp ℜ Re ℑ Im ℵ aleph ð eth ħ hbar ɛ varepsilon ¥ yen « ll » gg ‹ langle › rangle
    ° {}^{\\circ} ′ {}^{\\prime} ‵ {}^{\\backprime} − - ∕ /
""")  # fmt: skip
_LATEX = {
    c: f"${sign}$" if sign.startswith(("{", "-", "/")) else rf"$\{sign}$" for c, sign in (_GREEK | _SIGNS).items()
} | {"<": "$<$", ">": "$>$", "|": "$|$"} | _pairs(r"""
    \ \textbackslash{} & \& % \% $ $\mathdollar$ # \# _ \_ { \{ } \} ~ \textasciitilde{} ^ \textasciicircum{} ` \`{} " ''
    – -- — --- ― --- ‒ -- ‐ - ‘ ` ’ ' ‚ , ‛ ` “ `` ” '' „ ,, ‟ `` ʼ ' ʻ ` … \ldots{} ¡ \textexclamdown{} ¿ \textquestiondown{} ⁄ /
    ˆ \^{} ˇ \v{} ˋ \`{} ˊ \'{} ˉ \={} æ \ae{} Æ \AE{} œ \oe{} Œ \OE{} ø \o{} Ø \O{} ł \l{} Ł \L{} ß \ss{} ẞ SS ı \i{} ȷ \j{}
    £ $\mathsterling$ ¢ \rlap{/}c © \makebox[0pt][l]{$\bigcirc$}\makebox[1em]{\scriptsize\upshape{}c}
    ® \makebox[0pt][l]{$\bigcirc$}\makebox[1em]{\tiny\upshape{}R} ‰ $\,^0\!/_{\!00}$ € \rlap{\kern.04em=}C
    đ d\llap{\raise.55ex\hbox{-}} Đ \rlap{\raise.05ex\hbox{-}}D Ð \rlap{\raise.05ex\hbox{-}}D Ħ \rlap{\kern.2em\raise.5ex\hbox{-}}H
    ŧ \rlap{\kern.03em\raise.2ex\hbox{-}}t Ŧ \rlap{\kern.19em\hbox{-}}T þ \rlap{b}p Þ \rlap{I}\lower.3ex\hbox{P} ə \rotatebox[origin=c]{180}{e}
""") | {
    "\u00a0": "~", "\u00ad": r"\-", "\u2002": r"\enspace{}", "\u2003": r"\quad{}", "\u2007": "~", "\u2009": r"\,", "\u200a": r"\,",
    "\u202f": r"\,", "\u200b": r"\hspace{0pt}", "\u200c": "{}", "\u2060": r"\nobreak{}", "\ufeff": r"\nobreak{}", "\u2010": "-",
}  # fmt: skip
_ABOVE = {
    "\u0300": (r"\`", r"\grave"), "\u0301": (r"\'", r"\acute"), "\u0302": (r"\^", r"\hat"), "\u0303": (r"\~", r"\tilde"),
    "\u0304": (r"\=", r"\bar"), "\u0306": (r"\u", r"\breve"), "\u0307": (r"\.", r"\dot"), "\u0308": (r"\"", r"\ddot"),
    "\u030a": (r"\r", r"\mathring"), "\u030b": (r"\H", r'\mathaccent"707D '), "\u030c": (r"\v", r"\check"),
    "\u0313": ("", r'\mathaccent"7027 '), "\u0314": ("", r'\mathaccent"7060 '), "\u0342": ("", r"\tilde"), "\u20d7": ("", r"\vec"),
    "\u0305": ("", r"\overline"), "\u0309": ("", r"\overset{\smash{\lower.6ex\hbox{$\scriptscriptstyle\rhook$}}}"),
}  # fmt: skip
"""Marks above a letter: the accent of text, empty where it has none, and that of formulas, which can be stacked."""
_ELSEWHERE = {
    "\u0323": r"\d{@}", "\u0327": r"\c{@}", "\u0331": r"\b{@}", "\u0326": r"\textcommabelow{@}", "\u0332": r"\underline{@}",
    "\u0328": r"@\llap{\lower.9ex\hbox{$\lhook$}}", "\u031b": r"@\kern-.1em'", "\u0338": r"\rlap{/}@", "\u0345": r"@$_{\iota}$",
}  # fmt: skip
"""Other marks: the LaTeX of a letter @ with the mark."""
_MOST_MARKS = 6
"""Marks on one letter; TeX nests no deeper than 255 groups."""
_ALPHABETS = {"DOUBLE-STRUCK CAPITAL": "mathbb", "SCRIPT CAPITAL": "mathcal", "BLACK-LETTER": "mathfrak", "FRAKTUR": "mathfrak",
              "BOLD": "mathbf"}  # fmt: skip
_SIMPLE = re.compile(r"[A-Za-z]|\\(?:i|j|ae|AE|oe|OE|o|O)\{\}")
"""The letters that LaTeX's text accents can be put on."""
_FORMULA = re.compile(r"\$[^$]*\$")
_COMMANDS = re.compile(r"\\[A-Za-z]+|[{}$\\]")
_CLUSTER = re.compile(r"\.M*|M+")
_LIGATURES = frozenset(["--", "``", "''", ",,", "?`", "!`"])
_KINDS = {"<super>": r"\textsuperscript{@}", "<sub>": r"\textsubscript{@}", "<noBreak>": r"\mbox{@}",
          "<circle>": r"\makebox[0pt][l]{$\bigcirc$}\makebox[1em]{\tiny\upshape @}"}  # fmt: skip
"""Kinds of compatible characters: the LaTeX of their parts, @; for other kinds, the parts alone."""
_WORD, _LINE = 30, 2000
"""Width in ems after which a long word may be broken, and number of characters after which a source line is."""


def code_point(character: str) -> str:
    """Return a character's code point, as [U+4E2D]."""
    return f"[U+{ord(character):04X}]"


def tex(text: str) -> str:
    """Return text as LaTeX, in which long words may be broken.

    A character or mark without an equivalent form is shown by its code point, as [U+4E2D]; none is dropped. White
    space of any kind but a fixed one is a space, and runs of it are one. The result may begin with a bracket or a star.
    """
    made: list[str] = []
    last, word, line = "", 0, 0
    for piece in _pieces(text):
        if piece == " ":
            if last in " \n":
                continue
            word = 0
            if line > _LINE:
                piece, line = "\n", 0
        else:
            if word > _WORD:
                made.append("\\hspace{0pt}%\n")
                last, word, line = "", 0, 0
            if last[-1:] + piece[0] in _LIGATURES:
                made.append("{}")
            word += set_width(piece)
        made.append(piece)
        line += len(piece)
        last = piece
    return "".join(made)


def _pieces(text: str) -> Iterator[str]:
    """Yield the LaTeX of each character with its marks, and of each mark that has none."""
    for base, marks in _clusters(text):
        form, left = _marked(base, marks)
        yield code_point(base) if form is None else form
        yield from map(code_point, left)


def _clusters(text: str) -> Iterator[tuple[str, str]]:
    """Yield each character with the marks that follow it; marks at the beginning belong to a space."""
    for found in _CLUSTER.finditer("".join("M" if unicodedata.category(c)[0] == "M" else "." for c in text)):
        part = text[slice(*found.span())]
        yield (" ", part) if found[0][0] == "M" else (part[0], part[1:])


def _marked(base: str, marks: str) -> tuple[str | None, str]:
    """Return the LaTeX of a character with its marks (None if it has none), and the marks that have none."""
    if marks and _character(base) is not None:
        whole = unicodedata.normalize("NFD", base + marks)
        base, marks = whole[0], whole[1:]
    form = _character(base)
    if form is None or not marks:
        return form, marks
    shown = [mark for mark in marks if mark in _ABOVE or mark in _ELSEWHERE][:_MOST_MARKS]
    above = [_ABOVE[mark] for mark in shown if mark in _ABOVE]
    if above:
        form = {"i": r"\i{}", "j": r"\j{}", " ": "", "~": ""}.get(form, form)
    for accent, sign in above:
        if accent and _SIMPLE.fullmatch(form):
            form = f"{accent}{{{form}}}"
        else:
            inner = form[1:-1] if _FORMULA.fullmatch(form) else rf"\hbox{{{form}}}"
            form = f"${sign}{{{inner}}}$"
    for mark in shown:
        if mark == "\u0338" and _FORMULA.fullmatch(form):
            form = rf"$\not{form[1:]}"
        else:
            form = _ELSEWHERE.get(mark, "@").replace("@", form)
    left = list(marks)
    for mark in shown:
        left.remove(mark)
    return form, "".join(left)


@cache
def _character(character: str) -> str | None:
    """Return the LaTeX of one character, from the table or its Unicode decomposition; None if there is none."""
    if character in _LATEX or " " <= character <= "~":
        return _LATEX.get(character, character)
    if character.isspace():
        return " "
    kind, parts = _decomposed(character)
    if not parts:
        return None
    if not kind:
        whole = unicodedata.normalize("NFD", character)
        form, left = _marked(whole[0], whole[1:])
        return None if left else form
    forms = [_marked(*cluster) for cluster in _clusters(parts)]
    if any(form is None or left for form, left in forms):
        return None
    made = "".join(form or "" for form, _ in forms)
    if kind == "<fraction>":
        above, _, below = made.partition("/")
        return rf"$\frac{{{above}}}{{{below}}}$" if below else made
    if kind == "<font>" and parts.isascii():
        alphabet = next((a for words, a in _ALPHABETS.items() if words in unicodedata.name(character)), "")
        return rf"$\{alphabet}{{{made}}}$" if alphabet else made
    return _KINDS.get(kind, "@").replace("@", made)


def _decomposed(character: str) -> tuple[str, str]:
    """Return the kind of a character's Unicode decomposition (such as <super>; empty if canonical), and the parts."""
    kind, arrow, codes = unicodedata.decomposition(character).rpartition(">")
    return kind + arrow, "".join(chr(int(code, 16)) for code in codes.split())


def set_width(made: str) -> int:
    """Return an upper bound, in ems, of the width of this LaTeX."""
    return max(len(_COMMANDS.sub("", made)), 1)
