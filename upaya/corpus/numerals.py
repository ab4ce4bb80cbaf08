"""Numbers as people write them, read exactly: 4, 4.0, +4, $4$, 1,234, 1/2, ½, 12 %, 4 legs, 十.

One text says one number or none: 「4 or 5」, 「4 5」 and 「x=4y」 say none. What is read is an int or a Fraction, never
a float. At most LONGEST characters are looked at, by patterns without nested repetition.
"""

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

import cn2an

LONGEST = 64  # characters: no number that is an answer takes more, and the work grows with the text
LONGEST_CHINESE = 20  # characters, of Chinese numerals
LARGEST_EXPONENT = 999

Number = int | Fraction


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What a number may stand in. A mark that has no partner, or not the right one, is no wrapper and so no number.
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("`", "`"),
)
_BRACED = ("\\boxed{", "\\fbox{", "\\text{", "\\mathrm{", "\\mathbf{", "{")
# TeX's spaces and signs as plain ones. 「{,}」 is a comma that sets no space.
_TEX = (
    ("{,}", ","), ("\\,", " "), ("\\ ", " "), ("~", " "), ("\\%", "%"), ("\\$", "$"), ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"), ("\\times", "×"), ("\\cdot", "×"), ("\\left", ""), ("\\right", ""), ("⁄", "/"),
)  # fmt: skip
_MINUS = str.maketrans("−‐–", "---")  # U+2212, the hyphen and the dash that stand for it

_GROUPED = "|".join(rf"[1-9]\d{{0,2}}(?:{separator}\d{{3}})+" for separator in (",", " ", "_", "['’]"))
_DECIMAL = rf"(?:{_GROUPED}|\d+)(?:\.\d+)?|\.\d+"
_SIGN = r"(?P<sign>[+-]?) ?"
_FRACTION = r"(?:\\frac *(?:\{(?P<a>-?\d+)\} *\{(?P<b>\d+)\}|(?P<c>\d)(?P<d>\d))|(?P<e>\d+) ?/ ?(?P<f>\d+))"
_VALUE = re.compile(
    rf"{_SIGN}(?P<currency>[$€£¥₩₹₽¢฿₪₫₺]?) ?{_SIGN.replace('sign', 'sign_after')}"
    rf"(?:(?:(?P<whole>\d+)(?: (?=\d)| ?(?=\\)))?{_FRACTION}"
    rf"|(?P<over>{_GROUPED}) ?/ ?(?P<under>\d+)|(?P<decimal>{_DECIMAL})"
    r"(?: ?[eE](?P<exponent>[+-]?\d{1,3})(?!\d)"
    r"| ?[×*x] ?10 ?\^ ?(?:\{(?P<power>[+-]?\d{1,3})\}|(?P<bare>[+-]?\d{1,3})(?!\d)))?)",
    re.ASCII,
)

_PERCENT = {"%", "percent", "per cent", "pct"}
_CURRENCIES = set("$€£¥₩₹₽¢฿₪₫₺")
_LETTERS = "[^\\W\\d_\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]"  # of no script in which words run together
_WORD = rf"°?{_LETTERS}+(?:\^?[23])?"
_UNIT = re.compile(rf"{_WORD}(?:[ /·]{_WORD}){{0,2}}|[°€£$¥₩₹₽¢]")
# Units that are written without a space, and single letters that are units rather than unknowns.
_ADJOINING = words("""
    km cm mm nm µm μm dm kg mg µg μg lb lbs oz ft ml cl dl hl ms ns min hr hrs hz khz mhz ghz kb mb gb tb kw
    kwh kj kcal cal pa hpa kpa mol eur usd gbp chf px °c °f km/h m/s m^2 m^3 km^2 cm^2 cm^3 °
""")  # fmt: skip
_LETTER_UNITS = set("mgshdtlLVWNJAC")
# Words after a number that make another number of it, or none.
_NO_UNITS = words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds
    thousand thousands million millions billion billions trillion trillions k mn mio bn mrd dozen dozens score
    lakh lakhs crore crores half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths
    seventh sevenths eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths
    millionth millionths percent percentage pct cent permille st nd rd th am pm bc bce ad ce or and nor to by
    than then plus minus times over under between about approximately approx around roughly circa at least
    most more less fewer not no but if unless except without until till through versus vs up down off is isn
    are was were be maybe possibly perhaps probably likely unsure guess wrong incorrect false negative
    positive squared cubed factorial mod modulo root base hex pi sqrt log ln sin cos tan exp inf infinity nan
    e i x y z n oder und bis ou et o
