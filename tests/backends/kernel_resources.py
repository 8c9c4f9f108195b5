# SPDX-License-Identifier: GPL-3.0-or-later
"""What NVIDIA's compilers make of the kernels: registers and memory, for every variant and architecture.

NVRTC is used in processes of its own (this file is their program): in a process that has loaded it no device
can be pretended, for it goes by the same name.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

from emulator.nvrtc_check import Nvrtc, resources

from gpuidx.backends.cuda import peakfinder8, pixels, sources, trial_tables
from gpuidx.backends.cuda.kernels import compile_options, signatures
from gpuidx.backends.cuda.pixels import TYPES
from gpuidx.options import PeakOptions

MAJORS = (13, 12)
LEAST_ARCH, OLDEST_OF_NEWEST = 70, 75
"""Oldest architecture, and oldest that the newest compiler knows."""
MOST_REGISTERS = 64
WITH_STACK = ("grow_peaks",)
"""Kernels that have memory of their own for each thread: a queue."""
VARIED_ARCH = 90
"""Architecture that all combinations of two choices are compiled for."""
USUAL_ARCHS = (70, 75, 80, 86, 89, 90, 100, 120)
"""Those of cards that are sold; the others differ little from one of them."""
FEW_ARCHS = (70, 75, 90, 120)
"""The oldest and the newest of each compiler, and one between."""


INDEXING = tuple(sorted(path.name for path in sources.folder().glob("indexing_*.cu")))
"""Files of the indexing trials."""


@dataclass(frozen=True)
class Variant:
    """A file of kernels as one run needs it."""

    file: str = peakfinder8.FILE
    pixel: str = "u2"
    lanes: int = peakfinder8.MANY
    has_rules: bool = False
    sampled: bool = False
    max_pix_count: int = peakfinder8.QUEUES[0]

    def options(self) -> tuple[str, ...]:
        """NVRTC's, but the architecture."""
        if self.file in INDEXING:  # no other choice changes these
            return compile_options(sources.folder(), None, trial_tables.defines())
        if self.file == pixels.FILE:
            return compile_options(sources.folder(), self.pixel, pixels.defines())
        run = PeakOptions(peakfinder8_fast=self.sampled, max_pix_count=self.max_pix_count)
        defines = peakfinder8.defines(run, self.lanes, has_rules=self.has_rules)
        return compile_options(sources.folder(), self.pixel, defines)


CHOICES = {
    "pixel": TYPES,
    "lanes": (peakfinder8.FEW, peakfinder8.MANY),
    "has_rules": (False, True),
    "sampled": (False, True),
    "max_pix_count": peakfinder8.QUEUES,
}
USUAL = (
    *(Variant(file=pixels.FILE, pixel=pixel) for pixel in ("u1", "u2", "u4")),
    *(Variant(pixel=pixel) for pixel in ("u2", "f4")),
    *(Variant(file=file) for file in INDEXING),
)
"""Variants of the table in docs/kernels.md."""


def all_variants() -> list[Variant]:
    return [Variant(**dict(zip(CHOICES, values, strict=True))) for values in product(*CHOICES.values())]


def pairs_of(variant: Variant) -> set[tuple]:
    """The choices of a variant, two by two."""
    return set(combinations([(name, getattr(variant, name)) for name in CHOICES], 2))


def covering_variants() -> list[Variant]:
    """Few variants with every pair of choices."""
    every, chosen = all_variants(), []
    left = set().union(*map(pairs_of, every))
    while left:
        chosen.append(max(every, key=lambda variant: len(pairs_of(variant) & left)))
        left -= pairs_of(chosen[-1])
    return chosen


def jobs(nvrtc: Nvrtc, extent: str) -> list[tuple[int, Variant]]:
    """Architectures and variants to compile.

    ``"usual"``: the usual ones by the newest compiler, what only the oldest knows by that, and every pair of
    choices for one architecture; ``"few"``: the same for few architectures; ``"all"``: every pair of choices
    for every architecture by both.
    """
    archs = [arch for arch in nvrtc.archs() if arch >= LEAST_ARCH]
    if extent == "all":
        variants = dict.fromkeys([*covering_variants(), *USUAL])
        return list(product(archs, variants))
    if extent == "few":
        archs = [arch for arch in archs if arch in FEW_ARCHS]
    if nvrtc.version()[0] < max(MAJORS):
        return list(product([arch for arch in archs if arch < OLDEST_OF_NEWEST], USUAL))
    more = [variant for variant in covering_variants() if variant not in USUAL]
    usual = [arch for arch in archs if arch in USUAL_ARCHS]
    return [*product(usual, USUAL), *((VARIED_ARCH, variant) for variant in more)]


