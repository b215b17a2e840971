"""An independent judge of looks: which of them, or a plain photograph, does a picture show?

    python classifier.py [--work WORK] [--steps N] [--out FOLDER]

It learns from rendered looks alone, of sources that another seed drew from the training photographs
and scenes: never from what the model makes, never from a held-out photograph. Small and plain, so
that tests/tools/judge_looks.c runs it with our kernels: four convolutions of stride 2 with ReLU, mean
and deviation of each channel, one linear map. `evaluate.py` and the tests judge the model with it.
FOLDER is tests/golden/looks, which also gets two held-out photographs for tests/e2e/trained.sh.
"""

import argparse
import json
import pathlib

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import data
import looks
import photos

CLASSES = ("photo", *data.LOOKS)
WIDTHS = (3, 16, 32, 48, 64)
SEED, SOURCES = 20_011, 200  # the model's pictures are drawn with other seeds
BATCH, SIDE = 34, 160
GOLDEN = pathlib.Path(__file__).resolve().parents[3] / "tests" / "golden" / "looks"


class Judge(torch.nn.Module):
    """Pictures [n, 3, h, w] in 0..1 to logits of CLASSES."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.ModuleList(
            torch.nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(WIDTHS, WIDTHS[1:])
        )
        self.linear = torch.nn.Linear(2 * WIDTHS[-1], len(CLASSES))
        for conv in self.conv:
            torch.nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def features(self, x):
        x = 2 * x - 1
        for conv in self.conv:
            x = F.relu(conv(x))
        mean = x.mean((2, 3))
        variance = (x - mean[:, :, None, None]).square().mean((2, 3))
        return torch.cat([mean, (variance + 1e-5).sqrt()], 1)

    def forward(self, x):
        return self.linear(self.features(x))


def load(folder=GOLDEN):
    judge = Judge()
    judge.load_state_dict(
        {k: v.float() for k, v in load_file(folder / "classifier/model.safetensors").items()}
    )
    return judge.eval().requires_grad_(False)


def tensor(pictures):
    """uint8 [n, h, w, 3] to floats [n, 3, h, w] in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255


def looks_of(picture):
    """The picture as every class, in order."""
    return [looks.apply(picture, look) for look in (None, *data.LOOKS)]


def render(path):
    """[SOURCES, classes, 256, 256, 3] uint8, from `path` where it is there already."""
    if not path.exists():
        pictures, all_looks = photos.load(photos.TRAIN), []
        for i in range(SOURCES):
            all_looks.append(looks_of(data.source(pictures, SEED, i)[0]))
        np.save(path, np.array(all_looks))
    return np.load(path, mmap_mode="r")


def worsen(x, rng):
    """What a model, a codec or a camera may do to a look without making it another one."""
    x = x.astype(np.float32)
    if rng.random() < 0.6:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.5))
    x = (x - 128) * rng.uniform(0.75, 1.2) + 128 + rng.uniform(-20, 20)
    x *= rng.uniform(0.93, 1.07, 3).astype(np.float32)
    if rng.random() < 0.5:
        x = x + rng.standard_normal(x.shape, np.float32) * np.float32(rng.uniform(1, 8))
    if rng.random() < 0.3:  # errors of a decoder are as smooth as its squares are large
        coarse = rng.normal(0, rng.uniform(2, 10), (x.shape[0] // 8, x.shape[1] // 8, 3))
        x = x + cv2.resize(coarse, x.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    x = np.clip(x + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        jpeg = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))])[1]
        x = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    return x


def batch(images, rng):
    """Every class equally often."""
    labels = np.arange(BATCH) % len(CLASSES)
    crops = []
    for label in labels:
        y, x = rng.integers(0, data.SIZE - SIDE + 1, 2)
        whole = images[rng.integers(len(images)), label]
        crops.append(worsen(whole[y : y + SIDE, x : x + SIDE], rng))
    return tensor(np.stack(crops)), torch.from_numpy(labels)


def train(images, steps):
    torch.manual_seed(SEED)
    judge = Judge()
    optimiser = torch.optim.AdamW(judge.parameters(), 4e-3, weight_decay=0.02)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps, pct_start=0.1)
    for step in range(steps):
        x, labels = batch(images, np.random.default_rng((SEED, step)))
        loss = F.cross_entropy(judge(x), labels, label_smoothing=0.03)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {steps}, loss {loss.item():.3f}", flush=True)
    return judge.eval().requires_grad_(False)


def confusion(judge, change=lambda x: x):
    """[classes, classes]: how often a held-out view in look `row` is taken for `column`."""
    table = np.zeros((len(CLASSES),) * 2, int)
    for _, view in photos.held_out_views(data.SIZE):
        seen = judge(tensor([change(x) for x in looks_of(view)])).argmax(1)
        table[np.arange(len(CLASSES)), seen] += 1
    return table


def save(judge, folder):
    classifier = folder / "classifier"
    classifier.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() for k, v in judge.state_dict().items()}
    save_file(state, classifier / "model.safetensors", metadata={"format": "pt"})
    (classifier / "classes.json").write_text(json.dumps(CLASSES, indent=1) + "\n")


def save_views(folder):
    """The whole of the two photographs that anybody may use for anything."""
    views = dict(reversed(photos.held_out_views(data.SIZE)))
    for name in ("cat", "admiral"):
        picture = cv2.cvtColor(views[name], cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=pathlib.Path, default=GOLDEN)
    p.add_argument("--work", type=pathlib.Path, default=pathlib.Path("classifier-work"))
    p.add_argument("--steps", type=int, default=2400)
    args = p.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    save(train(render(args.work / f"looks-{SEED}-{SOURCES}.npy"), args.steps), args.out)
    save_views(args.out)
    rng = np.random.default_rng(1)
    for name, change in (("as rendered", lambda x: x), ("made worse", lambda x: worsen(x, rng))):
        table = confusion(load(args.out), change)
        print(f"held-out views, {name}: {table.trace() / table.sum():.1%} recognised")
        for i, j in np.argwhere(table * (1 - np.eye(len(CLASSES), dtype=int))):
            print(f"  {CLASSES[i]} taken for {CLASSES[j]}: {table[i, j]} of {table[i].sum()}")


if __name__ == "__main__":
    main()
