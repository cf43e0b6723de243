"""Make MKL compute as on the processors that reference runs were made on.

MKL picks its matrix kernels by the maker of the processor: on one that is not Intel's the same build of torch rounds
differently, and a hundred steps of training later the losses differ in the third digit. The kernels themselves run
anywhere the instructions exist.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from pathlib import Path

import torch

QUESTION = "mkl_serv_intel_cpu_true"  # MKL asks itself this once, before its first product
YES = b"\xb8\x01\x00\x00\x00\xc3"  # x86-64: mov eax, 1; ret


def as_intel() -> bool:
    """Have MKL choose Intel's kernels in this process, before the first product; False where it cannot, or need
    not, be changed.
    """
    cpus = Path("/proc/cpuinfo")
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if (
        sys.platform != "linux"
        or platform.machine() != "x86_64"
        or not library.is_file()
        or "GenuineIntel" in cpus.read_text()
    ):
        return False
    try:
        place = ctypes.cast(getattr(ctypes.CDLL(str(library)), QUESTION), ctypes.c_void_p).value or 0
    except AttributeError:  # a build without MKL
        return False
    start, length = place & -mmap.PAGESIZE, 2 * mmap.PAGESIZE
    system = ctypes.CDLL(None)
    if not place or system.mprotect(
        ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ):
        return False
    ctypes.memmove(place, YES, len(YES))
    system.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.PROT_READ | mmap.PROT_EXEC)
    return True
