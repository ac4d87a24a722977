"""The report page: its data, and its controls in a headless browser (where there is one)."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import report
from stages.data.publisher import CLASS_NAMES
from stages.figures.results import comparison
from stages.page.inline import COLUMNS, sheet
from stages.page.payload import answers, payload, shown
from tests.conftest import run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
FLAGS += " --disable-component-update --disable-quic --disable-extensions"

# Presses every control once the page is loaded, and writes what came of it into the page.
ACTIONS = r"""
const notes = {errors: window.noted};
const tiles = (id) => document.querySelectorAll(`#${id} .tile`).length;
const words = (id) => document.getElementById(id).textContent;
const set = (id, value) => {
  const node = document.getElementById(id);
  if (node.type === "checkbox") node.checked = value; else node.value = value;
  for (const kind of ["input", "change"]) node.dispatchEvent(new Event(kind));
};
notes.first = words("left-words");
const cells = document.querySelectorAll("#left [data-cell]");
document.querySelector("#left [data-cell='0,0']").click();
notes.diagonal = [words("left-words"), tiles("left-images")];
set("right-model", models[1]);
notes.side = document.querySelectorAll("#right [data-cell]").length;
notes.matrix = [...cells].map((cell) => Number(cell.textContent) || 0);
set("gallery-model", models[models.length - 1]);
notes.gallery = words("gallery-words");
set("gallery-class", "6");
notes.of_class = words("gallery-words");
set("gallery-least", "30");
notes.sure = words("gallery-words");
const more = document.getElementById("gallery-more");
const before = tiles("gallery-tiles");
if (!more.hidden) more.click();
notes.more = [before, tiles("gallery-tiles")];
document.querySelector("[data-curve=loss]").click();
notes.curve = words("curve-values");
document.querySelector("#curves svg").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"}));
notes.moved = words("curve-values");
const table = document.querySelector("table.sortable");
const column = () => [...table.tBodies[0].rows].map((row) => row.cells[2].textContent);
table.tHead.querySelectorAll("button")[2].click();
notes.down = column();
table.tHead.querySelectorAll("button")[2].click();
notes.up = column();
document.querySelector("[data-gallery-class='3']").click();
notes.link = document.getElementById("gallery-class").value;
const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
notes.requests = loaded.filter((name) => !name.startsWith("data:"));
notes.width = document.documentElement.scrollWidth - window.innerWidth;
const pre = document.createElement("pre");
pre.id = "notes"; pre.textContent = JSON.stringify(notes); document.body.append(pre);
"""


def in_browser(page: str, folder) -> dict:
    """Open the page in a narrow window, press everything, and return the notes."""
    noting = (
        "<script>window.noted = []; addEventListener('error', (event) => noted.push(String(event.message)));</script>"
    )
    acting = f"<script>addEventListener('load', () => {{ {ACTIONS} }});</script>"
    page = page.replace("<head>", f"<head>{noting}", 1).replace("</body>", f"{acting}</body>")
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [BROWSER, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", "--window-size=500,900"]
    command += ["--dump-dom", f"file://{folder / 'page.html'}"]  # as it is after the event `load`
    output = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    found = re.search(r'<pre id="notes">(.*?)</pre>', output, re.DOTALL)
    assert found, "the page's script did not come to its end"
    return json.loads(html.unescape(found[1]))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_every_control_works_without_an_error_or_a_request(finished, tmp_path):
    page = (finished / "reports/report.html").read_text(encoding="utf-8")
    notes = in_browser(page, tmp_path)
    assert notes["errors"] == []
    assert notes["width"] <= 0  # nothing makes a phone scroll sideways
    assert notes["requests"] == []
    selection = json.loads((finished / "reports/selection.json").read_text())
    confusion = pd.read_csv(finished / f"reports/confusion/{selection['run']}.csv")
    assert notes["matrix"] == confusion["images"].tolist()
    assert re.search(rf"\b{confusion['images'][0]}\b", notes["diagonal"][0])
    assert notes["diagonal"][1] > 0
    assert notes["first"] not in ("", notes["diagonal"][0])
    assert notes["side"] == 100
    assert len({notes["gallery"], notes["of_class"], notes["sure"]}) == 3
    assert notes["more"][1] >= notes["more"][0] > 0
    assert notes["moved"] != notes["curve"]
    assert notes["up"] == notes["down"][::-1]
    assert notes["link"] == "3"


def test_what_the_page_shows_is_text_and_different_processors_are_told(workspace):
    text = "<script>alert(1)</script> & <b>more</b>"
    code = workspace / "stages/models/plain.py"
    code.write_text(f'"""{text}"""\n' + code.read_text())
    path = workspace / "data/models/plain-0.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    origin = json.loads(members["origin.json"]) | {"processor": text}
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"origin.json": json.dumps(origin).encode()}).items():
            archive.writestr(name, content)
    run(workspace, "python", "-m", "stages.report")
    page = (workspace / "reports/report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "<b>more" not in page
    assert page.count(html.escape(text)) >= 2
    assert re.search(rf"different processors, .*{re.escape(html.escape(text))}: plain", page)


def test_the_sheet_holds_the_images_in_their_order(images):
    images = 255 - images[0][: COLUMNS + 3, ..., None]
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(sheet(images).partition(",")[2]))).convert("L"))
    assert pixels.shape == (56, 28 * COLUMNS)
    place = COLUMNS + 2
    found = pixels[28:56, 56:84].astype(int)
    apart = [np.abs(found - image[..., 0].astype(int)).mean() for image in images]  # WebP loses a little
    assert np.argmin(apart) == place
    assert apart[place] < 12


def test_the_page_shows_all_mistakes_and_some_that_are_right():
    labels = np.repeat(np.arange(10), 30)
    chances = np.eye(10)[labels] * 0.8 + 0.02
    wrong = chances.copy()
    wrong[[3, 77]] = np.roll(wrong[[3, 77]], 1, axis=1)
    predictions = {name: {"probabilities": p, "labels": labels} for name, p in {"a": chances, "b": wrong}.items()}
    galleries = {"a": {"random": np.array([299, 5])}, "b": {"random": np.array([3])}}
    images = shown(predictions, galleries, seed=0)
    assert {3, 77, 299, 5} <= set(images)
    assert len(images) <= 2 + 10 * 12 + 2
    assert (np.diff(images) > 0).all()
    curves = pd.DataFrame({"model": ["a", "b"], "seed": 0, "epoch": 1, "accuracy": 0.5, "loss": 1.0})
    curves = curves.assign(val_accuracy=0.5, val_loss=1.0)
    data = payload(
        predictions,
        images,
        galleries,
        curves,
        {"a": 0, "b": 1},
        ["b", "a"],
        {"a": "#123456", "b": "#abcdef"},
        CLASS_NAMES,
    )
    json.dumps(data)
    assert {run["model"]: run["colour"] for run in data["curves"]} == {"a": "#123456", "b": "#abcdef"}
    assert [images[place] for place in data["galleries"]["a"]["random"]] == [299, 5]
    assert data["confusion"]["a"] == (30 * np.eye(10, dtype=int)).tolist()


def test_the_label_stands_beside_every_image_though_the_model_gives_it_little():
    chances = np.array([[0.5, 0.25, 0.125, 0.125, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0.07, 0.03, 0, 0.9]])
    first, second = answers(chances, np.array([8, 7])).tolist()
    assert first == [0, 1, 8, 50, 25, 0]  # the third gives way to the label
    assert second == [9, 6, 7, 90, 7, 3]


def test_models_of_nearly_the_same_accuracy_have_labels_that_can_be_read():
    accuracies = [0.84, 0.9439, 0.9485, 0.945]
    rows = {"model": [f"model{number}" for number in range(len(accuracies))], "test_accuracy": accuracies}
    figure = comparison(pd.DataFrame(rows | {"multiply_adds": 10**7}), "model0")
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].texts]
    assert len(boxes) == len(accuracies)
    assert not any(first.overlaps(second) for index, first in enumerate(boxes) for second in boxes[:index])


def test_what_moved_since_the_last_commit_is_told(monkeypatch):
    rows = {name: {"val_accuracy": 0.9, "test_accuracy": 0.8} for name in "ab"}
    before = {"dataset": "mine", "models": rows}
    monkeypatch.setattr(report, "git", lambda *_: json.dumps(before))
    assert len(report.moved(before)) == 1  # the commit
    after = {"dataset": "mine", "models": {"a": rows["a"] | {"test_accuracy": 0.8051}, "c": rows["b"]}}
    assert report.moved(after)[1:] == ["a: test accuracy 80.00 to 80.51 % (+0.51)", "c is new", "b is gone"]
    assert report.moved(before | {"dataset": "yours"}) is None
    monkeypatch.setattr(report, "git", lambda *_: "")
    assert report.moved(before) is None
