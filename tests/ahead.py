"""Kernels compiled ahead of time for a GPU that is not there: what they need, and which instructions they use.

Triton brings NVIDIA's assembler and disassembler with it, so that a machine without a GPU can tell whether a kernel
compiles, spills registers, or uses tensor cores. In a process of its own, since tests run with Triton's interpreter.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

H100, A100 = 90, 80  # compute capabilities


@dataclass(frozen=True)
class Compiled:
    """A compiled kernel.

    Attributes:
        registers: of a thread.
        spilled: bytes of a thread's local memory.
        shared: bytes of shared memory of a program.
        instructions: how many of each there are, by the first part of their name, such as "HGMMA" or "FFMA".
    """

    registers: int
    spilled: int
    shared: int
    instructions: dict[str, int]


@dataclass(frozen=True)
class Job:
    """A kernel and what to compile it for.

    Attributes:
        kernel: "module:name".
        signature: types of the arguments that are no constants, such as "*fp32", "*bf16", "i32", "fp32".
        constants: values of those that are, None for pointers that are not passed.
        options: num_warps, num_stages, enable_fp_fusion...
        capability: of the device.
    """

    kernel: str
    signature: dict[str, str]
    constants: dict[str, Any]
    options: dict[str, Any]
    capability: int = H100


def compile_ahead(jobs: list[Job]) -> list[Compiled]:
    """Compile kernels, pointers and sizes taken as divisible by 16, as they are for most shapes."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    text = json.dumps([vars(job) for job in jobs])
    run = subprocess.run(
        [sys.executable, "-m", "tests.ahead"], input=text, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return [Compiled(**found) for found in json.loads(run.stdout.splitlines()[-1])]


def _compile(job: Job) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget

    module, _, name = job.kernel.partition(":")
    kernel = getattr(importlib.import_module(module), name)
    names = list(kernel.arg_names)
    signature = {n: job.signature.get(n, "constexpr") for n in names}
    missing = [n for n in names if n not in job.signature and n not in job.constants]
    assert not missing, f"{job.kernel}: neither a type nor a value for {missing}"
    sizes_and_pointers = [i for i, n in enumerate(names) if signature[n][0] in "*i"]
    divisible = {(i,): [["tt.divisibility", 16]] for i in sizes_and_pointers}
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=job.constants, attrs=divisible)
    compiled = triton.compile(source, target=GPUTarget("cuda", job.capability, 32), options=job.options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(compiled.asm["cubin"])
        usage = subprocess.run(
            [tools / "cuobjdump", "-res-usage", file], capture_output=True, text=True, check=True
        ).stdout
        code = subprocess.run([tools / "nvdisasm", "-c", file], capture_output=True, text=True, check=True).stdout
    numbers = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    opcodes = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)", code, flags=re.MULTILINE)
    return Compiled(numbers["REG"], numbers["STACK"] + numbers["LOCAL"], compiled.metadata.shared, Counter(opcodes))


if __name__ == "__main__":
    found = [vars(_compile(Job(**job))) for job in json.load(sys.stdin)]
    print(json.dumps(found))
