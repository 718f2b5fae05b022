"""StoryWorld: short synthetic stories with verifiable answers.

A :class:`World` (cast, place, things, containers) is drawn first, and every story is about one world. A hash of its
description assigns a world to training or to the held-out tasks, so the two never share a story. Four tasks
mirror those of the ResMoE paper: perplexity (WikiText), the last word of a passage (LAMBADA), the sensible one of two
everyday actions (PIQA) and the antecedent of a pronoun (WinoGrande).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Literal

from . import _lexicon as lexicon

Split = Literal["train", "test"]
Row = dict[str, str | int]

#: The reciprocal of the fraction of worlds that are held out for the tasks.
HELD_OUT_ONE_IN = 10


@dataclass(frozen=True)
class World:
    """The facts of a story: a woman, a man and a third person, a place, and a thing that is put into a container.

    Parameters
    ----------
    time, place
        Time and place of the beginning.
    cast
        Three different names; the first is a woman's, the second a man's.
    thing, adjective, container
        The thing that is put away, its appearance, and its container.
    """

    time: str
    place: str
    cast: tuple[str, str, str]
    thing: str
    adjective: str
    container: str

    @property
    def split(self) -> Split:
        """Return the split of the world, by a hash of its description."""
        digest = hashlib.blake2b(repr(self).encode(), digest_size=8).digest()
        return "test" if int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0 else "train"


def draw_world(rng: Random) -> World:
    """Draw one world, of either split."""
    woman, man = rng.choice(lexicon.WOMEN), rng.choice(lexicon.MEN)
    third = rng.choice([name for name in (*lexicon.WOMEN, *lexicon.MEN) if name not in (woman, man)])
    return World(
        time=rng.choice(lexicon.TIMES),
        place=rng.choice(lexicon.PLACES),
        cast=(woman, man, third),
        thing=rng.choice(lexicon.OBJECTS),
        adjective=rng.choice(lexicon.ADJECTIVES),
        container=rng.choice(lexicon.CONTAINERS),
    )


def worlds(split: Split, seed: int) -> Iterator[World]:
    """Yield worlds of one split without end, reproducibly for a seed."""
    rng = Random(f"{split}-{seed}")
    while True:
        world = draw_world(rng)
        if world.split == split:
            yield world


def stories(split: Split, seed: int) -> Iterator[str]:
    """Yield stories of one split without end, reproducibly for a seed."""
    rng = Random(f"stories-{split}-{seed}")
    for world in worlds(split, seed):
        yield tell(world, rng)


def tell(world: World, rng: Random) -> str:
    """Generate a story: an opening and some scenes, most often framed by a thing that is put away and found again."""
    parts = _scenes(world, rng, rng.randint(1, 3))
    if rng.random() < 0.9:
        owner = rng.choice(world.cast)
        for _ in range(rng.randint(0, 2)):
            parts.insert(rng.randint(0, len(parts)), _mention(world, rng))
        parts = [_hidden(world, owner), *parts, f"{_found(world, owner)} {world.thing}."]
        if rng.random() < 0.5:
            parts.append(_mention(world, rng))
    if rng.random() < 0.8:
        parts.insert(0, _opening(world, rng))
    if rng.random() < 0.3:
        parts.append(rng.choice(lexicon.ENDINGS))
    return " ".join(parts)


def _scenes(world: World, rng: Random, count: int) -> list[str]:
    return [rng.choice((_action_scene, _event_scene))(world, rng) for _ in range(count)]


def _opening(world: World, rng: Random) -> str:
    a, b, c = rng.sample(world.cast, 3)
    who = f"{a}, {b} and {c}" if rng.random() < 0.5 else f"{a} and {b}"
    opening = f"{world.time} {who} were in the {world.place}."
    return f"{opening} {rng.choice(lexicon.WEATHER)}" if rng.random() < 0.5 else opening


def _hidden(world: World, owner: str) -> str:
    thing = f"{world.adjective} {world.thing}"
    return f"{owner} had a {thing}. {owner} put the {thing} in the {world.container}."


def _mention(world: World, rng: Random) -> str:
    """Return a sentence that repeats the thing, so that stories often require copying from context."""
    return f"{rng.choice(world.cast)} {rng.choice(lexicon.MENTIONS)} the {world.adjective} {world.thing}."


def _found(world: World, owner: str) -> str:
    """Return the sentence about finding the thing, without its last word."""
    return f"Later {owner} opened the {world.container} and took out the {world.adjective}"


def _pastime(world: World, rng: Random) -> str:
    return f"{rng.choice(world.cast)} {rng.choice(lexicon.PASTIMES)}."


def _action(world: World, rng: Random) -> tuple[str, str]:
    """Return the beginning of a sentence about an everyday aim, and the tool for that aim."""
    aim, tool = rng.choice(lexicon.ACTIONS)
    who = rng.choice(world.cast)
    return rng.choice((f"To {aim}, {who} took", f"{who} wanted to {aim}, so {who} used")), tool


def _action_scene(world: World, rng: Random) -> str:
    beginning, tool = _action(world, rng)
    sentence = f"{beginning} the {tool}."
    return f"{sentence} {_pastime(world, rng)}" if rng.random() < 0.3 else sentence


def _event(world: World, rng: Random) -> tuple[str, str, tuple[str, str], int]:
    """Return an event between a woman and a man, its reason, the two names, and which of them the reason is about."""
    about = rng.randrange(2)
    reason = rng.choice(lexicon.REASONS).format(**(lexicon.HER, lexicon.HIS)[about])
    first, second = rng.sample(world.cast[:2], 2)
    return rng.choice(lexicon.EVENTS).format(a=first, b=second), reason, world.cast[:2], about


def _event_scene(world: World, rng: Random) -> str:
    event, reason, pair, about = _event(world, rng)
    return f"{event} because {pair[about]} {reason}."


def last_word_row(world: World, rng: Random) -> Row:
    """Return a row in LAMBADA's format: ``text``, whose last word can only be inferred from its beginning."""
    owner = rng.choice(world.cast)
    sentences = [_opening(world, rng), _hidden(world, owner), *_scenes(world, rng, rng.randint(1, 3))]
    return {"text": f"{' '.join(sentences)} {_found(world, owner)} {world.thing}"}


