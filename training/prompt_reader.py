"""What a prompt asks for, told from its words: the evaluator's expectation of a video.

Rules over word stems, so that wordings nobody wrote down are understood too. What a text does not
say is left out of the answer, and is then not measured. Phrases are taken out of the text as they
are understood, with the adjectives before them, so that a blue sky does not make the balloon blue.
"""
import re

COLOURS = {
    "red": "red crimson scarlet ruby vermilion carmine cherry maroon burgundy reddish brick",
    "blue": "blue azure cobalt navy sapphire ultramarine cyan turquoise indigo bluish cerulean teal",
    "yellow": "yellow gold golden lemon canary yellowish blond mustard saffron",
    "white": "white ivory chalk pearl milky cream whitish alabaster",
    "black": "black ebony raven jet coal pitch ink inky blackish onyx",
    "green": "green emerald jade lime olive greenish mint",
    "orange": "orange tangerine pumpkin carrot amber apricot peach",
    "purple": "purple violet plum lilac mauve amethyst lavender magenta purplish",
}
COLOUR_OF = {word: colour for colour, words in COLOURS.items() for word in words.split()}
# Two-word shades whose second or first word is another colour's: the winner is named here.
SHADES = [(r"amber yellow|golden yellow|lemon yellow", "yellow"), (r"amber orange", "orange"),
          (r"cream white|ivory white|snow white", "white"), (r"navy blue|royal blue", "blue")]

# Tried in this order; each pattern is taken out with up to two adjectives before it.
SKY = [
    ("dawn", r"dawns?|daybreak|sunrise|first light|break of day|early (in the )?morning|morning|(sun|sun is) (rises|rising|comes up)|day breaks|"
             r"pink (dawn |morning )?sky|(pale|rosy|lavender) (dawn |morning )?sky|cockcrow"),
    ("sunset", r"sunsets?|dusk|evening|sundown|setting sun|sun (is )?(goes|going|sets|setting|sinks|sinking)( down)?|end of the day|twilight|"
               r"(orange|crimson|burning|fiery|red|glowing|golden) (sunset |evening )?sky|gloaming|golden hour|nightfall"),
    ("night", r"nights?|night ?time|midnight|stars?|starry|starlit|starlight|moon|moonlight|moonlit|after dark|nocturnal|dark sky|black sky"),
    ("day", r"daytime|daylight|noon|midday|afternoon|blue sky|sunny|sunshine|sun (is )?high|sun overhead|by day|(at|during the|in the|of the|summer|bright|clear) day|day|bright sky"),
]
BEHIND = [
    ("nothing", r"(with )?nothing (in the )?(behind|background)( it)?|(no|empty) background|(empty|open|bare|clear) horizon|nothing behind"),
    ("mountains", r"mountains?|mountain range|peaks?|alps|alpine|summits?|ridges?|sierra|massif"),
    ("hills", r"hills?|hilly( land)?|hillsides?|knolls?|downs"),
    ("city", r"city|cities|skylines?|skyscrapers?|town|buildings|towers?|downtown|high rises?|metropolis|urban|houses in the distance"),
]
WEATHER = [
    ("clear", r"(no|without( any)?) (rain|snow|clouds?)|(clear|fine|dry|good|fair) (weather|air|view)|cloudless"),
    ("snowfall", r"snow ?(is )?(falls|falling|fall|storm|shower|flurr\w*)|snowfall|snowing|snows|snowflakes?|falling snow(flakes)?|snow ?storm|blizzard|flurr(y|ies)|flakes"),
    ("rain", r"rain(s|ing|y|fall|drops?|storm|shower)?|drizzl\w*|downpour|pouring|showers?|wet weather|thunderstorm"),
]
GROUND = [
    ("snowfield", r"snow(y|field|fields|scape)?( covered)?( (ground|field|fields|plain|plains|land|meadow|landscape))?|(field|plain|carpet|blanket) of snow|ice|icy( plain| ground)?|frozen( ground| plain)?|tundra|wintry (field|ground)"),
    ("sea", r"seas?|ocean|water|waters|waves?|lake|bay|river|harbou?r|lagoon|surf"),
    ("desert", r"deserts?|sands?|sandy( ground| plain| desert)?|dunes?|sahara|arid( land| plain)?|dry plain"),
    ("meadow", r"meadows?|grass|grassy( field| ground| plain)?|grassland|pasture|lawn|fields?|prairie|steppe|turf"),
]
ACTOR = [
    ("sailboat", r"(sail ?|sailing )?boats?|yachts?|(sailing )?ships?|dinghy|(sailing )?vessels?|schooner|catamaran|sloop|sails?"),
    ("balloon", r"(hot air |air )?balloons?|montgolfier|aerostat"),
    ("bird", r"(song)?birds?|(sea)?gulls?|doves?|swallows?|eagles?|hawks?|sparrows?|crows?|robins?|pigeons?|falcons?|parrots?|ravens? bird"),
    ("car", r"(motor ?)?cars?|automobiles?|auto|vehicles?|sedans?|taxi|cab|saloon|limousine|hatchback"),
    ("house", r"houses?|cottages?|cabins?|homes?|huts?|farmhouse|bungalow|building|chalet|villa|lodge"),
    ("tree", r"trees?|oaks?|maples?|birch|pine|elm|willow|leaves|foliage|crown"),
]
STILL = r"still|stays?|remains?|stands?|standing|hovers?|hovering|motionless|stationary|rests?|resting|parked|anchor(ed)?|stopped|not mov(e|ing)|doesn't move|isn't moving|won't move|no motion|without moving|in place|hangs|put|waits?|idle"
UP = r"ris(e|es|ing)|up|upwards?|ascend\w*|climb\w*|lifts?|lifting|higher|soars?|soaring|gains? height|takes? off"
DOWN = r"sinks?|sinking|down|downwards?|descend\w*|falls?|falling|lowers?|lower|drops?|dropping|lands?|landing|loses? height"


