"""Is a dataset sound and free of leaks? ``nnunet-dycon audit``."""

from __future__ import annotations

from nnunet_dycon.dataset.scan_files import Finding
from nnunet_dycon.tools.audit.run import AuditReport, audit_dataset

__all__ = ["AuditReport", "Finding", "audit_dataset"]
