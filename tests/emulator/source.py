# SPDX-License-Identifier: GPL-3.0-or-later
"""CUDA source to a shared object: what is rewritten, how kernels are found, and the compiler's options.

`cuda_on_cpu.h` in front of the source explains CUDA to the C++ compiler.  Only ``extern __shared__`` must be
rewritten in the text.  A first run of the preprocessor finds the kernels of the global name space, by the
word that ``__global__`` becomes; a table of them is appended for the loader.
"""

import re
import tempfile
from pathlib import Path

from emulator.toolchain import CXX, NATIVE, build_once, cache_folder, hash_of, run, runtime_path

HEADER = NATIVE / "cuda_on_cpu.h"
BASE_FLAGS = (
    "-std=c++17",
    "-g",
    "-fPIC",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fwrapv",
    "-w",
    "-ftls-model=global-dynamic",
)
MODE_FLAGS = {
    "fast": ("-O2",),
    "check": (
        "-O1",
        "-fsanitize=thread",
        "-fsanitize=bounds,shift,integer-divide-by-zero",
        "--param",
        "tsan-distinguish-volatile=1",
    ),
}
_OPTION_NAMES = {"--include-path=": "-I", "--define-macro=": "-D", "--undefine-macro=": "-U"}

_COMMENTS_AND_LITERALS = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", flags=re.DOTALL
)
_ALIGN = r"(?:__align__\s*\(\s*\d+\s*\)\s*)?"
_EXTERN_SHARED = re.compile(
    rf"extern\s+__shared__\s+{_ALIGN}(?P<type>[\w:\s]+?)\s+{_ALIGN}(?P<name>\w+)\s*\[\s*\]\s*;"
)
_BRACE = re.compile(r"(extern\s*)?\{|\}")
_KERNEL = re.compile(
    r"(?P<template>template\s*<[^;{}]*>\s*)?(?:static\s+|inline\s+)*coc_kernel_marker\b[^;{}(]*?(?P<name>\w+)\s*\("
)

_REGISTRATION = NATIVE / "registration.h"


def _without_comments(text):
    """Give the text with comments and literals blanked, of the same length."""
    return _COMMENTS_AND_LITERALS.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def _depth(text):
    """Count open braces at the end of the text, those of ``extern "C" {`` not (its literal is blanked)."""
    stack = []
    for brace in _BRACE.finditer(text):
        if brace.group() != "}":
            stack.append(0 if brace.group(1) else 1)
        elif stack:
            stack.pop()
    return sum(stack)


def adapt(text):
    """Rewrite ``extern __shared__ T name[];``, the one thing that a macro cannot express."""
    plain, parts, last = _without_comments(text), [], 0
    for found in _EXTERN_SHARED.finditer(plain):
        pointer, name = f"{found['type']}*", found["name"]
        if _depth(plain[: found.start()]):
            new = f"{pointer} const {name} = ({pointer})coc_dyn_shared();"
        else:
            conversion = f"operator {pointer}() const {{ return ({pointer})coc_dyn_shared(); }}"
            new = f"static struct {{ {conversion} }} {name};"
        lines = text[found.start() : found.end()].count("\n")
        parts += [text[last : found.start()], new + "\n" * lines]
        last = found.end()
    return "".join(parts) + text[last:]


def find_kernels(preprocessed):
    """Names of the kernels of the global name space that are no templates."""
    text = preprocessed[preprocessed.rfind("struct coc_kernel") :]
    plain = re.sub(r"__attribute__\s*\(\(.*?\)\)", " ", _without_comments(text))
    names = []
    for found in _KERNEL.finditer(plain):
        if not found["template"] and found["name"] not in names and not _depth(plain[: found.start()]):
            names.append(found["name"])
    return names


def _short(option):
    for long, short in _OPTION_NAMES.items():
        if option.startswith(long):
            return short + option.removeprefix(long)
    return option


IGNORED = "-DKERNELS_HASH="
"""Tells CuPy that a header has changed.  Here headers are looked at, so what is alike is built once."""


class _Options:
    """NVRTC's options that mean something here: include folders and macros."""

    def __init__(self, options):
        options = [_short(option) for option in options if not option.startswith(IGNORED)]
        self.include = [option for option in options if option.startswith("-I")]
        definitions = [option[2:].partition("=") for option in options if option.startswith("-D")]
        undefined = [option[2:] for option in options if option.startswith("-U")]
        self.defined = [name for name, _, _ in definitions]
        # Defined after our header: a macro T must not meet its templates.
        lines = [f"#define {name} {value if equals else 1}\n" for name, equals, value in definitions]
        self.macros = "".join(lines + [f"#undef {name}\n" for name in undefined])

    def undo(self):
        """Lines that take the macros back."""
        return "".join(f"#undef {name}\n" for name in self.defined)


def _preprocessed(text, include):
    """The source without macros; kept, for it takes as long as all else where nothing has to be built."""
    folders = [Path(option[2:]) for option in include]
    headers = [path for folder in folders for path in sorted(folder.glob("*.*h")) if path.is_file()]
    name = hash_of(CXX, *BASE_FLAGS, text, HEADER, *(path.name for path in headers), *headers)

    def make(target):
        command = [CXX, *BASE_FLAGS, *include, "-DCOC_SCAN", "-E", "-P", "-x", "c++", "-"]
        target.write_text(run(command, input=text))

    return build_once(cache_folder() / f"text_{name}", make).read_text()


def build(code, options=(), name_expressions=(), mode="fast", filename="kernel.cu"):
    """Compile CUDA source; the path of the shared object.

    Parameters
    ----------
    code
        Text of the source.
    options
        As for NVRTC; all but ``-I``, ``-D``, ``-U`` and their long forms are ignored.
    name_expressions
        Instances of templates, and kernels of name spaces.
    mode
        ``"fast"`` or ``"check"``.
    filename
        For messages; files beside it can be included.

    Raises
    ------
    CompileError
        With the compiler's text.
    """
    parsed = _Options(options)
    include = [*parsed.include, f"-I{Path(filename).resolve().parent}"]
    head = f'#include "{HEADER}"\n{parsed.macros}#line 1 "{filename}"\n{adapt(code)}\n'
    preprocessed = _preprocessed(head, include)
    names = find_kernels(preprocessed)
    names += [name for name in name_expressions if name not in names]
    table = "".join(f'COC_KERNEL("{name}", {name})\n' for name in names)
    full = f'{head}{parsed.undo()}#line 1 "registration.h"\n{_REGISTRATION.read_text()}'.replace(
        "COC_KERNELS_HERE", table
    )
    flags = [*BASE_FLAGS, *MODE_FLAGS[mode]]
    runtime = runtime_path()
    name = hash_of(CXX, *flags, full, preprocessed, HEADER, runtime)  # wherever the headers are

    def make(target):
        with tempfile.TemporaryDirectory() as folder:
            source, compiled = Path(folder) / "kernel.cpp", Path(folder) / "kernel.o"
            source.write_text(full)
            run([CXX, *flags, *include, "-c", source, "-o", compiled])
            # Linked without -fsanitize: the calls that it put in go to our runtime.
            run([CXX, "-shared", compiled, "-o", target, runtime, f"-Wl,-rpath,{runtime.parent}"])

    return build_once(cache_folder() / f"kernel_{name}.so", make)
