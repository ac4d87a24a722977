"""A page in the browser that classifies photos and drawings: `make app`, then http://127.0.0.1:7860.

The class comes from the exported model. Then the page shows which parts of the photo mattered (occlusion) and the most
similar training images; if asked, also what another trained run says. Photos stay in memory. Without `--host`, the page
serves this machine alone. It asks no other host for anything.

Other programs can call it. The answer is JSON, see `stages.inference.classifier.answer`, or an `error`, a sentence:

    curl --data-binary @shirt.jpg 'http://127.0.0.1:7860/classify?run=cnn-0'
"""

import argparse
import base64
import errno
import functools
import io
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import NamedTuple

import jinja2
import numpy as np
import psutil
from PIL import Image

from stages import models
from stages.base.errors import InputError
from stages.base.files import read_json
from stages.base.runs import FASHION_MNIST, MODELS, SELECTION, TEMPERATURES
from stages.base.splits import load_split, load_summary
from stages.data.image_file import read_photo
from stages.explanation import occlusion
from stages.inference.classifier import EXPORTED, Classifier, answer, both_ways
from stages.inference.photo import Conversion, prepared
from stages.parameters.runs import Threads
from stages.parameters.schema import read
from stages.results.origin import read_origin, refuse_another_run
from stages.results.predictions import load_predictions
from stages.runner.dvc_files import digest, refuse_damaged
from stages.runner.entry import entry_point, sentence
from stages.scoring.temperature import with_temperature
from stages.trained import features, prediction, saving
from stages.trained.backend import start_keras

PAGE = Path("stages/page")
SIMILAR = 5
EXAMPLES = 6  # test images that are classified right, and as many that are not
MOST_MEGABYTES = 50  # of a photo
LOADING = threading.Lock()  # of Keras's models, which several requests may need at once


class Run(NamedTuple):
    """A trained run, ready to classify."""

    answer: Callable[[np.ndarray], dict]  # of pixels (H, W, C): see `stages.inference.classifier.answer`
    probabilities: Callable[[np.ndarray], np.ndarray]  # from a single view: from images (N, H, W, C) to (N, classes)
    features: Callable[[np.ndarray], np.ndarray]  # from images (N, H, W, C) to (N, D)


@functools.cache
def selection() -> dict:
    """What `select` chose."""
    return read_json(SELECTION)


@functools.cache
def runs() -> list[str]:
    """All runs, the selected one first."""
    found = [run for of_model in selection()["runs"].values() for run in of_model]
    return sorted(found, key=lambda run: run != selection()["run"])


def load(run: str) -> Run:
    """A run: the selected one from the exported files, others from `data/models`, with TensorFlow. Kept in memory."""
    if run not in runs():
        raise InputError(f"there is no run {run!r}; the runs are {', '.join(runs())}.")
    if run == selection()["run"]:
        return exported()
    with LOADING:
        return trained(run)


@functools.cache
def exported() -> Run:
    """The selected run. Raises `InputError` if the exported files hold another one."""
    paths = [EXPORTED / name for name in ("model-tta.onnx", "model.onnx")]
    refuse_damaged({str(path): digest(path) for path in (*paths, EXPORTED / "similar.npz")})
    averaging, single = map(Classifier, paths)
    data = load_summary()
    found = averaging.metadata["run"], averaging.dataset, averaging.classes
    if found != (selection()["run"], data["dataset"], data["class_names"]):
        raise InputError(
            f"{paths[0]} holds {found[0]} of {found[1]}, but {selection()['run']} of {data['dataset']} is selected, or its "
            "classes are others. Type `dvc repro export`."
        )
    return Run(averaging.answer, single.probabilities, single.features)


@functools.cache
def trained(run: str) -> Run:
    """A run from `data/models`. Raises `InputError` if the file holds another one."""
    path = MODELS / f"{run}.keras"
    refuse_damaged({str(path): digest(path)})
    refuse_another_run(path, run)
    origin = read_origin(path)
    start_keras(read("threads", Threads))
    temperature = read_json(TEMPERATURES)["temperatures"].get(origin["model"], 1.0)
    model = saving.load_model(path, models.custom_objects(origin["model"]))
    augmentation, dataset = origin["parameters"]["test_time_augmentation"], origin["dataset"]

    def answer_of(pixels: np.ndarray) -> dict:
        found = prediction.predict(model, both_ways(pixels, augmentation, dataset), augmentation).probabilities
        return answer(with_temperature(found, temperature), class_names(), None)

    return Run(
        answer_of,
        lambda images: prediction.classify(model, images),
        lambda images: features.features_and_probabilities(model, images)[0],
    )


@functools.cache
def class_names() -> list[str]:
    """The names of the classes."""
    return load_summary()["class_names"]


@functools.cache
def compared_images() -> tuple[np.ndarray, np.ndarray]:
    """The training images of which the most similar ones are shown, and their labels: see `stages.export`."""
    images, labels = load_split("train")
    with np.load(EXPORTED / "similar.npz") as kept:
        return images[kept["images"]], labels[kept["images"]]


