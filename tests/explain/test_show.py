"""An explanation in a notebook."""

from tests.explain import predictors

from regard import explain


def test_a_notebook_shows_the_page_and_a_terminal_the_text():
    frame = explain.show(predictors.text_classifier(), "the cat sat on the mat", height=300)
    html = frame._repr_html_()
    assert html.startswith("<iframe sandbox=")
    assert 'height="300"' in html
    assert "Occlusion" in repr(frame)
    assert frame.explanation.text == "the cat sat on the mat"
