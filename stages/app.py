"""A page in the browser that classifies photos and drawings: `make app`, then http://127.0.0.1:7860.

Two of the trained models can be compared. For each, the page shows the calibrated probabilities, whether the photo is
probably none of the classes (out-of-distribution), which parts of it mattered (occlusion), and the most similar training
images. Only this machine can open the page, and the page asks no other host for anything.

Other programs can call it (`pip install gradio_client`); see "Use via API" at the bottom of the page:

    from gradio_client import Client, handle_file

    client = Client("http://127.0.0.1:7860")
    client.predict(handle_file("shirt.jpg"), "cnn-0", "auto", api_name="/classify")
    # {"class": "Shirt", "probability": ..., "next": [...], "probabilities": {...}, ...}
"""

import argparse
import base64
import functools
import html
import io
import os
import socket
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from stages import models
from stages.base.errors import InputError
from stages.base.files import read_json
from stages.base.runs import FASHION_MNIST, MODELS, PREDICTIONS, SELECTION, TEMPERATURES
from stages.base.splits import load_split, load_summary
from stages.data.image_file import read_photo
from stages.explanation import occlusion
from stages.inference.classifier import FALSE_ALARM_RATE, answer, both_ways
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

SIMILAR = 5
EXAMPLES = 6  # test images that are classified right, and as many that are not
ENLARGED = 8  # pixels of the page per pixel of an image
NO_MODEL = "none"
EXAMPLES_FOLDER = Path("data/app")  # the examples' files
KEPT_SECONDS = 3600  # of uploaded photos; all are removed when the page ends
MOST_MEGABYTES = 50
STYLE = """
#warning {border-left: 4px solid #d55e00; padding: 0.2em 0.8em}
.tiles {display: flex; flex-wrap: wrap; gap: 8px}
.tiles figure {margin: 0; width: 112px; font-size: 12px}
.tiles img {width: 112px; height: 112px; object-fit: contain; image-rendering: pixelated; background: #8884}
"""


class Loaded(NamedTuple):
    """A trained run, ready to classify."""

    model: object  # from pixels to logits
    augmentation: str  # its test-time augmentation
    temperature: float  # of its calibration
    threshold: float  # a highest probability below it, 0 to 1, means out-of-distribution


@functools.cache
def load(run: str) -> Loaded:
    """A run from `data/models`; kept in memory. Raises `InputError` if the file holds another one."""
    path = MODELS / f"{run}.keras"
    refuse_damaged({str(one): digest(one) for one in (path, PREDICTIONS / "val" / f"{run}.npz")})
    refuse_another_run(path, run)
    origin = read_origin(path)
    temperature = read_json(TEMPERATURES)["temperatures"].get(origin["model"], 1.0)
    model = saving.load_model(path, models.custom_objects(origin["model"]))
    augmentation = origin["parameters"]["test_time_augmentation"]
    known = [load_predictions("val", run)["probabilities"]]
    if (augmentation, origin["dataset"]) == ("none", FASHION_MNIST):  # then a photo is shown both ways: see `both_ways`
        known.append(prediction.classify(model, load_split("val")[0][:, :, ::-1]))
    highest = np.max([with_temperature(found, temperature).max(axis=1) for found in known], axis=0)
    return Loaded(model, augmentation, temperature, float(np.quantile(highest, FALSE_ALARM_RATE)))


@functools.cache
def class_names() -> list[str]:
    """The names of the classes."""
    return load_summary()["class_names"]


@functools.cache
def train_images() -> tuple[np.ndarray, np.ndarray]:
    """The training images and their labels."""
    return load_split("train")


