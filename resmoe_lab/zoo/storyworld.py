"""StoryWorld: seeded little stories whose questions have answers that can be checked.

A :class:`World` (cast, place, things, containers) is drawn first, and every story is told in one world.
Whether a world belongs to training or to the held-out tasks is a property of the world itself (a hash of
its description), so the two sides cannot share a story however many are drawn. Four tasks mirror the
four of the ResMoE paper: perplexity (WikiText), the last word of a passage (LAMBADA), the sensible one of
two everyday actions (PIQA) and whom a clause is about (WinoGrande).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Literal

from . import _lexicon as lexicon

Split = Literal["train", "test"]
Row = dict[str, str | int]

#: One world in this many is held out for the tasks.
HELD_OUT_ONE_IN = 10


@dataclass(frozen=True)
class World:
    """What a story is about: three people, a place, and three things with three containers to put them in.

    Parameters
    ----------
    cast, things, containers
        Three different words each; ``adjectives[i]`` describes ``things[i]``.
    time, place
        When and where the story begins.
    """

    time: str
    place: str
    cast: tuple[str, ...]
    things: tuple[str, ...]
    adjectives: tuple[str, ...]
    containers: tuple[str, ...]

    @property
    def split(self) -> Split:
        """Which side the world belongs to, decided by nothing but its own description."""
        digest = hashlib.blake2b(repr(self).encode(), digest_size=8).digest()
        return "test" if int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0 else "train"


def draw_world(rng: Random) -> World:
    """Draw one world, of either split."""
    return World(
        time=rng.choice(lexicon.TIMES),
        place=rng.choice(lexicon.PLACES),
        cast=tuple(rng.sample(lexicon.NAMES, 3)),
        things=tuple(rng.sample(lexicon.OBJECTS, 3)),
        adjectives=tuple(rng.sample(lexicon.ADJECTIVES, 3)),
        containers=tuple(rng.sample(lexicon.CONTAINERS, 4)),
    )


def worlds(split: Split, seed: int) -> Iterator[World]:
    """Endless worlds of one split, the same for the same seed."""
    rng = Random(f"{split}-{seed}")
    while True:
        world = draw_world(rng)
        if world.split == split:
            yield world


def stories(split: Split, seed: int) -> Iterator[str]:
    """Endless stories of one split, the same for the same seed."""
    rng = Random(f"stories-{split}-{seed}")
    for world in worlds(split, seed):
        yield tell(world, rng)


def tell(world: World, rng: Random) -> str:
    """Tell one complete story: mostly an opening, one to four scenes in any order, and sometimes an ending."""
    scenes = rng.sample([_action_scene, _action_scene, _event_scene, _event_scene, _event_scene], rng.randint(1, 3))
    # At most one hiding: a thing that is put away twice would have two places.
    if rng.random() < 0.7:
        scenes.insert(rng.randint(0, len(scenes)), _hiding_scene)
    parts = [scene(world, rng) for scene in scenes]
    if rng.random() < 0.7:
        parts.insert(0, _opening(world, rng))
    if rng.random() < 0.5:
        parts.append(rng.choice(lexicon.ENDINGS))
    return " ".join(parts)


def _opening(world: World, rng: Random) -> str:
    a, b, c = world.cast
    who = f"{a}, {b} and {c}" if rng.random() < 0.5 else f"{a} and {b}"
    opening = f"{world.time} {who} were in the {world.place}."
    return f"{opening} {rng.choice(lexicon.WEATHER)}" if rng.random() < 0.5 else opening


def _pastime(world: World, rng: Random) -> str:
    return f"{rng.choice(world.cast)} {rng.choice(lexicon.PASTIMES)}."


def _hiding(world: World, rng: Random) -> tuple[str, str]:
    """Things are put away, one may be moved, then their owners take them; return the passage and its last word."""
    count = rng.choice((2, 3))
    owner_of = dict(zip(world.things[:count], rng.sample(world.cast, count), strict=True))
    place_of = dict(zip(world.things, world.containers[:count], strict=False))
    named = {thing: f"{adjective} {thing}" for thing, adjective in zip(world.things, world.adjectives, strict=True)}
    sentences = [f"{owner} had a {named[thing]}." for thing, owner in owner_of.items()]
    sentences += [f"{owner_of[thing]} put the {thing} in the {place_of[thing]}." for thing in _shuffled(place_of, rng)]
    if rng.random() < 0.25:
        moved = rng.choice(list(place_of))
        place_of[moved] = world.containers[3]
        sentences.append(f"Then {rng.choice(world.cast)} moved the {moved} to the {place_of[moved]}.")
    if rng.random() < 0.6:
        sentences.append(_pastime(world, rng))
    wanted = _shuffled(place_of, rng)[: rng.randint(1, count)]
    sentences += [
        f"Later {owner_of[thing]} opened the {place_of[thing]} and took the {named[thing]}." for thing in wanted
    ]
    return " ".join(sentences).rsplit(" ", 1)[0], wanted[-1]


def _shuffled(words: Iterable[str], rng: Random) -> list[str]:
    words = list(words)
    return rng.sample(words, len(words))


def _hiding_scene(world: World, rng: Random) -> str:
    passage, word = _hiding(world, rng)
    return f"{passage} {word}."


def _action(world: World, rng: Random) -> tuple[str, str]:
    """Somebody has an everyday aim; return the beginning of the sentence and the tool that serves the aim."""
    aim, tool = rng.choice(lexicon.ACTIONS)
    who = rng.choice(world.cast)
    return rng.choice((f"To {aim}, {who} took", f"{who} wanted to {aim}, so {who} used")), tool


def _action_scene(world: World, rng: Random) -> str:
    beginning, tool = _action(world, rng)
    sentence = f"{beginning} the {tool}."
    return f"{sentence} {_pastime(world, rng)}" if rng.random() < 0.3 else sentence


def _event(world: World, rng: Random) -> tuple[str, str, tuple[str, str], int]:
    """Return an event, the clause that explains it, the two people, and which of them the clause is about."""
    event, *clauses = rng.choice(lexicon.EVENTS)
    pair = rng.sample(world.cast, 2)
    about = rng.randrange(2)
    return event.format(a=pair[0], b=pair[1]), rng.choice(clauses[about]), (pair[0], pair[1]), about


def _event_scene(world: World, rng: Random) -> str:
    """An event, its reason, and a little more about the same two people."""
    event, clause, pair, about = _event(world, rng)
    known = next(e for e in lexicon.EVENTS if e[0].format(a=pair[0], b=pair[1]) == event)
    more = [(pair[who], other) for who in (0, 1) for other in known[1 + who] if other != clause]
    rest = "".join(f" {who} {other}." for who, other in rng.sample(more, rng.randint(0, len(more))))
    return f"{event} because {pair[about]} {clause}.{rest}"


def last_word_row(world: World, rng: Random) -> Row:
    """One row in LAMBADA's form: ``text``, whose last word follows from the whole passage and nothing less."""
    passage, word = _hiding(world, rng)
    return {"text": f"{_opening(world, rng)} {passage} {word}"}


