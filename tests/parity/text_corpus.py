"""Texts to compare by: made from a seed, in every script of SENTENCES, and broken in every way that is known."""
import html.entities
import random
import unicodedata

SENTENCES = {
    "latin": ["A red fox jumps over snow.", "Café déjà vu, naïve façade, coöperate, Ångström", "Żółw i jeż, šest žluťoučkých koňů",
              "Größe, Straße, Übermut — “quoted” and ‘single’", "İstanbul'da ılık bir gün, ğüşöç", "Ça va? Où est l'œuvre? Cœur",
              "El niño comió piñas a la mañana ¿verdad? ¡Sí!", "Tiếng Việt có nhiều dấu thanh điệu", "às vezes à noite, até à praia"],
    "greek": ["Καλημέρα κόσμε, η θάλασσα λάμπει", "ΑΘΗΝΑ: ἀρχὴ ἥμισυ παντός"],
    "cyrillic": ["Привет, мир! Красный воздушный шар над морем", "Їжак і ґанок, Ђорђе љуби њу", "Съешь же ещё этих мягких булок"],
    "armenian": ["Բարեւ աշխարհ, կարմիր օդապարիկ"],
    "georgian": ["გამარჯობა მსოფლიო, წითელი ბურთი"],
    "hebrew": ["שָׁלוֹם עוֹלָם, כדור פורח אדום", "ירושלים של זהב"],
    "arabic": ["مرحبا بالعالم، بالون أحمر فوق البحر", "السَّلَامُ عَلَيْكُمْ ١٢٣", "این یک متن فارسی است که می‌نویسم"],
    "syriac": ["ܫܠܡܐ ܥܠܡܐ"],
    "thaana": ["ހެޔޮ ދުވަހެއް"],
    "devanagari": ["नमस्ते दुनिया, लाल गुब्बारा", "क्षत्रिय ज्ञान श्रृंखला हिन्दी"],
    "bengali": ["ওহে বিশ্ব, লাল বেলুন", "ক্ষুদ্র নদী য়"],
    "gurmukhi": ["ਸਤ ਸ੍ਰੀ ਅਕਾਲ ਦੁਨਿਆ"],
    "gujarati": ["નમસ્તે દુનિયા, લાલ ફુગ્ગો"],
    "oriya": ["ନମସ୍କାର ଦୁନିଆ ଡ଼"],
    "tamil": ["வணக்கம் உலகம், சிவப்பு பலூன்"],
    "telugu": ["నమస్తే ప్రపంచం, ఎరుపు బుడగ"],
    "kannada": ["ನಮಸ್ಕಾರ ಜಗತ್ತು, ಕೆಂಪು ಬಲೂನು"],
    "malayalam": ["നമസ്കാരം ലോകം, ചുവന്ന ബലൂൺ"],
    "sinhala": ["හෙලෝ වර්ල්ඩ්, රතු බැලූනය"],
    "thai": ["สวัสดีชาวโลก บอลลูนสีแดงลอยขึ้น", "น้ำใจ ก็ ๑๒๓"],
    "lao": ["ສະບາຍດີຊາວໂລກ ນ້ຳ"],
    "tibetan": ["བཀྲ་ཤིས་བདེ་ལེགས།"],
    "myanmar": ["မင်္ဂလာပါ ကမ္ဘာလောက"],
    "khmer": ["សួស្តីពិភពលោក បាល់ឡុងក្រហម"],
    "ethiopic": ["ሰላም ዓለም ቀይ ፊኛ"],
    "cherokee": ["ᎣᏏᏲ ᎡᎶᎯ"],
    "mongolian": ["ᠰᠠᠢᠨ ᠪᠠᠶᠢᠨ᠎ᠠ"],
    "hangul": ["안녕하세요 세계, 빨간 풍선이 바다 위로", "값싼 닭고기 ㅋㅋㅋ ㅠㅠ"],
    "kana": ["ねこがまどべにすわっている。", "カタカナとひらがな、ｶﾞｷﾞｸﾞ ﾊﾟﾋﾟ ー〜～"],
    "han": ["猫が窓辺に座っている", "红色的热气球，升起：在海上！", "繁體中文，夜裡的山脈。「引號」", "㍿ ㌔ ㊙ ①②③ ㎏ ⅷ"],
    "tifinagh": ["ⴰⵣⵓⵍ ⴰⵎⴰⴹⴰⵍ"],
    "nko": ["ߊߟߎ ߣߌ ߛߐ߲߬ߜߐߡߊ"],
}
EMOJI = ["🎈", "👩‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "🇯🇵🇩🇪", "🏴󠁧󠁢󠁷󠁬󠁳󠁿", "1️⃣", "❤️", "☺", "🧑🏿‍🚀", "😀😀😀", "🫠"]
INVISIBLE = [chr(c) for c in [*range(0x200b, 0x2010), *range(0x202a, 0x202f), *range(0x2060, 0x2070), 0xad, 0x34f, 0x61c, 0x115f, 0x180e,
                              0xfeff, 0xfff9, 0xfffa, 0xfffb, 0xfffc, 0xfffd, 0xfe0e, 0xfe0f, 0xe0001, 0xe0041, 0xe007f, 0x1d173]]
CONTROLS = [chr(c) for c in [*range(1, 0x20), *range(0x7f, 0xa0)]] + ["\x1b[31m", "\x1b[0;1;38m", "\x1b[", "\x1b[12", "\x1b[٣m", "\r\n"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"]
QUOTES = list("‘’‚‛“”„‟ʼ«»‹›′″`´") + ["…", "—", "–", "‐", "‑", "−"]
LIGATURES = list("ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬅﬆﬓœŒæÆﷺ")
SPECIAL = ["</s>", "<s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_5>", "<extra_id_99>", "<extra_id_299>", "<extra_id_300>", "▁", "▁▁", "<0x41>", "<0x0A>",
           "<", "&lt;", "<b>", "ſ", "ﬁ́", "①̂", "２́", "\u1112\u1161\u11ab", "e\u0301", "か\u3099", "\u0301"]
ENCODINGS = ["latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "mac_roman", "cp437"]
NAMES = sorted(name for name in html.entities.html5 if name.endswith(";"))


def sloppy(data, encoding, lossy=False):
    """Bytes read as another encoding; what it does not have is passed through, or lost."""
    text = ""
    for byte in data:
        try:
            text += bytes([byte]).decode(encoding)
        except UnicodeDecodeError:
            text += "\ufffd" if lossy else chr(byte)
    return text


def cesu(text):
    """UTF-8 of UTF-16's halves, and of U+0000 in two bytes."""
    out = b""
    for c in text:
        if ord(c) > 0xffff:
            v = ord(c) - 0x10000
            out += chr(0xd800 + (v >> 10)).encode("utf-8", "surrogatepass") + chr(0xdc00 + (v & 0x3ff)).encode("utf-8", "surrogatepass")
        else:
            out += b"\xc0\x80" if c == "\0" else c.encode()
    return out


class Corpus:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.letters = [c for c in map(chr, range(0x80, 0x2600)) if any(self.encodes(c, e) for e in ENCODINGS)] + list("aezAZ .?!\n")

    @staticmethod
    def encodes(c, encoding):
        try:
            return bool(c.encode(encoding))
        except UnicodeEncodeError:
            return False

    def sentence(self):
        return self.r.choice(SENTENCES[self.r.choice(list(SENTENCES))])

    def word(self):
        words = self.sentence().split()
        return self.r.choice(words)

    def words(self, most=6):
        return " ".join(self.word() for _ in range(self.r.randint(1, most)))

    def mojibake(self):
        text = self.r.choice([self.sentence, self.words, lambda: self.word() + self.r.choice(QUOTES + EMOJI) + self.word()])()
        for _ in range(self.r.choice([1, 1, 1, 1, 2, 2, 3])):
            data = self.r.choice([str.encode, str.encode, str.encode, cesu])(text)
            text = sloppy(data, self.r.choice(ENCODINGS), self.r.random() < 0.2)
            change = self.r.random()
            if change < 0.1:
                text = text.replace("\xa0", " ")
            elif change < 0.15:
                text = text.replace("\ufffd", "?")
            elif change < 0.2 and len(text) > 3:
                at = self.r.randrange(len(text))
                text = text[:at] + self.r.choice(self.letters) + text[at + 1:]
        change = self.r.random()
        if change < 0.2:
            text = self.words(2) + " " + text
        elif change < 0.4:
            text = text + " " + self.mojibake() if change < 0.3 else text + " " + self.words(2)
        return text

    def garble(self):
        return "".join(self.r.choice(self.letters) for _ in range(self.r.randint(1, 12)))

    def reference(self):
        r = self.r
        name = r.choice(NAMES)
        return r.choice([
            lambda: "&" + name, lambda: "&" + name[:-1], lambda: "&" + name.upper(), lambda: "&amp;" + name, lambda: "&amp;amp;" + name,
            lambda: f"&#{r.randint(0, 300)};", lambda: f"&#x{r.choice([0x80, 0x9f, 0xd800, 0xdfff, 0xfdd0, 0x1fffe, 0x110000, 0x1f388, 0x3042, 11, 13]):x};",
            lambda: f"&#{r.randint(0, 0x11ffff)}", lambda: "&" + name[:-1] + r.choice(["x", " ", "1", "=", "é"]), lambda: f"&#{name}", lambda: "&#;&;&#x;&"])()

    def stacked(self):
        marks = [chr(c) for c in [*range(0x300, 0x370), *range(0x591, 0x5c8), *range(0x64b, 0x656), 0x94d, 0x93c, 0x3099, 0x309a, 0x20dd, 0x1ab0]]
        text = self.word()
        return "".join(c + "".join(self.r.choice(marks) for _ in range(self.r.choice([0, 0, 1, 2, 5]))) for c in text)

    def wide(self):
        text = self.r.choice(["A red fox: 12 (snow), ~50% & more!", self.sentence()])
        wide = "".join(chr(ord(c) + 0xfee0) if "!" <= c <= "~" else "\u3000" if c == " " else c for c in text)
        half = "".join(chr(self.r.randrange(0xff01, 0xfff0)) for _ in range(self.r.randint(1, 12)))
        return self.r.choice([wide, half, wide + half, text + half])

    def between(self, things):
        return "".join(self.word() + self.r.choice(["", " "]) + self.r.choice(things) for _ in range(self.r.randint(1, 5))) + self.word()

    def any_points(self):
        r = self.r
        out = ""
        while len(out) < r.choice([1, 4, 12]):
            c = r.choice([r.randrange(0x80, 0x3000), r.randrange(0x3000, 0x10000), r.randrange(0x10000, 0x20000)])
            if not 0xd800 <= c <= 0xdfff and unicodedata.category(chr(c)) != "Cn":
                out += chr(c)
        return out

    def repeated(self):
        unit = self.r.choice([self.word()[:self.r.randint(1, 4)], self.r.choice(["ha", "a", "-", "=", ".", "ok", "。", "ー", "1", "0", "*", "na"])])
        return self.r.choice(["", self.word() + " "]) + unit * self.r.randint(2, 30)

    def one(self):
        kinds = [self.sentence, self.words, self.mojibake, self.mojibake, self.mojibake, self.garble, self.garble, self.stacked, self.wide,
                 self.any_points, self.repeated, lambda: self.between(EMOJI), lambda: self.between(INVISIBLE), lambda: self.between(CONTROLS),
                 lambda: self.between(SPACES), lambda: self.between(QUOTES), lambda: self.between(LIGATURES), lambda: self.between(SPECIAL),
                 lambda: self.between([self.reference() for _ in range(4)]), lambda: unicodedata.normalize("NFD", self.sentence()),
                 lambda: unicodedata.normalize("NFKD", self.sentence()),
                 lambda: self.one() + self.r.choice(SPACES + ["", "", "\n", "<i>"]) + self.one()]
        return self.r.choice(kinds)()

    def texts(self, count):
        """Every sentence as it is, then `count` others; none has U+0000 or lone surrogates."""
        fixed = [s for group in SENTENCES.values() for s in group] + [*EMOJI, *SPECIAL, "", " ", "\n"]
        made = []
        while len(made) < count:
            text = self.one()[:600]
            if "\0" not in text and not any(0xd800 <= ord(c) <= 0xdfff for c in text):
                made.append(text)
        return fixed + made
