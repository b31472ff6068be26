"""glibc settings that stop malloc returning large tensors to the system at every step."""

from __future__ import annotations

# By default glibc returns large tensors to the system and requests them again, page by page, in the
# next training step (docs/performance.md). Values in bytes; 32 MiB is the largest threshold that
# every glibc accepts. Other C libraries do not read these variables.
KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(4 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
