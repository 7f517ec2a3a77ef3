"""Names, tables and reports for people."""

from nnunet_dycon.files.text import by_text, few, print_report, text_table


def test_a_few_of_many_names():
    assert few(["a", "b"]) == "a, b"
    assert few(iter("abcdefg"), most=3) == "a, b, c and 4 more"
    assert few([]) == ""


def test_texts_are_told_once_with_those_they_are_said_of():
    assert by_text({"b": ["odd"], "c": ["odd", "old"], "a": ["odd"]}, 2) == [("odd", "a, b and 1 more"), ("old", "c")]


def test_a_table_has_columns_and_a_rule():
    rows = [["tumour", "9.5"], ["all", "10.25"]]
    assert text_table(["class", "mm"], rows) == "class   mm\n------  -----\ntumour  9.5\nall     10.25"
    assert text_table(["class", "mm"], rows, right=True) == (
        "class      mm\n------  -----\ntumour    9.5\nall     10.25"
    )
    assert text_table(["class"], []) == "class\n-----"


def test_a_report_says_warnings_apart(capsys):
    print_report("done", "next", warnings=["w"], notes=["n"])
    assert capsys.readouterr() == ("note: n\ndone\nnext\n", "warning: w\n")
