"""Imported first: settings for training beside other work on the same cores."""

import ctypes
import os

# A thread that waits for another spins a little, then leaves its core to others. Before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

# glibc gives large arrays back to the system at once, and getting them anew costs more than a
# convolution on a virtual machine: keep them (M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX).
try:
    for option, value in ((-1, 2**31 - 1), (-2, 2**28), (-4, 0)):
        ctypes.CDLL(None).mallopt(option, value)
except AttributeError:
    pass
