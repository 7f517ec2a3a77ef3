"""The published protocols: which cases are labelled, unlabelled, for validation and for testing.

The lists below ``lists/`` are those of the papers' repositories, in their order, which decides what is labelled.
``acdc/test.list`` is what the two others leave of the 100 patients.

=======================  ==========================================  ===================  ==========  ====
protocol                 training cases (published order)            labelled             validation  test
=======================  ==========================================  ===================  ==========  ====
acdc-3, -7               140 volumes of 70 patients                  first 3, 7 patients  20          40
brats19-10, -20          250                                         first 25, 50         25          60
isles22-5, -10, -20      200                                         first 10, 20, 40     25          25
la-5, -10, -20           80 of the 2018 Atrial Segm. Challenge       first 4, 8, 16       none        20
pancreas-10, -20         12 + 50 (CoraNet lists, protocol B)         first 6, 12          none        18
pancreas-mcnet-10, -20   62 (MC-Net lists, protocol A)               first 6, 12          none        20
=======================  ==========================================  ===================  ==========  ====
"""

from __future__ import annotations

import difflib

from nnunet_dycon.dataset.case_lists import Protocol
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.datasets import BENCHMARKS

_PUBLISHED = {
    f"{published.prefix}-{suffix}": (benchmark, published, n_labeled)
    for benchmark in BENCHMARKS.values()
    for published in benchmark.published
    for suffix, n_labeled in published.labeled.items()
}
PROTOCOLS = tuple(_PUBLISHED)


def get_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        UserError: There is none; the message names the nearest one.
    """
    if name not in _PUBLISHED:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown protocol {name!r}; {hint}There are {', '.join(PROTOCOLS)}")
    benchmark, published, n_labeled = _PUBLISHED[name]
    return Protocol(
        name=name,
        train=benchmark.cases(*published.train),
        validation=benchmark.cases(*published.validation),
        test=benchmark.cases(*published.test),
        n_labeled=n_labeled,
        volumes_per_patient=published.volumes_per_patient,
        configuration=published.configuration,
        warning=published.warning,
    )
