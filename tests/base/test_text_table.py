"""Tables for the terminal."""

from gpt2lab.base.text_table import text_table


def test_columns_stand_to_their_side_and_no_line_ends_in_blanks():
    rows = [("set", "items", "note"), ("a", "1,000", "all of it"), ("longer", "2", "")]
    assert text_table(rows, left=(0, 2)).splitlines() == [
        "set     items  note",
        "a       1,000  all of it",
        "longer      2",
    ]
