"""Captions for scenes, in many wordings. A scene caption and a motion caption are separate texts.

Every wording is a list of pieces, each naming one attribute; pieces come in varied order and case. A
piece may be left out: what is 'nothing' or 'clear' is mostly not said, and now and then (drop > 0)
sky, ground or colour is not said either, so that a short prompt is no surprise.
"""

COLOUR_WORDS = {
    "red": ["red"] * 6 + ["bright red", "crimson", "scarlet", "ruby red", "ruby", "cherry red", "dark red", "vermilion", "carmine"],
    "blue": ["blue"] * 6 + ["bright blue", "royal blue", "cobalt", "cobalt blue", "azure", "deep blue", "navy blue", "sapphire", "ultramarine"],
    "yellow": ["yellow"] * 6 + ["bright yellow", "golden yellow", "lemon yellow", "golden", "gold", "sunny yellow", "canary yellow", "lemon", "amber yellow"],
    "white": ["white"] * 6 + ["pure white", "snow-white", "ivory", "pale white", "bright white", "chalk white", "pearl white", "milky white", "cream white"],
    "black": ["black"] * 6 + ["jet-black", "pitch-black", "coal-black", "deep black", "ebony", "ink-black", "jet black", "dark black", "raven black"],
    "green": ["green"] * 6 + ["bright green", "emerald", "emerald green", "dark green", "grass-green", "jade", "jade green", "forest green", "leaf green"],
    "orange": ["orange"] * 6 + ["bright orange", "tangerine", "pumpkin orange", "deep orange", "amber orange", "orange-coloured", "orange-colored", "carrot orange", "vivid orange"],
    "purple": ["purple"] * 6 + ["violet", "bright purple", "plum", "deep purple", "lilac", "mauve", "amethyst", "plum-coloured", "violet-coloured"],
}

ACTOR_WORDS = {
    "sailboat": ["sailboat"] * 5 + ["sailing boat", "boat", "yacht", "sailing ship", "sailing vessel", "ship", "sailing yacht", "dinghy", "little boat", "sail boat"],
    "balloon": ["hot air balloon"] * 5 + ["balloon", "hot-air balloon", "air balloon", "big balloon", "montgolfier", "balloon with a basket", "aerostat", "hot air balloon with a basket"],
    "bird": ["bird"] * 6 + ["gull", "seagull", "songbird", "flying bird", "dove", "flapping bird", "swallow", "eagle", "hawk", "little bird"],
    "car": ["car"] * 6 + ["automobile", "motor car", "motorcar", "vehicle", "little car", "sedan", "taxi", "old car", "auto", "saloon car"],
    "house": ["house"] * 6 + ["cottage", "cabin", "home", "hut", "little house", "small house", "farmhouse", "bungalow", "building with a roof", "chalet"],
    "tree": ["tree"] * 6 + ["round tree", "leafy tree", "lone tree", "big tree", "old tree", "bushy tree", "lonely tree", "oak", "single tree", "maple"],
}

WITH_COLOUR = {  # the colour told of the part that has it
    "sailboat": ["boat with {c} sails", "sailboat with {c} sails", "ship with {c} sails", "sailing boat whose sails are {c}"],
    "tree": ["tree with {c} leaves", "tree with a {c} crown", "tree whose leaves are {c}", "tree with {c} foliage"],
    "house": ["house with {c} walls", "cottage with {c} walls", "house painted {c}"],
    "car": ["car painted {c}", "car that is {c}"],
    "balloon": ["balloon that is {c}", "hot air balloon coloured {c}"],
    "bird": ["bird with {c} feathers", "bird with {c} wings", "bird that is {c}"],
}

SKY_WORDS = {
    "dawn": ["at dawn"] * 5 + ["at daybreak", "at sunrise", "in the early morning", "at first light", "in the pale light of dawn", "at the break of day",
             "under a pink dawn sky", "early in the morning", "as the sun rises", "with a pink morning sky", "in the morning", "in the dawn", "while the day breaks", "just before sunrise"],
    "day": ["by day", "during the day", "in the daytime", "at noon", "under a blue sky", "in broad daylight", "in daylight", "at midday", "in the middle of the day",
            "on a bright day", "with a blue sky", "in the afternoon", "at day", "in full daylight", "on a summer day", "beneath a bright blue sky", "with the sun high in the sky"],
    "sunset": ["at sunset"] * 5 + ["at dusk", "in the evening", "at sundown", "as the sun goes down", "as the sun sets", "under an orange sunset sky", "in the sunset", "in the evening light",
               "in the glow of the setting sun", "at the end of the day", "with a crimson evening sky", "while the sun sets", "in the dusk", "at twilight", "under a burning evening sky"],
    "night": ["at night"] * 5 + ["by night", "in the night", "under the stars", "at midnight", "under a starry sky", "in the moonlight", "by moonlight", "under the moon", "late at night",
              "on a dark night", "during the night", "with stars in the sky", "beneath the stars", "under the night sky", "in the dark of night", "with the moon in the sky"],
}

