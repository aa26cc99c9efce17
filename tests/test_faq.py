"""docs/faq.md: every question has a short answer, and every answer is code that runs and checks itself."""

import re
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parents[1] / "docs" / "faq.md").read_text(encoding="utf-8")
START, *QUESTIONS = PAGE.split("\n### ")
SNIPPET = re.compile(r"```python\n(.*?)```\n?", re.DOTALL)


def title(question: str) -> str:
    return question.partition("\n")[0]


def test_all_questions_are_questions_and_none_is_asked_twice():
    titles = [title(question) for question in QUESTIONS]
    assert len(titles) >= 30 and len(set(titles)) == len(titles) and all(text.endswith("?") for text in titles)
    assert PAGE.count("```") == 2 * (len(titles) + 1), "a snippet for every question, and the lines above them"


@pytest.mark.parametrize("question", QUESTIONS, ids=title)
def test_an_answer_is_short_and_its_code_runs_on_its_own(question):
    text, code, _ = SNIPPET.split(question)
    assert len(text.strip().splitlines()) <= 2 + 6, "the question, an empty line, and at most six of answer"
    assert len([line for line in code.splitlines() if line.strip()]) <= 10 and re.search(r"assert|raise", code)
    names = {"__name__": "faq"}
    exec(SNIPPET.findall(START)[0], names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(code, f"docs/faq.md, {title(question)}", "exec"), names)