@dataclass(frozen=True)
class Row:
    """What one kernel needs; *log* tells why it could not be compiled."""

    nvrtc: str
    arch: int
    variant: Variant
    kernel: str
    log: str = ""
    registers: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    shared: int = 0
    constant: int = 0

    def faults(self) -> list[str]:
        """What is against the rules."""
        found = [self.log] if self.log else []
        if self.registers > MOST_REGISTERS:
            found.append(f"{self.registers} registers")
        if self.spill_stores or self.spill_loads:
            found.append(f"spills {self.spill_stores} + {self.spill_loads} bytes")
        if self.stack and self.kernel not in WITH_STACK:
            found.append(f"stack of {self.stack} bytes")
        where = f"{self.kernel or self.variant.file}, NVRTC {self.nvrtc}, sm_{self.arch}, {self.variant}"
        return [f"{where}: {text}" for text in found]


def compile_jobs(major: int, extent: str) -> list[Row]:
    """Compile here and now; `compile_all` does it elsewhere."""
    nvrtc, rows = Nvrtc(major=major), []
    version = "{}.{}".format(*nvrtc.version())
    for arch, variant in jobs(nvrtc, extent):
        source = (sources.folder() / variant.file).read_text()
        options = [*variant.options(), f"--gpu-architecture=sm_{arch}", "--ptxas-options=-v"]
        good, log, _, _ = nvrtc.compile(source, variant.file, options)
        names = list(signatures(source)) if good else [""]
        found = resources(log)
        for name in names:
            figures = {"log": log} if not good else found.get(name, {"log": f"no figures in {log!r}"})
            rows.append(Row(version, arch, variant, name, **figures))
    return rows


def compile_all(extent: str, majors: tuple[int, ...] = MAJORS) -> list[Row]:
    """Compile with each NVRTC, in a process of its own; see `jobs`."""
    tests = Path(__file__).resolve().parents[1]
    path = f"{tests.parent}{os.pathsep}{tests}"  # the kernels of this tree, whatever is installed
    environment = os.environ | {"PYTHONPATH": path}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(major), extent],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for major in majors
    ]
    rows = []
    for process in processes:
        out, err = process.communicate()
        if process.returncode:
            raise RuntimeError(err.decode())
        rows += [Row(**(row | {"variant": Variant(**row["variant"])})) for row in json.loads(out)]
    return rows


BEGIN, END = "<!-- scripts/kernel-table: begin -->", "<!-- scripts/kernel-table: end -->"


def table(rows: list[Row]) -> str:
    """Registers of each kernel in its usual variants, for each architecture, as the documentation has it."""
    lines = []
    for version in dict.fromkeys(row.nvrtc for row in rows):
        own = [row for row in rows if row.nvrtc == version and row.variant in USUAL]
        archs = list(dict.fromkeys(row.arch for row in own))
        lines += [f"### NVRTC {version}", ""]
        lines += [f"| kernel | stack | shared | {' | '.join(f'sm_{arch}' for arch in archs)} |"]
        lines += ["|---|---|---|" + "---|" * len(archs)]
        for kernel in dict.fromkeys(row.kernel for row in own):
            cells = [_cell(own, kernel, "stack", archs), _cell(own, kernel, "shared", archs)]
            cells += [_cell(own, kernel, "registers", [arch]) for arch in archs]
            lines.append(f"| `{kernel}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(rows: list[Row], kernel: str, figure: str, archs: list[int]) -> str:
    """A figure in the usual variants, once if it is the same; the greatest of some architectures."""
    values = [
        max((getattr(row, figure) for row in rows
             if row.kernel == kernel and row.variant == variant and row.arch in archs), default=None)
        for variant in USUAL
    ]  # fmt: skip
    values = [value for value in values if value is not None]
    return " / ".join(map(str, dict.fromkeys(values)))


def stated_table(text: str) -> str:
    """The table in the documentation, between its marks."""
    return text.partition(BEGIN)[2].partition(END)[0].lstrip("\n")


def with_table(text: str, new: str) -> str:
    """The documentation with another table."""
    head, mark, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"no place for the table: {BEGIN} … {END}")
    return f"{head}{BEGIN}\n{new}{END}{tail}"


def versions(text: str) -> list[str]:
    """Versions of NVRTC that a table names."""
    return re.findall(r"^### NVRTC (\S+)$", text, re.MULTILINE)


def registers(text: str) -> dict[tuple[str, str, str], str]:
    """Registers that a table states, by version of NVRTC, kernel and architecture."""
    stated, version, names = {}, "", []
    for line in text.splitlines():
        cells = [cell.strip(" `") for cell in line.split("|")[1:-1]]
        if line.startswith("### NVRTC"):
            version = line.split()[-1]
        elif line.startswith("| kernel"):
            names = cells
        elif line.startswith("| `"):
            stated |= {(version, cells[0], arch): n for arch, n in zip(names[3:], cells[3:], strict=True)}
    return stated


def kernel_names(text: str) -> list[str]:
    """Kernels that a table names, once each."""
    return list(dict.fromkeys(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)))


if __name__ == "__main__":
    done = compile_jobs(int(sys.argv[1]), sys.argv[2])
    print(json.dumps([vars(row) | {"variant": vars(row.variant)} for row in done]))
