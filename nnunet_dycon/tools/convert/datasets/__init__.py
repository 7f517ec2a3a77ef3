"""The benchmark datasets, each module here that has a ``BENCHMARK``, and the protocols published for them.

The lists below ``lists/`` are those of the papers' repositories, in their order, which decides what is labelled.
``acdc/test.txt`` is what the two others leave of the 100 patients; ``pancreas`` are CoraNet's lists, labelled cases
first.
"""

from __future__ import annotations

import importlib
import pkgutil

from nnunet_dycon.dataset.case_lists import Protocol
from nnunet_dycon.errors import UserError, did_you_mean
from nnunet_dycon.tools.convert.plan import Benchmark

_MODULES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]

BENCHMARKS: dict[str, Benchmark] = {module.BENCHMARK.name: module.BENCHMARK for module in _MODULES}

_PUBLISHED = {
    f"{prefix}-{suffix}": (benchmark, prefix, n_labeled)
    for benchmark in BENCHMARKS.values()
    for prefix, labeled in benchmark.published.items()
    for suffix, n_labeled in labeled.items()
}
PROTOCOLS = tuple(_PUBLISHED)


def get_protocol(name: str) -> Protocol:
    """The protocol of this name; a UserError names the nearest one where there is none."""
    if name not in _PUBLISHED:
        raise UserError(f"unknown protocol {name!r}{did_you_mean(name, PROTOCOLS)}; there are {', '.join(PROTOCOLS)}")
    benchmark, prefix, n_labeled = _PUBLISHED[name]
    said = {**benchmark.cases(prefix), **benchmark.protocol}
    return Protocol(name=name, n_labeled=n_labeled, warning=benchmark.warnings.get(prefix, ""), **said)
