import os

import pytest

from hannet.data import DataError
from hannet.data.picture_files import find, is_leftover, list_pictures

LEFTOVERS = [
    "__MACOSX",
    "@eaDir",
    "._cat.jpg",
    "Thumbs.db",
    "thumbs.DB",
    ".DS_Store",
    "desktop.ini",
    "Icon\r",
    "#recycle",
]


def made(path, *files):
    """Empty files: nothing is decoded here."""
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).touch()
    return path


def names(found):
    return {name: [file.name for file in files] for name, files in found.classes.items()}


CLASSES = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg")
ALL = {"cat": ["1.jpg", "2.jpg"], "dog": ["1.jpg", "2.jpg"]}


@pytest.mark.parametrize("name", LEFTOVERS)
@pytest.mark.parametrize("place", ["", "cat/"])
def test_what_systems_leave_is_no_class_and_no_picture(tmp_path, name, place):
    made(tmp_path, *CLASSES, *(f"{place}{name}/{file}" for file in ("1.jpg", "cat/2.jpg")))
    parts, walked = find(tmp_path)
    assert names(parts["all"]) == ALL
    assert walked.notes() == ["1 hidden or left by an operating system, passed over"]
    assert list_pictures(tmp_path / "cat")[0] == [tmp_path / "cat" / "1.jpg", tmp_path / "cat" / "2.jpg"]


def test_prediction_passes_over_the_same_and_counts_it(tmp_path):
    made(
        tmp_path, "1.jpg", "._1.jpg", "Thumbs.db", "desktop.ini", "notes.txt", "inside/2.jpg", "@eaDir/1.jpg", "3.heic"
    )
    pictures, folders, passed = list_pictures(tmp_path)
    assert [path.name for path in pictures] == ["1.jpg", "3.heic"]
    assert (passed.leftovers, dict(passed.others), folders) == (4, {".txt": 1}, 1)


@pytest.mark.parametrize("name", ["cat", "macosx", "thumbs.db.jpg"])
def test_other_names_are_none_of_theirs(name):
    assert not is_leftover(name)


TRAINS = ("train", "Train", "TRAINING")
TESTS = ("test", "Test", "testing", "val", "valid", "Validation", "dev")


@pytest.mark.parametrize("train", TRAINS)
@pytest.mark.parametrize("test", TESTS)
def test_parts_have_many_names(tmp_path, train, test):
    made(tmp_path, *(f"{part}/{file}" for part in (train, test) for file in CLASSES))
    parts, _ = find(tmp_path)
    assert {part: names(found) for part, found in parts.items()} == {"train": ALL, "test": ALL}


def test_three_parts_are_three(tmp_path):
    made(tmp_path, *(f"{part}/{file}" for part in ("train", "dev", "test") for file in CLASSES))
    parts, _ = find(tmp_path)
    assert {part: found.path.name for part, found in parts.items()} == {
        "train": "train",
        "test": "test",
        "validation": "dev",
    }


def test_two_parts_of_one_meaning_are_one_sentence(tmp_path):
    made(tmp_path, *(f"{part}/{file}" for part in ("train", "val", "valid") for file in CLASSES))
    with pytest.raises(DataError, match="has the folders val and valid, of which one is enough"):
        find(tmp_path)


def test_a_folder_in_a_folder_as_archivers_make_it(tmp_path):
    made(tmp_path, *(f"photos/photos/{file}" for file in CLASSES), "__MACOSX/photos/._1.jpg", "README.txt")
    assert names(find(tmp_path)[0]["all"]) == ALL
    made(tmp_path / "again", *(f"set/{part}/{part}/{file}" for part in ("train", "test") for file in CLASSES))
    assert {part: names(found) for part, found in find(tmp_path / "again")[0].items()} == {"train": ALL, "test": ALL}


def test_pictures_in_folders_of_a_class_are_of_that_class(tmp_path):
    made(tmp_path, *CLASSES, "cat/monday/9.jpg", "cat/monday/late/8.jpg", "dog/empty/notes.txt")
    parts, walked = find(tmp_path)
    assert names(parts["all"]) == {"cat": ["1.jpg", "2.jpg", "9.jpg", "8.jpg"], "dog": ["1.jpg", "2.jpg"]}
    assert walked.notes() == [
        "1 left out that is no picture (1 .txt)",
        "pictures of 2 folders inside classes count for their class",
    ]


def test_parts_may_be_in_the_classes(tmp_path):
    made(tmp_path, *(f"{name}/{part}/1.jpg" for name in ("cat", "dog") for part in ("train", "test")))
    parts, _ = find(tmp_path)
    each = {"cat": ["1.jpg"], "dog": ["1.jpg"]}
    assert {part: names(found) for part, found in parts.items()} == {"train": each, "test": each}


def test_links_out_of_the_folder_are_named_or_followed(tmp_path):
    outside = made(tmp_path / "outside", "a.jpg", "sub/b.jpg")
    photos = made(tmp_path / "photos", *CLASSES)
    (photos / "cat" / "one.jpg").symlink_to(outside / "a.jpg")
    (photos / "dog" / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    (photos / "owl").symlink_to(outside)
    with pytest.raises(
        DataError, match=r"3 links lead out of the folder, owl, cat/one.jpg, dog/gone.jpg: --follow-links"
    ):
        find(photos)
    (photos / "dog" / "gone.jpg").unlink()
    parts, _ = find(photos, follow_links=True)
    assert names(parts["all"]) == {**ALL, "cat": ["1.jpg", "2.jpg", "one.jpg"], "owl": ["a.jpg", "b.jpg"]}


def test_links_in_a_circle_end(tmp_path):
    made(tmp_path, *CLASSES)
    (tmp_path / "cat" / "round").symlink_to(tmp_path)
    parts, _ = find(tmp_path)
    assert parts["all"].classes["cat"].count(tmp_path / "cat" / "1.jpg") == 1


def test_a_class_of_other_files_says_what_they_are(tmp_path):
    made(tmp_path, *CLASSES, "scans/1.dcm", "scans/2.dcm")
    with pytest.raises(DataError, match=r"the class scans has no pictures, .*; left out there and elsewhere: 2 .dcm"):
        find(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_part_that_is_a_link_out_of_the_folder_is_named(tmp_path):
    outside, folder = tmp_path / "elsewhere", tmp_path / "photos"
    made(outside, *CLASSES)
    made(folder, *(f"{part}/{file}" for part in ("train", "test") for file in CLASSES), "train.txt")
    (folder / "val").symlink_to(outside)
    with pytest.raises(DataError, match="1 link leads out of the folder, val: --follow-links follows them"):
        find(folder)
    parts, walked = find(folder, follow_links=True)
    assert list(parts) == ["train", "test", "validation"]
    assert walked.others == {".txt": 1}


def test_a_part_that_only_some_classes_have_is_named(tmp_path):
    made(tmp_path, *(f"{name}/{part}/1.jpg" for name in ("cat", "dog") for part in ("train", "test")), "dog/val/2.jpg")
    with pytest.raises(DataError, match="the class cat has no pictures"):
        find(tmp_path)
