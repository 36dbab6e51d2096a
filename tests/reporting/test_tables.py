from hannet.reporting.tables import Table, format_cells, markdown

TABLE = Table("Errors", {"net": ("network", ""), "error": ("test %", "{:.1f}")}, [{"net": "HanNet", "error": 1.25}, {}])


def test_a_value_has_its_format_and_a_missing_one_a_dash():
    assert format_cells(TABLE) == [["HanNet", "1.2"], ["–", "–"]]


def test_markdown_aligns_numbers_to_the_right_and_lists_notes():
    assert markdown(TABLE).splitlines()[2:5] == ["| network | test % |", "| --- | ---: |", "| HanNet | 1.2 |"]
    noted = Table(TABLE.title, TABLE.columns, TABLE.rows, ["two seeds"])
    assert markdown(noted).startswith("# Errors\n")
    assert markdown(noted).endswith("\n\n- two seeds\n")
