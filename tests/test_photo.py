"""A photo becomes an input as Zalando made the data, from any kind of file; what is no photo is refused in a sentence."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from stages.base.errors import InputError
from stages.data.image_file import read_photo
from stages.inference import photo
from stages.inference.photo import SIZE, convert

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
OUTLINE = [(-100, -90), (-40, -120), (40, -120), (100, -90), (80, -40), (60, -50), (60, 119), (-60, 119), (-60, -50)]


def shirt(
    background: tuple[int, ...] = WHITE, cloth: tuple[int, ...] = (40, 60, 150), size: tuple[int, int] = (300, 400)
) -> Image.Image:
    """A drawn shirt that is 200 pixels wide and 240 high, in the middle."""
    image = Image.new("RGB", size, background)
    x, y = size[0] // 2, size[1] // 2
    draw = ImageDraw.Draw(image)
    draw.polygon([(x + across, y + down) for across, down in [*OUTLINE, (-80, -40)]], fill=cloth)
    draw.rectangle([x - 20, y - 60, x + 30, y - 20], fill=tuple(level // 2 for level in cloth))  # a pocket, to one side
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def pixels(image: Image.Image | bytes, background: str = "auto") -> np.ndarray:
    content = image if isinstance(image, bytes) else encoded(image)
    return convert(read_photo(content), background).pixels


EXPECTED = pixels(shirt())


def near(found: np.ndarray, expected: np.ndarray = EXPECTED, mean: float = 3) -> bool:
    """Whether two images differ by less than `mean` grey levels of 255 on average."""
    return np.abs(found.astype(float) - expected).mean() < mean


def alike(found: np.ndarray, expected: np.ndarray = EXPECTED) -> bool:
    """Whether two images show the same, but for half a pixel at the edges."""
    return np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.93


# --- The steps ---


def test_the_clothing_fills_the_longer_edge_and_stands_in_the_middle_of_black():
    steps = convert(np.asarray(shirt())).steps
    assert list(steps) == ["photo", "trimmed", "scaled", "sharpened", "centered", "grey and negated"]
    assert steps["trimmed"].shape == (240, 201, 3)
    image = steps["grey and negated"]
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (image.dtype, image.shape) == (np.uint8, (SIZE, SIZE))
    assert (rows[0], rows[-1]) == (0, SIZE - 1)
    assert abs(columns[0] - (SIZE - 1 - columns[-1])) <= 1
    assert np.ptp(columns) + 1 == pytest.approx(SIZE * 200 / 240, abs=1)  # in proportion
    assert image[:, 0].max() == 0
    assert np.median(image[image > 0]) == pytest.approx(255 - np.array((40, 60, 150)) @ photo.GREY, abs=2)


@pytest.mark.parametrize(
    ("size", "background"), [((210, 250), WHITE), ((550, 300), (200, 200, 200)), ((1500, 1400), (255, 220, 220))]
)
def test_the_margin_and_a_light_color_of_the_background_do_not_matter(size, background):
    content = encoded(shirt(background, size=size))
    assert max(read_photo(content).shape) < 560
    found = pixels(content)
    assert found[:, 0].max() == 0
    assert alike(found)


def test_clothing_that_touches_the_border_does_not_change_the_background():
    cut = shirt((230, 240, 255)).crop((60, 40, 300, 360))
    found = photo.find_background(np.asarray(cut))
    assert (found.color.tolist(), found.is_light) == ([230, 240, 255], True)
    assert 0.3 < found.share < 1
    assert (pixels(cut) == 0).any()


def test_clothing_on_dark_is_not_negated():
    assert near(pixels(shirt((20, 30, 20), cloth=(215, 195, 105))), mean=12)
    assert near(pixels(Image.fromarray(255 - np.asarray(shirt()))), mean=1)


def test_the_background_can_be_named():
    two_tone = shirt((128, 128, 128), cloth=(240, 240, 240))  # the pocket is darker than the background
    light, dark = (pixels(two_tone, background) for background in ("light", "dark"))
    assert dark.mean() > 3 * light.mean() > 0
    np.testing.assert_array_equal(pixels(two_tone), dark)


def test_scaling_averages_areas():
    stripes = np.tile(np.array([0, 200] * 140, np.uint8)[None, :, None], (280, 1, 3))
    assert set(photo.scale(stripes, photo.SIZE).ravel()) == {100}


@pytest.mark.parametrize(("width", "height"), [(1, 300), (3, 5), (2000, 40)])
def test_photos_of_any_proportion_are_taken(width, height):
    image = Image.new("RGB", (width + 2, height + 2), WHITE)
    image.paste((90, 20, 20), (1, 1, 1 + width, 1 + height))
    found = pixels(image)
    assert found.shape == (SIZE, SIZE, 1)
    assert found.max() > 40


def test_sharpening_keeps_what_is_even_and_raises_edges():
    edge = np.repeat(np.array([80] * 5 + [160] * 5, np.uint8), 30).reshape(10, 10, 3)
    assert photo.sharpen(edge)[:, 0, 0].tolist() == [80, 80, 80, 80, 62, 178, 160, 160, 160, 160]


def test_an_image_of_the_data_stays_as_it_is(images):
    for image in images[0][:20]:
        for shown in (image, 255 - image):
            converted = convert(read_photo(encoded(Image.fromarray(shown))))
            np.testing.assert_array_equal(converted.pixels[..., 0], image)
            assert not converted.warnings


def test_dust_and_noise_do_not_change_the_trimming():
    dusty = shirt(size=(500, 500))
    for left, side in ((5, 2), (450, 8)):
        ImageDraw.Draw(dusty).rectangle([left, 5, left + side - 1, 4 + side], fill=BLACK)
    assert near(pixels(dusty), mean=1)
    grain = np.random.default_rng(0).normal(0, 6, (500, 500, 3))
    assert near(pixels(Image.fromarray(np.clip(shirt(size=(500, 500)) + grain, 0, 255).astype(np.uint8))), mean=8)


def test_a_pair_is_trimmed_as_a_whole():
    pair = np.full((200, 300, 3), 255, np.uint8)
    pair[60:160, 40:80] = pair[60:160, 220:260] = 0
    columns = np.flatnonzero(convert(pair).pixels[..., 0].any(axis=0))
    assert (columns[0], columns[-1]) == (0, SIZE - 1)


@pytest.mark.parametrize("darkest", [0.55, 0.8])
def test_light_from_one_side_is_evened(darkest):
    even = np.asarray(shirt((230, 230, 230), (180, 40, 40)))
    light = np.linspace(darkest, 1.05, even.shape[0])[:, None, None]
    converted = convert(np.clip(even * light, 0, 255).astype(np.uint8))
    assert converted.warnings == []
    assert near(converted.pixels, convert(even).pixels, mean=10)


def test_a_background_that_is_not_plain_is_warned_of():
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    wild = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1))
    wild.paste(shirt().crop((100, 100, 200, 300)), (100, 100))
    (warning,) = convert(np.asarray(wild)).warnings
    assert "background is not plain" in warning
    assert not convert(np.asarray(shirt())).warnings


# --- The files ---

FORMATS = {
    "PNG": lambda image: encoded(image),
    "PNG, 1 bit": lambda image: encoded(image.convert("L").point(lambda level: 255 * (level > 150)).convert("1")),
    "PNG, palette": lambda image: encoded(image.quantize(64)),
    "PNG, grey and alpha": lambda image: encoded(image.convert("LA")),
    "PNG, 16 bits": lambda image: encoded(Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)),
    "PNG, 12 of 16 bits": lambda image: encoded(Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 16)),
    "JPEG": lambda image: encoded(image, "JPEG", quality=90),
    "JPEG, grey": lambda image: encoded(image.convert("L"), "JPEG", quality=90),
    "JPEG, CMYK": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95),
    "JPEG, several": lambda image: encoded(image, "MPO", save_all=True, append_images=[image.rotate(90)]),
    "WebP": lambda image: encoded(image, "WEBP", quality=90),
    "GIF, animated": lambda image: encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
    "BMP": lambda image: encoded(image, "BMP"),
    "TIFF, LZW": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "TIFF, CMYK": lambda image: encoded(image.convert("CMYK"), "TIFF"),
    "TIFF, fractions": lambda image: encoded(Image.fromarray(np.asarray(image.convert("L"), np.float32) / 255), "TIFF"),
    "AVIF": lambda image: encoded(image, "AVIF", quality=90),
    "PPM": lambda image: encoded(image, "PPM"),
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_input(write):
    found = pixels(write(shirt()))
    assert alike(found)
    assert found.max() > 200  # white is white


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_photo_from_a_phone_is_turned_upright(kind):
    exif = Image.Exif()
    for orientation, stored in ((1, None), (3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)):
        exif[0x0112] = orientation
        image = shirt() if stored is None else shirt().transpose(stored)
        assert near(pixels(encoded(image, kind, exif=exif, quality=95)))


@pytest.mark.parametrize(("cloth", "on"), [((40, 60, 150), WHITE), ((255, 255, 255), BLACK)])
def test_what_is_transparent_becomes_white_or_black_where_the_clothing_would_vanish(cloth, on):
    image = shirt(on, cloth)
    opaque = (np.asarray(image) != np.array(on)).any(axis=2)
    content = encoded(Image.fromarray(np.dstack([np.asarray(image), np.where(opaque, 255, 0).astype(np.uint8)])))
    assert tuple(read_photo(content)[0, 0]) == on
    assert near(pixels(content), pixels(image))


# --- What is refused ---

REFUSED = {
    "empty": (b"", r"empty \(0 bytes\)"),
    "text": (b"a shirt, in words", "not an image: PNG, JPEG"),
    **{
        brand: (b"\0\0\0\x18ftyp" + brand.encode() + b"\0\0\0\0mif1", "HEIC.*export it as JPEG")
        for brand in ("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1")
    },
    "one color": (encoded(Image.new("RGB", (50, 50), (7, 8, 9))), r"one color \(7, 8, 9 in RGB\)"),
    "nothing visible": (encoded(Image.new("RGBA", (50, 50), (7, 8, 9, 0))), "one color"),
    "truncated JPEG": (encoded(shirt(), "JPEG")[:900], "truncated or damaged"),
    "truncated PNG": (encoded(shirt())[:500], "truncated or damaged"),
}


@pytest.mark.parametrize(("content", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_photo_is_refused(content, sentence):
    with pytest.raises(InputError, match=sentence):
        pixels(content)


@pytest.mark.parametrize("most", [10_000, 100_000])
def test_an_image_of_more_pixels_than_pillow_allows_is_refused(most, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)  # Pillow warns above it, and raises an error above its double
    with pytest.raises(InputError, match=rf"it has more than {most:,} pixels: scale it down"):
        read_photo(encoded(shirt()))


@pytest.mark.parametrize("path", [".", Path("no/such/file.png")])
def test_a_path_that_cannot_be_read_is_refused(path):
    with pytest.raises(InputError, match="cannot be read: "):
        read_photo(path)


def test_what_is_no_array_of_a_photo_is_refused():
    with pytest.raises(InputError, match=r"uint8 \(H, W, 3\), as from read_photo, but is uint8 \(40, 40\)"):
        convert(np.zeros((40, 40), np.uint8))
    with pytest.raises(InputError, match="background is 'white', but must be one of auto, light, dark"):
        convert(np.asarray(shirt()), "white")
