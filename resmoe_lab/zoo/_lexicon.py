"""The vocabulary and everyday facts of StoryWorld, written for this project.

A fact on which a story may depend is in exactly one table, which the generator, the tasks and the tests share.
"""

from __future__ import annotations

WOMEN: tuple[str, ...] = (
    "Anna", "Clara", "Emma", "Grace", "Ivy", "Kate", "Mia", "Olive", "Ruth", "Tara", "Wendy", "Bella", "Diana",
    "Flora", "Helen", "Julia", "Laura", "Nora", "Paula", "Sarah",
)  # fmt: skip

MEN: tuple[str, ...] = (
    "Ben", "David", "Felix", "Henry", "Jack", "Leo", "Noah", "Peter", "Sam", "Victor", "Adam", "Carl", "Eric",
    "George", "Isaac", "Kevin", "Martin", "Oscar", "Robert", "Thomas",
)  # fmt: skip

PLACES: tuple[str, ...] = (
    "kitchen", "garden", "park", "school", "cellar", "library", "village", "market", "forest", "harbour",
    "castle", "workshop", "station", "bakery", "meadow", "barn",
)  # fmt: skip

TIMES: tuple[str, ...] = (
    "One morning", "One evening", "On Monday", "On Friday", "In spring", "In winter", "After lunch",
    "Before school", "One rainy day", "One sunny day", "Last summer", "On a quiet night",
)  # fmt: skip

# No other table may use these words: where one of them stands, it is the thing that was put away.
OBJECTS: tuple[str, ...] = (
    "ball", "kite", "doll", "book", "coin", "hat", "cup", "ring", "drum", "flute", "map", "mask", "violin",
    "scarf", "shell", "stone", "sword", "toy", "watch", "whistle", "lemon", "bell", "feather", "button",
    "mirror", "puzzle", "robot", "spade", "pearl", "cushion", "trumpet", "medal",
)  # fmt: skip

ADJECTIVES: tuple[str, ...] = (
    "red", "blue", "green", "yellow", "white", "black", "grey", "new", "small", "heavy", "shiny", "broken",
)  # fmt: skip

CONTAINERS: tuple[str, ...] = (
    "basket", "drawer", "box", "bag", "cupboard", "chest", "jar", "bucket", "suitcase", "cabinet", "crate",
    "pocket", "wardrobe", "barrel", "cart", "shed",
)  # fmt: skip

WEATHER: tuple[str, ...] = (
    "The sun was shining.", "It was raining outside.", "The wind was cold.", "The sky was full of clouds.",
    "Birds were singing in the trees.", "Snow lay on the roof.", "The air smelled of flowers.",
    "A dog was barking far away.", "The church clock struck four.", "Nobody else was there.",
)  # fmt: skip

PASTIMES: tuple[str, ...] = (
    "sang a song", "told a long story", "played a game", "went for a walk", "ate some bread",
    "drank a glass of milk", "sat by the window", "fed the ducks", "swept the floor", "counted the stars",
    "painted a picture", "slept for an hour", "ran up the hill", "called a friend",
)  # fmt: skip

# What may be done with the thing between its being put away and its being found.
MENTIONS: tuple[str, ...] = (
    "thought of", "asked about", "talked about", "wanted to see", "dreamed of", "liked", "was proud of", "drew",
)  # fmt: skip

ENDINGS: tuple[str, ...] = (
    "Everyone went home happy.", "It had been a good day.", "Then they all had supper together.",
    "After that the house was quiet.", "They laughed about it for a long time.", "Soon it was time for bed.",
)  # fmt: skip