def words_of(text):
    text = text.lower().replace("’", "'").replace("coloured", "").replace("colored", "")
    text = re.sub(r"[^\w',.;:]+", " ", text)
    return " " + re.sub(r" *[,.;:]+ *", " , ", text).strip(" ,") + " "


def take(text, rules, adjectives=2):
    """The first rule that matches, and the text without what it matched."""
    colours = "|".join(COLOUR_OF) + "|deep|pale|bright|dark|high|low|big|wide|calm|open|snow capped|snowy|rolling|tall"
    for value, pattern in rules:
        whole = re.compile(rf"(?<!\w)(?:(?:{colours}) ){{0,{adjectives}}}(?:{pattern})(?!\w)")
        if whole.search(text):
            return value, whole.sub(" ", text)
    return None, text


def colour_of(text, actor_pattern):
    """The colour word that stands nearest to the actor; of equals, the one before it."""
    words = text.split()
    places = [i for i, w in enumerate(words) if w in COLOUR_OF]
    if not places:
        return None
    actors = [i for i, w in enumerate(words) if actor_pattern and re.fullmatch(actor_pattern, w)] or [len(words) // 2]
    return COLOUR_OF[words[min(places, key=lambda i: min((abs(i - a), i > a) for a in actors))]]


def read_scene(text):
    """{'sky': …, 'ground': …, 'behind': …, 'actor': …, 'colour': …, 'weather': …}, what is said."""
    whole, found = words_of(text), {}
    for pattern, colour in SHADES:
        whole = re.sub(rf"\b(?:{pattern})\b", colour, whole)
    left = whole
    # Snow that falls and snow that lies share words, and so do clear days and clear weather.
    for name, rules in (("weather", WEATHER), ("behind", BEHIND), ("sky", SKY), ("ground", GROUND)):
        value, left = take(left, rules)
        if value:
            found[name] = value
    for value, pattern in ACTOR:
        if re.search(rf"(?<!\w)(?:{pattern})(?!\w)", left):
            found["actor"] = value
            break
    # A colour that went with its neighbour ("that is green | tall buildings") is still in the whole.
    actor = dict(ACTOR).get(found.get("actor"))
    colour = colour_of(left, actor) or colour_of(whole, actor)
    if colour:
        found["colour"] = colour
    return found


def read_motion(text):
    """'left', 'right', 'rises', 'sinks', 'still', or None where the text names none."""
    text = words_of(text)
    crossing = re.search(r"from (?:the )?(?:left|right) to (?:the )?(left|right)", text)
    if crossing:
        return crossing[1]
    if re.search(rf"(?<!\w)(?:{STILL})(?!\w)", text) and not re.search(r"\b(left|right)", text):
        return "still"
    side = re.findall(r"\b(left|right)(?:wards?)?\b", text)
    if side:
        return side[-1]
    if re.search(r"\bwest(wards?)?\b", text):
        return "left"
    if re.search(r"\beast(wards?)?\b", text):
        return "right"
    if re.search(rf"(?<!\w)(?:{UP})(?!\w)", text):
        return "rises"
    if re.search(rf"(?<!\w)(?:{DOWN})(?!\w)", text):
        return "sinks"
    return None
