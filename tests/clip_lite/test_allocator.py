"""Memory that is freed stays for the next step, and goes back at the end."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import os, psutil, torch
from clip_lite.allocator import kept_memory
held = lambda: psutil.Process().memory_info().rss / 2**20
def block():
    x = torch.zeros(64, 2**20 // 4); del x
before = held(); block(); plain = held() - before
with kept_memory():
    block(); inside = held() - before
print(plain, inside, held() - before)
"""


def test_freed_blocks_are_kept_inside_and_given_back_after() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    plain, inside, after = map(float, done.stdout.split())
    assert plain < 16
    assert inside > 48  # the 64 MiB of the block
    assert after < 16
