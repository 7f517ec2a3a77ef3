import numpy as np
import pytest
import tifffile

from nnunet_dycon.dataset.reading import read_volume, reader_of
from nnunet_dycon.errors import UserError
from tests.conftest import write_image


@pytest.mark.parametrize(
    ("shape", "reader", "expected"),
    [
        ((5, 6, 7), "Tiff3DIO", (1, 5, 6, 7)),
        ((6, 7), "NaturalImage2DIO", (1, 1, 6, 7)),
        ((6, 7, 3), "NaturalImage2DIO", (3, 1, 6, 7)),
    ],
    ids=["volume", "image", "colours"],
)
def test_tiff_files_are_read_as_planning_reads_them(tmp_path, shape, reader, expected):
    file = tmp_path / "a_0000.tif"
    tifffile.imwrite(file, np.ones(shape, np.uint8))
    chosen = reader_of(file, {"file_ending": ".tif"})
    assert type(chosen).__name__ == reader
    assert read_volume(file, chosen)[0].shape == expected


def test_the_reader_that_dataset_json_names_is_taken(tmp_path):
    write_image(np.ones((4, 4, 4), np.float32), file := tmp_path / "a_0000.nii.gz")
    content = {"file_ending": ".nii.gz", "overwrite_image_reader_writer": "NibabelIO"}
    assert type(reader_of(file, content)).__name__ == "NibabelIO"


@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0" + bytes(40)], ids=["empty", "text", "header alone"])
def test_a_broken_tiff_is_named(tmp_path, content):
    file = tmp_path / "a_0000.tif"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"a_0000.tif cannot be read \(.*\); copy or write it again"):
        read_volume(file, reader_of(file, {"file_ending": ".tif"}))
