"""The published protocols: which cases are labelled, unlabelled, for validation and for testing.

The lists below ``lists/`` are those of the papers' repositories, in their order, which decides what is labelled.
"""

from __future__ import annotations

from nnunet_dycon.tools.convert.protocols.case_lists import load_list, read_list
from nnunet_dycon.tools.convert.protocols.definitions import PROTOCOLS, Protocol, get_protocol

__all__ = ["PROTOCOLS", "Protocol", "get_protocol", "load_list", "read_list"]
