"""The page of `make app`: what it answers, to whom, and what it shows. `make installed-app` installs what it needs."""

import asyncio
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from stages import app as page_of_app
from stages.app import Run
from stages.base.errors import InputError
from stages.data.publisher import CLASS_NAMES
from stages.inference.classifier import answer
from tests.conftest import ENVIRONMENT, MODELS, ROOT, clone_with_data, wait_until

PHOTO = ROOT / "tests/photos/boot.jpg"
RUN = f"{MODELS[0]}-0"


@pytest.fixture
def loaded(monkeypatch, images):
    """Two runs that take the mean of the upper half for the probability of class 3, and 100 images."""
    pixels, labels = images[0][:100, ..., None], images[1][:100]

    def probabilities(some: np.ndarray) -> np.ndarray:
        upper = some[:, :14].mean(axis=(1, 2, 3)) / 255
        return np.eye(10)[np.full(len(some), 3)] * upper[:, None] + (1 - upper[:, None]) / 10

    run = Run(
        lambda one: answer(probabilities(one[None]), CLASS_NAMES, None),
        probabilities,
        lambda some: some.reshape(len(some), -1).astype(float),
    )
    monkeypatch.setattr(page_of_app, "trained", lambda _: run)
    monkeypatch.setattr(page_of_app, "exported", lambda: run)
    monkeypatch.setattr(page_of_app, "selection", lambda: {"run": RUN, "runs": {"one": [RUN, "other-0"]}})
    monkeypatch.setattr(page_of_app, "runs", lambda: [RUN, "other-0"])
    data = {"dataset": "fashion-mnist", "class_names": list(CLASS_NAMES)}
    monkeypatch.setattr(page_of_app, "load_summary", lambda: data)
    monkeypatch.setattr(page_of_app, "load_split", lambda _: (pixels, labels))
    monkeypatch.setattr(page_of_app, "load_predictions", lambda *_: {"probabilities": np.eye(10)[labels % 5]})
    monkeypatch.setattr(page_of_app, "compared_images", lambda: (pixels, labels))
    known = page_of_app.of_length_1(pixels.reshape(100, -1).astype(float))
    monkeypatch.setattr(page_of_app, "known_features", lambda _: known)
    kept = (page_of_app.class_names, page_of_app.predicted)
    for one in kept:
        one.cache_clear()
    yield pixels, labels
    for one in kept:
        one.cache_clear()


def test_a_photo_is_classified_and_explained(loaded):
    found = page_of_app.classify(PHOTO.read_bytes(), RUN, "auto")
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert found["class"] == CLASS_NAMES[3]
    pixels, labels = loaded
    (nearest, *others) = page_of_app.similar_images(RUN, pixels[7])  # the most similar one is the image itself
    assert nearest == {
        "image": page_of_app.as_url(pixels[7]),
        "class": CLASS_NAMES[labels[7]],
        "similarity": pytest.approx(1),
    }
    assert len(others) == page_of_app.SIMILAR - 1
    colored = page_of_app.occlusion_image(RUN, np.full((28, 28, 1), 100, np.uint8), CLASS_NAMES[3]).astype(int)
    assert (colored[:11, ..., 0] > colored[:11, ..., 2]).all()  # orange above, where the run looks
    assert (colored[17:] == 100).all()


def test_a_palette_is_classified_as_its_colors(loaded):
    with Image.open(ROOT / "tests/photos/t-shirt.png") as photo:
        few = photo.convert("RGB").quantize(16, dither=Image.Dither.FLOYDSTEINBERG)
    found = []
    for image in (few, few.convert("RGB")):
        content = io.BytesIO()
        image.save(content, "PNG")
        found.append(page_of_app.prepare(content.getvalue(), "auto").pixels)
    assert np.array_equal(*found)


def ask(application, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict]:
    """The status, the content and the headers of an answer."""
    sent = []
    path, _, query = path.partition("?")
    given = [(name.encode(), value.encode()) for name, value in ({"host": "127.0.0.1:7860"} | headers).items()]
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": query.encode(), "headers": given, "scheme": "http", "client": None, "server": None,
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    content = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], content, {key.decode(): value.decode() for key, value in sent[0]["headers"]}


