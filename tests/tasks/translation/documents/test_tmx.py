"""TMX: a translation memory gets the language that it lacks."""

from __future__ import annotations

import pytest
from tests.tasks.translation.documents.stub_model import translate

from regard.errors import ConfigError, DataError

MEMORY = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en-US"/><body>
  <tu>
    <tuv xml:lang="en"><seg>red <ph>{0}</ph> cat</seg></tuv>
  </tu>
  <tu><tuv xml:lang="en"><seg>cat</seg></tuv><tuv xml:lang="de-AT"><seg>Katze</seg></tuv></tu>
  <tu><tuv xml:lang="en"><seg>dog</seg></tuv><tuv xml:lang="de"><seg/></tuv></tu>
  <tu><tuv xml:lang="fr"><seg>chat</seg></tuv></tu>
</body></tmx>
"""


def test_units_without_the_target_language_get_it():
    text, filled = translate("a.tmx", MEMORY)
    expected = MEMORY.replace(
        "cat</seg></tuv>\n  </tu>",
        'cat</seg></tuv>\n    <tuv xml:lang="de"><seg>der <ph>{0}</ph> tac</seg></tuv>\n  </tu>',
    ).replace("<seg/>", "<seg>god</seg>")
    assert text == expected
    assert len(filled) == 2


def test_a_memory_is_refused_without_a_target_a_segment_or_another_root():
    with pytest.raises(ConfigError, match=r"a\.tmx: the language to write is not known"):
        translate("a.tmx", MEMORY, target="")
    with pytest.raises(DataError, match=r"a\.tmx:8: <tuv> has no <seg>"):
        translate("a.tmx", MEMORY.replace("<seg/>", ""))
    with pytest.raises(DataError, match=r"a\.tmx:1: <tmx> was expected, not <x>"):
        translate("a.tmx", "<x/>")
