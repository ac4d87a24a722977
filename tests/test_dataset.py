"""Images of one's own: every form is read to the same arrays, and what people get wrong is told, all of it at once."""

import ast
import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import new, prepare
from stages.base.errors import InputError
from stages.data.checks import check, read_source
from stages.data.image_file import read_photo
from stages.data.publisher import CLASS_NAMES
from stages.data.resize import fitted
from stages.data.source import SPLITS
from stages.inference.photo import prepared
from stages.parameters.dataset import Dataset, refuse_misplaced
from stages.parameters.prepare import Prepare
from stages.parameters.schema import load_yaml
from tests.conftest import ROOT, commit, dataset_of, labelled, make_copy, run, write_idx

RNG = np.random.default_rng(0)
PREPARE = Prepare(val_per_class=500, test_share=0.2, seed=0)
CLASSES = ("Bär", "cat & <dog>", "鸟")


def picture(size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Image.Image:
    """An image that is like no other."""
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8), mode)


def fill(folder: Path, classes=CLASSES, count: int = 10, **options) -> Path:
    """Write `count` images of each class as PNG."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture(**options).save(folder / name / f"{number}.png")
    return folder


def dataset(path: Path, **changes) -> Dataset:
    return dataset_of(**{"path": str(path), "size": 16, "colors": "rgb"} | changes)


def read(path: Path, **changes):
    """The source and what can be used of it."""
    given = dataset(path, **changes)
    source = read_source(given)
    return source, check(source, given)


def told(path: Path, **changes) -> str:
    """The error of `prepare`."""
    given = dataset(path, **changes)

    def heeded() -> None:
        source = read_source(given)
        check(source, given)
        prepare.heed(source, given)

    with pytest.raises(InputError) as error:
        heeded()
    return str(error.value)


# --- The forms that data come in ---


def test_one_folder_a_class_with_and_without_splits(tmp_path):
    for classes in (CLASSES, ("bus", "car", "train")):  # the last is no split
        source, found = read(fill(tmp_path / classes[0], classes))
        assert (found.class_names, source.images.shape, source.faults) == (list(classes), (30, 16, 16, 3), [])
        assert set(source.splits) == {"train"}
    assert source.notes == ["train was taken for a class, as the folders beside it"]
    for classes in (("train", "test1"), ("cats", "dogs", "test"), ("train", "test", "other")):
        assert "folders beside train and test" in told(fill(tmp_path / "_".join(classes), classes))
    source, _ = read(fill(tmp_path / "plain"))
    assert (source.images[0] == np.asarray(Image.open(tmp_path / "plain" / source.names[0]))).all()
    for name, split in (("Training", "train"), ("valid", "val"), ("test", "test")):
        fill(tmp_path / "split" / name, count={"train": 10, "val": 2, "test": 3}[split])
    source, found = read(tmp_path / "split")
    assert {split: (source.splits == split).sum() for split in ("train", "val", "test")} == {
        "train": 30,
        "val": 6,
        "test": 9,
    }
    fill(tmp_path / "stray", ("a", "b"))
    shutil.move(tmp_path / "stray", tmp_path / "split" / "stray")
    assert "folders beside train and test: 1 (stray)" in told(tmp_path / "split")
    parts, summary, _ = prepare.prepare(source, found, dataset(tmp_path), PREPARE)
    assert summary["counts"] == {"train": 30, "val": 6, "test": 9}
    assert summary["own_splits"] == ["val", "test"]
    for images, labels in parts.values():
        for image, label in zip(images, labels, strict=True):
            (place,) = np.flatnonzero((source.images == image).all(axis=(1, 2, 3)))
            assert source.labels[place] == CLASSES[label]


@pytest.mark.parametrize(
    "suffix", [".jpg", ".png", ".bmp", ".gif", ".webp", ".tif", ".ppm", ".jp2", ".tga", ".ico", ".pcx"]
)
def test_any_format_of_pillow(tmp_path, suffix):
    fill(tmp_path)
    picture((32, 32)).save(tmp_path / CLASSES[0] / f"another{suffix}")
    source, _ = read(tmp_path)
    assert (len(source.images), source.faults) == (31, [])


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_of_mnist_and_its_like_with_labels_from_1_and_columns_first(tmp_path, packed):
    images, labels = RNG.integers(0, 256, (40, 16, 16), dtype=np.uint8), np.tile(np.arange(1, 5, dtype=np.uint8), 10)
    for part, rows in (("train", slice(0, 24)), ("test", slice(24, 40))):
        for kind, array in (("images-idx3", images.swapaxes(1, 2)[rows]), ("labels-idx1", labels[rows])):
            path = tmp_path / f"emnist-letters-{part}-{kind}-ubyte.gz"
            write_idx(path, array)
            if not packed:
                path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
                path.unlink()
    source, found = read(tmp_path, colors="grey", class_names=["a", "b", "c", "d"])
    assert (source.images[..., 0] == images).all()
    assert (found.class_names, found.labels.tolist()) == (["a", "b", "c", "d"], (labels - 1).tolist())
    assert (source.splits == np.repeat(["train", "test"], [24, 16])).all()
    assert any("labels start at 1" in note for note in source.notes)


@pytest.mark.parametrize(
    ("keys", "held_out"),
    [(("x_{}", "y_{}"), "test"), (("{}_images", "{}_labels"), "test"), (("x_{}", "y_{}"), "valid")],
)
def test_npz_files_of_keras_and_of_medmnist(tmp_path, keys, held_out):
    arrays = {"x_extra": np.zeros(3)} | {f"{key}_training": np.zeros(3) for key in "xy" if keys[0] == "x_{}"}
    for split in ("train", held_out):
        arrays[keys[0].format(split)] = RNG.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
        arrays[keys[1].format(split)] = np.arange(12)[:, None] % 3
    np.savez(tmp_path / "set.npz", **arrays)
    source, found = read(tmp_path / "set.npz")
    assert (source.images == np.concatenate([arrays[keys[0].format(split)] for split in ("train", held_out)])).all()
    assert (found.class_names, (source.splits == SPLITS[held_out]).sum()) == (["0", "1", "2"], 12)
    unread = sorted(key for key in arrays if "extra" in key or "training" in key)
    assert f"arrays of set.npz that were not read: {len(unread)} ({', '.join(unread)})" in source.notes


def test_an_empty_split_of_an_npz_is_none_and_text_among_objects_is_told(tmp_path):
    images, labels = RNG.integers(0, 256, (12, 8, 8), dtype=np.uint8), np.array(["cat", "dog", "elk"] * 4)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images[:0], y_test=labels[:0])
    source, found = read(tmp_path / "set.npz")
    assert (found.class_names, set(source.splits)) == (["cat", "dog", "elk"], {"train"})
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels.astype(object))
    with pytest.raises(InputError, match=r"stored as labels\.astype\(str\)"):
        read(tmp_path / "set.npz")


def test_links_to_images_elsewhere_are_followed_and_one_around_is_not(tmp_path):
    fill(tmp_path / "elsewhere", ("all",), 12)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere" / "all")
    rows = [f"linked/{number}.png,{CLASSES[number % 3]}" for number in range(12)]
    (tmp_path / "set" / "labels.csv").write_text("\n".join(["file,label", *rows]), encoding="utf-8")
    source, _ = read(tmp_path / "set")
    assert (len(source.images), source.faults) == (12, [])
    assert "folders that are links, in which DVC sees no change: 1 (linked)" in source.notes
    fill(tmp_path / "folders")
    (tmp_path / "folders" / CLASSES[0] / "around").symlink_to(tmp_path / "folders")
    source, _ = read(tmp_path / "folders")
    assert (len(source.images), source.faults) == (30, [])


def test_a_path_that_is_not_there_is_told_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "data" / "mine")
    for path, sentence in (
        ("~/pics", "nothing is there: write it without ~"),
        ("data", "holds what the project writes"),
    ):
        with pytest.raises(InputError, match=f"path in params.yaml is {path}, .*{sentence}"):
            refuse_misplaced(dataset(path))
    refuse_misplaced(dataset("data/mine"))
    Path("data/away.dvc").touch()
    with pytest.raises(InputError, match=r"type `dvc pull data/away\.dvc`"):
        refuse_misplaced(dataset("data/away/images"))


def test_csv_of_files_and_labels_with_splits_and_groups(tmp_path):
    fill(tmp_path, ("all",), 24)
    lines = [
        f"all/{number}.png,{CLASSES[number % 3]},{'test' if number < 6 else 'train'},{number // 4}"
        for number in range(24)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["Image,Class,split,person", *lines]))
    source, found = read(tmp_path, groups="Person")
    assert (found.class_names, (source.splits == "test").sum()) == (sorted(CLASSES), 6)
    assert source.groups.tolist() == [str(number // 4) for number in range(24)]


def test_what_a_csv_says_wrong_is_told(tmp_path):
    fill(tmp_path, ("all",), 12)
    rows = [f"all/{number}.png;{CLASSES[number % 3]};{'Test ' if number < 3 else 'train'}" for number in range(12)]
    rows += ["all/99.png;x;train", "../all/1.png;x;train", "all/1.png;;train", "all/2.png;y;later"]
    (tmp_path / "labels.csv").write_text("\ufeff" + "\n".join(["file;label;split", *rows]), encoding="utf-8")
    message = told(tmp_path)
    for words in (
        "not in its folder: 2 (all/99.png, ../all/1.png)",
        "without a label: 1 (all/1.png)",
        "splits in labels.csv: 1 (later)",
    ):
        assert words in message
    source, found = read(tmp_path, faulty="drop")
    assert ((source.splits == "test").sum(), len(found.kept)) == (3, 12)
    assert "finds no group: 12" in told(tmp_path, faulty="refuse", groups="persn")


def test_another_csv_file_beside_the_folders_of_classes_changes_nothing(tmp_path):
    fill(tmp_path)
    (tmp_path / "notes.csv").write_text("remarks\nnone so far\n")
    source, _ = read(tmp_path)
    assert (len(source.images), source.faults) == (30, [])
    assert any(note.startswith("notes.csv was not read: its columns are remarks") for note in source.notes)


def test_files_of_an_npz_that_count_differently_are_refused(tmp_path):
    images = RNG.integers(0, 256, (12, 8, 8))
    np.savez(
        tmp_path / "set.npz", x_train=images / 255, y_train=np.arange(12) % 3, x_test=images, y_test=np.arange(12) % 3
    )
    with pytest.raises(InputError, match="train and test count differently"):
        read(tmp_path / "set.npz")


@pytest.mark.parametrize(
    ("values", "white"),
    [(np.linspace(0, 1, 256), 255), (np.arange(17), 16), (np.arange(256), 255), (np.arange(0, 65536, 257), 65535)],
    ids=["fractions", "sixteen levels", "bytes", "16 bits"],
)
def test_arrays_of_other_ranges_and_channels_first_become_levels_from_0_to_255(tmp_path, values, white):
    images = RNG.choice(values, (30, 3, 16, 16))
    images.flat[0] = values[-1]
    np.savez(tmp_path / "set.npz", x_train=images, y_train=np.arange(30) % 3)
    source, _ = read(tmp_path / "set.npz")
    expected = np.rint(images.astype(float) * (255 / values[-1])).swapaxes(1, 2).swapaxes(2, 3)
    assert (source.images == expected).all()
    assert sum("channels first" in note for note in source.notes) == 1
    assert any("was taken for white" in note for note in source.notes) == (values[-1] != 255)


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (np.zeros((9, 64)), np.arange(9), r"shape \(9, 64\), but \(N, H, W\)"),
        (RNG.normal(size=(9, 8, 8)), np.arange(9), "undo their normalization"),
        (np.full((9, 8, 8), np.nan), np.arange(9), "hold nan"),
        (np.ones((9, 8, 8)), np.arange(8), "9 train images, and train labels of the shape"),
        (np.ones((9, 8, 8)), np.ones((9, 5)), "one label per image"),
        (np.ones((9, 8, 8)), np.linspace(0, 1, 9), "must be whole numbers"),
        (np.zeros((9, 8, 8), "U1"), np.arange(9), "must hold numbers"),
    ],
)
def test_arrays_of_something_else_are_refused(tmp_path, images, labels, sentence):
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels)
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / "set.npz")


# --- The size, and photos ---


def test_images_of_any_shape_are_scaled_to_fit_on_the_color_of_their_border():
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, :, 0] = 200
    wide[2:8, 10:30] = (0, 0, 250)
    found = fitted(wide, 20, 3)
    assert found.shape == (20, 20, 3)
    assert (found[[0, 6, 13, 19]] == (200, 0, 0)).all()
    assert (found[8:11, 5:15] == (0, 0, 250)).all()
    assert (fitted(wide, 20, 1)[0, 0, 0], fitted(found, 20, 3) is found) == (60, True)


def test_photos_are_prepared_as_the_training_images_were(tmp_path):
    fill(tmp_path, size=(50, 30))
    for colors, channels in (("rgb", 3), ("grey", 1)):
        source, _ = read(tmp_path, colors=colors)
        photo = read_photo(tmp_path / source.names[5])
        assert (prepared(photo, "mine", (16, 16, channels)).pixels == source.images[5]).all()


def test_exif_turns_transparency_and_grey_ones_among_colors_are_told(tmp_path):
    fill(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture((20, 10)).save(tmp_path / CLASSES[0] / "turned.png", exif=exif)
    clear = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    clear.paste((0, 0, 90, 255), (4, 4, 12, 12))
    clear.save(tmp_path / CLASSES[0] / "clear.png")
    picture(mode="L").save(tmp_path / CLASSES[0] / "grey.png")
    source, _ = read(tmp_path)
    assert source.sizes[(20, 10)] == 1
    (place,) = np.flatnonzero(source.names == f"{CLASSES[0]}/clear.png")
    assert (source.images[place][0, 0] == 255).all()
    for words in ("were turned upright, as their EXIF data say: 1", "put on white: 1", "grey images: 1, in color: 32"):
        assert any(words in note for note in source.notes)


# --- What people get wrong ---


def test_every_fault_is_told_at_once_with_counts(tmp_path):
    fill(tmp_path)
    for number in range(7):
        (tmp_path / CLASSES[0] / f"broken{number}.png").write_text("no image")
    whole = (tmp_path / CLASSES[1] / "0.png").read_bytes()
    (tmp_path / CLASSES[1] / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / CLASSES[1] / "empty.png").touch()
    (tmp_path / "nothing").mkdir()
    fill(tmp_path, ("rare",), 2)
    picture().save(tmp_path / "loose.png")
    shutil.copy(tmp_path / CLASSES[0] / "0.png", tmp_path / CLASSES[1] / "same.png")
    (tmp_path / CLASSES[2] / "notes.txt").touch()
    (tmp_path / ".hidden").mkdir()
    message = told(tmp_path)
    for words in (
        "files that cannot be read as images: 9",
        "folders without images, which are no classes: 1 (nothing)",
        "classes with fewer than 3 images for train and val and test: 1 (rare)",
        "images outside of the folders of classes: 1 (loose.png)",
        "the same image under two classes: 1",
        "set dataset.faulty (or, for the same images, duplicates) to drop",
    ):
        assert words in message
    source, found = read(tmp_path, faulty="drop", duplicates="drop")
    prepare.heed(source, dataset(tmp_path, faulty="drop", duplicates="drop"))
    assert (len(found.kept), found.class_names) == (29, list(CLASSES))
    assert any("no images by their names: 1 (.txt)" in note for note in source.notes)


def test_a_class_of_the_test_alone_and_one_without_test_images(tmp_path):
    fill(tmp_path / "train", CLASSES)
    fill(tmp_path / "test", [*CLASSES[:2], "new"], 2)
    assert "classes without training images: 1 (new)" in told(tmp_path)
    source, found = read(tmp_path, faulty="drop")
    assert found.class_names == list(CLASSES)
    prepare.split(source, found, PREPARE)
    assert any(f"classes without images in test: 1 ({CLASSES[2]})" in note for note in source.notes)


@pytest.mark.parametrize(("policy", "kept"), [("refuse", None), ("drop", 36), ("keep", 39)])
def test_copies_in_train_and_test(tmp_path, policy, kept):
    fill(tmp_path / "train")
    fill(tmp_path / "test", count=2)
    for number in range(3):
        shutil.copy(
            tmp_path / "train" / CLASSES[0] / f"{number}.png", tmp_path / "test" / CLASSES[0] / f"copy{number}.png"
        )
    if not kept:
        assert "the same image in two of train, val and test: 3 (test/" in told(tmp_path)
        return
    source, found = read(tmp_path, duplicates=policy)
    assert (len(found.kept), (source.splits[found.kept] == "test").sum()) == (kept, 9)


def test_a_copy_within_a_class_is_kept_once_so_that_it_is_on_one_side_of_a_drawn_split(tmp_path):
    fill(tmp_path)
    shutil.copy(tmp_path / CLASSES[0] / "0.png", tmp_path / CLASSES[0] / "copy.png")
    source, found = read(tmp_path)
    assert (len(found.kept), source.faults) == (30, [])
    assert any("further copies" in note for note in source.notes)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "nothing is there"),
        (lambda path: path.mkdir(), "holds no images that can be read: put them in folders"),
        (lambda path: path.write_text("x"), "must be an .npz file, or a folder"),
        (lambda path: fill(path, ("one",)), "1 class that can be used, but 2 to 200"),
        (lambda path: fill(path / "all" / "deep", ("a", "b")), "images belong to these: 2 (all/deep/a, all/deep/b)"),
    ],
)
def test_what_is_no_set_of_images_is_refused(tmp_path, make, sentence):
    make(tmp_path / "set")
    assert sentence in told(tmp_path / "set")


def test_names_must_be_as_many_as_classes(tmp_path):
    assert "class_names holds 2 (a, b), but must name each of 3" in told(fill(tmp_path), class_names=["a", "b"])


# --- The split ---


def test_groups_stay_on_one_side_of_the_split(tmp_path):
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for number in range(60):
            picture().save(tmp_path / name / f"{name[0]}{number // 5}-{number % 5}.png")
    source, found = read(tmp_path, groups=r"(.+)-\d")
    assert len(set(source.groups)) == 36
    parts = prepare.split(source, found, PREPARE)
    sides = [set(source.groups[rows]) for rows in parts.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 36
    for rows in parts.values():
        assert np.ptp(np.bincount(found.labels[rows], minlength=3)) <= 10
    assert 24 <= len(parts["test"]) <= 48
    for groups in (source.labels, np.repeat("one", len(source.labels))):
        source.groups = groups
        with pytest.raises(InputError, match="a class has no training images"):
            prepare.split(source, found, PREPARE)


def test_groups_of_which_the_data_put_some_in_the_test_are_told(tmp_path):
    fill(tmp_path, ("all",), 24)
    lines = [
        f"all/{number}.png,{CLASSES[number % 3]},{number // 4},{'test' if number < 6 else 'train'}"
        for number in range(24)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,person,split", *lines]))
    assert "groups in two of train, val and test: 1 (1)" in told(tmp_path, groups="person")
    source, found = read(tmp_path, groups="person", faulty="drop")
    assert sorted(source.splits[found.kept]) == ["test"] * 6 + ["train"] * 16


def test_a_few_dozen_images_give_each_class_to_each_part():
    labels = np.repeat([0, 1, 2], [3, 10, 30])
    parts = prepare.split(*labelled(labels, np.repeat("train", 43)), PREPARE)
    assert [np.bincount(labels[parts[name]]).tolist() for name in ("train", "val", "test")] == [
        [1, 7, 20],
        [1, 1, 4],
        [1, 2, 6],
    ]


# --- `python -m stages.new` ---


def at(folder: Path, monkeypatch, *given: str) -> dict:
    """The section that the command writes into a copy of `params.yaml`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("stages.runner.entry.ROOT", Path.cwd())
    monkeypatch.setattr("sys.argv", ["new", *given])
    new.main()
    return load_yaml(Path("params.yaml"))["dataset"]  # by the parser of DVC


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with `params.yaml`, to call the command in."""
    (tmp_path / "project").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path / "project")
    return tmp_path / "project"


def test_new_writes_what_it_found_and_nothing_else(folder, monkeypatch, capsys):
    before = (folder / "params.yaml").read_text()
    fill(folder.parent / 'my "set" #1', size=(40, 20))
    section = at(folder, monkeypatch, str(folder.parent / 'my "set" #1'))
    assert section == {
        "name": 'my "set" #1', "path": str(folder.parent / 'my "set" #1'), "size": 40, "colors": "rgb", "mirror": True,
        "class_names": None, "groups": None, "faulty": "refuse", "duplicates": "refuse", "class_weights": False,
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "30 images" in shown
    assert "git checkout HEAD -- params.yaml dvc.lock reports" in shown
    after = (folder / "params.yaml").read_text()
    pairs = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert {line.split(":")[0].strip() for _, line in pairs} <= set(section)
    assert all(one.split(" # ")[1:] == other.split(" # ")[1:] for one, other in pairs)  # the comments stay
    fill(folder / "data" / "digits", ("0", "1"), mode="L")
    (folder / "data" / "digits" / "0" / "broken.png").touch()
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("dataset:\n", "dataset: # mine\n"))
    section = at(folder, monkeypatch, "data/digits", "--name", "1e3")
    found = section["name"], section["path"], section["colors"], section["mirror"], section["size"], section["faulty"]
    assert found == ("1e3", "data/digits", "grey", False, 16, "drop")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [(["nowhere"], "is not there"), (["."], "holds what the project writes"), ([".."], "holds what the project writes"),
     (["set", "--size", "5"], "--size is 5, but must be"),
     (["set", "--name", "fashion-mnist"], "the project's own")],
)  # fmt: skip
def test_new_refuses_and_changes_nothing(folder, monkeypatch, given, sentence):
    fill(folder / "set")
    before = (folder / "params.yaml").read_text()
    with pytest.raises(SystemExit, match=sentence):
        at(folder, monkeypatch, *given)
    assert (folder / "params.yaml").read_text() == before


# --- Nothing of Fashion-MNIST elsewhere, and data that DVC tracks ---

DESCRIPTION = {
    "data/publisher.py",
    "inference/photo.py",
    "benchmark/notebook.py",
}  # and what is for Fashion-MNIST alone
ONCE = ("base/runs.py", "bench.py", "predict.py", "data/transforms.py", "figures/style.py", "audit.py", "explain.py")
WORDS = re.compile(
    r"(?i:cloth(es|ing)\b|fashion-mnist|zalando|\barticle|catalogue|28x28|\b10 classes)|"
    + "|".join(map(re.escape, CLASS_NAMES))
)


def literals(path: Path) -> list[str]:
    """The numbers and words of Fashion-MNIST in a file's code and texts; docstrings do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in documented:
            if (isinstance(node.value, str) and WORDS.search(node.value)) or node.value in (28, 784):
                found.append(str(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {
            "range",
            "eye",
            "Dense",
            "one_hot",
        }:
            found += [ast.unparse(node) for argument in node.args if ast.unparse(argument) == "10"]
    return found


def test_what_is_fashion_mnists_stands_in_its_description_alone():
    code = {path.relative_to(ROOT / "stages").as_posix(): literals(path) for path in (ROOT / "stages").rglob("*.py")}
    assert {
        path: found for path, found in code.items() if path not in DESCRIPTION and len(found) > (path in ONCE)
    } == {}
    for path in (ROOT / "stages/page").glob("report.*"):
        assert not WORDS.search(path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_images_that_dvc_tracks_come_from_a_remote(tmp_path, published):
    folder = tmp_path / "project"
    make_copy(folder, published)
    fill(folder / "data" / "mine", size=(20, 20))
    run(folder, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    run(folder, "dvc", "add", "data/mine")
    run(folder, "python", "-m", "stages.new", "data/mine")
    run(folder, "dvc", "push", "data/mine.dvc")
    commit(folder, "Images of my own")
    run(tmp_path, "git", "clone", "--quiet", str(folder), "clone")
    clone = tmp_path / "clone"
    assert "type `dvc pull data/mine.dvc`" in run(clone, "python", "-m", "stages.start", "prepare", succeeds=False)
    run(clone, "dvc", "pull", "data/mine.dvc")
    assert "Running stage 'prepare'" in run(clone, "dvc", "repro", "prepare")
    assert "didn't change" in run(clone, "dvc", "repro", "prepare")
    picture().save(clone / "data" / "mine" / CLASSES[0] / "another.png")
    assert "Running stage 'prepare'" in run(clone, "dvc", "repro", "prepare")
