"""An explanation in a notebook."""

from __future__ import annotations

from tests.explain import sample_explanations as samples

from regard.explain.page import NotebookFrame


def test_a_notebook_shows_the_page_in_a_frame_without_its_own_origin():
    frame = NotebookFrame(samples.forecast(), height=500)
    html = frame._repr_html_()
    assert html.startswith('<iframe sandbox="allow-scripts allow-downloads" srcdoc="&lt;!DOCTYPE')
    assert 'height="500"' in html
    assert "<script" not in html
    assert repr(frame).startswith("demand · forecasting")
