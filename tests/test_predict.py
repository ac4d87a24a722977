"""`python -m stages.predict` and the functions behind it: what a user types, and what is said of every kind of file."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.common.errors import InputError
from stages.inference import convert, read_photo
from stages.inference.classifier import Classifier, as_pixels
from tests.conftest import ENVIRONMENT, clone_with_data, run
from tests.test_photo import encoded, shirt

PREDICT = ("python", "-m", "stages.predict")


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory) -> Path:
    """A workspace with an exported model and the folder `photos`: two photos, one in a subfolder, and a hidden file."""
    workspace = clone_with_data(finished, tmp_path_factory.mktemp("predict") / "workspace")
    (workspace / "photos/more").mkdir(parents=True)
    shirt().save(workspace / "photos/blue shirt.png")
    shirt((0, 0, 0), (240, 240, 90)).save(workspace / "photos/more/Änderung.jpg")
    (workspace / "photos/.hidden").write_text("no photo")
    return workspace


@pytest.fixture
def bad(folder):
    """A file in `photos` that is no photo."""
    path = folder / "photos/broken.jpg"
    path.write_bytes(encoded(shirt(), "JPEG")[:800])
    yield path
    path.unlink()


def output(folder: Path, *arguments: str, status: int = 0, stdin: bytes = b"") -> tuple[str, str]:
    """What the command writes to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "stages.predict", *arguments],
        cwd=folder, env=ENVIRONMENT, input=stdin, capture_output=True, check=False,
    )  # fmt: skip
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == status, out + err
    assert "Traceback" not in err
    return out, err


def test_a_photo_gets_its_class_the_probability_and_the_next_two(folder):
    out, err = output(folder, "photos/blue shirt.png")
    line, *warnings = out.splitlines()
    found = re.fullmatch(r"photos/blue shirt\.png: (.+) ([\d.]+) % \(then (.+) ([\d.]+) %, (.+) ([\d.]+) %\)", line)
    classifier = Classifier(folder / "data/exported/model-tta.onnx")
    expected = classifier.probabilities(convert(read_photo(folder / "photos/blue shirt.png")).pixels)[0]
    order = np.argsort(-expected)[:3]
    assert [found[place] for place in (1, 3, 5)] == [classifier.classes[place] for place in order]
    for place, number in zip((2, 4, 6), order, strict=True):
        assert float(found[place]) == pytest.approx(100 * expected[number], abs=0.06)
    assert err == ""
    assert all(warning.startswith("  warning: ") for warning in warnings)
    assert bool(warnings) == (expected.max() < classifier.threshold)


def test_a_folder_is_gone_through_but_for_hidden_files(folder):
    rows = list(csv.DictReader(io.StringIO(output(folder, "photos", "--csv")[0])))
    assert [row["file"] for row in rows] == ["photos/blue shirt.png", "photos/more/Änderung.jpg"]
    assert all(row["class"] and not row["error"] for row in rows)


@pytest.mark.fault("One bad file of a thousand ends the program.", "It is named, the others are classified; status 1.")
def test_a_bad_file_is_named_and_the_others_go_on(folder, bad):
    out, err = output(folder, "photos", "photos/none.png", status=1)
    assert len(re.findall(r"^photos/\S.* % \(then", out, re.MULTILINE)) == 2
    assert "photos/broken.jpg: not classified: it is truncated or damaged" in err
    assert "photos/none.png: not classified: it cannot be read: No such file" in err
    assert "error: 2 of 4 files could not be classified." in err
    found = json.loads(output(folder, "photos", "--json", status=1)[0])
    assert [("error" in result) for result in found] == [False, True, False]
    rows = list(csv.DictReader(io.StringIO(output(folder, "photos", "--csv", status=1)[0])))
    assert [bool(row["error"]) for row in rows] == [False, True, False]