GROUND_WORDS = {
    "sea": ["the sea"] * 5 + ["the ocean", "the water", "the waves", "a calm sea", "the blue sea", "the open sea", "open water", "a wide ocean", "the lake", "sea water", "the bay"],
    "desert": ["the desert"] * 5 + ["a desert", "the sand", "the dunes", "sand dunes", "a sandy desert", "the sands", "desert sand", "a dry desert", "the hot desert", "sandy ground", "a sandy plain"],
    "meadow": ["a meadow", "the meadow"] * 2 + ["the grass", "green grass", "a green field", "the grassland", "a pasture", "a grassy field", "a green meadow", "a lawn", "grassy ground", "the green fields", "a grassy plain"],
    "snowfield": ["a snowfield", "the snow"] * 2 + ["a field of snow", "a snowy field", "snow-covered ground", "a snowy plain", "the snowfield", "deep snow", "a snow-covered field", "snowy ground", "a plain of snow", "a snowy meadow", "the snowy land"],
}

BEHIND_WORDS = {
    "nothing": ["nothing behind", "an empty horizon", "an open horizon", "nothing in the background", "with nothing behind it", "no background", "empty background", "a bare horizon"],
    "mountains": ["mountains", "mountains", "high mountains", "a mountain range", "snowy peaks", "tall mountains", "mountain peaks", "rocky mountains", "the mountains", "the alps", "snow-capped mountains", "peaks"],
    "hills": ["hills", "hills", "rolling hills", "green hills", "low hills", "soft hills", "the hills", "round hills", "hilly land", "gentle hills", "wooded hills"],
    "city": ["a city", "the city", "a city skyline", "tall buildings", "skyscrapers", "a town", "the skyline of a city", "a big city", "city buildings", "high-rise buildings", "towers of a city", "a downtown skyline"],
}
BEHIND_FRAMES = ["{b} behind", "with {b} behind", "with {b} in the background", "in front of {b}", "{b} in the distance", "before {b}", "with {b} on the horizon", "{b} in the background",
                 "against {b}", "{b} behind it", "with {b} far behind", "and {b} behind", "backed by {b}", "{b} on the horizon", "with {b} in the distance", "behind it {b}"]

WEATHER_WORDS = {
    "clear": ["clear weather", "in clear weather", "clear air", "no rain", "dry weather", "fine weather", "with a clear view", "in fine weather", "clear"],
    "rain": ["in the rain"] * 3 + ["in rain", "it is raining", "rainy weather", "in a downpour", "while rain falls", "with rain falling", "it rains", "rain", "rainy", "on a rainy day",
             "in a drizzle", "in heavy rain", "in light rain", "in wet weather", "a rain shower", "raining", "in a rainstorm", "under pouring rain"],
    "snowfall": ["it is snowing"] * 2 + ["in falling snow", "snow is falling", "snow falls", "in a snowfall", "snowflakes drift down", "while it snows", "with snow falling", "snowfall", "snowing", "in the snowfall",
                 "with falling snowflakes", "in a snow shower", "with snowflakes in the air", "in light snowfall", "in a snowstorm", "snowflakes are falling", "it snows"],
}

PREFIXES = [""] * 12 + ["a picture of ", "a painting of ", "an illustration of ", "a video of ", "a scene with ", "there is ", "a view of ", "a film of ", "we see ", "a photo of ", "a drawing of ", "a beautiful picture of "]
ADJECTIVES = [""] * 14 + ["small ", "big ", "lovely ", "beautiful ", "lonely ", "pretty ", "large ", "single ", "tiny ", "old ", "new ", "bright "]

MOTION_WORDS = {
    "left": ["moves left", "moves to the left", "goes left", "goes to the left", "travels left", "travels to the left", "heads left", "is moving left", "moving left", "drifts left", "drifts to the left",
             "moves towards the left", "glides to the left", "passes from right to left", "moves from right to left", "slides left", "leftward", "moves leftwards", "to the left", "runs to the left"],
    "right": ["moves right", "moves to the right", "goes right", "goes to the right", "travels right", "travels to the right", "heads right", "is moving right", "moving right", "drifts right", "drifts to the right",
              "moves towards the right", "glides to the right", "passes from left to right", "moves from left to right", "slides right", "rightward", "moves rightwards", "to the right", "runs to the right"],
    "rises": ["rises", "rises slowly", "goes up", "moves up", "moves upward", "moves upwards", "ascends", "climbs", "is rising", "rising", "climbs into the sky", "goes higher", "lifts off", "upward", "up", "is climbing higher",
              "rises into the air", "gains height", "goes upwards", "ascends into the sky"],
    "sinks": ["sinks", "sinks slowly", "goes down", "moves down", "moves downward", "moves downwards", "descends", "comes down", "is sinking", "sinking", "is descending", "goes lower", "lowers", "downward", "down",
              "falls slowly", "loses height", "goes downwards", "descends to the ground", "drops slowly"],
    "still": ["stays still", "stands still", "does not move", "stays in place", "is motionless", "stays where it is", "is still", "keeps still", "remains still", "is not moving", "rests", "motionless", "stays put", "is stationary",
              "no motion", "stationary", "without moving", "remains in place", "stays at its place", "doesn't move"],
}
ACTOR_MOTION = {
    "sailboat": {"left": ["sails left", "sails to the left"], "right": ["sails right", "sails to the right"], "still": ["lies at anchor", "is anchored", "floats in place"]},
    "balloon": {"left": ["floats left", "floats to the left", "flies to the left"], "right": ["floats right", "floats to the right", "flies to the right"], "rises": ["floats up", "flies up"], "sinks": ["floats down", "lands slowly"], "still": ["hovers", "hangs in the air", "floats in place"]},
    "bird": {"left": ["flies left", "flies to the left"], "right": ["flies right", "flies to the right"], "rises": ["flies up", "soars", "flies higher"], "sinks": ["flies down", "flies lower"], "still": ["hovers", "hovers in place", "flaps in place"]},
    "car": {"left": ["drives left", "drives to the left"], "right": ["drives right", "drives to the right"], "still": ["is parked", "is parked there", "has stopped"]},
    "house": {"still": ["stands there"]},
    "tree": {"still": ["stands there"]},
}


