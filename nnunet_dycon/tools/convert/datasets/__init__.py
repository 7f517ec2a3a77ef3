"""The benchmark datasets: each module here that has a ``BENCHMARK`` is one."""

from __future__ import annotations

import importlib
import pkgutil

from nnunet_dycon.tools.convert.plan import Benchmark

_MODULES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]

BENCHMARKS: dict[str, Benchmark] = {module.BENCHMARK.name: module.BENCHMARK for module in _MODULES}
