import pytest
import torch
from torch import nn

from nnunet_dycon.errors import UserError
from nnunet_dycon.training.memory import activation_bytes, estimate_of_step, out_of_memory_explained


def test_activations_are_what_autograd_keeps():
    # a convolution keeps its input, the rectifier its output; the pooling its input, which is that output
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
    assert activation_bytes(network, 1, (8, 8)) == 4 * (8 * 8 + 4 * 8 * 8)
    assert next(network.parameters()).device.type == "cpu"


def test_estimate_counts_weights_and_crops():
    with torch.device("meta"):
        network = nn.Conv3d(1, 2**18, 16)  # 2^18 x (4096 + 1) x 4 bytes: 4 GiB
    text = estimate_of_step(network, 1, (1024, 512, 512), labeled=2, unlabeled=1, half=True)
    # each crop keeps its input, half of 2^28 x 4 bytes
    assert "17.5 GiB (activations of 2 + 1 crops, 4 times the weights), nnU-Net's own step 13.0 GiB" in text
    two = estimate_of_step(network, 1, (1024, 512, 512), labeled=2, unlabeled=2, half=False, students=2)
    assert "32.0 GiB (activations of 2 + 2 crops, 6 times the weights)" in two


def test_a_network_that_must_compute_is_named():
    class Strange(nn.Module):
        def forward(self, x):
            return x * x.sum().item()

    assert "cannot be estimated for Strange" in estimate_of_step(
        Strange(), 1, (4, 4), labeled=1, unlabeled=1, half=True
    )


@pytest.mark.parametrize(("unlabeled", "named"), [(2, True), (1, False)])
def test_running_out_of_memory_names_the_cheapest_remedies(unlabeled, named):
    text = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB."
    with pytest.raises(UserError, match="a smaller plan") as caught, out_of_memory_explained(unlabeled):
        raise torch.cuda.OutOfMemoryError(text)
    assert ("unlabeled_batch_size=1" in str(caught.value)) == named
    assert str(caught.value).endswith("CUDA said: CUDA out of memory. Tried to allocate 2.00 GiB.")
