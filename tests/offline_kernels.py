"""Triton's kernels compiled for a GPU where there is none.

The interpreter runs a kernel as Python, which does not mind what the compiler refuses.  Here the launches that some
code makes are noted instead of made, and each is compiled as it would be on a device.
"""

import contextlib
import importlib
import pkgutil
from dataclasses import dataclass, field

import torch
import triton
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

from paperlib import fused

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float64: "fp64", torch.int32: "i32", torch.int64: "i64"}
MODULES = [importlib.import_module(f"paperlib.fused.{info.name}") for info in pkgutil.iter_modules(fused.__path__)]


@dataclass(frozen=True)
class Launch:
    """A kernel with the types of its arguments, as a device's launcher distinguishes them."""

    kernel: triton.JITFunction = field(compare=False)
    name: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, object], ...]
    aligned: tuple[int, ...]
    options: tuple[tuple[str, object], ...]

    def source(self) -> ASTSource:
        """What the compiler gets."""
        aligned = {(i,): [["tt.divisibility", 16]] for i in self.aligned}
        return ASTSource(self.kernel, dict(self.signature), dict(self.constants), aligned)

    def read(self, capability: int) -> None:
        """Do the first of the compiler's steps, which takes a tenth of the time and finds most of what is wrong."""
        target = GPUTarget("cuda", capability, 32)
        backend = make_backend(target)
        context = ir.context()
        ir.load_dialects(context)
        backend.load_dialects(context)
        options = backend.parse_options(dict(self.options))
        parts = (backend.get_codegen_implementation(options), backend.get_module_map(), context)
        self.source().make_ir(target, options, *parts)

    def compile(self, capability: int) -> object:
        """The compiled kernel for a device's compute capability, such as 90."""
        return triton.compile(self.source(), target=GPUTarget("cuda", capability, 32), options=dict(self.options))

    def __str__(self) -> str:
        constants = ", ".join(f"{name}={value}" for name, value in self.constants)
        return f"{self.name}({dict(self.signature).get('x', '')}, {constants})"


class _Noted:
    """Stands for a kernel."""

    def __init__(self, kernel: triton.JITFunction, launches: dict) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        assert all(0 < n < 2**16 or (i == 0 and 0 < n < 2**31) for i, n in enumerate(grid))
        return self.note

    def note(self, *args, **options):
        signature, constants, aligned = [], [], []
        for i, (parameter, value) in enumerate(zip(self.kernel.params, args, strict=True)):
            if parameter.is_constexpr or (type(value) is int and value == 1):
                signature.append((parameter.name, "constexpr"))
                constants.append((parameter.name, value))
            elif isinstance(value, torch.Tensor):
                signature.append((parameter.name, "*" + TYPES[value.dtype]))
                aligned += [i] * (value.data_ptr() % 16 == 0)
            else:
                signature.append((parameter.name, "fp32" if isinstance(value, float) else "i32"))
                if type(value) is int and value % 16 == 0:
                    aligned.append(i)
        launch = Launch(self.kernel, self.kernel.__name__, tuple(signature), tuple(constants), tuple(aligned),
                        tuple(options.items()))  # fmt: skip
        self.launches[launch] = self.launches.get(launch, 0) + 1


@contextlib.contextmanager
def noted():
    """Within it kernels are not launched; a dict has how often each would have been.  All results are undefined."""
    launches: dict[Launch, int] = {}
    kept = []
    try:
        for module in MODULES:
            for name, value in vars(module).copy().items():
                if isinstance(value, triton.JITFunction):
                    kept.append((module, name, value))
                    setattr(module, name, _Noted(value, launches))
            if hasattr(module, "INTERPRETED"):
                kept.append((module, "INTERPRETED", module.INTERPRETED))
                module.INTERPRETED = True
        yield launches
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
