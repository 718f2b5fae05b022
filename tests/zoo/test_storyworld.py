"""StoryWorld's answers, worked out again from nothing but the text."""

import re
from itertools import islice

import pytest

from resmoe_lab.scoring.tasks import TASKS
from resmoe_lab.zoo import _lexicon as lexicon
from resmoe_lab.zoo.storyworld import TASK_ROWS, stories, task_rows, worlds

N = 300


def test_no_world_and_no_story_is_on_both_sides() -> None:
    train, test = (set(islice(worlds(split, 0), 3000)) for split in ("train", "test"))
    assert not train & test
    train_stories, test_stories = (set(islice(stories(split, 0), 3000)) for split in ("train", "test"))
    assert not train_stories & test_stories
    assert len(train_stories) == len(test_stories) == 3000


def test_no_task_row_appears_in_training_stories() -> None:
    passages = {row["text"] for row in task_rows("storyworld_last_word", n=N)}
    text = "\n".join(islice(stories("train", 0), 5000))
    assert not [passage for passage in passages if passage in text]


def test_the_same_seed_tells_the_same() -> None:
    assert list(islice(stories("train", 7), 20)) == list(islice(stories("train", 7), 20))
    assert list(islice(stories("train", 7), 20)) != list(islice(stories("train", 8), 20))


@pytest.mark.parametrize("name", sorted(TASK_ROWS))
def test_the_committed_rows_are_what_the_generator_tells(name: str) -> None:
    rows = TASKS[name].rows()
    assert len(rows) == 400
    assert rows == task_rows(name, n=400)


def test_last_words_follow_from_the_first_sentences_alone() -> None:
    for row in task_rows("storyworld_last_word", n=N):
        text = str(row["text"])
        setup = re.search(r"(\w+) had a (\w+) (\w+)\. \1 put the \2 \3 in the (\w+)\.", text)
        question = re.search(r"Later (\w+) opened the (\w+) and took out the (\w+) (\w+)$", text)
        assert setup is not None
        assert question is not None
        assert setup.groups() == (question[1], question[3], question[4], question[2])
        assert len(re.findall(rf"\b{question[4]}\b", text)) == 3, "the word is told at the beginning and asked for once"
        between = text[setup.end() : question.start()]
        assert len(between.split(".")) >= 2, "something happens in between"
        assert not set(re.findall(r"\w+", between)) & set(lexicon.OBJECTS), "nothing else could be meant"


def test_the_thing_that_was_put_away_is_in_no_other_table() -> None:
    aims = " ".join(aim for aim, _ in lexicon.ACTIONS)
    tables = [*lexicon.WEATHER, *lexicon.PASTIMES, *lexicon.ENDINGS, *lexicon.EVENTS, *lexicon.REASONS, *lexicon.TOOLS]
    tables += lexicon.MENTIONS
    words = set(re.findall(r"\w+", " ".join([aims, *tables, *lexicon.CONTAINERS, *lexicon.PLACES])))
    assert not words & set(lexicon.OBJECTS)


def test_actions_have_one_sensible_tool() -> None:
    tools = dict(lexicon.ACTIONS)
    assert len(tools) == len(lexicon.ACTIONS), "an aim stands twice"
    labels = []
    for row in task_rows("storyworld_action", n=N):
        aim = next(aim for aim in sorted(tools, key=len, reverse=True) if f" {aim}," in str(row["goal"]))
        solutions = [str(row["sol1"]), str(row["sol2"])]
        assert solutions[int(row["label"])] == f"the {tools[aim]}."
        assert solutions[1 - int(row["label"])] != f"the {tools[aim]}."
        labels.append(int(row["label"]))
    assert 0.4 < sum(labels) / N < 0.6


def test_pronouns_agree_with_the_answer() -> None:
    answers, first_people = [], 0
    for row in task_rows("storyworld_pronoun", n=N):
        clause = str(row["sentence"]).split("because _ ")[1]
        group = lexicon.WOMEN if re.search(r"\b(her|herself)\b", clause) else lexicon.MEN
        options = [row["option1"], row["option2"]]
        assert [option in group for option in options].count(True) == 1
        assert options[int(row["answer"]) - 1] in group
        assert all(str(option) in str(row["sentence"]) for option in options)
        answers.append(str(row["answer"]))
        names = re.findall(r"[A-Z]\w+", str(row["sentence"]).rsplit(". ", 1)[1])
        first_people += names[0] == options[int(row["answer"]) - 1]
    assert 0.4 < answers.count("1") / N < 0.6
    assert 0.4 < first_people / N < 0.6, "the order of the two people must not give the answer away"


def test_names_are_on_one_side() -> None:
    assert not set(lexicon.WOMEN) & set(lexicon.MEN)
