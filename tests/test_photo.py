"""A photo becomes an input as Zalando made the data, from any kind of file; what is no photo is refused in a sentence."""

import io
import os
import random
import re
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from stages.common.errors import InputError
from stages.inference import image_file, photo
from stages.inference.image_file import read_photo
from stages.inference.photo import SIZE, convert
from tests.conftest import ROOT, run

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def shirt(
    background: tuple[int, ...] = WHITE, cloth: tuple[int, ...] = (40, 60, 150), size: tuple[int, int] = (300, 400)
) -> Image.Image:
    """A drawn shirt that is 200 pixels wide and 240 high, in the middle."""
    image = Image.new("RGB", size, background)
    x, y = size[0] // 2, size[1] // 2
    draw = ImageDraw.Draw(image)
    outline = [
        (-100, -90),
        (-40, -120),
        (40, -120),
        (100, -90),
        (80, -40),
        (60, -50),
        (60, 119),
        (-60, 119),
        (-60, -50),
    ]
    draw.polygon([(x + across, y + down) for across, down in [*outline, (-80, -40)]], fill=cloth)
    draw.rectangle([x - 20, y - 60, x + 30, y - 20], fill=tuple(level // 2 for level in cloth))  # a pocket, to one side
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def pixels(content: bytes, background: str = "auto") -> np.ndarray:
    return convert(read_photo(content), background).pixels


EXPECTED = pixels(encoded(shirt()))


def near(found: np.ndarray, expected: np.ndarray = EXPECTED, mean: float = 3) -> bool:
    """Whether two images differ by less than `mean` grey levels of 255 on average."""
    return np.abs(found.astype(float) - expected).mean() < mean


def alike(found: np.ndarray, expected: np.ndarray = EXPECTED) -> bool:
    """Whether two images show the same, but for half a pixel at the edges."""
    return np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.93


# --- The steps ---


def test_the_clothing_fills_the_longer_edge_and_stands_in_the_middle_of_black():
    image = EXPECTED[..., 0]
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (image.dtype, image.shape) == (np.uint8, (SIZE, SIZE))
    assert (rows[0], rows[-1]) == (0, SIZE - 1)
    assert abs(columns[0] - (SIZE - 1 - columns[-1])) <= 1
    assert np.ptp(columns) + 1 == pytest.approx(SIZE * 200 / 240, abs=1)  # in proportion
    assert image[:, 0].max() == 0
    assert np.median(image[image > 0]) == pytest.approx(255 - np.array((40, 60, 150)) @ photo.GREY, abs=2)


@pytest.mark.parametrize("size", [(210, 250), (300, 550), (550, 300), (1500, 1400)])
def test_the_margin_does_not_matter(size):
    assert alike(pixels(encoded(shirt(size=size))))


@pytest.mark.parametrize("background", [(250, 250, 250), (230, 240, 255), (200, 200, 200), (255, 220, 220)])
def test_a_background_of_any_light_color_becomes_black(background):
    found = pixels(encoded(shirt(background)))
    assert found[:, 0].max() == 0
    assert near(found > 0, EXPECTED > 0, mean=0.05)


@pytest.mark.parametrize("box", [(40, 60, 260, 300), (60, 40, 300, 360), (0, 0, 300, 250)])
def test_clothing_that_touches_the_border_does_not_change_the_background(box):
    cut = shirt((230, 240, 255)).crop(box)
    found = photo.find_background(np.asarray(cut))
    assert found.color.tolist() == [230, 240, 255]
    assert found.is_light
    assert 0.3 < found.share < 1
    assert (pixels(encoded(cut)) == 0).any()


@pytest.mark.parametrize("background", [BLACK, (20, 30, 20)])
def test_clothing_on_dark_is_not_negated(background):
    assert near(pixels(encoded(shirt(background, cloth=(215, 195, 105)))), mean=12)


def test_the_negative_of_a_photo_is_the_same_input():
    negative = Image.fromarray(255 - np.asarray(shirt()))
    assert near(pixels(encoded(negative)), mean=1)


def test_the_background_can_be_named():
    two_tone = shirt((128, 128, 128), cloth=(240, 240, 240))  # the pocket is darker than the background
    light, dark = (pixels(encoded(two_tone), background) for background in ("light", "dark"))
    assert dark.mean() > 3 * light.mean() > 0
    np.testing.assert_array_equal(pixels(encoded(two_tone)), dark)


def test_scaling_averages_areas():
    checks = np.kron(np.indices((28, 28)).sum(axis=0) % 2 * 255, np.ones((9, 9)))
    rows = np.stack([checks] * 3, axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(photo.scale(rows), rows[::9, ::9])
    stripes = np.tile(np.array([0, 200] * 140, np.uint8)[None, :, None], (280, 1, 3))
    assert set(photo.scale(stripes).ravel()) == {100}


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (3, 5), (27, 28), (2000, 40)])
def test_photos_of_any_proportion_are_taken(size):
    image = Image.new("RGB", (size[0] + 2, size[1] + 2), WHITE)
    image.paste((90, 20, 20), (1, 1, 1 + size[0], 1 + size[1]))
    found = pixels(encoded(image))
    assert found.shape == (SIZE, SIZE, 1)
    assert found.max() > 40


def test_sharpening_keeps_what_is_even_and_raises_edges():
    even = np.full((9, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(photo.sharpen(even), even)
    edge = np.repeat(np.array([80] * 5 + [160] * 5, np.uint8), 30).reshape(10, 10, 3)
    sharp = photo.sharpen(edge)[..., 0].astype(int)
    assert sharp[4].min() < 80 < 160 < sharp[5].max()
    assert photo.SHARPEN.sum() == pytest.approx(1)


def test_an_image_of_the_data_stays_as_it_is(drawn_images):
    for image in drawn_images[0][:50]:
        for shown in (image, 255 - image):
            converted = convert(read_photo(encoded(Image.fromarray(shown))))
            np.testing.assert_array_equal(converted.pixels[..., 0], image)
            assert not converted.warnings


def test_every_step_is_kept_for_the_eye():
    steps = convert(read_photo(encoded(shirt()))).steps
    assert list(steps) == ["photo", "trimmed", "scaled", "sharpened", "centered", "grey and negated"]
    assert steps["trimmed"].shape == (240, 201, 3)
    assert max(steps["scaled"].shape) == SIZE
    np.testing.assert_array_equal(steps["grey and negated"], EXPECTED[..., 0])


@pytest.mark.fault("A speck of dust, or noise, in a corner shrinks the clothing.", "It is left out of the trimming.")
@pytest.mark.parametrize("side", [2, 8])
def test_dust_and_noise_do_not_change_the_trimming(side):
    dusty = shirt(size=(500, 500))
    ImageDraw.Draw(dusty).rectangle([5, 5, 4 + side, 4 + side], fill=BLACK)
    assert near(pixels(encoded(dusty)), mean=1)
    grain = np.random.default_rng(0).normal(0, 6, (500, 500, 3))
    noisy = Image.fromarray(np.clip(np.asarray(shirt(size=(500, 500))) + grain, 0, 255).astype(np.uint8))
    assert near(pixels(encoded(noisy)), mean=8)


def test_a_pair_is_trimmed_as_a_whole():
    pair = Image.new("RGB", (300, 200), WHITE)
    for left in (40, 220):
        ImageDraw.Draw(pair).rectangle([left, 60, left + 40, 160], fill=BLACK)
    rows = np.flatnonzero(pixels(encoded(pair))[..., 0].any(axis=0))
    assert (rows[0], rows[-1]) == (0, SIZE - 1)


@pytest.mark.fault("Light from one side makes a T-shirt a bag.", "The light is evened by the background.")
@pytest.mark.parametrize("darkest", [0.55, 0.65, 0.8])
@pytest.mark.parametrize("axis", [0, 1])
def test_light_from_one_side_is_evened(darkest, axis):
    even = np.asarray(shirt((230, 230, 230), (180, 40, 40)))
    light = np.moveaxis(
        np.linspace(darkest, 1.05, even.shape[axis])[:, None, None] * np.ones((1, even.shape[1 - axis], 1)), 0, axis
    )
    converted = convert(np.clip(even * light, 0, 255).astype(np.uint8))
    assert converted.warnings == []
    assert near(converted.pixels, convert(even).pixels, mean=10)


def test_a_background_that_is_not_plain_is_warned_of():
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    wild = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1))
    wild.paste(shirt().crop((100, 100, 200, 300)), (100, 100))
    (warning,) = convert(read_photo(encoded(wild))).warnings
    assert re.search(r"background is not plain: only \d+ % of its border", warning)
    assert not convert(read_photo(encoded(shirt()))).warnings


# --- The files ---

FORMATS = {
    "PNG": lambda image: encoded(image),
    "PNG, palette": lambda image: encoded(image.quantize(64)),
    "PNG, grey and alpha": lambda image: encoded(image.convert("LA")),
    "PNG, 16 bits": lambda image: encoded(Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)),
    "PNG, 32 bits": lambda image: encoded(Image.fromarray(np.asarray(image.convert("L"), np.int32)), "TIFF"),
    "JPEG": lambda image: encoded(image, "JPEG", quality=90),
    "JPEG, progressive": lambda image: encoded(image, "JPEG", quality=90, progressive=True),
    "JPEG, grey": lambda image: encoded(image.convert("L"), "JPEG", quality=90),
    "JPEG, CMYK": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95),
    "JPEG, several": lambda image: encoded(image, "MPO", save_all=True, append_images=[image.rotate(90)]),
    "WebP": lambda image: encoded(image, "WEBP", quality=90),
    "WebP, animated": lambda image: encoded(
        image, "WEBP", save_all=True, append_images=[image.rotate(90)], lossless=True
    ),
    "GIF": lambda image: encoded(image, "GIF"),
    "GIF, animated": lambda image: encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
    "BMP": lambda image: encoded(image, "BMP"),
    "TIFF": lambda image: encoded(image, "TIFF"),
    "TIFF, LZW": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "TIFF, CMYK": lambda image: encoded(image.convert("CMYK"), "TIFF"),
    "TIFF, fractions": lambda image: encoded(Image.fromarray(np.asarray(image.convert("L"), np.float32) / 255), "TIFF"),
    "AVIF": lambda image: encoded(image, "AVIF", quality=90),
    "PPM": lambda image: encoded(image, "PPM"),
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_input(write):
    assert alike(pixels(write(shirt())))


