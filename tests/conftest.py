"""Every test sees 8 CPU devices and a shared compilation cache."""

import os
import pathlib
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "jaxgen-test-xla-cache")
)
# Writing a program takes longer than compiling a small one.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Tiny models spend their time in the compiler: without LLVM's optimisations a cold run of the suite
# takes two thirds of the time. The program before LLVM, with its collectives, stays as it is.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

pytest_plugins = ["support.caches", "support.disks", "support.programs", "support.stores"]