@pytest.fixture
def application(loaded, monkeypatch):
    pytest.importorskip("starlette")
    monkeypatch.setattr(page_of_app, "MOST_MEGABYTES", 1)
    return page_of_app.served("127.0.0.1")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/classify", b"no photo", 400, "It is not an image"),
        ("POST", "/classify", b"", 400, "It is empty"),
        ("POST", "/classify", b"x" * 1000001, 400, "more than 1 MB"),
        ("POST", "/explain?run=nobody", PHOTO.read_bytes(), 400, f"no run 'nobody'; the runs are {RUN}, other-0"),
        ("POST", "/classify?background=red", PHOTO.read_bytes(), 400, "red"),
        ("GET", "/classify", b"", 405, "Post a photo to /classify"),
        ("GET", "/etc/passwd", b"", 404, "Post a photo to /classify"),
        ("GET", "/examples/..%2Fparams.yaml", b"", 404, "Post a photo to /classify"),
    ],
)
def test_what_cannot_be_answered_is_told(application, method, path, body, status, words):
    found, content, _ = ask(application, method, path, body)
    assert (found, words in json.loads(content)["error"]) == (status, True)


def test_only_pages_of_this_machine_are_answered(application):
    assert (
        ask(application, "POST", "/classify?run=other-0", PHOTO.read_bytes(), origin="http://127.0.0.1:7860")[0] == 200
    )
    for headers in (
        {"host": "evil.example"},
        {"host": "evil.example:7860"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "null"},
    ):
        status, _, given = ask(application, "GET", "/", **headers)
        assert status == 403
        assert "access-control-allow-origin" not in given
    hosts = page_of_app.own_hosts("0.0.0.0")
    assert {"127.0.0.1", "localhost", socket.gethostname().lower()} <= hosts
    assert "evil.example" not in hosts


def test_the_page_has_examples_and_asks_no_other_host(application, loaded):
    pixels, labels = loaded
    _, page, headers = ask(application, "GET", "/")
    assert "default-src 'self'" in headers["content-security-policy"]
    assert not [word for word in page.decode().split() if "http" in word and "127.0.0.1" not in word]
    names = [name for of_kind in page_of_app.examples().values() for name in of_kind]
    assert len(names) == 2 * page_of_app.EXAMPLES
    for name in names:
        assert name in page.decode()
        _, picture, _ = ask(application, "GET", f"/examples/{name}")
        place = int(name.partition("-")[2].removesuffix(".png"))
        assert name.startswith("right" if labels[place] < 5 else "wrong")
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), 255 - pixels[place, ..., 0])


@pytest.mark.parametrize("host", ["127.0.0.1", *["::1"] * socket.has_dualstack_ipv6()])
def test_a_port_that_cannot_be_used_is_told(host):
    with pytest.raises(InputError, match="--port is 99999, but must be"):
        page_of_app.refuse_a_port_in_use(host, 99999)
    with socket.create_server((host, 0), family=page_of_app.family_of(host)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match="perhaps it is open already"):
            page_of_app.refuse_a_port_in_use(host, port)
    page_of_app.refuse_a_port_in_use(host, port)


def test_a_host_that_is_not_this_machine_is_told():
    with pytest.raises(InputError, match="--host must be an address of this machine"):
        page_of_app.refuse_a_port_in_use("192.0.2.1", 7860)  # an address for documents


# --- The page as it is served ---


class App:
    """The running app, its address and its process. Proxies that do not exist do not disturb it."""

    def __init__(self, workspace: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "socks5://127.0.0.1:1")
        with (workspace / "app.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stages.app", "--port", str(port)],
                cwd=workspace, env=ENVIRONMENT | proxies, stdout=log, stderr=log,
            )  # fmt: skip

        def answers() -> bool:
            assert self.process.poll() is None, (workspace / "app.log").read_text()
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers)

    def post(self, path: str, photo: bytes) -> dict:
        with urllib.request.urlopen(f"{self.address}/{path}", data=photo, timeout=300) as reply:
            return json.load(reply)


@pytest.fixture(scope="module")
def app(finished, tmp_path_factory):
    pytest.importorskip("starlette")
    running = App(clone_with_data(finished, tmp_path_factory.mktemp("app") / "workspace"))
    yield running
    running.process.kill()