@pytest.mark.fault("Two photos share a figure; a figure is drawn over a photo.", "Each has its own, and photos stay.")
def test_every_photo_gets_a_figure_of_its_own(folder, tmp_path):
    (tmp_path / "a").mkdir()
    names = ["a/b.png", "a-b.png", "x", "x.png", "tab\there.png", os.fsdecode(b"caf\xe9.png"), "服.png"]
    for name in names:
        shirt().save(tmp_path / name, "PNG")
    before = {name: (tmp_path / name).read_bytes() for name in names}
    found = json.loads(
        output(folder, *(str(tmp_path / name) for name in names), "--json", "--figure", str(tmp_path))[0]
    )
    assert len({result["figure"] for result in found}) == len(names)
    assert all(Path(result["figure"]).stat().st_size for result in found)
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


def test_linked_folders_are_looked_into_and_an_empty_one_stops_nothing(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/photos").symlink_to(folder / "photos/more")
    (tmp_path / "linked/round").symlink_to(tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/back").symlink_to(tmp_path / "linked")
    out, err = output(folder, str(tmp_path / "empty"), str(tmp_path / "linked"), status=1)
    assert out.count("Änderung.jpg: ") == 1
    assert "empty: not classified: the folder holds no files" in err


@pytest.mark.fault(
    "ONNX Runtime tells Microsoft of its use, and writes a device ID into the home directory.", "It does not."
)
def test_nothing_is_written_into_the_home_directory(folder, tmp_path):
    run(folder, *PREDICT, "photos", HOME=str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    shown = "import os; from stages.inference import Classifier; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run(folder, "python", "-c", shown).strip() == "1"


def test_json_is_json_on_an_ascii_terminal(folder):
    assert json.loads(run(folder, *PREDICT, "photos/more", "--json", PYTHONIOENCODING="ascii"))[0]["file"].endswith(
        "Änderung.jpg"
    )


def test_json_has_every_probability(folder):
    (found,) = json.loads(output(folder, "--json", "photos/more")[0])
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert found["probability"] == max(found["probabilities"].values()) == found["probabilities"][found["class"]]
    following = sorted(found["probabilities"].values(), reverse=True)[1:3]
    assert [other["probability"] for other in found["next"]] == following
    assert found["out_of_distribution"] in (True, False)


def test_stdin_is_read(folder):
    content = (folder / "photos/blue shirt.png").read_bytes()
    out, _ = output(folder, "-", stdin=content)
    assert out.replace("-:", "photos/blue shirt.png:", 1) == output(folder, "photos/blue shirt.png")[0]
    assert "-: not classified: it is empty" in output(folder, "-", status=1)[1]


def test_the_background_can_be_named(folder):
    (light,), (dark,) = (
        json.loads(output(folder, "--json", "--background", kind, "photos/blue shirt.png")[0])
        for kind in ("light", "dark")
    )
    assert light["probabilities"] != dark["probabilities"]


@pytest.mark.parametrize(
    ("arguments", "figures"),
    [
        (["photos", "--figure", "drawn"], ["drawn/photos-blue shirt.png.png", "drawn/photos-more-Änderung.jpg.png"]),
        (["--figure", "photos/more"], ["data/figures/photos-more-Änderung.jpg.png"]),
        (["--figure", "photos/blue shirt.png"], ["data/figures/photos-blue shirt.png.png"]),
        (["photos/blue shirt.png", "--figure"], ["data/figures/photos-blue shirt.png.png"]),
    ],
)
def test_figures_are_drawn_and_no_photo_is_written_over(arguments, figures, folder):
    before = (folder / "photos/blue shirt.png").read_bytes()
    output(folder, *arguments)
    for figure in figures:
        with Image.open(folder / figure) as image:
            assert image.width > 600
        (folder / figure).unlink()
    assert (folder / "photos/blue shirt.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence", "status"),
    [
        ([], "name a photo, a folder of photos, or - for stdin", 2),
        ([""], "one of the names is empty", 2),
        (
            ["https://example.org/x.jpg"],
            "it is an address, but a file is needed: type `curl -LO https://example.org/x.jpg`",
            1,
        ),
        (["photos/*.jpeg"], "it is a pattern, but no file has this name: leave out the quotes", 1),
        (["--background", "blue", "x.png"], "invalid choice: 'blue'", 2),
        (["data/folds/empty"], "data/folds/empty: not classified: the folder holds no files", 1),
        (
            ["--model", "no.onnx", "x.png"],
            "no.onnx is missing; there are data/exported/model-tta.onnx, data/exported/model.onnx.",
            1,
        ),
        (["--model", "params.yaml", "x.png"], "params.yaml is not an ONNX file that stage export wrote", 1),
    ],
)
def test_a_wrong_command_is_told_what_to_type(arguments, sentence, status, folder):
    (folder / "data/folds/empty").mkdir(exist_ok=True)
    assert sentence in output(folder, *arguments, status=status)[1]


def test_neither_tensorflow_nor_keras_is_loaded(folder):
    code = (
        "import sys; sys.argv = ['predict', 'photos']; from stages.predict import main; main(); "
        "slow = {'tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib', 'pydantic'} & set(sys.modules); "
        "sys.exit(f'loaded {slow}' if slow else 0)"
    )
    run(folder, "python", "-c", code)


def test_a_folder_shows_its_progress_on_a_terminal(folder):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.predict", "photos"], cwd=folder, env=ENVIRONMENT, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 10_000)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    assert process.wait(30) == 0
    assert b"2/2" in shown


def test_an_uncertain_photo_is_warned_of(folder):
    classifier = Classifier(folder / "data/exported/model-tta.onnx")
    pixels = convert(read_photo(folder / "photos/blue shirt.png")).pixels
    classifier.threshold = 1.01
    found = classifier.answer(pixels)
    assert found["out_of_distribution"] is True
    assert "may be none of the 10 classes" in found["warnings"][0]
    classifier.threshold = 0
    assert not classifier.answer(pixels)["warnings"]


def test_a_model_without_mirrored_views_sees_the_photo_both_ways(folder):
    classifier = Classifier(folder / "data/exported/model.onnx")
    assert classifier.augmentation == "none"
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    pixels[:, :14] //= 8  # its sides differ
    found = classifier.probabilities(np.stack([pixels, pixels[:, ::-1]]))
    assert np.abs(found[0] - found[1]).max() > 0.01
    left, right = classifier.answer(pixels), classifier.answer(pixels[:, ::-1])
    assert left == right
    assert left["probability"] == pytest.approx(found.max(), abs=1e-5)


def test_nobody_reads_on(folder):
    command = f"{shlex.quote(sys.executable)} -m stages.predict --json photos | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=folder, env=ENVIRONMENT, capture_output=True
    )
    assert (done.returncode, done.stderr) == (141, b"")  # no success: what was asked for is not done


# --- As functions ---


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 28, 28, 1), np.uint8),
        np.full((28, 28), 200.0),
        np.ones((28, 28, 1), np.int64) * 7,
        np.full((2, 28, 28), 255, np.uint16),
        np.zeros((0, 28, 28, 1)),
    ],
)
def test_arrays_of_pixels_are_taken(images, folder):
    found = Classifier(folder / "data/exported/model.onnx").probabilities(images)
    assert found.shape == (len(as_pixels(images)), 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.fault("Images from 0 to 1 are all sandals.", "They are refused: multiply them by 255.")
@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.full((1, 28, 28, 1), 0.5), "values up to 0.5, but must hold 0 to 255: multiply them by 255"),
        (np.eye(28), "values up to 1, but must hold 0 to 255: multiply"),
        (np.eye(28) * 1.02, "values up to 1.02"),
        (np.stack([np.eye(28), np.full((28, 28), 200)]), "1 of 2 images hold values up to 1,"),
        (np.full((1, 28, 28, 1), -0.5), "values from -0.5 to -0.5"),
        (np.full((1, 28, 28, 1), 300), "values from 300 to 300"),
        (np.full((1, 28, 28, 1), np.nan), "values from nan to nan"),
        (np.zeros((1, 32, 32, 1)), r"shape \(1, 32, 32, 1\), but must have"),
        (np.zeros((28, 28, 3)), r"shape \(28, 28, 3\)"),
        (np.zeros(784), r"shape \(784,\)"),
        (np.full((28, 28), "x"), "hold <U1, but must hold numbers"),
    ],
)
def test_other_arrays_are_refused(images, sentence, folder):
    with pytest.raises(InputError, match=sentence):
        Classifier(folder / "data/exported/model.onnx").probabilities(images)


def test_without_a_model_it_is_told_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"there is no exported model yet\. Type `make run`"):
        Classifier()
