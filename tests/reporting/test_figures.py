import pytest

from hannet.reporting.figures import figure_as_bytes, new_figure


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_equal_figures_are_equal_files(form, start):
    contents = []
    for _ in range(2):
        figure = new_figure(2, 1)
        figure.subplots().plot([1, 2])
        contents.append(figure_as_bytes(figure, form))
    assert contents[0] == contents[1]
    assert contents[0].startswith(start)
