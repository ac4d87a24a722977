"""The page of `make app`: what it shows, and its API under load. `make installed-app` installs what it needs."""

import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest

from stages import app as page_of_app
from stages.base.errors import InputError
from stages.data.image_file import read_photo
from stages.data.publisher import CLASS_NAMES
from stages.inference.photo import convert
from tests.conftest import ENVIRONMENT, MODELS, ROOT, clone_with_data, wait_until

PHOTO = ROOT / "tests/photos/boot.jpg"
RUN = f"{MODELS[0]}-0"


@pytest.fixture
def loaded(monkeypatch, images):
    """A model that was not trained, and 100 training images."""
    inputs = keras.Input((28, 28, 1))
    features = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10)(features))
    found = page_of_app.Loaded(model, augmentation="none", temperature=2.0, threshold=0.5)
    monkeypatch.setattr(page_of_app, "load", lambda _: found)
    data = {"dataset": "fashion-mnist", "class_names": list(CLASS_NAMES)}
    monkeypatch.setattr(page_of_app, "load_summary", lambda: data)
    monkeypatch.setattr(page_of_app, "train_images", lambda: (images[0][:100, ..., None], images[1][:100]))
    page_of_app.train_features.cache_clear()


def test_a_photo_is_classified_and_explained(loaded, images):
    found = page_of_app.classify(convert(read_photo(PHOTO)), RUN)
    assert set(found["probabilities"]) == set(CLASS_NAMES)
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert found["probabilities"][found["class"]] == found["probability"] == max(found["probabilities"].values())
    pixels = images[0][7, ..., None]
    assert page_of_app.occlusion_image(RUN, pixels, found["class"]).shape == (28 * 8, 28 * 8, 3)
    (nearest, caption), *others = page_of_app.similar_images(RUN, pixels)  # the most similar one is the image itself
    assert np.array_equal(nearest, pixels[..., 0])
    assert caption == f"{CLASS_NAMES[images[1][7]]}, 1.00"
    assert len(others) == page_of_app.SIMILAR - 1
    assert page_of_app.tiles([(nearest, "<b>")], "&").count("&lt;b&gt;") == 2


@pytest.mark.slow
def test_the_page_shows_a_photo_or_a_drawing_and_two_models_side_by_side(loaded, monkeypatch):
    gradio = pytest.importorskip("gradio")
    monkeypatch.setattr(page_of_app, "write_examples", lambda _: {})
    blocks = page_of_app.page([RUN], {"run": RUN})
    (show, *_) = (event.fn for event in blocks.fns.values() if event.name == "shown")
    drawing = np.zeros((280, 280, 4), np.uint8)
    drawing[60:220, 100:180] = (51, 51, 51, 255)
    for given in (("photo", str(PHOTO), None), ("drawing", None, {"composite": drawing})):
        _, steps, seen, *results = show(*given, RUN, RUN, "auto")
        assert steps.count("<img") == 6
        assert seen.shape == (28 * 8, 28 * 8)
        assert len(results[1]["value"]) == 10
        assert results[3].count("<img") == page_of_app.SIMILAR
        assert results[4]["visible"]
        *_, second, _, _, _ = show(*given, RUN, page_of_app.NO_MODEL, "auto")
        assert not second["visible"]
    with pytest.raises(gradio.Error, match="Nothing differs enough from one color"):
        show("drawing", None, {"composite": np.full((280, 280, 4), 9, np.uint8)}, RUN, RUN, "auto")


def test_a_port_that_cannot_be_used_is_told():
    with pytest.raises(InputError, match="--port is 99999, but must be"):
        page_of_app.refuse_a_port_in_use(99999)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(InputError, match="perhaps it is open already"),
    ):
        page_of_app.refuse_a_port_in_use(server.getsockname()[1])


# --- The page as it is served ---


class App:
    """The running app: its address, its process, and a folder with photos."""

    def __init__(self, workspace: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self.folder = f"http://127.0.0.1:{port}", workspace / "photos"
        self.folder.mkdir()
        with (workspace / "app.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stages.app", "--port", str(port)],
                cwd=workspace, env=ENVIRONMENT, stdout=log, stderr=log,
            )  # fmt: skip

        def answers() -> bool:
            assert self.process.poll() is None, (workspace / "app.log").read_text()
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers)

    def client(self):
        client = pytest.importorskip("gradio_client")
        return client.Client(self.address, verbose=False, analytics_enabled=False)

    def classify(self, path: Path, run: str = RUN, client=None) -> dict:
        photo = pytest.importorskip("gradio_client").handle_file(path)
        return (client or self.client()).predict(photo, run, "auto", api_name="/classify")


@pytest.fixture(scope="module")
def app(finished, tmp_path_factory):
    pytest.importorskip("gradio")
    running = App(clone_with_data(finished, tmp_path_factory.mktemp("app") / "workspace"))
    yield running
    running.process.kill()


def test_the_api_classifies_with_every_model_and_is_the_only_one(app):
    for model in MODELS:
        found = app.classify(PHOTO, f"{model}-0")
        assert set(found) == {"class", "probability", "next", "probabilities", "out_of_distribution", "warnings"}
    assert list(app.client().view_api(return_format="dict")["named_endpoints"]) == ["/classify"]


def test_only_this_machine_is_served_and_no_other_one_is_asked(app):
    app.classify(PHOTO)
    connections = psutil.Process(app.process.pid).net_connections()
    assert {one.laddr.ip for one in connections if one.status == "LISTEN"} == {"127.0.0.1"}
    assert {one.raddr.ip for one in connections if one.raddr} <= {"127.0.0.1"}
