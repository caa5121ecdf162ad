"""The page of an explanation: one file that opens in a browser, from disk, without a network.

`document.Explanation` goes in; nothing is computed here. The same document as lines of a terminal,
in a notebook, and as a picture.
"""

from regard.explain.page.html_page import page_html, save_page

__all__ = ["page_html", "save_page"]
