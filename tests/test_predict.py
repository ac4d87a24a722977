"""`python -m stages.predict` and the functions behind it: what a user types, and what is said of every kind of file."""

import csv
import io
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from stages import predict
from stages.base.errors import InputError
from stages.data.image_file import read_photo
from stages.inference import formats
from stages.inference.classifier import STRANGE, Classifier
from stages.inference.photo import convert
from stages.runner import dvc_files
from stages.trained import saving
from tests.conftest import ROOT, run
from tests.test_export import ABOUT, build, head_of, temperature
from tests.test_photo import encoded, shirt


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A folder with `model.onnx` and `model-tta.onnx` of an untrained model."""
    saving.set_precision("float32")
    model, folder = build("small"), tmp_path_factory.mktemp("exported")
    for file, views in (("model.onnx", "none"), ("model-tta.onnx", "flip")):
        about = ABOUT | {"dataset": "fashion-mnist", "test_time_augmentation": views}
        formats.write(file, model, views, temperature(model), folder / file, about, head_of(model))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder with two photos, one in a subfolder, and a hidden file."""
    folder = tmp_path_factory.mktemp("my") / "photos"
    (folder / "more").mkdir(parents=True)
    shirt().save(folder / "blue shirt.png")
    shirt((0, 0, 0), (240, 240, 90)).save(folder / "more/Änderung.jpg")
    (folder / ".hidden").write_text("no photo")
    (folder / "more/up").symlink_to("..")  # a link around: no photo is classified twice
    (folder / "self").symlink_to(".")
    return folder


