import errno
import io
from dataclasses import replace
from pathlib import Path

import pytest

from hannet.reporting.html import MAX_PICTURE, Bar, Page, Picture, ReportError, Section, picture, read_pictures
from hannet.reporting.tables import Table
from html_pages import parse

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def everything(text):
    """A page that says the text wherever a page says anything."""
    table = Table(text, {"one": (text, ""), "two": (text, "{}")}, [{"one": text, "two": text}], [text])
    sections = [
        Section(
            text,
            text=[text],
            pictures=[Picture(text, SVG, "svg+xml")],
            tables=[table],
            bars=[Bar(text, 1.0, text), Bar(text, 0.0, text)],
            bar_headings=(text, text),
            facts={text: text},
            code=[text],
            notes=[text],
            links={text: text},
        )
    ] * 9  # so many that there is a list of contents
    return Page(text, text, [text], sections)


def test_all_that_a_page_shows_is_escaped():
    page = everything(EVIL).render()
    found = parse(page)
    assert found.text.count(EVIL) == 4 + 9 * 20  # two titles, the result and what it is; each part of each section
    assert found.tags.count("img") == 9
    assert "<script" not in page


def test_a_table_without_a_title_is_named_by_its_section():
    table = Table("", {"a": ("a", "")}, [{"a": 1}])
    page = Page("t", "", [], [Section("Columns", tables=[table, replace(table, title="More")])]).render()
    assert page.count("<caption>") == 1
    assert 'aria-label="Columns"' in page
    assert "<caption>More</caption>" in page


def test_a_path_leads_beside_the_page_whatever_its_name():
    page = Page("t", "", [], [Section("s", links={"one": "javascript:alert(1)", "two": "a b/é#?.jsonl"})]).render()
    assert parse(page).links == ["./javascript%3Aalert%281%29", "./a%20b/%C3%A9%23%3F.jsonl"]


def test_no_control_character_is_left():
    page = everything("a\x00b\x1b[31m\ud800\u202e").render()
    assert "a\\x00b\\x1b[31m\\ud800\\u202e" in parse(page).text
    assert not {character for character in page if ord(character) < 32} - {"\n"}
    page.encode()


def test_a_page_may_load_nothing_and_knows_light_dark_and_print(tmp_path):
    path = Page("A title", "93%", ["of all"], []).save(tmp_path)
    page = path.read_text()
    assert path.name == "report.html"
    assert "default-src 'none'" in page
    assert "@media screen and (prefers-color-scheme:dark)" in page  # paper is white
    assert "@media print" in page
    assert parse(page).text.endswith("A title 93% of all")


def test_the_longest_bar_is_as_wide_as_the_chart():
    bars = [Bar("a", 4.0, "4"), Bar("b", 1.0, "1"), Bar("c", -1.0, "-1")]
    page = Page("t", "", [], [Section("s", bars=bars)]).render()
    assert [part.split("%")[0] for part in page.split('style="width:')[1:]] == ["100.0", "25.0"]


def test_a_picture_is_taken_as_it_is_or_made_small(tmp_path):
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.effect_noise((2000, 400), 90).save(buffer, "PNG")
    png = buffer.getvalue()
    assert picture("a", {"a.svg": SVG, "a.png": png}, "a").content == SVG
    shrunk = picture("a", {"a.svg": SVG + b" " * MAX_PICTURE, "a.png": png}, "a")
    assert shrunk.form == "webp"
    assert len(shrunk.content) < len(png)
    with image.open(io.BytesIO(shrunk.content)) as opened:
        assert opened.size == (1400, 280)
    assert picture("a", {"a.png": b"no picture"}, "a").form == "png"
    assert picture("a", {"b.svg": SVG}, "a") is None
    (tmp_path / "a.svg").write_bytes(SVG)
    assert read_pictures(tmp_path, "a", "b") == {"a.svg": SVG}


def test_a_picture_that_claims_to_be_huge_stays_as_it_is(monkeypatch):
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.new("RGB", (30, 30)).save(buffer, "PNG")
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 100)
    assert picture("a", {"a.png": buffer.getvalue()}, "a").form == "png"


def test_a_picture_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "a.svg").write_bytes(SVG)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ReportError, match=r"a\.svg: cannot be read \(Permission denied\)"):
        read_pictures(tmp_path, "a")
