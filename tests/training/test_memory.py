import pytest
import torch

from nnunet_dycon.errors import UserError
from nnunet_dycon.training.memory import out_of_memory_explained


@pytest.mark.parametrize(("unlabeled", "named"), [(2, True), (1, False)])
def test_running_out_of_memory_names_the_cheapest_remedies(unlabeled, named):
    text = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB."
    with pytest.raises(UserError, match="a smaller plan") as caught, out_of_memory_explained(unlabeled):
        raise torch.cuda.OutOfMemoryError(text)
    assert ("unlabeled_batch_size=1" in str(caught.value)) == named
    assert str(caught.value).endswith("CUDA said: CUDA out of memory. Tried to allocate 2.00 GiB.")