@pytest.fixture
def output(exported, photos, monkeypatch, capsys):
    """A function that runs the command in this process; it returns what is written to stdout and stderr."""

    def predicted(*arguments: object, status: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["predict", "--model", f"{exported}/model-tta.onnx", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        end, message = 0, ""
        try:
            predict.main()
        except SystemExit as error:
            end, message = (1, error.code) if isinstance(error.code, str) else (error.code, "")
        out, err = capsys.readouterr()
        assert end == status, out + err + message
        return out, err + message

    monkeypatch.chdir(ROOT)
    return predicted


def test_a_photo_gets_its_class_the_probability_and_the_next_two(output, exported, photos):
    path, model = photos / "blue shirt.png", Classifier(exported / "model-tta.onnx")
    probabilities = model.probabilities(convert(read_photo(path)).pixels)[0]
    best = [f"{model.classes[place]} {100 * probabilities[place]:.1f} %" for place in np.argsort(-probabilities)[:3]]
    out, err = output(path)
    line, *warnings = out.splitlines()
    assert line == f"{path}: {best[0]} (then {best[1]}, {best[2]})"
    assert bool(warnings) == (model.strangeness(convert(read_photo(path)).pixels)[0] > STRANGE)
    assert err == ""


def test_a_bad_file_is_named_and_the_others_go_on(output, photos, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(encoded(shirt(), "JPEG")[:800])
    (tmp_path / "empty").mkdir()
    for name in ("Thumbs.DB", "empty/labels.csv", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to(photos)
    given = [tmp_path, tmp_path / "none.png", tmp_path / "empty"]  # whose file stands in two of them
    out, err = output(*given, status=1)
    assert re.findall(r"^.*/linked/(.*): .* % \(then", out, re.MULTILINE) == ["blue shirt.png", "more/Änderung.jpg"]
    assert "broken.jpg: not classified: it is truncated or damaged" in err
    assert "none.png: not classified: it cannot be read: No such file" in err
    assert "empty: not classified: the folder holds no photos" in err
    assert "note: left out, since their names are not those of photos: 3 (.csv, .db).\n" in err
    assert "error: 3 of 5 files could not be classified." in err
    assert [("error" in result) for result in json.loads(output(*given, "--json", status=1)[0])] == [1, 0, 0, 1, 1]
    rows = list(csv.DictReader(io.StringIO(output(*given, "--csv", status=1)[0])))
    assert [bool(row["error"]) for row in rows] == [not row["class"] for row in rows] == [1, 0, 0, 1, 1]


def test_a_replaced_or_foreign_model_is_refused_and_no_name_reaches_the_terminal_raw(
    output, exported, tmp_path, monkeypatch
):
    photo = tmp_path / "\x1b[31m\n.png"
    shirt().save(photo)
    model = onnx.load(exported / "model.onnx")
    for classes, told in ((list("ab"), "it gives 10 probabilities, and names 2 classes"), ("\x1b" * 10, None)):
        onnx.helper.set_model_props(
            model,
            ABOUT
            | {
                "classes": json.dumps(classes),
                "test_time_augmentation": "none",
            },
        )
        onnx.save(model, tmp_path / "changed.onnx")
        out, err = output(photo, "--model", tmp_path / "changed.onnx", status=int(bool(told)))
        assert told in err if told else re.match(r"\S*\\x1b\[31m\\n\.png: \\x1b \d", out)
    monkeypatch.setattr(dvc_files, "LOCK", tmp_path / "dvc.lock")
    path = os.path.relpath(exported / "model-tta.onnx")
    for md5, status in ((dvc_files.digest(exported / "model-tta.onnx"), 0), ("0" * 32, 1)):
        outs = [{"path": path, "md5": md5, "size": 1}]
        dvc_files.LOCK.write_text(json.dumps({"stages": {"export": {"outs": outs}}}))
        assert ("but dvc.lock records 0000" in output(photo, status=status)[1]) == bool(status)


def test_json_has_every_probability(output, photos):
    light, dark = (
        json.loads(output("--json", "--background", kind, photos / "more")[0])[0] for kind in ("light", "dark")
    )
    assert light["probabilities"] != dark["probabilities"]
    assert light["file"].endswith("Änderung.jpg")
    probabilities = sorted(light["probabilities"].values(), reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)
    assert light["probability"] == light["probabilities"][light["class"]]
    assert [light["probability"], *(other["probability"] for other in light["next"])] == probabilities[:3]


def test_stdin_is_read(output, photos):
    path = photos / "blue shirt.png"
    out, _ = output("-", stdin=path.read_bytes())
    assert out.replace("-:", f"{path}:", 1) == output(path)[0]
    assert "-: not classified: it is empty" in output("-", status=1)[1]


def test_a_folder_shows_its_progress_on_a_terminal(output, photos, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "2/2" in output(photos)[1]


def test_the_command_is_quick_and_quiet(exported, photos, tmp_path):
    """In a process of its own: without TensorFlow, and with nothing in the home directory."""
    code = (
        "import os, sys; sys.argv, sys.orig_argv = ['-m'], ['python', '-m', 'stages.predict']; import stages\n"
        f"sys.argv = ['predict', '--model', {str(exported / 'model.onnx')!r}, {str(photos)!r}]\n"
        "from stages.predict import main; main()\n"
        "assert not {'tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    )
    run(ROOT, "python", "-c", code, HOME=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


# --- As functions ---


def test_a_strange_photo_is_warned_of(exported, photos, monkeypatch):
    model, pixels = Classifier(exported / "model-tta.onnx"), convert(read_photo(photos / "blue shirt.png")).pixels
    for threshold in (0, 1):
        monkeypatch.setattr("stages.inference.classifier.STRANGE", threshold)
        found = model.answer(pixels)
        assert found["out_of_distribution"] is (threshold == 0)
        assert ["probably none of the 10 classes" in warning for warning in found["warnings"]] == [True] * (
            1 - threshold
        )


def test_a_model_without_mirrored_views_sees_the_photo_both_ways(exported):
    model = Classifier(exported / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    pixels[:, :14] //= 8  # its sides differ
    found = model.probabilities(np.stack([pixels, pixels[:, ::-1]]))
    assert np.abs(found[0] - found[1]).max() > 0.01
    left, right = model.answer(pixels), model.answer(pixels[:, ::-1])
    assert left == right
    assert left["probability"] == pytest.approx(found.max(), abs=1e-5)


@pytest.mark.parametrize("shape", [(201, 28, 28, 1), (3, 28, 28), (28, 28, 1), (28, 28), (0, 28, 28)])
def test_arrays_of_pixels_are_taken(shape, exported):
    found = Classifier(exported / "model.onnx").probabilities(np.full(shape, 9))
    assert found.shape == (np.prod(shape) // 28**2, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.full((1, 28, 28, 1), 0.5), "values from 0 to 0.5, but must hold 0 to 255: multiply them by 255"),
        (np.eye(28) * 1.02, "values from 0 to 1.02"),  # resampled by cubic interpolation
        (np.full((1, 28, 28, 1), -0.5), "values from -0.5 to 0,"),
        (np.full((1, 28, 28, 1), np.nan), "values from nan to nan"),
        (np.zeros((28, 28, 3)), r"shape \(28, 28, 3\), but must have"),
        (np.full((28, 28), "x"), "hold <U1, but must hold numbers"),
    ],
)
def test_other_arrays_are_refused(images, sentence, exported):
    with pytest.raises(InputError, match=sentence):
        Classifier(exported / "model.onnx").probabilities(images)
