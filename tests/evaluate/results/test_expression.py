"""Conditions: what they say, against Python itself; and that nothing is run."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.errors import QueryError
from evaluate.results.expression import LONGEST, Condition

TYPES = {"task": "string", "noise": "string", "depth": "int64", "value": "float64", "untrained": "bool"}
ROWS = [
    {"task": task, "noise": noise, "depth": depth, "value": value, "untrained": untrained}
    for task, noise, (depth, value), untrained in product(
        ("depth", "normals"), (None, "t5", "t50"), ((0, 0.5), (1, None), (3, 3.0), (7, -1.5)), (False, True)
    )
]
TABLE = pd.DataFrame(ROWS).astype(TYPES)


def _chosen(text: str) -> list[int]:
    return list(TABLE.index[Condition(text, TYPES).rows(TABLE)])


_TEXT = st.sampled_from(["'depth'", "'normals'", "'t5'", "'t50'", "'x'"])
_NUMBER = st.sampled_from(["0", "1", "3", "-1.5", "0.5", "2", "-7"])
_LEAVES = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(["task", "noise"]), st.sampled_from(["==", "!="]), _TEXT),
    st.builds("{} in ({}, {})".format, st.sampled_from(["task", "noise"]), _TEXT, _TEXT),
    st.builds("{} not in [{}]".format, st.sampled_from(["task", "noise"]), _TEXT),
    st.builds("depth {} {}".format, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), _NUMBER),
    st.builds("{} {} depth {} {}".format, _NUMBER, st.sampled_from(["<", "<=", ">", "=="]), st.just("<"), _NUMBER),
    st.builds("depth in {{{}, {}}}".format, _NUMBER, _NUMBER),
    st.builds("{} in task".format, _TEXT),
    st.sampled_from(["untrained", "untrained == False", "True", "noise == None", "None != noise", "noise in (None,)"]),
)
_CONDITIONS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({}) or ({})".format, inner, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=8,
)


@given(_CONDITIONS)
@settings(deadline=None, max_examples=150)
def test_a_condition_chooses_the_rows_that_python_would(text):
    assert _chosen(text) == [index for index, row in enumerate(ROWS) if eval(text, {}, dict(row))]


@given(_CONDITIONS, st.sets(st.sampled_from(sorted(TYPES))))
@settings(deadline=None, max_examples=100)
def test_what_is_possible_by_some_columns_holds_all_that_is_chosen_by_all(text, lacking):
    condition = Condition(text, TYPES)
    possible = condition.possible(TABLE.drop(columns=sorted(lacking)))
    assert (possible | ~condition.rows(TABLE)).all()
    assert condition.possible(TABLE).equals(condition.rows(TABLE))


def test_conditions_on_known_columns_rule_rows_out_whatever_the_others_hold():
    short = TABLE[["task"]]
    assert set(short["task"][Condition("task == 'depth' and value > 1", TYPES).possible(short)]) == {"depth"}
    assert Condition("task == 'depth' or value > 1", TYPES).possible(short).all()
    assert not Condition("not (task != 'x' or value > 1)", TYPES).possible(short).any()


def test_missing_values_equal_only_none():
    assert _chosen("value == None") == [index for index, row in enumerate(ROWS) if row["value"] is None]
    assert not set(_chosen("value == None")) & set(_chosen("value < 9 or value >= 9"))
    assert set(_chosen("value == None")) <= set(_chosen("value != 3"))
    assert _chosen("value == value") == _chosen("value != None")
    assert _chosen("value != depth") == _chosen("not value == depth")
    assert _chosen("depth == value") == [index for index, row in enumerate(ROWS) if row["value"] == row["depth"]]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "task.str.contains('d')",
        "task == 'x'.upper()",
        "@task",
        "task['depth'] == 1",
        "().__class__ == task",
        "[task for task in ()]",
        "(lambda: task)()",
        "(task := 'depth') == 'depth'",
        "f'{task}' == 'depth'",
        "task == 'a' if untrained else task == 'b'",
        "depth + 1 == 2",
        "depth == 1 + 1",
        "depth == --1",
        "depth == 10 ** 10 ** 10",
        "depth & 1 == 1",
        "~untrained",
        "-untrained",
        "task is None",
        "task == ...",
        "task == b'depth'",
        "depth == 1j",
        "task in 'depth'",
        "task in depth",
        "task == ('depth', 'normals')",
        "task in {'depth': 1}",
        "1 == 1",
        "'depth' in ('depth',)",
        "noise < None",
        "task",
        "depth and untrained",
        "1",
        "task == 'depth'; untrained",
        "task = 'depth'",
        "import os",
        "",
        "task ==",
        "(" * 300 + "untrained" + ")" * 300,
        "task == '\0'" + "\0",
    ],
)
def test_all_else_is_refused_and_never_run(text):
    with pytest.raises(QueryError):
        Condition(text, TYPES)


def test_the_longest_conditions_do_not_exhaust_the_stack():
    deep = "not " * (LONGEST // 4 - 3) + "untrained"
    assert len(_chosen(deep)) == len(ROWS) // 2
    with pytest.raises(QueryError, match=f"{LONGEST} characters"):
        Condition(deep + " " * LONGEST + "or untrained", TYPES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("taks == 'depth'", r"character 1: unknown column 'taks'. Did you mean 'task'\? Known: depth, noise"),
        ("untrained and vale > 1", r"character 15: unknown column 'vale'. Did you mean 'value'\?"),
        ("depth == '3'", "depth holds numbers, which cannot be compared with text"),
        ("task > 3", "task holds text, which cannot be compared with numbers"),
        ("task in ('depth', 3)", "task holds text, which cannot be compared with numbers"),
        ("value == task", "value holds numbers, which cannot be compared with text"),
        ("noise", "noise holds text; compare it with something"),
        ("task == 'depth' && untrained", "is no condition at character 18"),
        ("task is None", "write == and !="),
    ],
)
def test_errors_say_where_and_what(text, said):
    with pytest.raises(QueryError, match=said):
        Condition(text, TYPES)


@pytest.mark.parametrize(
    "text",
    [
        "value == " + "-" * 980 + "1",
        "value" + ".a" * 480 + " == 1",
        "1" + "+1" * 490 + " == value",
        "value" + "()" * 480,
    ],
)
def test_what_is_nested_deeply_is_refused_in_a_few_words(text: str):
    with pytest.raises(QueryError, match="neither") as caught:
        Condition(text, TYPES)
    assert len(str(caught.value)) < len(text) + 300