def action_row(world: World, rng: Random) -> Row:
    """One row in PIQA's form: ``goal``, ``sol1``, ``sol2`` and the ``label`` (0 or 1) of the sensible one."""
    beginning, tool = _action(world, rng)
    wrong = rng.choice([other for other in lexicon.TOOLS if other != tool])
    label = rng.randrange(2)
    solutions = [f"the {wrong}."] * 2
    solutions[label] = f"the {tool}."
    return {"goal": f"{_opening(world, rng)} {beginning}", "sol1": solutions[0], "sol2": solutions[1], "label": label}


def pronoun_row(world: World, rng: Random) -> Row:
    """One row in WinoGrande's form: ``sentence`` with one ``_``, ``option1``, ``option2``, ``answer`` ('1' or '2')."""
    event, clause, pair, about = _event(world, rng)
    swap = rng.randrange(2)
    options = pair[::-1] if swap else pair
    return {
        "sentence": f"{event} because _ {clause}.",
        "option1": options[0],
        "option2": options[1],
        "answer": str(1 + (about ^ swap)),
    }


def story_row(world: World, rng: Random) -> Row:
    """One held-out story, for perplexity."""
    return {"text": tell(world, rng)}


#: Task name -> how one of its rows is made in a world.
TASK_ROWS: dict[str, Callable[[World, Random], Row]] = {
    "storyworld_perplexity": story_row,
    "storyworld_last_word": last_word_row,
    "storyworld_action": action_row,
    "storyworld_pronoun": pronoun_row,
}


def task_rows(task: str, *, n: int, seed: int = 0) -> list[Row]:
    """Make the rows of a held-out task.

    Parameters
    ----------
    task
        A key of :data:`TASK_ROWS`.
    n
        How many rows.
    seed
        The same seed gives the same rows.

    Returns
    -------
    list of dict
        Rows in the form of the data set that the task mirrors, each told in a held-out world of its own.
    """
    rng = Random(f"{task}-{seed}")
    return [TASK_ROWS[task](world, rng) for world in islice(worlds("test", hash_seed(task, seed)), n)]


def hash_seed(task: str, seed: int) -> int:
    """A seed of a task's own, so that no two tasks are told in the same sequence of worlds."""
    return int.from_bytes(hashlib.blake2b(f"{task}-{seed}".encode(), digest_size=4).digest(), "big")
