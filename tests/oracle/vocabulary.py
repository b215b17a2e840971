"""A CLIP vocabulary of any size, for checkpoints that need one but have no text to learn from.

Layout as in CLIP: 256 bytes, 256 bytes that end a word, merges by rank, start and end of text. At
CLIP's own size the merges are CLIP's, when the package open_clip (which carries the list) is there.
Otherwise the first merges are learnt from a handful of prompts and the rest join random pieces,
which is valid BPE.
"""

import collections
import gzip
import importlib.util
import json
import pathlib
import random

CLIP_SIZE = 49408

CORPUS = """a photo of a cat a painting of a castle at night in the style of an old master the sea and
the sky with clouds and light a portrait of a woman with red hair a city street in the rain neon
lights a robot in a garden watercolour oil painting pencil drawing of mountains forest river
autumn winter snow fire gold blue green black and white high detail blurry low quality""".split()
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_symbols():
    """GPT-2's printable stand-ins for the 256 bytes, in vocabulary order."""
    plain = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def learn(count, extra=()):
    """Greedy byte-pair merges of the corpus, most frequent pair first, ties by spelling."""
    words = collections.Counter([*CORPUS, *extra])
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
                    parts[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def clip_merges():
    """CLIP's own merges, or none when open_clip is not installed."""
    spec = importlib.util.find_spec("open_clip")
    if not spec:
        return []
    path = pathlib.Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    return [tuple(line.split()) for line in lines[1 : CLIP_SIZE - 512 - 2 + 1]]


def write(folder, size, pad=END, extra=()):
    """vocab.json, merges.txt and the two small configs of a tokenizer folder.

    `extra`: words that learnt merges must know besides the corpus."""
    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols]
    merges = size == CLIP_SIZE and clip_merges() or learn(size - len(tokens) - 2, extra)
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
        json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8"
    )
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8"
    )
    special = dict(bos_token=START, eos_token=END, unk_token=END, pad_token=pad)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(dict(special, tokenizer_class="CLIPTokenizer", model_max_length=77), indent=2)
        + "\n"
    )
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