@functools.cache
def known_features(run: str) -> np.ndarray:
    """The features of `compared_images`, of length 1, float32 (N, D)."""
    if run == selection()["run"]:
        with np.load(EXPORTED / "similar.npz") as kept:
            return kept["features"].astype(np.float32)
    return of_length_1(load(run).features(compared_images()[0]))


def of_length_1(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, D), divided by their lengths."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def similar_images(run: str, pixels: np.ndarray) -> list[dict]:
    """The training images with the most similar features: image, class and cosine similarity, the highest first."""
    similarity = known_features(run) @ of_length_1(load(run).features(pixels[None]))[0]
    images, labels = compared_images()
    return [
        {"image": as_url(images[place]), "class": class_names()[labels[place]], "similarity": float(similarity[place])}
        for place in np.argsort(-similarity, kind="stable")[:SIMILAR]
    ]


def occlusion_image(run: str, pixels: np.ndarray, best: str) -> np.ndarray:
    """The image, where the parts that speak for its class are orange and those that speak against it blue."""
    drops = occlusion.occlusion(load(run).probabilities, pixels)
    drop = drops[..., class_names().index(best)]  # (H, W)
    strength = (np.abs(drop) / max(float(np.abs(drop).max()), 1e-9))[..., None]
    color = np.where(drop[..., None] > 0, (230, 97, 0), (0, 114, 178))  # orange and blue, for all eyes
    shown = (1 - 0.75 * strength) * pixels + 0.75 * strength * color
    return np.rint(shown).astype(np.uint8)


def as_png(image: np.ndarray) -> bytes:
    """An image, uint8 (H, W), (H, W, 1) or (H, W, 3), as the content of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(image.squeeze()).save(content, "PNG")
    return content.getvalue()


def as_url(image: np.ndarray) -> str:
    """An image, uint8 (H, W), (H, W, 1) or (H, W, 3), as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(as_png(image)).decode()}"


def prepare(photo: bytes, background: str) -> Conversion:
    """The content of a photo's file, made an image as the models were trained on them."""
    return prepared(read_photo(photo), load_summary()["dataset"], load_split("test")[0].shape[1:], background)


def classify(photo: bytes, run: str, background: str) -> dict:
    """The answer to `/classify`: see `stages.inference.classifier.answer`."""
    converted = prepare(photo, background)
    found = load(run).answer(converted.pixels)
    return found | {"warnings": converted.warnings + found["warnings"]}


def explain(photo: bytes, run: str, background: str) -> dict:
    """The answer to `/explain`: the class, and pictures, as data URLs, of what it depends on."""
    converted = prepare(photo, background)
    best = load(run).answer(converted.pixels)["class"]
    return {
        "class": best,
        "seen": as_url(converted.pixels),
        "mattered": as_url(occlusion_image(run, converted.pixels, best)),
        "similar": similar_images(run, converted.pixels),
        "steps": [{"name": name, "image": as_url(image)} for name, image in converted.steps.items()],
    }


@functools.cache
def predicted() -> np.ndarray:
    """The classes that the selected run says of the test images, (N,)."""
    return load_predictions("test", selection()["run"])["probabilities"].argmax(axis=1)


def examples() -> dict[str, dict[str, tuple[bytes, str]]]:
    """Test images by their name in addresses, each as PNG and with its label: some classified right, some wrong."""
    (images, labels), dataset = load_split("test"), load_summary()["dataset"]
    found: dict[str, dict[str, tuple[bytes, str]]] = {}
    for kind, chosen in (("right", predicted() == labels), ("wrong", predicted() != labels)):
        for place in np.random.default_rng(0).permutation(np.flatnonzero(chosen))[:EXAMPLES]:
            # Clothing is shown dark on white, as in photos of it.
            image = 255 - images[place] if dataset == FASHION_MNIST else images[place]
            found.setdefault(kind, {})[f"{kind}-{place}.png"] = as_png(image), class_names()[labels[place]]
    return found


def html(shown: dict[str, dict[str, tuple[bytes, str]]]) -> str:
    """The page. A drawing is light on black where the images mostly have a dark border."""
    images, dataset = load_split("test")[0][:500], load_summary()["dataset"]
    dark = dataset != FASHION_MNIST and np.median(images[:, [0, -1]]) < 64
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True)
    return environment.get_template("app.html.jinja").render(
        dataset=dataset,
        fashion=dataset == FASHION_MNIST,
        classes=class_names(),
        runs=runs(),
        accuracy=(predicted() == load_split("test")[1]).mean(),
        examples={kind: list(of_kind) for kind, of_kind in shown.items()},
        labels={name: label for of_kind in shown.values() for name, (_, label) in of_kind.items()},
        brush="#eee" if dark else "#444",
        canvas="#000" if dark else "#fff",
        script=(PAGE / "app.js").read_text(encoding="utf-8"),
    )


