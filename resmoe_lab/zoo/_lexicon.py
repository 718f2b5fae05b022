"""The words and everyday facts that StoryWorld is made of.

Everything here is written for this project. A fact that a story may rely on stands in exactly one
table, so that the generator, the tasks and the tests all read the same truth.
"""

from __future__ import annotations

NAMES: tuple[str, ...] = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ivy", "Jack", "Kate", "Leo",
    "Mia", "Noah", "Olive", "Peter", "Ruth", "Sam", "Tara", "Victor", "Wendy", "Adam", "Bella", "Carl",
    "Diana", "Eric", "Flora", "George", "Helen", "Isaac", "Julia", "Kevin", "Laura", "Martin", "Nora",
    "Oscar", "Paula", "Robert", "Sarah", "Thomas",
)  # fmt: skip

PLACES: tuple[str, ...] = (
    "kitchen", "garden", "park", "school", "cellar", "library", "village", "market", "forest", "harbour",
    "castle", "workshop", "station", "bakery", "meadow", "barn",
)  # fmt: skip

TIMES: tuple[str, ...] = (
    "One morning", "One evening", "On Monday", "On Friday", "In spring", "In winter", "After lunch",
    "Before school", "One rainy day", "One sunny day", "Last summer", "On a quiet night",
)  # fmt: skip

OBJECTS: tuple[str, ...] = (
    "ball", "kite", "doll", "book", "coin", "hat", "cup", "ring", "drum", "flute", "lamp", "map", "mask",
    "pen", "plate", "scarf", "shell", "stone", "sword", "toy", "watch", "whistle", "apple", "letter",
    "candle", "bell", "feather", "button", "mirror", "puzzle", "robot", "spade",
)  # fmt: skip

ADJECTIVES: tuple[str, ...] = (
    "red", "blue", "green", "yellow", "white", "black", "old", "new", "small", "heavy", "shiny", "broken",
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

# Events between two people (`{a}` acts on `{b}`), then what is true of the first and of the second.
EVENTS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("{a} thanked {b}", ("had received a gift", "felt grateful"), ("had been so helpful", "had given good advice")),
    ("{a} lent {b} some money", ("was rich", "was generous"), ("was poor", "had lost the purse")),
    ("{a} carried {b} home", ("was strong", "had a wagon"), ("was injured", "had a broken leg")),
    ("{a} scolded {b}", ("was angry", "had lost patience"), ("had broken the window", "had told a lie")),
    ("{a} comforted {b}", ("was kind", "could not bear the tears"), ("was crying", "had had bad news")),
    ("{a} taught {b} to read", ("was a teacher", "knew every letter"), ("was a beginner", "wanted to learn")),
    ("{a} followed {b}", ("was lost", "did not know the way"), ("was the guide", "had been there before")),
    ("{a} beat {b} in the race", ("was fast", "had trained every day"), ("was slow", "had hurt a foot")),
    ("{a} hid from {b}", ("was afraid", "had stolen the cake"), ("was the hunter", "was counting to ten")),
    ("{a} fed {b}", ("had plenty of food", "had cooked too much"), ("was hungry", "had not eaten all day")),
    ("{a} woke {b}", ("was already up", "had heard a noise"), ("was still asleep", "had missed the alarm")),
    ("{a} paid {b}", ("owed a debt", "had bought the horse"), ("had done the work", "had sold the horse")),
    ("{a} asked {b} for help", ("was in trouble", "could not do it alone"), ("was an expert", "knew the answer")),
    ("{a} waited for {b}", ("was early", "had come too soon"), ("was late", "had missed the bus")),
    ("{a} visited {b} in the hospital", ("was worried", "had brought flowers"), ("was ill", "had a fever")),
    ("{a} apologised to {b}", ("had been rude", "felt guilty"), ("had been offended", "had been hurt")),
    ("{a} envied {b}", ("was unlucky", "had lost the match"), ("was lucky", "had won the prize")),
    ("{a} trusted {b}", ("was hopeful", "had no other choice"), ("was honest", "had kept every promise")),
    ("{a} called {b} on the phone", ("wanted to talk", "had some news"), ("was far away", "had moved to the city")),
    ("{a} sold {b} a coat", ("was a tailor", "needed the money"), ("was cold", "had lost the old one")),
    ("{a} gave {b} some water", ("had a full bottle", "lived beside the well"), ("was thirsty", "had walked all day")),
    ("{a} arrested {b}", ("was a policeman", "had followed the tracks"), ("was a thief", "had robbed the bank")),
    ("{a} served {b} some soup", ("was the cook", "worked at the inn"), ("was the guest", "had ordered a meal")),
    ("{a} rescued {b}", ("was brave", "could swim well"), ("was drowning", "had fallen in the river")),
)  # fmt: skip
