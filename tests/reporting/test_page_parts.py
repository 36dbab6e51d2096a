import pytest

from hannet.reporting.html import Page, ReportError, Section
from hannet.reporting.page_parts import made_section, page_from
from hannet.reporting.tables import Table


def test_what_is_known_of_the_making_is_told():
    facts = {"command": "hannet fit x.csv", "versions": {"torch": "2.13", "numpy": "2"}, "commit": None}
    assert made_section(facts, seed="0").facts == {
        "command": "hannet fit x.csv",
        "seed": "0",
        "versions": "torch 2.13, numpy 2",
    }
    assert made_section({}).facts == {}


def page_of_share(facts):
    return Page("t", "", [], [Section("s", tables=[Table("s", {"a": ("a", "{:.1f}")}, [{"a": facts["share"]}])])])


@pytest.mark.parametrize("facts", ["{}", '{"share": "many"}', '{"share": []}'])
def test_facts_that_make_no_page_are_an_error_before_it_is_shown(tmp_path, facts):
    path = tmp_path / "report.json"
    path.write_text(facts)
    with pytest.raises(ReportError, match="not written by `hannet fit`, or damaged"):
        page_from(path, "hannet fit", page_of_share)


def test_facts_without_a_value_make_a_page(tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"share": null, "rows": 1}')
    assert "–" in page_from(path, "hannet fit", page_of_share).render()
