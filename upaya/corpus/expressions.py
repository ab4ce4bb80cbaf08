"""Mathematical expressions: read and compared by math-verify (sympy), within bounds that keep it quick.

math-verify stops itself by an alarm signal, which only the main thread can have and which makes what is right depend on
how busy a machine is. Here it has no clock. What could take long is not read: an expression is short, has small
exponents and no sum, integral or limit; and two expressions that differ in their values at a few fixed points are
different, without an attempt to simplify one into the other.
"""

import logging
import re
import threading
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

from upaya.corpus.numerals import bare, words

LONGEST = 160  # characters of an expression
MOST_OPERATIONS = 60
MOST_IN_RELATION = 30  # operations of what is solved when it is compared: an equation, an inequality
MOST_BITS = 10_000  # of any number that an expression could evaluate to
PLACES = 15  # decimals to which a decimal must agree; math-verify's own 6 call 1.0000001 the same as 1

_CHARACTERS = re.compile(r"[ -~\nα-ωΑ-Ω°]*")
_COMMANDS = words("""
    frac sqrt cdot times div pm pi infty left right sin cos tan cot sec csc arcsin arccos arctan sinh cosh
    tanh log ln exp leq le geq ge neq ne lt gt in notin cup cap setminus emptyset mathbb mathrm mathbf text
    begin end quad circ vert mid alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa
    lambda mu nu xi rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi
    Omega
""")  # fmt: skip
_SYMBOLS = {"×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\leq ", "≥": r"\geq ",
            "≠": r"\neq ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "**": "^"}  # fmt: skip
_LONG_EXPONENT = re.compile(r"\^ *(?:\{ *)?[+-]?(?:\d *){4}")
_TOWER = re.compile(r"\^ *(?:\{[^{}]*[\^!]|[^ {}]{1,8} *\^)")
_FACTORIAL = re.compile(r"(?<![\d.])(?:\d{1,2}|[a-z])!(?![!=])")

_LOCK = threading.Lock()  # its parser keeps what it knows in globals


@lru_cache(maxsize=4096)
def written(text: str) -> str:
    """An expression as it is compared as text: no wrappers ($, \\boxed, bold) around it and no white space."""
    return "".join(bare(text).split()) if len(text) <= LONGEST else "".join(text.split())


@lru_cache(maxsize=4096)
def same(said: str, right: str) -> bool:
    """Whether two texts write the same expression: as texts or as math-verify has it. Takes any text in any thread."""
    if written(said) == written(right):
        return bool(written(said))
    said_value, right_value = expression(said), expression(right)
    if said_value is None or right_value is None:
        return False
    with _LOCK:
        try:
            if _differ(said_value, right_value):
                return False
            return bool(_library().verify(right_value, said_value, float_rounding=PLACES, timeout_seconds=None))
        except Exception:  # sympy raises whatever it likes on what makes no sense
            return False


@lru_cache(maxsize=4096)
def expression(text: str) -> Any:
    """What a text writes, as sympy has it; None for what is no expression, or none that is surely quick to compare."""
    latex = _latex(text)
    if latex is None:
        return None
    with _LOCK:
        library = _library()
        config = library.LatexExtractionConfig()
        try:
            found = library.parse(f"${latex}$", [config], fallback_mode="no_fallback", parsing_timeout=None)
            value = found[0] if len(found) == 1 else None
            return value if value is not None and _quick(value) else None
        except Exception:  # antlr and sympy raise whatever they like on what makes no sense
            return None


def _latex(text: str) -> str | None:
    if not 0 < len(text) <= LONGEST:
        return None
    latex = bare(text)
    for symbol, command in _SYMBOLS.items():
        latex = latex.replace(symbol, command)
    if latex.endswith("%"):  # elsewhere it would begin a comment
        latex = rf"\frac{{{latex[:-1]}}}{{100}}"
    latex = re.sub(r"√ *(\d+|[a-z]|\([^()]*\))", r"\\sqrt{\1}", latex)
    if (
        not latex
        or not _CHARACTERS.fullmatch(latex)
        or "$" in latex
        or not set(re.findall(r"\\([A-Za-z]+)", latex)) <= _COMMANDS
        or _LONG_EXPONENT.search(latex)
        or "%" in latex
        or _TOWER.search(latex)
        or "!" in _FACTORIAL.sub("", latex.replace("!=", ""))
        or re.search(r"\d{40}", latex)
    ):
        return None
    said = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+|\{[A-Za-z ]+\}", " ", latex))
    if any(word.lower() in ("or", "and", "to", "is", "not", "the", "between") for word in said):
        return None  # it would be a product of o and r
    return re.sub(r"(?<![\\A-Za-z])sqrt *\(([^()]*)\)", r"\\sqrt{\1}", latex)


def _quick(value: Any) -> bool:
    """Whether comparing an expression surely takes no more than moments. Nothing here evaluates it."""
    import sympy

    if isinstance(value, sympy.MatrixBase):
        return all(_quick(entry) for entry in value)
    if not isinstance(value, sympy.Basic):
        return False
    if _bits(value) > MOST_BITS:
        return False
    operations = sum(1 for part in sympy.preorder_traversal(value) if part.args)
    if value.atoms(sympy.core.relational.Relational):
        powers = [power.exp for power in value.atoms(sympy.Pow)]
        solvable = all(power.is_number and abs(power) <= 4 for power in powers)
        if not solvable or operations > MOST_IN_RELATION or value.atoms(sympy.Function):
            return False
    return operations <= MOST_OPERATIONS


def _bits(value: Any) -> float:
    """No fewer than the binary digits of any number that an expression of numbers evaluates to."""
    import sympy

    if isinstance(value, sympy.Rational):
        return float(abs(value.p).bit_length() + abs(value.q).bit_length())
    sizes = [_bits(argument) for argument in value.args]
    if isinstance(value, sympy.Pow):
        base, exponent = sizes
        if exponent > 14:
            return float("inf")
        times = float(abs(value.exp)) if value.exp.is_Rational else 2**exponent
        if value.base.free_symbols and isinstance(value.base, sympy.Add) and times > 32:
            return float("inf")  # multiplied out, it has too many terms
        return base * times
    if isinstance(value, sympy.factorial):
        return 2 ** sizes[0] * sizes[0] if sizes[0] <= 8 else float("inf")
    return sum(sizes) + 1


def _differ(said: Any, right: Any) -> bool:
    """Whether two expressions have different values at fixed points. False where that is not known: of sets, of
    equations, of what has no value there."""
    import sympy

    if not (isinstance(said, sympy.Expr) and isinstance(right, sympy.Expr)):
        return False
    symbols = sorted(said.free_symbols | right.free_symbols, key=str)
    if len(symbols) != len({str(symbol) for symbol in symbols}) or any(len(str(s)) > 1 for s in symbols):
        return False
    for first in (0.7, 2.3):
        values = {symbol: sympy.Float(first + 0.37 * place) for place, symbol in enumerate(symbols)}
        difference = ((said - right).subs(values)).evalf(30, maxn=200)
        scale = right.subs(values).evalf(30, maxn=200)
        if difference.is_number and scale.is_number and difference.is_finite and scale.is_finite:
            return bool(abs(difference) > sympy.Float("1e-9") * (1 + abs(scale)))
    return False


@cache
def _library() -> ModuleType:
    """math-verify, once an expression is met: it imports sympy."""
    import math_verify

    for name in ("math_verify.parser", "math_verify.grader"):  # which warn that they have no clock
        logging.getLogger(name).setLevel(logging.ERROR)
    return math_verify
