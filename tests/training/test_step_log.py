"""Means of what the steps log."""

import pytest
import torch

from nnunet_dycon.training.step_log import StepLog


def test_floats_and_tensors_under_one_name_have_one_mean():
    log = StepLog()
    value = torch.tensor(2.0, requires_grad=True)
    for i in (1.0, value, value.half(), 3):
        log.add("a", i)
    log.add("b", torch.tensor(5))
    assert log.means() == {"a": pytest.approx(2.0), "b": 5.0}
    assert not any(i.requires_grad for i in log.values["a"] if isinstance(i, torch.Tensor))
    log.clear()
    assert log.means() == {}
