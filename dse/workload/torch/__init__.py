"""PyTorch models: archives of ``torch.export`` read without torch, and modules exported in process."""

from dse.workload.torch.module import read_module
from dse.workload.torch.reading import read_archive

__all__ = ["read_archive", "read_module"]