@functools.cache
def train_features(run: str) -> np.ndarray:
    """The features of all training images, of length 1, float32 (N, D); kept in memory."""
    found, _ = features.features_and_probabilities(load(run).model, train_images()[0])
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def similar_images(run: str, pixels: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """The training images with the most similar features, each with its class and cosine similarity as text."""
    own, _ = features.features_and_probabilities(load(run).model, pixels[None])
    similarity = train_features(run) @ (own[0] / max(float(np.linalg.norm(own[0])), 1e-9))
    images, labels = train_images()
    nearest = np.argsort(-similarity, kind="stable")[:SIMILAR]
    return [(images[place].squeeze(), f"{class_names()[labels[place]]}, {similarity[place]:.2f}") for place in nearest]


def occlusion_image(run: str, pixels: np.ndarray, best: str) -> np.ndarray:
    """The image, where the parts that speak for its class are orange and those that speak against it blue."""
    drops = occlusion.occlusion(lambda covered: prediction.classify(load(run).model, covered), pixels)
    drop = drops[..., class_names().index(best)]  # (H, W)
    strength = (np.abs(drop) / max(float(np.abs(drop).max()), 1e-9))[..., None]
    color = np.where(drop[..., None] > 0, (230, 97, 0), (0, 114, 178))  # orange and blue, for all eyes
    shown = (1 - 0.75 * strength) * pixels + 0.75 * strength * color
    return enlarged(np.rint(shown).astype(np.uint8))


def prepare(photo: np.ndarray, background: str) -> Conversion:
    """A photo, uint8 (H, W, 3), made an image as the models were trained on them."""
    return prepared(photo, load_summary()["dataset"], train_images()[0].shape[1:], background)


def enlarged(image: np.ndarray) -> np.ndarray:
    """An image, uint8 (H, W, 1) or (H, W, 3), `ENLARGED` times larger."""
    return image.squeeze().repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


def tiles(images: list[tuple[np.ndarray, str]], title: str) -> str:
    """Images, uint8 (H, W) or (H, W, 3), with their captions as HTML."""
    cells = []
    for image, caption in images:
        content = io.BytesIO()
        Image.fromarray(image).save(content, "PNG")
        data, text = base64.b64encode(content.getvalue()).decode(), html.escape(caption)
        picture = f'<img src="data:image/png;base64,{data}" alt="{text}">'
        cells.append(f"<figure>{picture}<figcaption>{text}</figcaption></figure>")
    return f"<p>{html.escape(title)}</p><div class='tiles'>{''.join(cells)}</div>"


def classify(converted: Conversion, run: str) -> dict:
    """The classification of a converted photo by a run of `data/models`: see `stages.inference.classifier.answer`."""
    loaded = load(run)
    views = both_ways(converted.pixels, loaded.augmentation, load_summary()["dataset"])
    found = prediction.predict(loaded.model, views, loaded.augmentation).probabilities
    found = answer(with_temperature(found, loaded.temperature), class_names(), loaded.threshold, FALSE_ALARM_RATE)
    return found | {"warnings": converted.warnings + found["warnings"]}


def write_examples(selection: dict) -> dict[str, list[str]]:
    """Write test images as PNG: some that the selected run classifies right, and some that it does not."""
    images, labels = load_split("test")
    predicted = load_predictions("test", selection["run"])["probabilities"].argmax(axis=1)
    written: dict[str, list[str]] = {}
    EXAMPLES_FOLDER.mkdir(parents=True, exist_ok=True)
    for kind, chosen in (("right", predicted == labels), ("wrong", predicted != labels)):
        written[kind] = []
        for place in np.random.default_rng(0).permutation(np.flatnonzero(chosen))[:EXAMPLES]:
            name = f"{kind}-{class_names()[labels[place]].replace('/', '-').replace(' ', '-')}-{place}.png"
            image = images[place].squeeze()
            image = (
                255 - image if load_summary()["dataset"] == FASHION_MNIST else image
            )  # dark on white, as photos of clothing are
            Image.fromarray(image).save(EXAMPLES_FOLDER / name)
            written[kind].append(str(EXAMPLES_FOLDER / name))
    return written


def page(runs: list[str], selection: dict):
    """The page, a `gradio.Blocks`."""
    import gradio as gr  # an extra: `main` says what to type if it is missing

    def shown(tab: str, photo, drawing, run: str, other: str, background: str):
        """What the page shows for the photo or the drawing, by the selected tab."""
        try:
            if tab == "photo" and photo:
                image = read_photo(Path(photo))
            elif tab == "drawing" and drawing and drawing["composite"] is not None and drawing["composite"].any():
                composite = Image.fromarray(drawing["composite"]).convert("RGBA")
                white = Image.new("RGBA", composite.size, "white")
                image = np.asarray(Image.alpha_composite(white, composite).convert("RGB"))
            else:
                gr.Info("Add a photo, or draw something.")
                return [gr.skip()] * 11
            converted = prepare(image, background)
            results = [None if name == NO_MODEL else classify(converted, name) for name in (run, other)]
        except InputError as error:
            raise gr.Error(sentence(error).capitalize(), print_exception=False) from None
        steps_taken = [(image, name) for name, image in converted.steps.items()]
        outputs: list = [tiles(steps_taken, "From the photo to the input"), enlarged(converted.pixels)]
        notes: list[str] = []
        for name, found in zip((run, other), results, strict=True):
            if found is None:
                outputs += [gr.update(visible=False), {}, None, ""]
                continue
            notes += [note for note in (f"{name}: {note}" for note in found["warnings"]) if note not in notes]
            outputs += [
                gr.update(visible=True),
                gr.update(value=found["probabilities"], label=f"{name}: calibrated probabilities"),
                occlusion_image(name, converted.pixels, found["class"]),
                tiles(similar_images(name, converted.pixels), "The most similar training images, by features"),
            ]
        warning = "\n\n".join(f"⚠ {note}." for note in notes)
        return [gr.update(value=warning, visible=bool(warning)), *outputs]

    def for_api(photo: str | None, run: str, background: str) -> dict:
        try:
            if photo is None:
                raise InputError('there is no photo: give `handle_file("photo.jpg")` as the first value.')
            return classify(prepare(read_photo(Path(photo)), background), run)
        except InputError as error:
            raise gr.Error(sentence(error), print_exception=False) from None

    kept = (KEPT_SECONDS, KEPT_SECONDS)  # how often uploaded photos are looked through, and how old they may be
    with gr.Blocks(
        title=f"{load_summary()['dataset']} classifier", analytics_enabled=False, delete_cache=kept
    ) as blocks:
        gr.Markdown(f"# Which of {len(class_names())} classes is it?")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                tab = gr.State("photo")
                with gr.Tab("Photo") as photo_tab:
                    photo = gr.Image(
                        type="filepath", image_mode=None, sources=["upload", "clipboard", "webcam"], height=300,
                        label="A photo of one thing, on a plain background", elem_id="photo",
                    )  # fmt: skip
                    # Hand over the file unread: `read_photo` says what is wrong with it.
                    photo.preprocess = lambda payload: payload and payload.path
                with gr.Tab("Draw") as drawing_tab:
                    drawing = gr.Sketchpad(
                        canvas_size=(280, 280), fixed_canvas=True, height=380, type="numpy", layers=False,
                        brush=gr.Brush(default_size=12, colors=["#333333", "#888888", "#bbbbbb"]),
                        label="Draw one, and fill it", elem_id="drawing",
                    )  # fmt: skip
                run = gr.Dropdown(runs, value=selection["run"], label="Model", elem_id="model")
                other = gr.Dropdown([NO_MODEL, *runs], value=NO_MODEL, label="Compared with", elem_id="other")
                background = gr.Radio(["auto", "light", "dark"], value="auto", label="Background")
                button = gr.Button("Classify", variant="primary", elem_id="classify")
                seen = gr.Image(label="What the model sees", interactive=False, height=280, elem_id="seen", buttons=[])
            with gr.Column(scale=5, min_width=300):
                warning = gr.Markdown(visible=False, elem_id="warning")
                results = []
                with gr.Row():
                    for place in ("first", "second"):
                        with gr.Column(min_width=280, visible=place == "first") as column:
                            label = gr.Label(
                                num_top_classes=5, label="Calibrated probabilities", elem_id=f"{place}-label"
                            )
                            mattered = gr.Image(
                                label="Which parts mattered: orange for the class, blue against it", interactive=False,
                                height=280, elem_id=f"{place}-occlusion", buttons=[],
                            )  # fmt: skip
                            near = gr.HTML(elem_id=f"{place}-similar")
                        results += [column, label, mattered, near]
                steps = gr.HTML(elem_id="steps")
        outputs = [warning, steps, seen, *results]
        photo_tab.select(lambda: "photo", None, tab, api_visibility="private")
        drawing_tab.select(lambda: "drawing", None, tab, api_visibility="private")
        asked = [tab, photo, drawing, run, other, background]
        button.click(shown, asked, outputs, api_visibility="private")
        for changed in (run, other, background):
            changed.input(shown, asked, outputs, api_visibility="private")
        photo.input(shown, asked, outputs, api_visibility="private")
        for kind, files in write_examples(selection).items():
            gr.Examples(
                [[file] for file in files], [photo], outputs,
                lambda file: shown("photo", file, None, selection["run"], NO_MODEL, "auto"),
                run_on_click=True, cache_examples=False, label=f"Test images that {selection['run']} classifies {kind}",
                elem_id=f"{kind}-examples", api_visibility="private",
            )  # fmt: skip
        answer = gr.JSON(visible=False)
        gr.Button(visible=False).click(
            for_api, [photo, run, background], answer, api_name="classify",
            api_description="Classify a photo: class, probability, next, probabilities, out_of_distribution, warnings.",
        )  # fmt: skip
    return blocks


def refuse_a_port_in_use(port: int) -> None:
    """Raise `InputError` if the page cannot be served at a port of this machine."""
    if not 1 <= port <= 65535:
        raise InputError(f"--port is {port}, but must be a whole number from 1 to 65535.")
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"the page cannot be served at 127.0.0.1:{port} ({error.strerror}); perhaps it is open already. Type "
                f"`python -m stages.app --port {port + 1 if port < 65535 else 7860}` to serve it at another port."
            ) from None


@entry_point
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.app", description="A page that classifies photos.")
    parser.add_argument("--port", type=int, default=7860, help="default: %(default)s")
    port = parser.parse_args().port
    refuse_a_port_in_use(port)
    selection = read_json(SELECTION)
    if not (MODELS / f"{selection['run']}.keras").exists():
        raise InputError("there is no trained model yet. Type `make run`, which trains the models.")
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    try:
        import gradio as gr
    except ImportError:
        raise InputError("Gradio is not installed. Type `make app`, which installs it.") from None
    start_keras(read("threads", Threads))
    runs = [run for of_model in selection["runs"].values() for run in of_model]
    load(selection["run"])
    blocks = page(runs, selection)
    print(f"The page: http://127.0.0.1:{port} (Ctrl-C stops it)", flush=True)
    blocks.queue(default_concurrency_limit=1, max_size=None).launch(
        server_name="127.0.0.1", server_port=port, share=False, quiet=True, max_file_size=f"{MOST_MEGABYTES}mb",
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=STYLE, footer_links=["api"],
        allowed_paths=[str(EXAMPLES_FOLDER)], ssr_mode=False, show_error=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
