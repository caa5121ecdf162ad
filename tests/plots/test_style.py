"""The page of all pictures: files, fonts, colors, and what it leaves alone."""

import ast
import logging
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image
from tests.plots.read_svg import Svg

from regard.plots import style
from regard.plots.style import ACCENT, SCALE, page, thin

SCRIPTS = [
    "新闻报道",
    "スポーツ",
    "경제 뉴스",
    "العربية",
    "हिन्दी",
    "ไทย",
    "עברית",
    "𝕏 😀",
    "a\u0301e",
    "می\u200cخواهم",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "क्\u200dष",
]


def write(path, *texts):
    """Draw some texts and a line."""
    with page(path) as sheet:
        sheet.resize(300, 40 + 20 * len(texts))
        canvas = sheet.canvas()
        canvas.plot([0, 300], [10, 10], color=ACCENT.light)
        for row, text in enumerate(texts):
            canvas.text(10, 30 + 20 * row, sheet.text(text))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_equal_pictures_are_equal_bytes_whatever_matplotlib_is_set_to(tmp_path, suffix):
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    write(first, "label")
    with mpl.rc_context({"svg.fonttype": "path", "lines.linewidth": 9, "font.size": 30}):
        write(second, "label")
        assert mpl.rcParams["lines.linewidth"] == 9
    assert first.read_bytes() == second.read_bytes()


def test_svg_keeps_every_script_as_text(tmp_path):
    path = tmp_path / "a.svg"
    write(path, *SCRIPTS, "<b> & $x$", "two\nlines\tand a tab")
    assert Svg(path).texts == [*SCRIPTS, "<b> & $x$", "two lines and a tab"]


def test_characters_without_a_font_are_squares_in_png_and_nobody_is_warned(tmp_path, monkeypatch):
    records = []
    monkeypatch.setattr(logging.Logger, "callHandlers", lambda _, record: records.append(record))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(tmp_path / "a.png", *SCRIPTS)
        write(tmp_path / "a.pdf", *SCRIPTS)
    assert [record for record in records if record.levelno >= logging.WARNING] == []
    image = Image.open(tmp_path / "a.png")
    assert image.size == (600, 2 * (40 + 20 * len(SCRIPTS)))
    assert len(image.convert("RGB").getcolors(1 << 16)) > 16


def test_a_dark_reader_sees_dark_colors(tmp_path):
    path = tmp_path / "a.svg"
    write(path, "label")
    style = Svg(path).source.partition("<style>")[2].partition("</style>")[0]
    dark = style.partition("@media (prefers-color-scheme: dark)")[2]
    assert f'[style*="stroke: {ACCENT.light}"]{{stroke:{ACCENT.dark}!important}}' in dark
    assert SCALE[3].light not in style  # a color that the picture does not have


def test_colors_of_the_scale_get_darker_on_paper_and_lighter_on_a_dark_page():
    def lightness(color):
        red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
        return 0.21 * red + 0.72 * green + 0.07 * blue

    light = [lightness(color.light) for color in SCALE]
    dark = [lightness(color.dark) for color in SCALE]
    assert light == sorted(light, reverse=True)
    assert dark == sorted(dark)


def test_a_text_is_cut_where_it_is_too_wide(tmp_path):
    with page(tmp_path / "a.png") as sheet:
        assert sheet.fit("short", 100, 8) == "short"
        cut = sheet.fit("a name that is far too long for its place", 60, 8)
        assert cut.endswith("…")
        assert 40 < sheet.measure(cut, 8) <= 60


def test_a_failed_drawing_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.svg"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), page(path):
        print(1 / 0)
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.svg"]


def test_threads_draw_the_same_pictures(tmp_path):
    write(tmp_path / "alone.svg", "one")
    paths = [tmp_path / f"{number}.svg" for number in range(4)]
    threads = [threading.Thread(target=write, args=(path, "one")) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.read_bytes() for path in paths} == {(tmp_path / "alone.svg").read_bytes()}


def test_a_long_curve_keeps_its_extremes_and_gaps():
    values = [0.0] * 5000
    values[1234], values[4321], values[2000] = 9.0, -9.0, float("nan")
    shown = thin(values, 100)
    assert {0, 1234, 4321, 4999} <= set(shown)
    assert len(shown) <= 110


def test_no_module_imports_matplotlib_when_it_is_imported():
    def is_of_matplotlib(node):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        return any(name.split(".")[0] == "matplotlib" for name in names)

    for path in Path(style.__file__).parents[1].rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "matplotlib" in text:
            assert not any(map(is_of_matplotlib, ast.parse(text).body)), path


@pytest.mark.slow
def test_a_picture_needs_neither_torch_nor_pyplot(tmp_path):
    script = (
        "import sys\n"
        "from regard.plots import curves, style\n"
        "assert 'matplotlib' not in sys.modules\n"
        "curves.draw_curves(curves.Curves.from_metrics([]), sys.argv[1])\n"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.svg")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
