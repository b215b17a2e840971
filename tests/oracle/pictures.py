"""Golden tensors for the picture ops (kernels/cpu/picture.c), made by PyTorch.

    python3 tests/oracle/pictures.py        writes tests/golden/pictures/*.f32

Raw little-endian float32, in the order that tests/kernels/test_picture.c reads: shapes and inputs
stand there and here alike. The picture is x[i] = ((37 i) mod 101) / 101 over its elements, NHWC.
"""

import math
import pathlib

import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent.parent / "golden" / "pictures"
H, W, C = 7, 9, 3  # of the picture
OH, OW = 5, 11  # of what is made of it
# The map of test_picture.c, output pixel to input pixel, as in kernels.h.
MAP = [0.9, -0.7, 2.0, 0.6, 1.3, -3.0]


def picture():
    i = torch.arange(H * W * C, dtype=torch.float64)
    return ((37 * i) % 101 / 101).reshape(1, H, W, C)


def save(name, nhwc):
    nhwc.to(torch.float32).contiguous().numpy().tofile(HERE / f"{name}.f32")


def warp(x, padding):
    j, i = torch.meshgrid(
        torch.arange(OH, dtype=torch.float64) + 0.5,
        torch.arange(OW, dtype=torch.float64) + 0.5,
        indexing="ij",
    )
    u = MAP[0] * i + MAP[1] * j + MAP[2]
    v = MAP[3] * i + MAP[4] * j + MAP[5]
    grid = torch.stack([2 * u / W - 1, 2 * v / H - 1], dim=-1)[None]
    nchw = x.permute(0, 3, 1, 2)
    y = F.grid_sample(nchw, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return y.permute(0, 2, 3, 1)


def blur(x, sigma):
    """A Gaussian whose weights outside of the picture do not count."""
    reach = math.ceil(3 * sigma)
    d = torch.arange(-reach, reach + 1, dtype=torch.float64)
    g = torch.exp(-d * d / (2 * sigma * sigma))
    kernel = (g[:, None] * g[None, :])[None, None]
    nchw = x.permute(0, 3, 1, 2).reshape(C, 1, H, W)
    total = F.conv2d(F.pad(nchw, [reach] * 4), kernel)
    share = F.conv2d(F.pad(torch.ones_like(nchw), [reach] * 4), kernel)
    return (total / share).reshape(1, C, H, W).permute(0, 2, 3, 1)


def main():
    x = picture()
    HERE.mkdir(parents=True, exist_ok=True)
    save("warp_border", warp(x, "border"))
    save("warp_mirror", warp(x, "reflection"))
    nchw = x.permute(0, 3, 1, 2)
    resized = F.interpolate(nchw, size=(OH, OW), mode="bilinear", align_corners=False)
    save("resize", resized.permute(0, 2, 3, 1))
    save("blur", blur(x, 1.5))
    a, b = (x - 0.5).flatten(), (x.flip(1) - 0.5).flatten()
    save("cosine", F.cosine_similarity(a, b, dim=0, eps=1e-6)[None])


if __name__ == "__main__":
    main()
