"""Guesses that a notebook asks for, and their results."""

import pytest

from ltlab.course import predict, resolve
from ltlab.course.predictions import _ASKED

OPTIONS = ["`a` & b", "half", "most"]


@pytest.fixture(autouse=True)
def nothing_asked():
    _ASKED.clear()


def line(result) -> str:
    return result._repr_mimebundle_()["text/plain"].splitlines()[1]


def test_without_a_guess_the_result_is_the_answer_alone():
    predict("00.1", "How many?", OPTIONS)
    shown = resolve("00.1", "half", "It is 48 %.")._repr_mimebundle_()
    assert shown["text/plain"] == "How many?\nAnswer: half. It is 48 %."
    assert "How many?" in shown["text/html"] and "48 %" in shown["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in shown


@pytest.mark.parametrize(("pressed", "mark"), [([1], "✓"), ([1, 0], "✗"), ([2, 1], "✓")])
def test_the_last_guess_is_shown_next_to_the_answer_also_after_the_result(pressed, mark):
    asked = predict("00.1", "How many?", OPTIONS)
    early, answer = pressed[:-1], resolve("00.1", 1)
    for place in early:
        asked.buttons[place].click()
    late = resolve("00.1", 1)
    asked.buttons[pressed[-1]].click()
    for result in (answer, late):
        assert line(result).startswith(f"{mark} You guessed: {OPTIONS[pressed[-1]]}. ")
    assert mark in answer.line.value and "&amp;" in answer.line.value + "&amp;" * (pressed[-1] != 0)
    assert [b.description.endswith("●") for b in asked.buttons] == [n == pressed[-1] for n in range(3)]


def test_a_class_votes():
    asked = predict("00.1", "How many?", OPTIONS)
    result = resolve("00.1", "most")
    assert all(box.layout.display == "none" for box in asked.hands)
    asked.voting.value = True
    assert not any(box.layout.display for box in asked.hands)
    for box, votes in zip(asked.hands, (3, 5, 4), strict=True):
        box.value = votes
    assert line(result).endswith("Answer: most. It got 4 of 12 votes.")


def test_a_cell_that_runs_again_keeps_the_guess_and_another_question_does_not():
    asked = predict("00.1", "How many?", OPTIONS)
    asked.buttons[0].click()
    assert predict("00.1", "How many?", tuple(OPTIONS)) is asked
    assert predict("00.2", "How many?", OPTIONS).guess is None
    assert predict("00.1", "How many of them?", OPTIONS).guess is None


def test_buttons_tell_more_than_a_letter_and_without_a_kernel_the_options_are_text():
    asked = predict("00.1", "Is `x` < 1?", OPTIONS)
    assert asked.buttons[0].tooltip == "guess a: `a` & b" and asked.hands[2].tooltip == "votes for c: most"
    shown = asked._repr_mimebundle_()
    assert shown["text/html"].count("<li>") == 3 and "<code>x</code> &lt; 1" in shown["text/html"]
    assert shown["text/plain"].splitlines()[-1] == "   c) most"


@pytest.mark.parametrize("options", [[], ["a"], ["a", "a"], ["a", ""]])
def test_what_cannot_be_guessed_is_refused(options):
    with pytest.raises(ValueError, match="options of 'How many"):
        predict("00.1", "How many?", options)


@pytest.mark.parametrize(("name", "answer", "named"), [
    ("00.2", "half", "00.1"), ("00.1", "hal", "half"), ("00.1", 3, "answer=3"), ("00.1", -1, "answer=-1"),
])  # fmt: skip
def test_a_result_of_nothing_asked_is_refused(name, answer, named):
    predict("00.1", "How many?", OPTIONS)
    with pytest.raises(ValueError, match=named):
        resolve(name, answer)
