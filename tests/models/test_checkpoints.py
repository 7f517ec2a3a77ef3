"""Files that are no checkpoint of nnU-Net: one sentence for each, whatever the unpickler makes of them."""

import io
import pickle
import random

import pytest
import torch

from nnunet_dycon.errors import UserError
from nnunet_dycon.models.checkpoints import load_checkpoint_file

CONTENT = {"trainer_name": "nnUNetTrainer", "network_weights": {str(i): torch.ones(5) for i in range(4)}}


def saved(content, **options):
    """Bytes of a file that torch has written."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def with_unknown_class():
    """A checkpoint that holds an object whose class is nowhere."""
    module = type("friends_network", (), {})
    module.__module__ = "torch"  # where torch.load looks for it in vain
    torch.friends_network = module
    try:
        return saved(CONTENT | {"network": module()})
    finally:
        del torch.friends_network


WHOLE, OLD_FORMAT = saved(CONTENT), saved(CONTENT, _use_new_zipfile_serialization=False)
UNREADABLE = {
    "empty": b"",
    "text": b"hello\n",
    "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\n",
    "a web page": b"<html>404</html>",
    "an unknown module": b"cfriends_package\nNetwork\n.",
    "an unknown class": with_unknown_class(),
    "a pickle of something else": pickle.dumps({"a": 1}),
    "a truncated pickle": pickle.dumps(["a"] * 9)[:20],
    "truncated": WHOLE[: len(WHOLE) // 2],
    "truncated at the start": WHOLE[:30],
    "without its end": WHOLE[:-1],
    "truncated, of torch's old format": OLD_FORMAT[: len(OLD_FORMAT) // 2],
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_named_with_what_to_do(kind, tmp_path):
    file = tmp_path / "checkpoint_final.pth"
    file.write_bytes(UNREADABLE[kind])
    with pytest.raises(UserError, match=r"checkpoint_final\.pth cannot be read as a checkpoint \(.+\); copy it again"):
        load_checkpoint_file(file)


def test_a_folder_and_a_missing_file_cannot_be_read(tmp_path):
    for file in (tmp_path, tmp_path / "nothing.pth"):
        with pytest.raises(UserError, match="cannot be read as a checkpoint"):
            load_checkpoint_file(file)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.ones(3)])
def test_other_files_of_torch_are_no_checkpoints(content, tmp_path):
    (tmp_path / "a.pth").write_bytes(saved(content))
    with pytest.raises(UserError, match="is no checkpoint of nnU-Net"):
        load_checkpoint_file(tmp_path / "a.pth")


def test_damaged_bytes_never_end_in_another_error(tmp_path):
    """The unpickler takes any byte for an instruction, so that nearly every kind of error comes of them."""
    draw, file = random.Random(0), tmp_path / "a.pth"
    for number in range(300):
        damaged = bytearray((WHOLE, OLD_FORMAT, OLD_FORMAT)[number % 3])
        for _ in range(draw.choice((1, 1, 20))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        file.write_bytes(damaged)
        try:
            load_checkpoint_file(file)
        except UserError as error:
            assert "a.pth" in str(error)


def test_a_whole_checkpoint_is_read(tmp_path):
    for data in (WHOLE, OLD_FORMAT):
        (tmp_path / "a.pth").write_bytes(data)
        assert load_checkpoint_file(tmp_path / "a.pth")["trainer_name"] == "nnUNetTrainer"
