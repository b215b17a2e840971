"""A CLIP vocabulary of any size, for checkpoints that need one but have no text to learn from.

Layout as in CLIP: 256 bytes, 256 bytes that end a word, merges by rank, start and end of text. The
first merges are learnt from a handful of prompts; the rest join random pieces, which is valid BPE.
"""

import collections
import json
import pathlib
import random

CORPUS = """a photo of a cat a painting of a castle at night in the style of an old master the sea and
the sky with clouds and light a portrait of a woman with red hair a city street in the rain neon
lights a robot in a garden watercolour oil painting pencil drawing of mountains forest river
autumn winter snow fire gold blue green black and white high detail blurry low quality""".split()
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_symbols():
    """GPT-2's printable stand-ins for the 256 bytes, in vocabulary order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def learn(count):
    """Greedy byte-pair merges of the corpus, most frequent pair first, ties by spelling."""
    words = collections.Counter(CORPUS)
    split = {w: [*w[:-1], w[-1] + "</w>"] for w in words}
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(split[word], split[word][1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        for word, parts in split.items():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i:i + 2] = ["".join(best)]
                i += 1
    return merges


def write(folder, size, pad=END):
    """vocab.json, merges.txt and the two small configs of a tokenizer folder."""
    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols]
    merges = learn(size - len(tokens) - 2)
    tokens += ["".join(m) for m in merges]
    rng, seen = random.Random(0), set(tokens)
    while len(tokens) < size - 2:
        pair = rng.choice(tokens), rng.choice(tokens)
        joined = "".join(pair)
        if "</w>" in pair[0] or len(joined) > 24 or joined in seen:
            continue
        seen.add(joined)
        merges.append(pair)
        tokens.append(joined)
    tokens += [START, END]
    assert len(tokens) == size == len(set(tokens))
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    special = dict(bos_token=START, eos_token=END, unk_token=END, pad_token=pad)
    (folder / "tokenizer_config.json").write_text(json.dumps(
        dict(special, tokenizer_class="CLIPTokenizer", model_max_length=77), indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
