"""StoryWorld's answers, worked out again from nothing but the text."""

import re
from itertools import islice

import pytest

from resmoe_lab.evaluate.tasks import TASKS
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
    told = "\n".join(islice(stories("train", 0), 5000))
    assert not [passage for passage in passages if passage in told]


def test_the_same_seed_tells_the_same() -> None:
    assert list(islice(stories("train", 7), 20)) == list(islice(stories("train", 7), 20))
    assert list(islice(stories("train", 7), 20)) != list(islice(stories("train", 8), 20))


@pytest.mark.parametrize("name", sorted(TASK_ROWS))
def test_the_committed_rows_are_what_the_generator_tells(name: str) -> None:
    rows = TASKS[name].rows()
    assert len(rows) == 400
    assert rows == task_rows(name, n=400)


def test_last_words_follow_from_the_passage() -> None:
    for row in task_rows("storyworld_last_word", n=N):
        text = str(row["text"])
        owner_of = {thing: owner for owner, thing in re.findall(r"(\w+) put the (\w+) in the", text)}
        # A thing that was moved stands twice, and the later place counts.
        place_of = dict(re.findall(r"(?:put|moved) the (\w+) (?:in|to) the (\w+)", text))
        asked = re.search(r"Later (\w+) opened the (\w+) and took the (\w+) (\w+)$", text)
        assert asked is not None
        owner, place, adjective, thing = asked.groups()
        assert owner_of[thing] == owner
        assert place_of[thing] == place
        assert f"{owner} had a {adjective} {thing}." in text
        assert text.count(f" {adjective} ") == 1 + text.count(f"the {adjective} {thing}"), "it fits two things"
        assert len(set(owner_of.values())) == len(owner_of) > 1, "one thing alone would be no question"
        assert len(set(place_of.values())) == len(place_of)


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


def test_clauses_are_about_the_answer() -> None:
    answers = []
    for row in task_rows("storyworld_pronoun", n=N):
        sentence = str(row["sentence"])
        event, clause = re.fullmatch(r"(.+) because _ (.+)\.", sentence).groups()  # type: ignore[union-attr]
        verb = next(v for v in lexicon.EVENTS if re.fullmatch(v[0].format(a=r"\w+", b=r"\w+"), event))
        pair = re.fullmatch(verb[0].format(a=r"(\w+)", b=r"(\w+)"), event)
        assert pair is not None
        about = pair[1] if clause in verb[1] else pair[2]
        assert row[f"option{row['answer']}"] == about
        assert {row["option1"], row["option2"]} == set(pair.groups())
        answers.append(str(row["answer"]))
    assert 0.4 < answers.count("1") / N < 0.6


def test_clauses_tell_the_two_people_apart() -> None:
    for _, of_first, of_second in lexicon.EVENTS:
        assert not set(of_first) & set(of_second)
