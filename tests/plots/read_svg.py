"""What an SVG file shows: its texts, colors and rules."""

import re
from pathlib import Path
from xml.etree import ElementTree

_NAMESPACE = "{http://www.w3.org/2000/svg}"


class Svg:
    """A picture that is read back."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text(encoding="utf-8")
        self.root = ElementTree.fromstring(self.source.encode())
        self.elements = list(self.root.iter(f"{_NAMESPACE}text"))
        self.texts = [element.text or "" for element in self.elements]
        _, _, self.width, self.height = map(float, self.root.attrib["viewBox"].split())

    def count_outlines(self, color: str) -> int:
        """Count the closed outlines that are filled with a color."""
        paths = self.root.iter(f"{_NAMESPACE}path")
        filled = (path for path in paths if f"fill: {color}" in path.get("style", ""))
        return sum(path.attrib["d"].count("z") for path in filled)

    def count(self, style: str) -> int:
        """Count the shapes with a style, such as ``stroke: #4f46e5``."""
        body = self.source.partition("</style>")[2]
        return len(re.findall(re.escape(style), body))
