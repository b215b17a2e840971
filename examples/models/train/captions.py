"""What a prompt says: templates of captions, and the tokenizer that is learnt from them."""

import collections
import json
import pathlib

from looks import COLOURS, LOOKS

# Words that people use for a look; the first is its name.
NAMES = {
    "pencil": ("pencil", "pencil drawing", "pencil sketch", "sketch"),
    "ink": ("ink", "ink drawing", "black ink", "pen and ink"),
    "oil": ("oil", "oil painting", "oil paint", "oil on canvas"),
    "watercolour": ("watercolour", "watercolor", "watercolour painting", "aquarelle"),
    "neon": ("neon", "neon lights", "neon sign", "glowing neon"),
    "pixel art": ("pixel art", "pixels", "8-bit pixel art", "pixelated"),
    "thermal": ("thermal", "thermal camera", "heat map", "infrared"),
    "blueprint": ("blueprint", "blueprint drawing", "technical drawing", "cyanotype"),
    "stained glass": ("stained glass", "stained glass window", "church window", "leaded glass"),
    "embers": ("embers", "glowing embers", "fire", "burning"),
    "ice": ("ice", "frozen", "frost", "made of ice"),
    "comic": ("comic", "comic book", "cartoon", "comic strip"),
    "gold": ("gold", "golden", "gold relief", "made of gold"),
    "halftone": ("halftone", "newspaper print", "halftone dots", "newsprint"),
    "vaporwave": ("vaporwave", "synthwave", "retro wave", "eighties"),
    "chalk": ("chalk", "chalk drawing", "blackboard", "chalkboard"),
}
assert set(NAMES) == set(LOOKS)

STYLED = (
    "{l}",
    "{l} of {s}",
    "{s}, {l}",
    "{s} in {l}",
    "a {l} of {s}",
    "{s}, {l} style",
    "{l} style",
)
PLAIN = ("", "{s}", "a photo of {s}", "photo", "a photograph of {s}", "{s}, photo")
# What the tokenizer should know in few pieces, beyond the captions.
WORDS = """a an the of in on at with and from by to for no not blurry low quality high detail detailed best
beautiful bright dark light colourful colorful painting drawing picture image art artwork style photo
portrait landscape city street house castle harbour sea ocean river lake sky cloud clouds sun sunset sunrise
night day morning evening winter summer autumn spring snow rain storm forest tree trees flower flowers garden
mountain mountains desert beach island man woman girl boy child people person face eyes hair hand cat dog
horse bird fish lion robot dragon car train boat ship bicycle motorcycle rocket astronaut space stars moon
planet galaxy coffee cup food fruit table room window door bridge tower red orange yellow green blue purple
pink black white grey brown dancing walking running old new modern ancient abstract realistic cinematic
dramatic soft warm cold cyberpunk fantasy anime impressionist van gogh monet studio lighting close up wide
lighthouse dusk dawn party concert stage music guitar piano temple palace village field road glass metal wood
stone water fire smoke fog mist""".split()
START, END = "<|startoftext|>", "<|endoftext|>"


def caption(rng, subject, look=None, colour=None):
    template = PLAIN if not look else STYLED
    text = template[rng.integers(len(template))].format(
        s=subject, l=look and NAMES[look][rng.integers(len(NAMES[look]))]
    )
    if colour:
        text = (f"{text} in {colour}", f"{colour} {text}", f"{text}, {colour}")[rng.integers(3)]
    return text.strip()


# ---- the tokenizer: CLIP's byte-pair encoding with a vocabulary of its own ----------------------


def byte_symbols():
    """GPT-2's printable stand-ins for the 256 bytes, in vocabulary order."""
    plain = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def merge(parts, pair):
    out = []
    for p in parts:
        if out and (out[-1], p) == pair:
            out[-1] += p
        else:
            out.append(p)
    return out


def learn(counts, merges):
    """Greedy byte-pair merges, most frequent pair first, ties by spelling; then rarer words whole."""
    split = {w: [*w[:-1], w[-1] + "</w>"] for w in counts}
    learnt = []
    while len(learnt) < merges:
        pairs = collections.Counter()
        for word, n in counts.items():
            for pair in zip(split[word], split[word][1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        learnt.append(best)
        split = {w: merge(parts, best) for w, parts in split.items()}
    return learnt


def corpus(subjects):
    """Words with weights: those of the captions count most."""
    counts = collections.Counter(WORDS)
    spoken = [*subjects, *COLOURS, *(n for names in NAMES.values() for n in names)]
    for text in spoken + ["photograph style"]:
        for word in text.replace(",", " ").replace("-", " ").replace("'", " ").split():
            counts[word.lower()] += 20
    return {w: n for w, n in counts.items() if w.isalpha()}


def write_tokenizer(folder, size, subjects):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols]
    merges = learn(corpus(subjects), size - len(tokens) - 2)
    tokens += ["".join(m) for m in merges]
    # Places that the corpus leaves free are never produced by a merge; the table must be full.
    tokens += [f"<|free{i}|>" for i in range(size - 2 - len(tokens))] + [START, END]
    (folder / "vocab.json").write_text(
        json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8"
    )
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8"
    )
    special = dict(bos_token=START, eos_token=END, unk_token=END, pad_token=END)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(dict(special, tokenizer_class="CLIPTokenizer", model_max_length=77), indent=2)
        + "\n"
    )
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
