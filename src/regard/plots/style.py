"""The page that every picture is drawn on: colors, fonts, and the file that it becomes.

A page is measured in points (1/72 inch) from its top left corner. SVG keeps text as text, so that
the viewer's fonts draw it in every script, and has the colors of the reader's setting, light or
dark; PNG and PDF are light. The same drawing gives the same bytes: it has no date, no random
name, and no setting of the user's matplotlib.

matplotlib is used through its objects, without pyplot, a display, or the figures of others. It
reads some settings from one table of the process, so pictures are drawn one at a time.
"""

from __future__ import annotations

import io
import logging
import math
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from xml.sax.saxutils import escape

from regard.errors import ConfigError
from regard.plots.output_files import PictureFormat, picture_format, write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.typing import RcKeyType

STEPS = (1, 2, 2.5, 5, 10)
"""Between the numbers of an axis, times a power of ten."""
_LOCK = threading.RLock()
_POINTS_PER_INCH = 72
_DOTS_PER_INCH = 144  # of PNG
_MOST_PIXELS = 40_000_000  # of PNG, 160 MB while it is drawn
_LONGEST_SIDE = 60_000  # pixels; Agg takes 65,535


class Color(NamedTuple):
    """A color on a light page and on a dark one, ``#rrggbb``."""

    light: str
    dark: str


PAGE = Color("#ffffff", "#131316")
INK = Color("#1b1b1f", "#ececf1")
MUTED = Color("#5f6070", "#a3a4b3")
GRID = Color("#e4e4eb", "#2d2d35")
FRAME = Color("#f5f5fa", "#1c1c22")
ACCENT = Color("#4f46e5", "#8f8ffb")
BAND = Color("#a7a3f2", "#4d4ab8")
WIDE_BAND = Color("#d9d7fa", "#2f2d70")
SECOND = Color("#c2620c", "#f2a65a")
"""The orange next to the indigo: they differ for every kind of color vision."""
DARK_TEXT = Color("#0c0c0e", "#fafafc")
"""Text on a cell of small magnitude, which is light on a light page and dark on a dark one."""
LIGHT_TEXT = Color("#fbfbfd", "#0d0d0f")
"""Text on a cell of large magnitude."""
SCALE = tuple(
    Color(light, dark)
    for light, dark in (
        # Dark: viridis (van der Walt & Smith 2015). Light: the same hues from pale to dark.
        ("#f3f6d8", "#440256"),
        ("#e2efbf", "#482475"),
        ("#c9e6ad", "#463480"),
        ("#a7d9a6", "#414487"),
        ("#81caa5", "#38588c"),
        ("#5cb9a6", "#2f6c8e"),
        ("#41a5a7", "#287c8e"),
        ("#358fa5", "#20928c"),
        ("#34779f", "#25ac82"),
        ("#385e96", "#5ac864"),
        ("#3d4589", "#aadc32"),
        ("#3e2a73", "#fde725"),
    )
)
"""Magnitudes in twelve steps, from small to large; zero has the color of the page."""
_COLORS = (
    *(PAGE, INK, MUTED, GRID, FRAME, ACCENT, BAND, WIDE_BAND, SECOND, DARK_TEXT, LIGHT_TEXT),
    *SCALE,
)

