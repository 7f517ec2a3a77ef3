"""How often crops come from each source of unlabelled scans: first a source is drawn, then one of its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few


def case_probabilities(sources: Mapping[str, str], shares: str) -> list[float] | None:
    """Probability of each case, in the order given; None where all are equal.

    Args:
        sources: source of each case: a folder in imagesUn, empty for imagesUn itself (called ``imagesUn`` in shares).
        shares: ``equal`` for every source the same, ``cases`` for every case the same, or numbers for the sources,
            ``site_a:3;site_b:1``.

    Raises:
        UserError: shares that are none of these, or that do not name every source.
    """
    names = [source or "imagesUn" for source in sources.values()]
    counts = Counter(names)
    weights = dict.fromkeys(counts, 1.0) if shares in ("equal", "cases") else _numbers(shares)
    if set(weights) != set(counts):
        raise UserError(
            f"setting source_shares must be equal, cases, or name the sources {few(sorted(counts))} as "
            f"site_a:3;site_b:1 with numbers above 0, got {shares!r}"
        )
    if shares == "cases" or len(counts) < 2:
        return None
    total = sum(weights.values())
    return [weights[name] / total / counts[name] for name in names]


def _numbers(shares: str) -> dict[str, float]:
    """Number of each source; empty for text that cannot be understood."""
    pairs = [pair.rpartition(":") for pair in shares.split(";") if pair.strip()]
    try:
        weights = {name.strip(): float(number) for name, _, number in pairs}
    except ValueError:
        return {}
    return weights if all(0 < i < float("inf") for i in weights.values()) else {}