# An everyday aim and the one tool among TOOLS that serves it (the physical facts behind `storyworld_action`).
ACTIONS: tuple[tuple[str, str], ...] = (
    ("cut the bread", "knife"), ("slice the cheese", "knife"), ("peel the potato", "knife"),
    ("eat the soup", "spoon"), ("stir the tea", "spoon"), ("measure the sugar", "spoon"),
    ("eat the noodles", "fork"), ("mash the carrots", "fork"),
    ("sweep the floor", "broom"), ("clear the leaves", "broom"), ("reach the cobweb", "broom"),
    ("dry the dishes", "towel"), ("dry the wet dog", "towel"), ("wipe the table", "towel"),
    ("hit the nail", "hammer"), ("hang the picture", "hammer"), ("crack the nut", "hammer"),
    ("cut the paper", "scissors"), ("trim the ribbon", "scissors"), ("cut the string", "scissors"),
    ("sew the shirt", "needle"), ("mend the sock", "needle"), ("fix the torn curtain", "needle"),
    ("dig a hole", "shovel"), ("move the snow", "shovel"), ("plant the tree", "shovel"),
    ("open the locked door", "key"), ("start the car", "key"), ("unlock the gate", "key"),
    ("light the fire", "match"), ("light the candle", "match"), ("burn the dry sticks", "match"),
    ("reach the roof", "ladder"), ("pick the high apples", "ladder"), ("change the ceiling lamp", "ladder"),
    ("keep off the rain", "umbrella"), ("stay dry in the storm", "umbrella"),
    ("write a letter", "pencil"), ("draw a horse", "pencil"), ("sign the paper", "pencil"),
    ("paint the fence", "brush"), ("colour the wall", "brush"), ("clean the dirty shoes", "brush"),
    ("comb the tangled hair", "comb"), ("part the long hair", "comb"),
    ("catch the fish", "net"), ("catch the butterfly", "net"), ("scoop the leaves from the pond", "net"),
    ("cross the river", "boat"), ("row to the island", "boat"), ("sail over the lake", "boat"),
    ("saw the log", "saw"), ("cut the plank", "saw"), ("take down the dead branch", "saw"),
    ("carry the water", "pail"), ("milk the cow", "pail"), ("wash the steps", "pail"),
    ("fry the egg", "pan"), ("cook the pancakes", "pan"), ("brown the onions", "pan"),
    ("boil the rice", "pot"), ("make the stew", "pot"), ("cook the beans", "pot"),
    ("bake the cake", "oven"), ("roast the chicken", "oven"), ("warm the pie", "oven"),
    ("see the distant ship", "telescope"), ("look at the moon", "telescope"), ("study the planets", "telescope"),
    ("wash the hands", "soap"), ("clean the greasy plates", "soap"), ("make bubbles", "soap"),
    ("tie the parcel", "rope"), ("climb down the cliff", "rope"), ("lead the goat", "rope"),
    ("see in the dark cellar", "lantern"), ("find the path at night", "lantern"), ("signal the boat", "lantern"),
    ("glue the broken vase", "glue"), ("stick the stamp", "glue"), ("mend the torn page", "glue"),
    ("tell the time", "clock"), ("wake up early", "clock"), ("time the race", "clock"),
    ("keep the baby warm", "blanket"), ("sleep in the cold room", "blanket"), ("cover the bed", "blanket"),
    ("smooth the wrinkled shirt", "iron"), ("press the trousers", "iron"), ("flatten the creased cloth", "iron"),
    ("turn the screw", "screwdriver"), ("tighten the loose hinge", "screwdriver"),
    ("water the roses", "hose"), ("fill the pool", "hose"), ("rinse the muddy car", "hose"),
    ("rake the hay", "rake"), ("gather the fallen leaves", "rake"), ("level the soil", "rake"),
)  # fmt: skip

TOOLS: tuple[str, ...] = tuple(dict.fromkeys(tool for _, tool in ACTIONS))

# What one person does with another (`{a}` and `{b}`), and the reason that is true of one of them, told with a word
# that agrees with that person (the resolvable part of `storyworld_pronoun`).
EVENTS: tuple[str, ...] = (
    "{a} thanked {b}", "{a} called {b}", "{a} visited {b}", "{a} followed {b}", "{a} waited for {b}",
    "{a} comforted {b}", "{a} woke {b}", "{a} helped {b}", "{a} wrote to {b}", "{a} talked to {b}",
    "{a} looked for {b}", "{a} sat beside {b}", "{a} ran to {b}", "{a} stopped {b}", "{a} asked {b} for help",
    "{a} met {b} at the gate", "{a} went home with {b}", "{a} smiled at {b}",
)  # fmt: skip

REASONS: tuple[str, ...] = (
    "had lost {his} purse", "was proud of {his} horse", "could not find {his} glasses", "had sold {his} house",
    "missed {his} mother", "had hurt {himself}", "was painting {his} kitchen", "wanted to show {his} garden",
    "had broken {his} arm", "was looking after {his} sister", "had forgotten {his} coat", "was late for {his} train",
    "had cut {himself}", "needed {his} tools", "had won {his} first race", "was afraid of {his} uncle",
    "had finished {his} work", "could not carry {his} bags", "had found {his} dog", "was tired of {his} job",
)  # fmt: skip

HIS = {"his": "his", "himself": "himself"}
HER = {"his": "her", "himself": "herself"}