""")  # fmt: skip


@lru_cache(maxsize=4096)
def number(text: str, unit: str = "") -> Number | None:
    """The one number that a text says, exactly, or None where it says none, or more than one.

    Args:
        unit: what the number counts, if a question declares it. Then that unit may follow or precede, or none; any
            other is no answer. With the unit "%", 12 and 12 % are both 12. Without a unit 12 % is 12/100, and any words
            that can be a unit may follow.

    Chinese numerals are read as cn2an reads them, if they are whole numbers or decimals of at most 20 characters.
    """
    if text.isascii() and text.isdigit() and len(text) <= LONGEST:  # what is nearly always said
        return int(text)
    if not 0 < len(text) <= LONGEST:
        return None
    plain = bare(text)
    if any(character >= "\u2e80" for character in plain):
        return _chinese(plain, unit)
    match = _VALUE.match(plain)
    value = _value(match) if match else None
    if match is None or value is None:
        return None
    return _in_unit(value, match["currency"], plain[match.end() :], unit)


def bare(text: str) -> str:
    """A text without what numbers are wrapped in: NFKC, one minus, no Markdown, no TeX around it, no final full stop.

    What stood inside a wrapper is set off from what follows it by two spaces, which no number goes across.
    """
    spaced = []
    for character in text:
        kind = unicodedata.decomposition(character).partition(" ")[0]
        if kind in ("<super>", "<sub>"):  # NFKC would make 42 of 4²
            spaced.append("^" if kind == "<super>" else "_")
        elif kind == "<fraction>" and spaced and spaced[-1].isdigit():  # and 41/2 of 4½
            spaced.append(" ")
        spaced.append(character)
    plain = unicodedata.normalize("NFKC", "".join(spaced)).translate(_MINUS)
    for tex, character in _TEX:
        plain = plain.replace(tex, character)
    for _ in range(8):  # wrappers within wrappers
        before, plain = plain, _unwrapped(_without_stop(plain.strip()))
        if plain == before:
            break
    return plain


def _without_stop(text: str) -> str:
    return text[:-1].rstrip() if text.endswith((".", "。")) and not text.endswith("..") else text


def _unwrapped(text: str) -> str:
    sign = text[:1] if text[:1] in ("+", "-") and text[1:2] in ("$", "\\", "*", "{") else ""
    inner = text[len(sign) :]
    for opening in _BRACED:
        if inner.startswith(opening):
            end = _closing(inner, len(opening))
            return _joined(sign + inner[len(opening) : end], inner[end + 1 :]) if end else text
    for opening, closing in _WRAPPERS:
        end = inner.find(closing, len(opening)) if inner.startswith(opening) else -1
        if end > len(opening):
            return _joined(sign + inner[len(opening) : end], inner[end + len(closing) :])
    tail = re.search(r" *\\(?:text|mathrm)\{([^{}]*)\}$", text)
    return text[: tail.start()] + "  " + tail[1].strip() if tail else text


def _joined(inside: str, after: str) -> str:
    return f"{inside.strip()}  {after.strip()}" if after.strip() else inside


def _closing(text: str, start: int) -> int:
    """Where the brace that is open at `start` closes; 0 where it does not."""
    depth = 1
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if not depth:
            return place
    return 0


def _value(match: re.Match[str]) -> Number | None:
    sign, after = match["sign"], match["sign_after"]
    if sign and after:
        return None
    value: Number
    if match["decimal"] is not None:
        value = _reduced(Fraction(re.sub("[, _'’]", "", match["decimal"])))
        exponent = int(match["exponent"] or match["power"] or match["bare"] or 0)
        if exponent:
            value = _reduced(value * Fraction(10) ** exponent)
    else:
        over = match["a"] or match["c"] or match["e"] or re.sub("[, _'’]", "", match["over"] or "")
        under = int(match["b"] or match["d"] or match["f"] or match["under"])
        if not under:
            return None
        part, whole = Fraction(int(over), under), match["whole"]
        if whole is not None:
            if not 0 < part < 1 or len(over) > 2:  # 4 1/2 is a mixed number, 4 3/2 and 「1 234/567」 are unclear
                return None
            part += int(whole)
        value = _reduced(part)
    return -value if "-" in (sign, after) else value


def _reduced(value: Fraction) -> Number:
    return value.numerator if value.denominator == 1 else value


def _in_unit(value: Number, currency: str, tail: str, unit: str) -> Number | None:
    said = tail.strip(" ")
    if said.lower() in _PERCENT:
        if unit not in ("", "%") or currency:
            return None
        return value if unit else _reduced(Fraction(value) / 100)
    if currency and said and said.lower() != currency:
        return None
    said = said or currency
    if not said:
        return value
    if unit:
        return value if _same_unit(said, unit) else None
    return value if said in _CURRENCIES or _can_be_unit(said, adjoining=bool(tail) and tail[0] != " ") else None


def _same_unit(said: str, unit: str) -> bool:
    """Whether two units are the same. Short ones are symbols, in which case matters: mW is no MW."""
    said, unit = (unicodedata.normalize("NFKC", text).replace("^", "") for text in (said, unit.strip()))
    return said == unit or (len(unit) > 3 and said.casefold() == unit.casefold())


def _can_be_unit(said: str, adjoining: bool) -> bool:
    if not _UNIT.fullmatch(said):
        return False
    if adjoining:
        return said.lower() in _ADJOINING
    words = re.split("[ /·]", said)
    if any(word.lower() in _NO_UNITS for word in words):
        return False
    return len(words[0]) > 1 or words[0] in _LETTER_UNITS


def _chinese(plain: str, unit: str) -> Number | None:
    if re.search(r"\d\s+\d", plain):
        return None
    plain = "".join(plain.split()).strip("。.").lower()
    declared = "".join(unicodedata.normalize("NFKC", unit).split()).lower()
    if declared and plain.endswith(declared):
        plain = plain.removesuffix(declared)
        if plain.isascii():
            return number(plain, unit)
    percent = plain.startswith("百分之")
    if percent:
        plain = plain.removeprefix("百分之")
        if unit not in ("", "%"):
            return None
    if not 0 < len(plain) <= LONGEST_CHINESE:
        return None
    if percent and plain.isascii():
        read = number(plain)
        value = None if read is None else Fraction(read)
    else:
        try:
            value = Fraction(str(cn2an.cn2an(plain, "smart")))  # a float's shortest digits, which are those written
        except (ValueError, KeyError, IndexError):
            return None
    if value is None:
        return None
    return _reduced(value / 100 if percent and not unit else value)
