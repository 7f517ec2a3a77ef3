import gzip
from functools import partial

import numpy as np
import pytest
import tifffile
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from PIL import Image
from SimpleITK import GetArrayFromImage

from nnunet_dycon.dataset.reading import _DAMAGED, _naming, read_image, read_volume, reader_of
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
    assert read_volume(file, chosen).voxels.shape == expected


def test_the_reader_that_dataset_json_names_is_taken(tmp_path):
    write_image(np.ones((4, 4, 4), np.float32), file := tmp_path / "a_0000.nii.gz")
    content = {"file_ending": ".nii.gz", "overwrite_image_reader_writer": "NibabelIO"}
    assert type(reader_of(file, content)).__name__ == "NibabelIO"


VOXELS = np.arange(6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8)
READERS = {
    ".nii": ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"),
    ".nii.gz": ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"),
    ".mha": ("SimpleITKIO",),
    ".nrrd": ("SimpleITKIO",),
    ".png": ("NaturalImage2DIO",),
    ".tif": ("Tiff3DIO", "NaturalImage2DIO"),
    ".npy": ("SimpleITKIO", "NaturalImage2DIO"),
}


def whole(file):
    """A file of this kind as it ought to be."""
    if file.suffix == ".png":
        Image.fromarray(VOXELS[0].astype(np.uint8)).save(file)
    elif file.suffix == ".tif":
        tifffile.imwrite(file, VOXELS)
    elif file.suffix == ".npy":
        np.save(file, VOXELS)
    else:
        write_image(VOXELS, file)
    return file.read_bytes()


KINDS = {
    "empty": lambda content, ending: b"",
    "text": lambda content, ending: b"a page that says where to log in\n" * 40,
    "zeros": lambda content, ending: bytes(2000),
    "another format": lambda content, ending: (
        b"BM" + bytes(200) if ending == ".png" else b"\x89PNG\r\n\x1a\n" + bytes(99)
    ),
    "its first bytes": lambda content, ending: content[:5],
    "its first half": lambda content, ending: content[: len(content) // 2],
    "all but its end": lambda content, ending: content[: 1500 if ending == ".tif" else -40],
}


def refused(read, file, fix):
    with pytest.raises(UserError, match=rf"^\S*{file.name} cannot be read \(.+\); {fix}$"):
        read(file)


def refused_by_all(file, ending):
    """By all readers that nnU-Net may take for it, and by SimpleITK's."""
    for name in READERS[ending]:
        content = {"file_ending": ending, "channel_names": {"0": "MRI"}, "overwrite_image_reader_writer": name}
        for is_mask in (False, True):
            read = partial(read_volume, reader=reader_of(file, content), is_mask=is_mask)
            refused(read, file, "copy or write it again")
    if file.suffix != ".tif":  # of which ITK fills up what is missing
        refused(read_image, file, "write it again or remove it")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", READERS)
def test_a_damaged_file_is_named(tmp_path, ending, kind):
    file = tmp_path / f"a_0000{ending}"
    file.write_bytes(KINDS[kind](whole(file), ending))
    refused_by_all(file, ending)


@pytest.mark.parametrize("ending", READERS)
def test_a_file_that_is_none_is_named(tmp_path, ending):
    refused_by_all(tmp_path / f"a_0000{ending}", ending)
    (folder := tmp_path / f"b_0000{ending}").mkdir()
    refused_by_all(folder, ending)


def unpacked(change):
    """What is done to a .nii.gz file inside its gzip stream."""
    return lambda content: gzip.compress(change(gzip.decompress(content)))


def put(place, new):
    return lambda content: content[:place] + new + content[place + len(new) :]


WRONG_NUMBERS = {  # the reader's own error, where the change is not one that all readers have the same for
    "gzip stream": (".nii.gz", put(60, bytes(20))),
    "cut before it was packed": (".nii.gz", unpacked(lambda content: content[:-300])),
    "text that was packed": (".nii.gz", unpacked(lambda content: b"no image" * 200)),
    "type of NIfTI": (".nii", put(70, b"\x00\x10")),
    "type of NIfTI, packed": (".nii.gz", unpacked(put(70, b"\x00\x10"))),
    "tags of TIFF": (".tif", put(8, bytes(40))),
    "size of PNG": (".png", put(16, b"\xff\xff")),
    "size of NRRD": (".nrrd", lambda content: content.replace(b"sizes: 6 7 8", b"sizes: 6 7")),
    "size of MHA": (".mha", lambda content: content.replace(b"DimSize = 6", b"DimSize = x")),
}


@pytest.mark.parametrize("what", WRONG_NUMBERS)
def test_a_file_with_a_wrong_number_is_named(tmp_path, what):
    ending, change = WRONG_NUMBERS[what]
    file = tmp_path / f"a_0000{ending}"
    good = whole(file)
    file.write_bytes(change(good))
    assert file.read_bytes() != good
    refused_by_all(file, ending)


@pytest.mark.parametrize("error", _DAMAGED, ids=lambda error: error.__name__)
def test_every_kind_of_error_is_said_in_one_line(tmp_path, error):
    with (
        pytest.raises(UserError, match=r"a.nii cannot be read \(.+\); copy it$"),
        _naming(tmp_path / "a.nii", "copy it"),
    ):
        raise error("first line\nthe reason") if error is not OSError else OSError(5, "the reason")


def test_a_tiff_that_planning_could_not_look_into_goes_to_the_reader(tmp_path):
    """Its first page has no width, by which tifffile divides when it is asked for the shape."""
    file = tmp_path / "a_0000.tif"
    file.write_bytes(put(10, bytes(2))(whole(file)))
    refused(lambda file: read_volume(file, reader_of(file, {"file_ending": ".tif"})), file, "copy or write it again")


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"spacing": null}', '{"spacing": ["x", 1, 1]}'])
def test_a_damaged_spacing_beside_a_tiff_is_said(tmp_path, text):
    whole(file := tmp_path / "a_0000.tif")
    (tmp_path / "a.json").write_text(text)
    refused(lambda file: read_volume(file, Tiff3DIO()), file, "copy or write it again")


def test_whole_files_of_other_makers_are_read(tmp_path):
    """Put together of two gzip streams; with bytes after the last voxel; not packed for all its name."""
    content = gzip.decompress(whole(tmp_path / "a.nii.gz"))
    for name, bytes_of_it in (
        ("two.nii.gz", gzip.compress(content[:500]) + gzip.compress(content[500:])),
        ("more.nii", content + b"more"),
        ("plain.nii.gz", content),
    ):
        (tmp_path / name).write_bytes(bytes_of_it)
        np.testing.assert_array_equal(GetArrayFromImage(read_image(tmp_path / name)), VOXELS.T)