def action_row(world: World, rng: Random) -> Row:
    """Return a row in PIQA's format: ``goal``, ``sol1``, ``sol2`` and the ``label`` (0 or 1) of the sensible one."""
    beginning, tool = _action(world, rng)
    wrong = rng.choice([other for other in lexicon.TOOLS if other != tool])
    label = rng.randrange(2)
    solutions = [f"the {wrong}."] * 2
    solutions[label] = f"the {tool}."
    return {"goal": f"{_opening(world, rng)} {beginning}", "sol1": solutions[0], "sol2": solutions[1], "label": label}


def pronoun_row(world: World, rng: Random) -> Row:
    """Return a row in WinoGrande's format: ``sentence`` with a ``_``, ``option1``, ``option2``, ``answer`` 1 or 2."""
    event, reason, pair, about = _event(world, rng)
    swap = rng.randrange(2)
    return {
        "sentence": f"{_opening(world, rng)} {event} because _ {reason}.",
        "option1": pair[swap],
        "option2": pair[1 - swap],
        "answer": str(1 + (about ^ swap)),
    }


def story_row(world: World, rng: Random) -> Row:
    """Return a row with one held-out story, for perplexity."""
    return {"text": tell(world, rng)}


#: The function that generates a row of each task in a world.
TASK_ROWS: dict[str, Callable[[World, Random], Row]] = {
    "storyworld_perplexity": story_row,
    "storyworld_last_word": last_word_row,
    "storyworld_action": action_row,
    "storyworld_pronoun": pronoun_row,
}


def task_rows(task: str, *, n: int, seed: int = 0) -> list[Row]:
    """Generate the rows of a held-out task.

    Parameters
    ----------
    task
        A key of :data:`TASK_ROWS`.
    n
        Number of rows.
    seed
        Seed of the rows.

    Returns
    -------
    list of dict
        Rows in the format of the data set that the task mirrors, each in a held-out world of its own.
    """
    rng = Random(f"{task}-{seed}")
    return [TASK_ROWS[task](world, rng) for world in islice(worlds("test", hash_seed(task, seed)), n)]


def hash_seed(task: str, seed: int) -> int:
    """Return a seed that differs by task, so that no two tasks use the same sequence of worlds."""
    return int.from_bytes(hashlib.blake2b(f"{task}-{seed}".encode(), digest_size=4).digest(), "big")
