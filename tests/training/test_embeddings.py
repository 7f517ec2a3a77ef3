import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn
from torch._dynamo.testing import CompileCounter

from nnunet_dycon.errors import UserError
from nnunet_dycon.training.embeddings import Branch, EncoderTap, ProjectionHead, choose_stage, skip_shapes


def unet(kind: type = PlainConvUNet, dim: int = 3) -> nn.Module:
    blocks = "n_conv_per_stage" if kind is PlainConvUNet else "n_blocks_per_stage"
    return kind(
        input_channels=1,
        n_stages=3,
        features_per_stage=[4, 8, 16],
        conv_op={2: nn.Conv2d, 3: nn.Conv3d}[dim],
        kernel_sizes=3,
        strides=[1, 2, 2],
        num_classes=2,
        n_conv_per_stage_decoder=1,
        norm_op={2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dim],
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        deep_supervision=True,
        **{blocks: 1},
    )


@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet])
def test_skip_shapes_need_no_computation_and_leave_the_network_alone(kind):
    network = unet(kind)
    assert skip_shapes(network, 1, (16, 24, 32)) == [(4, 16, 24, 32), (8, 8, 12, 16), (16, 4, 6, 8)]
    assert next(network.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("max_patches", "stage"), [(16 * 24 * 32, 0), (16 * 24 * 32 - 1, 1), (8 * 12 * 16 - 1, 2), (192, 2)]
)
def test_the_shallowest_stage_that_is_small_enough_is_chosen(max_patches, stage):
    assert choose_stage([(4, 16, 24, 32), (8, 8, 12, 16), (16, 4, 6, 8)], max_patches) == stage


def test_no_usable_stage_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match=r"max_patches.*weight_fecl=0"):
        choose_stage([(4, 16, 16, 16)], 100)
    with pytest.raises(UserError, match="no encoder stage"):
        choose_stage([(4, 1, 1, 1)], 100)


class _EncoderWithoutSkips(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv3d(1, 2, 3, padding=1)


@pytest.mark.parametrize("network", [nn.Conv3d(1, 2, 3), _EncoderWithoutSkips()])
def test_networks_without_skips_are_refused(network):
    with pytest.raises(UserError, match="no encoder that returns its skips"):
        skip_shapes(network, 1, (8, 8, 8))


@pytest.mark.parametrize("dim", [2, 3])
def test_embeddings_have_unit_length_and_follow_the_grid(dim):
    head = ProjectionHead(6, dim)
    features = torch.randn(2, 6, *(3, 4, 5)[:dim])
    embeddings = head(features)
    assert embeddings.shape == (2, features[0, 0].numel(), 6)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(embeddings.shape[:2]))
    last = head.layers(features).flatten(2)[1, :, -1]
    torch.testing.assert_close(embeddings[1, -1], last / last.norm())


def test_tap_catches_the_stage_only_when_active_and_only_once():
    network = unet()
    tap = EncoderTap(network, 1)
    image = torch.randn(1, 1, 8, 8, 8)
    network(image)
    with pytest.raises(RuntimeError, match="forward pass"):
        tap.take()
    with tap.active():
        network(image)
    features = tap.take()
    torch.testing.assert_close(features, network.encoder(image)[1])
    assert features.requires_grad
    with pytest.raises(RuntimeError, match="forward pass"):
        tap.take()
    assert not any("tap" in key for key in network.state_dict())


def test_branch_under_torch_compile_gives_the_same_embeddings_and_gradients():
    network, head = unet(dim=2), ProjectionHead(8, 2)
    tap, image = EncoderTap(network, 1), torch.randn(2, 1, 16, 16)

    def gradient(called):
        network.zero_grad()
        outputs, embeddings = Branch(called, head, tap)(image)
        (outputs[0].sum() + embeddings[..., 0].square().sum()).backward()
        return embeddings.detach(), network.encoder.stages[0][0].convs[0].conv.weight.grad.clone()

    expected = gradient(network)
    torch.testing.assert_close(gradient(torch.compile(network, backend="aot_eager")), expected, atol=1e-4, rtol=1e-4)


class _Encoder(nn.Conv2d):
    def forward(self, x):
        return [x, super().forward(x)]


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = _Encoder(1, 8, 2, stride=2)

    def forward(self, x):
        return self.encoder(x)[1].sum()


def test_tap_is_seen_beside_compiled_networks_of_the_same_class_whatever_was_compiled_first():
    image, graphs = torch.randn(2, 1, 16, 16), CompileCounter()
    plain = [torch.compile(_Network(), backend=graphs) for _ in range(2)]
    plain[0](image)
    network, head = _Network(), ProjectionHead(8, 2)
    branch = Branch(torch.compile(network, backend=graphs), head, EncoderTap(network, 1))
    for first in (plain[1], plain[0]):
        first(image)
        assert branch(image)[1].shape == (2, 64, 8)
    before = graphs.frame_count
    for number in range(3, 15):  # more sizes than dynamo's own limit; each stays a constant
        branch(torch.randn(number, 1, 16, 16))
    assert branch(image)[1].shape == (2, 64, 8)
    if torch.torch_version.TorchVersion(torch.__version__) >= "2.5":  # older ones count graphs otherwise
        assert graphs.frame_count == before + 12
