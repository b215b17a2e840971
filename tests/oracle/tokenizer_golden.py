"""Writes tests/golden/tokenizer: strings, and the ids that transformers' CLIPTokenizer gives them.

Two folders with one small vocabulary: `plain` pads with <|endoftext|> as SD 1.x does, `bang` pads
with "!" as SD 2.x does, which makes "!" a special token. Run it with the oracle's Python:
    python tests/oracle/tokenizer_golden.py [FOLDER [VOCABULARY_SIZE]]
A string is JSON text, or {"hex": ...} where it is no valid UTF-8; its ids are those of its decoding
with U+FFFD. Ids, after their number, stand without the start, end and padding; 0 in bang.json means
the same ids as in plain.json.
"""

import json
import pathlib
import random
import sys
import unicodedata

import vocabulary

COUNT, SEED = 2200, 1
WORDS = """a an the of in on with photo painting portrait castle cyberpunk neon watercolour sunset robot cat's
don't we're I'll they've he'd I'm IT'S WE'LL rock'n'roll ' '' 's 't'm 4k 8K 1girl 2024 3.14 masterpiece,
best (quality:1.2) [x] {y} --ar 16:9 C++ #tag @user http://a.org/b?c=d&e=f naïve café Ångström straße
İstanbul ISPARTA ığdır ΣΊΣΥΦΟΣ ὈΔΥΣΣΕΎΣ ǅ Ŀ ŉ ſ ẞ ﬁ ﬀ snake_case CamelCase ... !!! ?! — – “quoted” ‘single’ don’t
½ ² Ⅷ ⑳ ٣ ५ 三 한국어 텍스트 日本語 カタカナ ひらがな 中文字符 العَرَبِيَّة עִבְרִית हिन्दी ไทย ქართული МОСКВА Ёлка
👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 1️⃣ ❤️ 🏳️‍🌈 🎨 e\u0301 A\u030a o\u0308\u0304 \u1100\u1161\u11a8 \uc73c\u11a7\u1178 \u212b \u2126 \u0345 \u0387
\u0958 \u0344 \ufb1d \uf900 \U0002f800 \u200d \u200b \ufeff \ufffd \uffff \U0010ffff \x01 \x1b[0m \x7f""".split(" ")
WORDS = [w for group in WORDS for w in group.split("\n") if w]
MARKS = ["<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>", "<|StartOfText|>", "<|endoftext", "|>", "<|", "!", "!!"]
SPACES = ["", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u1680", "\u2003", "\u2028", "\u3000", "\x0b", "\x0c", "\x85",
          "\x1c", "\u180e", "\u2060"]
LONG = ["a" * 500, "word " * 120, "🎨" * 90, "!" * 200, "1" * 100, "\u0301" * 30, "aé" * 200, "x" + " " * 300 + "y",
        "'s" * 60, "<|endoftext|>" * 80, "ÅÅ" * 40]
BROKEN = [b"\xff", b"\x80abc", b"caf\xe9 noir", b"\xc0\xaf", b"\xe2\x82", b"\xf0\x9f\x8e", b"a\xf0\x9f\x8eb", b"\xed\xa0\x80",
          b"\xf4\x90\x80\x80", b"\xe0\x80\xaf x", b"\xf8\x88\x80\x80\x80", b"ok \xc3", b"\xe3\x81 \xe3\x81\x82", b"\xfe\xff",
          b"<|endoftext\xff|>", b"\xc3\xc3\xa9", b"\xf1\x80\x80 \xf1\x80", b"'\xff's"]


def stable(rng):
    """A character whose class has not changed since Unicode 3.2: tables differ in age, not in this."""
    while True:
        c = chr(rng.choice((rng.randint(0x20, 0x24f), rng.randint(0x300, 0x1fff), rng.randint(0x2000, 0x33ff),
                            rng.randint(0x4e00, 0x9fa5), rng.randint(0xac00, 0xffff), rng.randint(0x1d400, 0x1d7ff))))
        old = unicodedata.ucd_3_2_0.category(c)
        if old == unicodedata.category(c) and old not in ("Cn", "Cs", "Co"):
            return c


def strings():
    rng = random.Random(SEED)
    made = ["", " ", "\t\n", "a", "A", "'", "' s", "''s", "'S 'LL", *WORDS, *MARKS, *LONG]
    made += ["".join(rng.choice((m, m + " ", " " + m, "x" + m + "Y")) for m in rng.choices(MARKS, k=rng.randint(1, 4)))
             for _ in range(200)]
    made += [{"hex": b.hex()} for b in BROKEN]
    while len(made) < COUNT:
        parts = []
        for _ in range(rng.choice((1, 2, 3, 4, 6))):
            kind = rng.random()
            parts += [rng.choice(WORDS) if kind < 0.7 else "".join(stable(rng) for _ in range(rng.randint(1, 4))),
                      rng.choice(SPACES if rng.random() < 0.25 else ["", " ", " "])]
        made.append("".join(parts))
    return made


def spelt(word):
    """A word as CLIP writes its bytes."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    order = printable + [b for b in range(256) if b not in printable]
    symbols = dict(zip(order, vocabulary.byte_symbols()))
    return "".join(symbols[b] for b in word.lower().encode())


def token(text, normalized):
    return dict(content=text, lstrip=False, normalized=normalized, rstrip=False, single_word=False)


def folder(root, name, size, pad):
    """The files of a tokenizer as the published checkpoints have them."""
    from transformers import CLIPTokenizer
    vocabulary.write(root / name, size, pad, [spelt(w) for w in WORDS])
    start, end = token(vocabulary.START, True), token(vocabulary.END, True)
    config = dict(add_prefix_space=False, bos_token=dict(start, __type="AddedToken"), do_lower_case=True,
                  eos_token=dict(end, __type="AddedToken"), errors="replace", model_max_length=77,
                  tokenizer_class="CLIPTokenizer", unk_token=dict(end, __type="AddedToken"))
    if pad == vocabulary.END:
        config["pad_token"] = pad
    special = dict(bos_token=start, eos_token=end, pad_token=pad, unk_token=end)
    (root / name / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (root / name / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n")
    return CLIPTokenizer.from_pretrained(root / name)


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "golden/tokenizer")
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 900
    texts = strings()
    root.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(t, ensure_ascii=False) for t in texts)
    (root / "strings.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    plain = []
    for name, pad in (("plain", vocabulary.END), ("bang", "!")):
        tokenizer = folder(root, name, size, pad)
        rows = []
        for t in texts:
            text = t if isinstance(t, str) else bytes.fromhex(t["hex"]).decode("utf-8", "replace")
            rows.append(tokenizer(text, add_special_tokens=False).input_ids)
        rows = [[len(r), *r[:75]] for r in rows]
        shown = [0 if plain and r == plain[i] else r for i, r in enumerate(rows)]
        plain = plain or rows
        (root / f"{name}.json").write_text(
            "[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in shown) + "\n]\n")


if __name__ == "__main__":
    main()