def pick(rng, items):
    return items[rng.integers(len(items))]


def article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def dress(rng, text):
    """Case and the full stop, as people type them."""
    u = rng.random()
    if u < 0.25:
        text = text[0].upper() + text[1:]
    elif u < 0.28:
        text = text.upper()
    return text + "." if rng.random() < 0.2 else text


def scene_caption(scene, rng, drop=0.0):
    """A text, and the set of attributes that it leaves open."""
    unsaid = {k for k in ("sky", "ground", "colour") if rng.random() < drop}
    colour = "" if "colour" in unsaid else pick(rng, COLOUR_WORDS[scene["colour"]])
    if colour and rng.random() < 0.12:
        subject = article(pick(rng, WITH_COLOUR[scene["actor"]]).format(c=colour))
    else:
        subject = pick(rng, ADJECTIVES) + colour + " " + pick(rng, ACTOR_WORDS[scene["actor"]])
        subject = article(subject.strip()) if rng.random() < 0.85 else subject.strip()
    ground, sky = pick(rng, GROUND_WORDS[scene["ground"]]), pick(rng, SKY_WORDS[scene["sky"]])
    behind, weather = pick(rng, BEHIND_WORDS[scene["behind"]]), pick(rng, WEATHER_WORDS[scene["weather"]])
    tags = rng.random() < 0.08  # a list of words instead of a sentence
    if not tags:
        over = scene["actor"] in ("balloon", "bird")
        ground = pick(rng, ("over", "above", "flying over", "over") if over else ("on", "in", "on", "standing on" if scene["ground"] != "sea" else "floating on")) + " " + ground
        if scene["behind"] != "nothing":
            behind = pick(rng, BEHIND_FRAMES).format(b=behind)
    place = [] if "ground" in unsaid else [ground]
    time = [] if "sky" in unsaid else [sky]
    back = [behind] if scene["behind"] != "nothing" or rng.random() < 0.2 else []
    air = [weather] if scene["weather"] != "clear" or rng.random() < 0.15 else []
    rest = [p for p in (place, time, back, air)]
    if tags or rng.random() < 0.5:
        rest = [rest[i] for i in rng.permutation(4)]
    pieces = [p[0] for p in rest if p]
    lead = 0 if rng.random() < 0.72 else int(rng.integers(len(pieces) + 1))
    pieces.insert(min(lead, len(pieces)), (pick(rng, PREFIXES) if lead == 0 else "") + subject)
    text = pieces[0]
    for p in pieces[1:]:
        text += (", " if tags or rng.random() < 0.45 else " ") + p
    return dress(rng, text), unsaid


def motion_caption(scene, rng):
    verbs = MOTION_WORDS[scene["motion"]]
    own = ACTOR_MOTION[scene["actor"]].get(scene["motion"])
    verb = pick(rng, own) if own and rng.random() < 0.25 else pick(rng, verbs)
    noun = pick(rng, ACTOR_WORDS[scene["actor"]])
    who = pick(rng, ["it ", "it ", "it ", "the " + noun + " ", "the " + pick(rng, COLOUR_WORDS[scene["colour"]]) + " " + noun + " ", ""])
    how = pick(rng, [""] * 8 + [" slowly", " steadily", " gently", " all the time", " calmly", " for a while"])
    return dress(rng, who + verb + how)


def joined(scene_text, motion_text):
    """What the window transformer reads."""
    return scene_text + ". " + motion_text


if __name__ == "__main__":
    import numpy as np
    from world import draw_attributes
    r = np.random.default_rng(0)
    for _ in range(24):
        s = draw_attributes(r)
        print(scene_caption(s, r, 0.04)[0], "|", motion_caption(s, r))
