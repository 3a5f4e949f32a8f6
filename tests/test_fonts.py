"""Labels of any script can be drawn with the installed fonts."""

import pytest
from PIL import ImageFont

from aocr.evaluation import fonts


def test_the_built_in_font_does_where_it_can():
    font = fonts.font_for(["Hello", "A 1"], 13)
    assert not fonts.lacking("Hello A1", font) and font.getname() == ImageFont.load_default(size=13).getname()


def test_what_no_font_has_is_written_as_an_escape():
    font = ImageFont.load_default(size=13)
    assert fonts.lacking("aſ\U0010fffe\n", font) >= {"\U0010fffe", "\n"}
    assert fonts.drawable("a\U0010fffe\nb", font) == "a\\U0010fffe\\nb"


def test_what_nobody_sees_is_written_as_a_code_point():
    font = ImageFont.load_default(size=13)
    assert fonts.drawable("a\u200bb\xa0c d", font) == "a<U+200B>b<U+00A0>c d"


def test_another_font_is_taken_for_other_alphabets():
    try:
        ImageFont.truetype("DejaVuSans.ttf", 13)
    except OSError:
        pytest.skip("this machine has no DejaVu Sans")
    font = fonts.font_for(["Glück", "dieſe", "Жук"], 13)
    assert not fonts.lacking("GlückdieſeЖук", font) and fonts.drawable("dieſe", font) == "dieſe"


def test_without_other_fonts_it_is_pillows_own(monkeypatch):
    monkeypatch.setattr(fonts, "NAMES", ("no such font.ttf",))
    assert fonts.font_for(["dieſe\U0010fffe"], 13).getname() == ImageFont.load_default(size=13).getname()