_DEFAULT_FONT = "DejaVu Sans"  # comes with matplotlib
_OTHER_FONTS = (  # for scripts that it lacks, where one is installed
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP"),
    *("Source Han Sans SC", "Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("Droid Sans Fallback", "PingFang SC", "Hiragino Sans", "Hiragino Sans GB", "Heiti SC"),
    *("Apple SD Gothic Neo", "Microsoft YaHei", "SimHei", "Yu Gothic", "Meiryo", "Malgun Gothic"),
    *("IPAGothic", "TakaoGothic", "NanumGothic", "Noto Sans", "Noto Sans Arabic", "Noto Sans Thai"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Hebrew"),
    *("Lohit Devanagari", "Loma", "Nirmala UI", "Arial Unicode MS", "Unifont"),
)
_SVG_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
_MISSING = "\N{WHITE SQUARE}"  # in PNG and PDF, for a character that no font has
_MOST_CHARS = 400  # of a line of text that is fitted into a width
_WIDE = "\N{EM DASH}"  # as wide as a character of Chinese or Japanese
_DIGITS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # of numbers in base 2, no width
_FONT_FAMILY = re.compile(r"font-family: [^;\"]*;?\s*")
_OPENING = re.compile(r"<svg [^>]*>")


def require_matplotlib() -> None:
    """Check that pictures can be drawn, before the work for one begins.

    Raises:
        ConfigError: matplotlib cannot be imported.
    """
    # What matplotlib logs, such as a folder for its cache, is of no use to a reader of pictures.
    logging.getLogger("matplotlib").addHandler(_SILENT)
    try:
        import matplotlib.figure  # noqa: F401 - whether it works
    except ImportError as error:
        raise ConfigError(
            f"pictures need matplotlib, which cannot be imported ({error}).  "
            "Install it: pip install matplotlib"
        ) from error


@contextmanager
def page(path: str | Path) -> Iterator[Page]:
    """Provide a page, and write it to a file once the body has succeeded.

    Args:
        path: The file; its suffix is one of `FORMATS`. It appears complete or not at all.

    Yields:
        The page.

    Raises:
        ConfigError: The suffix is another, matplotlib is missing, or the folder cannot be written.
        ResourceError: The disk is full, or fails.
    """
    kind = picture_format(path)
    with drawn_page(kind) as (drawing, content):
        yield drawing
    write_file(path, content.getvalue())


@contextmanager
def drawn_page(kind: PictureFormat) -> Iterator[tuple[Page, io.BytesIO]]:
    """Provide a page, and the stream that has it as a file once the body has succeeded.

    Args:
        kind: Format of the file.

    Yields:
        The page, and the stream.

    Raises:
        ConfigError: matplotlib is missing.
    """
    require_matplotlib()
    import matplotlib as mpl

    content = io.BytesIO()
    with _LOCK, mpl.rc_context():
        # To read the backend in another way would choose one, for windows.
        defaults = dict.items(mpl.rcParamsDefault)
        mpl.rcParams.update({name: value for name, value in defaults if name != "backend"})
        mpl.rcParams.update(_settings())
        drawing = Page(kind)
        yield drawing, content
        content.write(drawing.encode())


_SILENT = logging.NullHandler()


class Page:
    """A page in the style of all pictures.

    Args:
        kind: Format of its file.
    """

    def __init__(self, kind: PictureFormat) -> None:
        from matplotlib.backends.backend_agg import RendererAgg
        from matplotlib.figure import Figure

        self.kind: PictureFormat = kind
        self.figure: Figure = Figure(figsize=(1, 1), dpi=_POINTS_PER_INCH, facecolor=PAGE.light)
        self.width = self.height = float(_POINTS_PER_INCH)
        self._ruler: RendererAgg = RendererAgg(8, 8, _POINTS_PER_INCH)
        self._written: dict[str, str] = {}  # by what replaces it while lines are measured

    def resize(self, width: float, height: float) -> None:
        """Set the size of the page, in points; what is on it already keeps its fractions of it."""
        self.width, self.height = width, height
        self.figure.set_size_inches(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes whose frame is at a place of the page, in points.

        Args:
            left: Distance of the frame from the left edge.
            top: Distance from the upper edge.
            width: Width of the frame.
            height: Height of the frame.

        Returns:
            The new axes.
        """
        bottom = self.height - top - height
        frame = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(frame)

    def canvas(self) -> Axes:
        """Add axes over the whole page whose units are points, from its upper left corner."""
        axes = self.figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        return axes

    def measure(self, text: str, size: float, *, weight: str = "normal") -> float:
        """Return the width of a line of text from `text`, in points."""
        font = _font(size, weight)
        return self._ruler.get_text_width_height_descent(text, font, False)[0]

    def text(self, text: str, *, most: int | None = None) -> str:
        """Return a line of text in the form in which matplotlib is to have it.

        A character that no installed font has is a square in PNG and PDF. In SVG it is left to the
        fonts of the reader; while lines are measured, others of its width are in its place.

        Args:
            text: Any text; line ends and other control characters become spaces.
            most: Characters that are kept; of a longer text the end is cut off.
        """
        text = _on_one_line(text, most)
        if all(map(_has_glyph, text)):
            return text
        if self.kind != "svg":
            return _replace_missing(text, ("", _MISSING, _MISSING))
        drawable = _replace_missing(text, ("", "n", _WIDE))
        number = len(self._written) + 1
        marked = drawable + "".join(_DIGITS[bit == "1"] for bit in f"{number:020b}")
        self._written[marked] = text
        return marked

    def fit(self, text: str, width: float, size: float, *, weight: str = "normal") -> str:
        """Return a line of text in matplotlib's form, its end cut off where it is too wide."""
        whole = self.text(text, most=_MOST_CHARS)
        if self.measure(whole, size, weight=weight) <= width:
            return whole
        low, high = 1, max(2, min(len(text), _MOST_CHARS))  # the longest that fits
        while high - low > 1:
            middle = (low + high) // 2
            is_narrow = self.measure(self.text(text, most=middle), size, weight=weight) <= width
            low, high = (middle, high) if is_narrow else (low, middle)
        return self.text(text, most=low)

    def encode(self) -> bytes:
        """Return the page as a file."""
        content = io.BytesIO()
        if self.kind == "svg":
            self.figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
            return self._finish_svg(content.getvalue().decode()).encode()
        if self.kind == "pdf":
            nothing = dict.fromkeys(("CreationDate", "Creator", "Producer"))
            self.figure.savefig(content, format="pdf", metadata=nothing)
            return content.getvalue()
        inches = self.figure.get_size_inches()
        most = min(_LONGEST_SIDE / max(inches), (_MOST_PIXELS / (inches[0] * inches[1])) ** 0.5)
        dots = min(_DOTS_PER_INCH, most)
        self.figure.savefig(content, format="png", dpi=dots, metadata={"Software": None})
        return content.getvalue()

    def _finish_svg(self, text: str) -> str:
        """Return an SVG file with the reader's fonts and colors, and the texts as they are."""
        text = _FONT_FAMILY.sub("", text)
        for stand_in, written in self._written.items():
            text = text.replace(escape(stand_in), escape(written))
        rules = "".join(
            f'[style*="{name}: {color.light}"]{{{name}:{color.dark}!important}}'
            for color in _COLORS
            for name in ("fill", "stroke")
            if f"{name}: {color.light}" in text
        )
        style = (
            f"<style>text{{font-family:{_SVG_FONTS}}}"
            f"@media (prefers-color-scheme: dark){{{rules}}}</style>"
        )
        return _OPENING.sub(lambda match: f"{match[0]}\n {style}", text, count=1)


def style_axes(axes: Axes, *, grid: Literal["x", "y", "both"] | None = "y") -> None:
    """Give axes quiet lines: no frame but the left and the lower edge, and a grid behind all."""
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
    if grid is not None:
        axes.grid(visible=True, axis=grid)
    axes.set_axisbelow(True)


def marked_values(values: Sequence[float], most: int) -> list[int]:
    """Return the indices of values that have a dot on their line.

    Args:
        values: Values in order; those that are not finite are gaps.
        most: Most values of which each has a dot. Of more, those between two gaps have one, through
            which no line leads.

    >>> marked_values([1.0, 2.0, float("nan"), 3.0], 4), marked_values([1.0, 2.0], 1)
    ([0, 1, 2, 3], [])
    >>> marked_values([1.0, 2.0, float("nan"), 3.0], 3)
    [3]
    """
    if len(values) <= most:
        return list(range(len(values)))
    is_finite = [False, *map(math.isfinite, values), False]
    triples = zip(is_finite, is_finite[1:], is_finite[2:], strict=False)
    return [index for index, around in enumerate(triples) if around == (False, True, False)]


def thin(values: Sequence[float], most: int) -> list[int]:
    """Return the indices of values that show a long curve: the least and the largest of each part.

    Args:
        values: Values in order; NaN is a gap.
        most: Indices to return, about; 2 or more.

    Returns:
        Indices in order; all of them where they are few.

    >>> thin([1.0, 2.0, 5.0, 0.0, 1.0, 1.0, 1.0, 1.0], 4)
    [0, 2, 3, 4, 7]
    """
    if len(values) <= most:
        return list(range(len(values)))
    step = max(2, -(-len(values) * 2 // most))
    indices = {0, len(values) - 1}
    for start in range(0, len(values), step):
        part = range(start, min(start + step, len(values)))
        finite = [index for index in part if values[index] == values[index]]
        if finite:
            indices |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
        else:
            indices.add(start)
    return sorted(indices)


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` indices spread over `count`, the first and the last among them.

    >>> spread(9, 3), spread(2, 3)
    ([0, 4, 8], [0, 1])
    """
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def label_values(axes: Axes, most: int) -> None:
    """Give the axis of values at most `most` + 1 numbers; a logarithmic one the powers of ten."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(most, steps=STEPS))
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def count_text(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> count_text(1, "row"), count_text(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _settings() -> dict[RcKeyType, object]:
    """Return the settings of matplotlib for all pictures."""
    return {
        "axes.edgecolor": MUTED.light,
        "axes.facecolor": "none",
        "axes.labelcolor": MUTED.light,
        "axes.labelsize": 8.5,
        "axes.linewidth": 0.8,
        "axes.prop_cycle": f"cycler('color', ['{ACCENT.light}', '{SECOND.light}'])",
        "axes.titlecolor": INK.light,
        "axes.titlelocation": "left",
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.unicode_minus": True,
        "axes.ymargin": 0.1,
        "font.family": list(_families()),
        "font.size": 8.5,
        "grid.color": GRID.light,
        "grid.linewidth": 0.8,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "legend.labelcolor": INK.light,
        "lines.linewidth": 1.6,
        "lines.markersize": 3.5,
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "regard",
        "text.color": INK.light,
        "text.parse_math": False,
        "xtick.color": MUTED.light,
        "xtick.labelcolor": MUTED.light,
        "xtick.labelsize": 8,
        "xtick.major.size": 3,
        "xtick.major.width": 0.8,
        "ytick.color": MUTED.light,
        "ytick.labelcolor": MUTED.light,
        "ytick.labelsize": 8,
        "ytick.major.size": 3,
        "ytick.major.width": 0.8,
    }


@cache
def _families() -> tuple[str, ...]:
    """Return the families of fonts that a character is looked up in, of those installed."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return (_DEFAULT_FONT, *(name for name in _OTHER_FONTS if name in installed))


def _font(size: float, weight: str) -> FontProperties:
    from matplotlib.font_manager import FontProperties

    return FontProperties(family=list(_families()), size=size, weight=weight)


@cache
def _has_glyph(char: str) -> bool:
    """Return whether one of the fonts has a character."""
    from matplotlib.font_manager import findfont, get_font

    names = (findfont(name, fallback_to_default=False) for name in _families())
    return any(get_font(name).get_char_index(ord(char)) for name in names)


def _on_one_line(text: str, most: int | None) -> str:
    """Return a text without line ends and other control characters, the end cut off at `most`."""
    text = "".join(" " if _is_control(char) else char for char in text).strip()
    if most is None or len(text) <= most:
        return text
    return text[: max(1, most - 1)].rstrip() + "…"


def _replace_missing(text: str, forms: tuple[str, str, str]) -> str:
    """Return a text with others in place of characters that no font has, by their width."""
    drawable, is_missing = "", False
    for char in text:
        if (width := _width(char)) or not is_missing:  # a mark belongs to the one before
            is_missing = not _has_glyph(char)
            drawable += forms[width] if is_missing else char
    return drawable


def _is_control(char: str) -> bool:
    """Return whether a character ends lines, or cannot be in an XML file."""
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in "\ufffe\uffff"


def _width(char: str) -> int:
    """Return the width of a character: 2 for one of Chinese or Japanese, 0 for a mark, else 1."""
    if unicodedata.category(char) in ("Mn", "Mc", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
