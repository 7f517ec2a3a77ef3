import pytest
import torch
from torch import nn

from nnunet_dycon.training.teacher import EMATeacher


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5))


def test_weights_follow_the_formula():
    student = nn.Linear(1, 1, bias=False)
    teacher = EMATeacher(student, decay=0.75)
    expected = None
    for step, value in enumerate([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]):
        with torch.no_grad():
            student.weight.fill_(value)
        teacher.update(step)
        decay = min(1 - 1 / (step + 1), 0.75)
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert teacher.module.weight.item() == pytest.approx(expected)


def test_buffers_are_averaged_or_copied():
    student = small_network()
    teacher = EMATeacher(student, decay=0.5)
    for step in range(3):
        student(torch.randn(4, 1, 3, 3) + 5)
        teacher.update(step)
    assert teacher.module[1].num_batches_tracked == 3
    mean = teacher.module[1].running_mean
    assert mean.abs().sum() > 0 and not torch.equal(mean, student[1].running_mean)


def test_tensors_reached_on_two_ways_are_averaged_once():
    student = nn.Module()
    student.encoder = nn.Linear(1, 1, bias=False)
    student.decoder = nn.Module()
    student.decoder.encoder = student.encoder  # as in nnU-Net's networks
    teacher = EMATeacher(student, decay=0.5)
    with torch.no_grad():
        teacher.module.encoder.weight.fill_(0.0)
        student.encoder.weight.fill_(1.0)
    teacher.update(10)
    assert teacher.module.encoder.weight.item() == 0.5
    assert teacher.module.decoder.encoder is teacher.module.encoder


def test_teacher_stays_in_evaluation_mode_without_gradients():
    student = small_network().train()
    teacher = EMATeacher(student, decay=0.9)
    assert student.training and not teacher.module.training
    assert not any(p.requires_grad for p in teacher.module.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_state_is_restored_and_a_restart_equals_the_student():
    student = small_network()
    teacher, other, restarted = (EMATeacher(student, decay=0.9) for _ in range(3))
    for step in range(2):
        teacher.update(step)
        with torch.no_grad():
            student[0].weight.add_(1)
    assert not torch.equal(teacher.module[0].weight, student[0].weight)
    other.load_state_dict(teacher.state_dict())
    restarted.restart()
    for one, expected in ((other.module, teacher.module), (restarted.module, student)):
        for key, value in expected.state_dict().items():
            assert torch.equal(one.state_dict()[key], value), key
