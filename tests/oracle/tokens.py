"""Token ids of thousands of strings: transformers' CLIPTokenizer against ours, exactly."""

import random

import checkpoints
from probe import Probe
from reference import Model

COUNT = 3000
WORDS = """a an the of in on with photo painting portrait castle cyberpunk neon watercolour cat's don't
we're I'll they've he'd I'm it's rock'n'roll 4k 8K 1girl 2024 3.14 masterpiece, best (quality:1.2) [x] {y}
--ar 16:9 C++ #hashtag @user http://example.org/a?b=c&d=e naïve café Ångström straße İstanbul ΣΊΣΥΦΟΣ ǅ
<|startoftext|> <|endoftext|> <|endoftext snake_case CamelCase UPPER ... !!! ?! — “quoted” ‘single’ ½ ² Ⅷ""".split()
RANGES = [
    (0x20, 0x7E),
    (0xA0, 0x24F),
    (0x300, 0x36F),
    (0x370, 0x52F),
    (0x590, 0x6FF),
    (0x900, 0x97F),
    (0xE00, 0xE7F),
    (0x1100, 0x11FF),
    (0x1E00, 0x1FFF),
    (0x2000, 0x206F),
    (0x2100, 0x2BFF),
    (0x3000, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0xFE00, 0xFE0F),
    (0xFF00, 0xFFEF),
    (0x1D400, 0x1D7FF),
    (0x1F000, 0x1FAFF),
    (0x20000, 0x2A6DF),
    (0xE0000, 0xE007F),
]
SPACES = [
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\u200b",
    "\x0b",
    "\x85",
    "\x1c",
]
EDGES = [
    "",
    " ",
    "\t\n",
    "a",
    "A",
    "'",
    "'s",
    "' s",
    "'S 'LL",
    "''s",
    "0123456789",
    "e\u0301\u0327",
    "\u1e9e",
    "\u0345\u03b1",
    "👩‍👩‍👧‍👦 family",
    "🇩🇪🇫🇷",
    "👍🏽",
    "\ufeffbom",
    "\uffff",
    "\U0010ffff",
    "한국어 텍스트",
    "日本語の文章",
    "中文字符",
    "العربية",
    "עברית",
    "हिन्दी",
    "ไทย",
    "ﬁ ligature",
    "Å Å",
    "<|startoftext|>a<|endoftext|>",
    "\x7f\x01",
    "a" * 400,
    "word " * 200,
    "🎨" * 100,
    "!" * 300,
    "1" * 200,
    "\u0301" * 20,
    "K Å Ω",
]


def strings(seed):
    rng = random.Random(seed)

    def piece():
        kind = rng.random()
        if kind < 0.55:
            return rng.choice(WORDS)
        lo, hi = rng.choice(RANGES)
        return "".join(chr(rng.randint(lo, hi)) for _ in range(rng.randint(1, 6)))

    made = list(EDGES)
    while len(made) < COUNT:
        parts = [piece() for _ in range(rng.choice((1, 2, 3, 5, 8, 13, 40)))]
        made.append(
            "".join(p + rng.choice(SPACES if rng.random() < 0.2 else ["", " ", " "]) for p in parts)
        )
    return made


def check(args):
    """How many strings agree, and of how many; the first disagreements are printed."""
    name = (args.models or ("tiny-sd1" if args.size == "tiny" else "sd15")).split(",")[0]
    folder = checkpoints.folder(name, args.seed, args.cache)
    texts, ref = strings(args.seed), Model(folder)
    probe = Probe(args.probe, folder, args.memory)
    probe.ask("tokens", "tokens", texts=texts)
    probe.run()
    wrong = 0
    for text, ours in zip(texts, probe.get("tokens")[0, 0].astype(int)):
        theirs = ref.ids(text)
        if list(ours) != theirs:
            wrong += 1
            if wrong <= 5:
                print(
                    f"tokens differ: {text!r}\n  ours   {list(map(int, ours))}\n  theirs {theirs}"
                )
    return len(texts) - wrong, len(texts)
