"""Judges a trained model by what it makes of pictures that no training program has seen.

    python evaluate.py MODEL_FOLDER --scope build/scope --plugin build/plugins/streamdiffusion.so
        [--work DIR] [--out FILE]

The model runs inside our own program, on two CPU cores, at 256 x 256. classifier.py, which knows
rendered looks alone, says which look a picture shows. Prints tables in Markdown; the exit status is 1
when a bar is missed.
"""

import argparse
import itertools
import pathlib
import sys
import tempfile

import cv2
import numpy as np
import torch
from diffusers import AutoencoderTiny

import captions
import classifier
import data
import looks
import photos
from program import Program

LOOKS = data.LOOKS
PROMPT = {look: captions.NAMES[look][0] for look in LOOKS}
SEEDS = tuple(range(1, 9))
CHANCE = 1 / len(classifier.CLASSES)
HEAD = """# Evaluation

Written by `examples/models/train/evaluate.py`: {views} views of photographs that no training saw, through
`scope run` at 256 x 256, one step where nothing else is said. Looks are recognised by a classifier that
learnt from rendered looks alone (`classifier.py`). Levels are of 0..255.

"""


# ---- what is measured of pictures ------------------------------------------------------------------


def rms(a, b):
    """Root mean square difference of two pictures, in levels of 0..255."""
    return float(np.sqrt(np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2)))


def psnr(a, b):
    return 20 * np.log10(255 / max(rms(a, b), 1e-6))


def edge_correlation(a, b):
    """Pearson correlation of how steep the brightness is, both a little blurred."""
    steep = [
        np.hypot(*looks.slopes(looks.luma(x.astype(np.float32) / 255), 1.5)).ravel() for x in (a, b)
    ]
    return float(np.corrcoef(*steep)[0, 1])


class Judge:
    def __init__(self):
        self.network = classifier.load()

    def features(self, pictures):
        parts = [self.network.features(classifier.tensor(p[None])) for p in pictures]
        return torch.cat(parts)

    def probabilities(self, pictures):
        """[n, classes]"""
        return self.network.linear(self.features(pictures)).softmax(1).numpy()

    def recognises(self, pictures, named):
        """Whether each picture shows the look that is named for it."""
        seen = self.probabilities(pictures).argmax(1)
        return np.array([classifier.CLASSES[s] == n for s, n in zip(seen, named)])


# ---- the report -----------------------------------------------------------------------------------


