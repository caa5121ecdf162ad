"""The page of an explanation in a cell of a notebook."""

from __future__ import annotations

import html

from regard.explain.document import Explanation
from regard.explain.page.html_page import page_html
from regard.explain.page.terminal_view import format_text
from regard.option_checks import require_whole


class NotebookFrame:
    """An explanation that a notebook shows as its page, and a terminal as text.

    Args:
        explanation: Explanation of a prediction, of any task.
        height: Height of the frame, in pixels, 1 or more.
    """

    def __init__(self, explanation: Explanation, height: int = 720) -> None:
        require_whole("height", height, 1)
        self.explanation, self.height = explanation, height

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own origin, which cannot read the notebook."""
        page = html.escape(page_html(self.explanation), quote=True)
        return (
            f'<iframe sandbox="allow-scripts allow-downloads" srcdoc="{page}" '
            f'title="Explanation" width="100%" height="{self.height}" '
            'style="border:0;border-radius:8px"></iframe>'
        )

    def __repr__(self) -> str:
        return format_text(self.explanation)
