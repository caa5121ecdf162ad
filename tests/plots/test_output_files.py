"""Files of pictures: their suffixes, and whether they can be written."""

import pytest

from regard.errors import ConfigError
from regard.plots.output_files import picture_format, require_writable


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.svgz", ".svg"])
def test_another_suffix_is_refused_with_those_allowed(name):
    with pytest.raises(ConfigError, match=r"a picture ends in one of \.svg, \.png, \.pdf\."):
        picture_format(name)
    assert picture_format("A.SVG") == "svg"


def test_a_missing_folder_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(ConfigError, match=r"No such file or directory"):
        require_writable(tmp_path / "no" / "a.svg")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(ConfigError, match="a folder, not a file"):
        require_writable(tmp_path / "folder.svg")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Not a directory"):
        require_writable(tmp_path / "file" / "a.svg")
    require_writable(tmp_path / "a.svg")