def own_hosts(host: str) -> set[str]:
    """The names and addresses of this machine, under which the page at `host` can be reached."""
    local = {"127.0.0.1", "localhost", "::1"}
    if host in local:
        return local
    every = [one for many in psutil.net_if_addrs().values() for one in many if one.family in (AF_INET, AF_INET6)]
    addresses = {one.address.partition("%")[0] for one in every}
    return {name.lower() for name in {host, socket.gethostname(), socket.getfqdn(), *addresses, *local}}


def served(host: str):
    """The page and its answers, an ASGI application."""
    from starlette.applications import Starlette  # an extra: `main` says what to type if it is missing
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import Headers
    from starlette.exceptions import HTTPException
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    shown, hosts = examples(), own_hosts(host)
    pictures = {name: content for of_kind in shown.values() for name, (content, _) in of_kind.items()}
    page = html(shown)
    policy = {"Content-Security-Policy": "default-src 'self' data: blob: 'unsafe-inline'; frame-ancestors 'none'"}

    def replying(reply: Callable[[bytes, str, str], dict]):
        """A handler that answers a photo, the body of a request."""

        async def handler(request):
            content = bytearray()
            async for part in request.stream():
                content += part
                if len(content) > MOST_MEGABYTES * 10**6:
                    raise InputError(f"it has more than {MOST_MEGABYTES} MB: scale it down.")
            given = [
                request.query_params.get(key, usual) for key, usual in (("run", runs()[0]), ("background", "auto"))
            ]
            return JSONResponse(await run_in_threadpool(reply, bytes(content), *given))

        return handler

    async def example(request):
        content = pictures.get(request.path_params["name"])
        return Response(content, media_type="image/png") if content else refused(request, HTTPException(404))

    def refused(_, error: Exception):
        status = 400
        if isinstance(error, HTTPException):
            error, status = InputError("post a photo to /classify, or open / in a browser."), error.status_code
        text = sentence(error)
        return JSONResponse({"error": text[:1].upper() + text[1:]}, status)

    def failed(_, error: Exception):
        return JSONResponse({"error": f"The page failed ({type(error).__name__}); its terminal says more."}, 500)

    routes = [
        Route("/", lambda _: HTMLResponse(page, headers=policy)),
        Route("/classify", replying(classify), methods=["POST"]),
        Route("/explain", replying(explain), methods=["POST"]),
        Route("/examples/{name}", example),
    ]
    handlers = {InputError: refused, HTTPException: refused, OSError: refused, 500: failed}
    application = Starlette(routes=routes, exception_handlers=handlers)

    async def own_address_only(scope, receive, send):
        """Refuse what another page in the browser asks: its name for this machine, or its origin, is another one."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
            if name.lower() not in hosts or origin not in {None, f"http://{host}"}:
                reply = JSONResponse({"error": "Open the page by the address that was printed when it started."}, 403)
                return await reply(scope, receive, send)
        return await application(scope, receive, send)

    return own_address_only


def family_of(host: str) -> socket.AddressFamily:
    """Whether a name or an address is reached by IPv4 or IPv6."""
    return AF_INET6 if ":" in host else AF_INET


def at(host: str, port: int) -> str:
    """A host and its port, as addresses have them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def refuse_a_port_in_use(host: str, port: int) -> None:
    """Raise `InputError` if the page cannot be served at a port of this machine."""
    if not 1 <= port <= 65535:
        raise InputError(f"--port is {port}, but must be a whole number from 1 to 65535.")
    with socket.socket(family_of(host)) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            advice = (
                f"perhaps it is open already; --port {port + 1 if port < 65535 else 7860} serves it at another port"
            )
            if error.errno != errno.EADDRINUSE:
                advice = "--host must be an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all"
            raise InputError(f"the page cannot be served at {at(host, port)} ({error.strerror}): {advice}.") from None


@entry_point
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.app", description="A page that classifies photos.")
    parser.add_argument("--port", type=int, default=7860, help="default: %(default)s")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="0.0.0.0: whoever reaches this machine may use it (default: %(default)s, it alone)",
    )
    given = parser.parse_args()
    refuse_a_port_in_use(given.host, given.port)
    try:
        import uvicorn
    except ImportError:
        raise InputError("the page's server is not installed. Type `make app`, which installs it.") from None
    if not SELECTION.exists():
        raise InputError("there is no trained model yet. Type `make run`, which trains the models.")
    exported()
    compared_images(), known_features(selection()["run"])  # now: what is trained while the page is open replaces them
    application = served(given.host)
    address = at(given.host, given.port)
    print(f"The page: http://{address} (Ctrl-C stops it).")
    print(
        f"To open it from another machine, type `ssh -L {given.port}:{address} {os.uname().nodename}` there, then "
        f"open http://127.0.0.1:{given.port}"
        if given.host in own_hosts("localhost")
        else "Whoever reaches this machine by this address or its name can use it; there is no password.",
        flush=True,
    )
    uvicorn.run(application, host=given.host, port=given.port, log_level="warning", ws="none", lifespan="off")


if __name__ == "__main__":
    main()