class Report:
    def __init__(self):
        self.parts, self.rows, self.missed = [], [], 0

    def row(self, what, figure, bar="", held=None):
        verdict = "" if held is None else "held" if held else "**missed**"
        self.missed += held is not None and not held
        self.rows.append((what, figure, bar, verdict))

    def table(self, header, rows):
        lines = [header, ["---"] * len(header), *rows]
        self.parts.append("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))

    def close(self, title):
        """What was collected by row() becomes a table under the title."""
        self.parts.append(f"## {title}")
        self.table(("measured", "figure", "bar", ""), self.rows)
        self.rows = []


def share(held):
    held = np.asarray(held)
    return f"{held.mean():.1%} of {held.size}"


# ---- the questions --------------------------------------------------------------------------------


class Questions:
    def __init__(self, program, model, views, report):
        self.program, self.model, self.views, self.report = program, model, views, report
        self.judge = Judge()

    def styled(self, views, prompts=LOOKS, **settings):
        """[views, prompts, size, size, 3]: each view with each look's prompt."""
        jobs = [(v, dict(settings, prompts=PROMPT[p])) for v in views for p in prompts]
        made = self.program.restyle(jobs)
        return made.reshape(len(views), len(prompts), *made.shape[1:])

    def recognised(self, made):
        """[views, looks] of styled(): which were recognised."""
        flat = made.reshape(-1, *made.shape[2:])
        return self.judge.recognises(flat, LOOKS * len(made)).reshape(len(made), len(LOOKS))

    # 1, 2, 3: looks and structure

    def ceilings(self):
        """What the classifier makes of the looks themselves, and after the autoencoder."""
        rendered = np.array([classifier.looks_of(v)[1:] for v in self.views])
        flat = rendered.reshape(-1, *rendered.shape[2:])
        through = self.reconstructed(flat).reshape(rendered.shape)
        edges = [[edge_correlation(v, y) for y in row] for v, row in zip(self.views, rendered)]
        return self.recognised(rendered), self.recognised(through), np.array(edges)

    def looks(self):
        ceiling, through, ideal = self.ceilings()
        by_steps = {n: self.styled(self.views, num_inference_steps=n) for n in (1, 2, 4)}
        seen = {n: self.recognised(made) for n, made in by_steps.items()}
        edges = {
            s: np.array([[edge_correlation(v, y) for y in row] for v, row in zip(self.views, made)])
            for s, made in ((0.4, self.styled(self.views, strength=0.4)), (0.6, by_steps[1]))
        }
        r = self.report
        r.row("chance", f"{CHANCE:.1%}")
        r.row(
            "rendered looks recognised: the classifier's ceiling",
            share(ceiling),
            "≥ 95%",
            ceiling.mean() >= 0.95,
        )
        r.row("the same through the autoencoder alone: the model's ceiling", share(through))
        for n in seen:
            r.row(
                f"prompted look recognised, strength 0.6, {n} step{'s'[:n > 1]}",
                share(seen[n]),
                "≥ 80%",
                seen[n].mean() >= 0.8,
            )
        r.row(
            "edges kept, strength 0.4: correlation with the source",
            f"{edges[0.4].mean():.2f}",
            "≥ 0.5",
            edges[0.4].mean() >= 0.5,
        )
        r.row("the same, strength 0.6", f"{edges[0.6].mean():.2f}")
        r.close("Looks and structure")
        r.table(
            (
                "look",
                "rendered",
                *(f"{n} step{'s'[:n > 1]}" for n in seen),
                "edges 0.4",
                "edges 0.6",
                "edges of the rendered look",
            ),
            [
                (
                    look,
                    f"{ceiling[:, i].mean():.0%}",
                    *(f"{s[:, i].mean():.0%}" for s in seen.values()),
                    *(f"{e[:, i].mean():.2f}" for e in edges.values()),
                    f"{ideal[:, i].mean():.2f}",
                )
                for i, look in enumerate(LOOKS)
            ],
        )

    # 4: prompts against seeds

    def apart(self, pictures):
        """Mean distance of pairs: (in levels, in the classifier's features)."""
        features = self.judge.features(pictures)
        pairs = list(itertools.combinations(range(len(pictures)), 2))
        pixels = np.mean([rms(pictures[i], pictures[j]) for i, j in pairs])
        return pixels, np.mean([float((features[i] - features[j]).norm()) for i, j in pairs])

    def variety(self):
        views = self.views[:: max(1, len(self.views) // 4)]
        prompts = np.mean([self.apart(row) for row in self.styled(views)], 0)
        some = LOOKS[::4]
        jobs = [(v, dict(prompts=PROMPT[p], seed=s)) for v in views for p in some for s in SEEDS]
        made = self.program.restyle(jobs)
        groups = made.reshape(-1, len(SEEDS), *made.shape[1:])
        seeds = np.mean([self.apart(g) for g in groups], 0)
        r = self.report
        r.row(
            f"pictures of {len(LOOKS)} prompts, one source and seed: mean distance of pairs, levels",
            f"{prompts[0]:.1f}",
        )
        r.row(f"pictures of {len(SEEDS)} seeds, one source and prompt", f"{seeds[0]:.1f}")
        r.row("ratio", f"{prompts[0] / seeds[0]:.1f}", "≥ 2", prompts[0] >= 2 * seeds[0])
        r.row(
            "ratio of the classifier's features",
            f"{prompts[1] / seeds[1]:.1f}",
            "≥ 2",
            prompts[1] >= 2 * seeds[1],
        )
        r.close("Variety")

    # 5: the autoencoder

    def reconstructed(self, pictures):
        vae = AutoencoderTiny.from_pretrained(self.model / "vae").float().eval()
        made = []
        with torch.no_grad():
            for p in pictures:
                y = vae.decode(vae.encode(2 * classifier.tensor(p[None]) - 1).latents).sample
                y = (y[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5
                made.append((y + 0.5).numpy().astype(np.uint8))
        return np.stack(made)

    def autoencoder(self):
        views = np.stack(self.views)
        found = [psnr(a, b) for a, b in zip(views, self.reconstructed(views))]
        r = self.report
        r.row(
            "reconstruction of held-out photographs, mean PSNR",
            f"{np.mean(found):.2f} dB",
            "≥ 26 dB",
            np.mean(found) >= 26,
        )
        r.row("the worst view", f"{min(found):.2f} dB")
        r.close("Autoencoder")

    # 6: directions

    def strength(self):
        values = (0.2, 0.4, 0.6, 0.8)
        made = [self.styled(self.views, strength=s) for s in values]
        far = np.array([[[rms(v, y) for y in row] for v, row in zip(self.views, m)] for m in made])
        rises = np.diff(far, axis=0) > 0
        r = self.report
        r.row(
            "strength " + ", ".join(map(str, values)) + ": distance from the source, levels",
            ", ".join(f"{x:.1f}" for x in far.mean((1, 2))),
        )
        growing = rises[:2].all(0)
        r.row("it rises to 0.4 and to 0.6", share(growing), "≥ 90%", growing.mean() >= 0.9)
        r.row("it rises from 0.6, where a look is whole, to 0.8", share(rises[2]))

    def guidance(self):
        scales = (1, 1.5, 3)
        plain = self.program.restyle([(v, dict(strength=0.4)) for v in self.views])
        made = [self.styled(self.views, strength=0.4, guidance_scale=g) for g in scales]
        far = np.array([[[rms(p, y) for y in row] for p, row in zip(plain, m)] for m in made])
        rises = (np.diff(far, axis=0) > 0).all(0)
        at = np.tile(np.arange(len(LOOKS)) + 1, len(self.views))
        flat = [m.reshape(-1, *m.shape[2:]) for m in made]
        p = [self.judge.probabilities(m)[np.arange(len(at)), at].mean() for m in flat]
        r = self.report
        r.row(
            "guidance 1, 1.5, 3, strength 0.4: ever farther from the picture without a prompt",
            share(rises),
            "≥ 90%",
            rises.mean() >= 0.9,
        )
        r.row(
            "mean probability of the prompted look, guidance 1 and 1.5",
            f"{p[0]:.2f}, {p[1]:.2f}",
            "rises",
            p[1] > p[0],
        )
        r.row("the same, guidance 3: too much of it", f"{p[2]:.2f}")

    def negative(self):
        """No prompt, and each look in turn as the negative one: away from that look."""
        plain = self.program.restyle([(v, {}) for v in self.views])
        look = self.styled(self.views)
        settings = dict(guidance_scale=2, prompts="")
        jobs = [(v, dict(settings, negative_prompt=PROMPT[p])) for v in self.views for p in LOOKS]
        made = self.program.restyle(jobs).reshape(look.shape)
        away = [
            [rms(y, n) > rms(y, p) for y, n in zip(*pair)] for p, *pair in zip(plain, look, made)
        ]
        at = np.arange(len(LOOKS)) + 1
        before = np.log(self.judge.probabilities(plain)[:, at] + 1e-9)
        after = self.judge.probabilities(made.reshape(-1, *made.shape[2:]))
        after = np.log(after.reshape(len(plain), len(LOOKS), -1)[:, at - 1, at] + 1e-9)
        pencil = LOOKS.index("pencil")
        r = self.report
        r.row(
            "negative prompt, guidance 2: farther from that look than without it",
            share(away),
            "≥ 90%",
            np.mean(away) >= 0.9,
        )
        r.row(
            "log probability of pencil, without and with it as the negative prompt",
            f"{before[:, pencil].mean():.1f}, {after[:, pencil].mean():.1f}",
            "falls",
            after[:, pencil].mean() < before[:, pencil].mean(),
        )

    def seed(self):
        jobs = [(v, dict(prompts=PROMPT["oil"], seed=s)) for v in self.views for s in (1, 2)]
        first, again = self.program.restyle(jobs), self.program.restyle(jobs)
        moved = [rms(a, b) for a, b in zip(first[::2], first[1::2])]
        r = self.report
        r.row(
            "the same seed in another run: the same picture",
            share((first == again).all((1, 2, 3))),
            "100%",
            bool((first == again).all()),
        )
        r.row(
            "another seed: distance, levels",
            f"{np.mean(moved):.1f}, least {min(moved):.1f}",
            "each ≥ 0.5",
            min(moved) >= 0.5,
        )

    def blending(self):
        pairs = list(zip(LOOKS, LOOKS[1:] + LOOKS[:1]))
        views = self.views[:: max(1, len(self.views) // 4)]

        def jobs(a, b):
            return [
                (v, dict(prompts=[dict(text=PROMPT[p], weight=a), dict(text=PROMPT[q], weight=b)]))
                for v in views
                for p, q in pairs
            ]

        first, blend, last = (self.program.restyle(jobs(*w)) for w in ((1, 0), (1, 1), (0, 1)))
        between = [max(rms(m, a), rms(m, b)) < rms(a, b) for a, m, b in zip(first, blend, last)]
        alone = self.styled(views).reshape(first.shape)
        r = self.report
        r.row(
            "two prompts, weights 1:1: nearer to both ends than these to each other",
            share(between),
            "≥ 90%",
            np.mean(between) >= 0.9,
        )
        r.row(
            "weights 1:0: the picture of the first prompt alone",
            share((first == alone).all((1, 2, 3))),
            "100%",
            bool((first == alone).all()),
        )

    def text_mode(self):
        subjects = ("a flower", "a portrait", "mountains", "a cat")
        settings = [
            dict(prompts=f"{PROMPT[p]} of {s}", num_inference_steps=4)
            for s in subjects
            for p in LOOKS
        ]
        made = self.program.imagine(settings)
        seen = self.judge.recognises(made, LOOKS * len(subjects))
        contrast = made.reshape(len(made), -1).std(1)
        r = self.report
        r.row(
            "text alone, 4 steps: prompted look recognised",
            share(seen),
            "≥ 50%",
            seen.mean() >= 0.5,
        )
        r.row(
            "contrast of these, levels",
            f"{contrast.mean():.0f}, least {contrast.min():.0f}",
            "each ≥ 5",
            contrast.min() >= 5,
        )

    def directions(self):
        for ask in (
            self.strength,
            self.guidance,
            self.negative,
            self.seed,
            self.blending,
            self.text_mode,
        ):
            ask()
        self.report.close("Directions")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--scope", type=pathlib.Path, default="build/scope")
    p.add_argument("--plugin", type=pathlib.Path, default="build/plugins/streamdiffusion.so")
    p.add_argument("--work", type=pathlib.Path, help="keep the pictures here")
    p.add_argument("--out", type=pathlib.Path, help="write the tables here, too")
    p.add_argument(
        "--every", type=int, default=1, help="use each n-th view alone: quicker, rougher"
    )
    return p.parse_args()


def main():
    args = arguments()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        program = Program(args.scope, args.plugin, args.model, args.work or pathlib.Path(scratch))
        views = [view for _, view in photos.held_out_views(program.size)][:: args.every]
        report = Report()
        questions = Questions(program, args.model, views, report)
        for ask in (
            questions.looks,
            questions.variety,
            questions.autoencoder,
            questions.directions,
        ):
            ask()
    text = HEAD.format(views=len(views)) + "\n\n".join(report.parts) + "\n"
    print(text, end="")
    if args.out:
        args.out.write_text(text)
    return report.missed > 0


if __name__ == "__main__":
    sys.exit(main())