def test_black_and_white_is_taken():
    assert near(pixels(encoded(shirt(cloth=BLACK).convert("1"))), pixels(encoded(shirt(cloth=BLACK))), mean=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_from_a_phone_is_turned_upright(orientation):
    stored = image_file.ROTATIONS.get(orientation)
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(orientation, stored)
    image = shirt().transpose(back) if back is not None else shirt()
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert near(pixels(encoded(image, "JPEG", quality=95, exif=exif)))


@pytest.mark.parametrize(("cloth", "on"), [((40, 60, 150), WHITE), ((255, 255, 255), BLACK)])
def test_what_is_transparent_becomes_white_or_black_where_the_clothing_would_vanish(cloth, on):
    image = shirt(on, cloth)
    opaque = np.asarray(image) != np.array(on)
    seen = np.dstack([np.asarray(image), np.where(opaque.any(axis=2), 255, 0).astype(np.uint8)])
    content = encoded(Image.fromarray(seen))
    assert tuple(read_photo(content)[0, 0]) == on
    assert near(pixels(content), pixels(encoded(image)))


# --- What is refused ---


def bomb(width: int, height: int) -> bytes:
    """A PNG of 100 bytes that says that it is large."""
    content = bytearray(encoded(Image.new("L", (1, 1))))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


REFUSED = {
    "empty": (b"", r"empty \(0 bytes\)"),
    "text": (b"a shirt, in words", "not an image: PNG, JPEG"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "export it as PNG"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC.*export it as JPEG"),
    "one color": (encoded(Image.new("RGB", (50, 50), (7, 8, 9))), r"one color \(7, 8, 9 in RGB\)"),
    "one color, 28x28": (encoded(Image.new("L", (28, 28), 255)), "one color"),
    "nothing visible": (encoded(Image.new("RGBA", (50, 50), (7, 8, 9, 0))), "one color"),
    "truncated JPEG": (encoded(shirt(), "JPEG")[:900], "truncated or damaged"),
    "truncated PNG": (encoded(shirt())[:500], "truncated or damaged"),
    "header alone": (encoded(shirt())[:30], "truncated or damaged|not an image"),
    "a bomb": (bomb(60000, 60000), "more than 51 million pixels"),
    "a large WebP": (
        encoded(Image.new("L", (6000, 4000)), "WEBP", method=0),
        "6,000 x 4,000 pixels, but may have 20 million",
    ),
    "a smaller bomb": (bomb(9000, 9000), "9,000 x 9,000 pixels, but may have 51 million"),
    "a larger bomb": (bomb(2**31 - 1, 2**31 - 1), "more than 51 million|damaged"),
}


@pytest.mark.fault("A file that is no photo ends the program.", "A sentence says what it is, and what to do.")
@pytest.mark.parametrize(("content", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_photo_is_refused(content, sentence):
    with pytest.raises(InputError, match=sentence):
        pixels(content)


@pytest.mark.fault(
    "A BMP or PPM of a kind that Pillow decodes in Python takes minutes.", "It is refused where it would take long."
)
@pytest.mark.parametrize(
    "content",
    [
        b"P6 2000 2000 100\n" + bytes(12_000_000),
        b"P3 2000 2000 255\n" + b"12 " * 12_000_000,
        b"P3 200 200 255\n" + b"#\n" * 3_000_000,
        b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 10**6, 0, 0, 1078, 40, 7000, 7000, 1, 8, 1, 10**6, 0, 0, 256, 0)
        + bytes(10**6),
        bytes.fromhex(
            "424d361900000000000036000000280000000c0c0c003200000001001800010000000000000000000000190000c40e0000c40e000000"
        ),
    ],
    ids=["PPM of 100 levels", "PPM of text", "PPM of comments", "BMP", "BMP, found by tests/fuzz.py"],
)
def test_what_is_decoded_slowly_may_not_be_large(content):
    started = time.monotonic()
    with pytest.raises(
        InputError, match=r"pixels in [0-9,]+ bytes, but a BMP .* may have 1 million in .*: export it as PNG"
    ):
        read_photo(content)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("content", [b"P2 2 1 9 # text\n0 9", b"P5 2 1 9\n\0\x09"])
def test_what_is_decoded_slowly_may_be_small(content):
    assert read_photo(content)[0, :, 0].tolist() == [0, 255]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGBA"), ("PNG", "I;16"), ("JPEG", "CMYK"), ("TIFF", "F"), ("WEBP", "RGB")]
)
def test_the_largest_photos_take_less_than_500_megabytes(kind, mode, tmp_path):
    """The peak of a process of its own, as Linux tells it."""
    code = f"""
from pathlib import Path
from stages.inference import convert, read_photo
convert(read_photo(Path({str(tmp_path / "large")!r})))
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""
    size = 4400 if kind == "WEBP" else 7000
    pixels = np.full((size, size), 240, np.float32 if mode == "F" else np.uint16 if mode == "I;16" else np.uint8)
    pixels[1000:3000, 1000:3000] = 30
    pixels *= 257 if mode == "I;16" else 1
    image = Image.fromarray(pixels) if mode in ("F", "I;16") else Image.fromarray(pixels).convert("RGB").convert(mode)
    image.save(tmp_path / "large", kind, **({"method": 0} if kind == "WEBP" else {}))
    assert int(run(ROOT, "python", "-c", code)) / 1024 < 500


@pytest.mark.fault(
    "A photo of 10 or 12 bits in a file of 16 is taken for one that is nearly black.", "Its white is white."
)
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_may_hold_fewer(bits, kind):
    grey = np.asarray(shirt().convert("L")).astype(np.uint16)
    assert near(pixels(encoded(Image.fromarray(grey << (bits - 8)), kind)), pixels(encoded(shirt().convert("L"))), 1)


@pytest.mark.parametrize(
    ("array", "background", "sentence"),
    [
        (
            np.zeros((40, 40), np.uint8),
            "auto",
            r"must be an array, uint8 \(H, W, 3\), as from read_photo, but is uint8 \(40, 40\)",
        ),
        (np.zeros((40, 40, 3)), "auto", r"but is float64 \(40, 40, 3\)"),
        (np.zeros((0, 40, 3), np.uint8), "auto", r"but is uint8 \(0, 40, 3\)"),
        ("shirt.jpg", "auto", "but is str"),
        (np.asarray(shirt()), "white", "background is 'white', but must be one of auto, light, dark"),
    ],
)
def test_what_is_no_array_of_a_photo_is_refused(array, background, sentence):
    with pytest.raises(InputError, match=sentence):
        convert(array, background)


def test_a_path_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a file with content, but a folder"):
        read_photo(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a file with content"):
        read_photo(str(tmp_path / "pipe"))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_photo(Path("no/such/file.png"))


def test_damaged_files_are_refused_or_taken_without_another_error_or_message(capfd):
    rng = random.Random(0)
    files = [write(shirt()) for write in FORMATS.values()]
    taken = longest = 0
    for _ in range(500):
        content = bytearray(rng.choice(files))
        if rng.random() < 0.3:
            content = content[: rng.randrange(len(content))]
        for _ in range(rng.randrange(1, 12)):
            place = rng.randrange(min(len(content), rng.choice([64, 10**9]))) if content else 0
            content[place : place + 1] = bytes([rng.randrange(256)])
        try:
            assert pixels(bytes(content)).shape == (SIZE, SIZE, 1)
            taken += 1
        except InputError as error:
            longest = max(longest, len(str(error)))
    assert longest < 300
    assert 50 < taken < 450
    assert capfd.readouterr() == ("", "")