def test_every_run_answers_also_when_many_ask(app):
    asked = [f"{what}?run={model}-0" for what in ("classify", "explain") for model in MODELS]
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda path: app.post(path, PHOTO.read_bytes()), asked * 3))
    keys = {"class", "probability", "next", "probabilities", "strangeness", "out_of_distribution", "warnings"}
    assert set(found[0]) == keys
    assert found[: len(asked)] == found[len(asked) : 2 * len(asked)] == found[2 * len(asked) :]
    for answered, why in zip(found[: len(MODELS)], found[len(MODELS) : len(asked)], strict=True):
        assert answered["class"] == why["class"]
        assert len(why["similar"]) == page_of_app.SIMILAR


def test_only_this_machine_is_served_and_no_other_one_is_asked(app):
    app.post("explain", PHOTO.read_bytes())
    connections = psutil.Process(app.process.pid).net_connections()
    assert {one.laddr.ip for one in connections if one.status == "LISTEN"} == {"127.0.0.1"}
    assert {one.raddr.ip for one in connections if one.raddr} <= {"127.0.0.1"}


@pytest.mark.parametrize("phone", [False, True])
def test_a_person_uses_the_page(app, phone, tmp_path):
    browsers = pytest.importorskip("playwright.sync_api")
    if not (chromium := shutil.which("chromium") or os.environ.get("CHROMIUM")):
        pytest.skip("there is no Chromium")
    size = {"width": 390, "height": 844} if phone else {"width": 1400, "height": 900}
    with (
        browsers.sync_playwright() as started,
        started.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_context(viewport=size, has_touch=phone, is_mobile=phone, bypass_csp=True).new_page()
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        press = page.tap if phone else page.click
        page.goto(app.address)
        page.wait_for_selector("#explained figure")  # an example is there already
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for part in ("#photo", "#files", "#camera", "#verdict"):
            box = page.locator(part).bounding_box()
            assert box["y"] + box["height"] <= size["height"], part
        name = page.get_attribute(".example:nth-child(2)", "id")
        press(".example:nth-child(2)")
        page.wait_for_function("name => location.hash === '#' + name && !document.querySelector('.busy')", arg=name)
        link = page.evaluate("location.href")
        said = page.inner_text("#verdict")
        page.goto("about:blank")
        page.goto(link)
        page.wait_for_function("!document.querySelector('.busy') && document.querySelector('#explained figure')")
        assert page.inner_text("#verdict") == said
        (tmp_path / "broken.jpg").write_text("no photo")
        photos = [ROOT / "tests/photos/t-shirt.png", PHOTO, tmp_path / "broken.jpg"]
        page.set_input_files("#files", photos)
        page.wait_for_function("document.getElementById('count').textContent === '3 photos'")
        assert page.locator("#gallery [aria-pressed=true]").count() == 1
        broken = page.locator("#gallery button:last-child")
        assert "⚠" in broken.inner_text()
        broken.click()
        page.wait_for_function("document.getElementById('notes').textContent.includes('not an image')")
        assert broken.get_attribute("aria-pressed") == "true"
        with page.expect_download() as download:
            press("#save")
        rows = Path(download.value.path()).read_text().splitlines()
        assert [row.partition(",")[0] for row in rows] == ["file", "t-shirt.png", "boot.jpg", "broken.jpg"]
        before = page.get_attribute("#photo", "src")
        page.evaluate("""async () => {
            const pasted = new DataTransfer();
            const photo = await (await fetch(document.querySelector(".example img").src)).blob();
            pasted.items.add(new File([photo], "pasted.png", {type: "image/png"}));
            dispatchEvent(new ClipboardEvent("paste", {clipboardData: pasted}));
        }""")
        page.wait_for_function("before => document.getElementById('photo').src !== before", arg=before)
        page.wait_for_function("!document.querySelector('.busy')")
        press("summary")
        page.select_option("#other", f"{MODELS[1]}-0")
        page.wait_for_selector("#bars thead:not([hidden])", timeout=120000)
        page.wait_for_function("document.querySelectorAll('#explained .panel .large').length === 2", timeout=120000)
        press("#draw")
        box = page.locator("#canvas").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        hint = page.inner_text("#verdict")
        assert not page.locator("#many").is_visible()
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 40, y + 60, steps=5)
        page.mouse.up()
        page.wait_for_function("hint => document.getElementById('verdict').textContent !== hint", arg=hint)
        page.wait_for_function("!document.querySelector('.busy')")
        assert page.locator("#canvas").is_visible()
        assert not faults
