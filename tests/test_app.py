"""The page of `make app`, with real clicks in a browser, and its API under load. Needs `make installed-app`.

The tests in a browser also need `pip install playwright` and Chromium, such as Debian's package.
"""

import random
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from stages.app import load
from stages.common.errors import InputError
from tests.conftest import ENVIRONMENT, MODELS, clone_with_data, run
from tests.test_photo import encoded, shirt

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")
pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class App:
    """The running app: its address, its process, and a folder with photos."""

    def __init__(self, workspace: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self.folder = f"http://127.0.0.1:{port}", workspace / "photos"
        self.folder.mkdir()
        shirt().save(self.folder / "shirt.png")
        self.log = workspace / "app.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stages.app", "--port", str(port)],
                cwd=workspace, env=ENVIRONMENT, stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + 90
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < until
                time.sleep(0.2)

    def client(self):
        return gradio_client.Client(self.address, verbose=False, analytics_enabled=False)

    def memory(self) -> float:
        """MB of the process."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6


@pytest.fixture(scope="module")
def app(finished, tmp_path_factory):
    running = App(clone_with_data(finished, tmp_path_factory.mktemp("app") / "workspace"))
    yield running
    running.process.kill()


def classify(app: App, path: Path, run: str = f"{MODELS[0]}-0") -> dict:
    return app.client().predict(gradio_client.handle_file(path), run, "auto", api_name="/classify")


def test_the_api_classifies_with_every_model_and_is_the_only_one(app):
    for model in MODELS:
        found = classify(app, app.folder / "shirt.png", f"{model}-0")
        assert set(found) == {"class", "probability", "next", "probabilities", "out_of_distribution", "warnings"}
        assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert found["probabilities"][found["class"]] == found["probability"] == max(found["probabilities"].values())
    described = app.client().view_api(return_format="dict")
    assert list(described["named_endpoints"]) == ["/classify"]


def test_only_this_machine_is_served(app):
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(app.process.pid).net_connections()
        if connection.status == "LISTEN"
    }
    assert listening == {"127.0.0.1"}


def test_no_other_host_is_asked(app):
    classify(app, app.folder / "shirt.png")
    others = {
        connection.raddr.ip for connection in psutil.Process(app.process.pid).net_connections() if connection.raddr
    }
    assert others <= {"127.0.0.1"}


def test_under_load_nothing_is_lost_and_memory_is_bounded(app):
    rng = random.Random(0)
    (app.folder / "broken.png").write_bytes(encoded(shirt())[:400])
    (app.folder / "text.png").write_text("no photo")
    large = Image.new("RGB", (10_000, 10_000), (255, 255, 255))
    large.paste((20, 20, 90), (3000, 2000, 7000, 8000))
    large.save(app.folder / "large.png")
    good, bad = ["shirt.png"] * 8, ["broken.png", "text.png", "large.png"]
    names = [rng.choice(good + bad) for _ in range(200)]
    classify(app, app.folder / "shirt.png")
    before = app.memory()
    clients = [app.client() for _ in range(16)]

    def ask(number: int) -> str:
        name = names[number]
        try:
            found = clients[number % 16].predict(
                gradio_client.handle_file(app.folder / name), f"{MODELS[0]}-0", "auto", api_name="/classify"
            )
            return found["class"]
        except Exception as error:
            return f"error: {error}"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(200)))
    assert app.process.poll() is None
    classes = {answer for answer, name in zip(answers, names, strict=True) if name == "shirt.png"}
    assert len(classes) == 1
    assert not classes.pop().startswith("error")
    for answer, name in zip(answers, names, strict=True):
        if name != "shirt.png":
            assert answer.startswith("error: "), name
    assert {answer for answer, name in zip(answers, names, strict=True) if name == "large.png"} == {
        "error: it has 10,000 x 10,000 pixels, but may have 51 million: scale it down."
    }
    assert app.memory() - before < 500


# --- In a browser ---


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(app, browser):
    """A new page of the app; at the end, whether it asked another host or logged an error."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1000})
    hosts, errors = set(), []
    opened.on("request", lambda request: hosts.add(request.url.split("/")[2]) if "//" in request.url else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(app.address)
    opened.wait_for_selector("#classify")
    yield opened
    opened.close()
    assert hosts == {app.address.split("/")[2]}
    assert not errors


def shows_results(page, place: str = "first") -> str:
    """The class that the page shows, once it has everything."""
    page.wait_for_selector(f"#{place}-similar figure >> nth=4", timeout=60_000)
    page.wait_for_selector("#steps figure")
    assert page.locator(f"#{place}-occlusion img").count() == 1
    assert page.locator("#seen img").count() == 1
    return page.locator(f"#{place}-label h2").inner_text()


def test_a_dropped_photo_is_classified_and_explained(app, page):
    page.set_input_files("#photo input[type=file]", app.folder / "shirt.png")
    assert (
        shows_results(page)
        == classify(app, app.folder / "shirt.png", page.locator("#model input").input_value())["class"]
    )
    assert page.locator("#steps figure").count() == 6


def test_two_models_stand_side_by_side(app, page):
    page.set_input_files("#photo input[type=file]", app.folder / "shirt.png")
    shows_results(page)
    page.locator("#other input").click()
    page.get_by_role("option", name=f"{MODELS[0]}-0").click()
    assert shows_results(page, "second")
    left, right = (page.locator(f"#{place}-label").bounding_box() for place in ("first", "second"))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]


@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_an_example_is_one_click(page, kind):
    page.locator(f"#{kind}-examples button, #{kind}-examples .gallery-item").first.click()
    assert shows_results(page)


def test_a_drawing_is_classified(page):
    page.get_by_role("tab", name="Draw").click()
    page.locator('#drawing button[aria-label="Brush"]').click()
    canvas = page.locator("#drawing canvas").first
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y - 60)
    page.mouse.down()
    for down in range(-60, 61, 6):
        page.mouse.move(x + (60 if down % 12 else -60), y + down, steps=4)
    page.mouse.up()
    page.wait_for_timeout(500)
    page.locator("#classify").click()
    assert shows_results(page)


def test_a_file_that_is_no_photo_gets_a_sentence(app, page):
    (app.folder / "one color.png").write_bytes(encoded(Image.new("RGB", (60, 60), (9, 9, 9))))
    page.set_input_files("#photo input[type=file]", app.folder / "one color.png")
    page.wait_for_selector("text=nothing differs enough from one color")


@pytest.mark.parametrize("address", ["/", "/?__theme=dark"])
def test_it_fits_a_phone(app, browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(app.address + address)
    page.wait_for_selector("#classify")
    page.set_input_files("#photo input[type=file]", app.folder / "shirt.png")
    shows_results(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('dark')") == ("dark" in address)
    page.close()


@pytest.mark.fault("A model lies under another one's name.", "The page refuses it, in a sentence.")
def test_a_foreign_model_is_refused(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(clone_with_data(finished, tmp_path / "workspace"))
    shutil.copy("data/models/small-0.keras", "data/models/plain-0.keras")
    with pytest.raises(InputError, match=r"plain-0\.keras is not the model that is asked for: its run is small-0"):
        load("plain-0")


@pytest.mark.parametrize(
    ("port", "sentence"), [("99999", "--port is 99999, but must be"), ("", "perhaps it is open already")]
)
def test_a_port_that_cannot_be_used_is_told(app, port, sentence):
    port = port or app.address.rpartition(":")[2]
    output = run(app.folder.parent, "python", "-m", "stages.app", "--port", port, succeeds=False)
    assert sentence in output
    assert "Traceback" not in output
