"""Every kind of picture file is read by the stated rule, and one that cannot be read is named."""

import numpy as np
import pytest
from PIL import Image

from ornstein.domains.images.pictures import array_from_picture, fit, open_picture, picture_size, to_pil


@pytest.fixture
def colour() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def luma(rgb):
    return np.rint(rgb.astype(np.float64) @ [0.299, 0.587, 0.114])[..., None]


def test_rgb_is_kept_and_grey_is_its_luma(tmp_path, colour):
    Image.fromarray(colour).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png"), colour)
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png", channels=1), luma(colour))


def test_grey_is_repeated(tmp_path, colour):
    Image.fromarray(colour[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png"), np.repeat(colour[..., :1], 3, axis=2))


def test_transparency_lies_on_white(tmp_path, colour):
    alpha = np.array([0, 1, 128, 255], dtype=np.uint8)[None].repeat(6, 0)
    Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / "a.png")
    share = alpha[..., None] / 255
    expected = np.rint(share * colour + (1 - share) * 255)
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png", channels=1), luma(expected))


def test_a_grey_picture_with_transparency(tmp_path):
    Image.fromarray(np.array([[[10, 0], [10, 255]]], dtype=np.uint8), "LA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png", channels=1)[0, :, 0], [255, 10])


@pytest.mark.parametrize("transparent", [None, 1])
def test_a_palette_becomes_its_colours(tmp_path, transparent):
    picture = Image.fromarray(np.array([[0, 1], [2, 0]], dtype=np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png", **({} if transparent is None else {"transparency": transparent}))
    second = [0, 255, 0] if transparent is None else [255, 255, 255]
    expected = [[[255, 0, 0], second], [[0, 0, 255], [255, 0, 0]]]
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png"), expected)


def test_cmyk_is_subtractive(tmp_path):
    ink = np.array([[[255, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], dtype=np.uint8)
    Image.fromarray(ink, "CMYK").save(tmp_path / "a.tif")
    np.testing.assert_array_equal(open_picture(tmp_path / "a.tif"), [[[0, 255, 255], [0, 0, 0], [255, 255, 255]]])


def test_sixteen_bits_are_kept(tmp_path):
    values = np.array([[0, 1, 256, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    got = open_picture(tmp_path / "a.png", channels=1)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[..., 0], values / 65535, rtol=1e-6)


def test_bilevel_and_floating_point(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png", 1)[0, :, 0], [255, 0])
    Image.fromarray(np.array([[0.25, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(open_picture(tmp_path / "a.tif", 1)[0, :, 0], np.float32([0.25, 1.0]))


def test_a_turned_photograph_is_put_upright(tmp_path, colour):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(colour).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png"), np.rot90(colour, -1))
    assert picture_size(tmp_path / "a.png") == (4, 6)


@pytest.mark.parametrize("values", [[[0.5, 1.5]], [[float("nan"), 0]]])
def test_pixels_without_a_stated_range_are_refused(tmp_path, values):
    Image.fromarray(np.array(values, dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif: floating-point pixels from .* where 0 to 1 is expected"):
        open_picture(tmp_path / "a.tif")


def test_files_that_are_no_pictures_are_named(tmp_path, colour):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    Image.fromarray(colour.repeat(50, 0).repeat(50, 1)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    for name, message in [("empty", "empty"), ("text", "no picture"), ("cut", "corrupt")]:
        with pytest.raises(ValueError, match=rf"{name}\.png: .*{message}.*remove it$"):
            open_picture(tmp_path / f"{name}.png")
    with pytest.raises(FileNotFoundError, match="no such picture"):
        open_picture(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="channels=2"):
        array_from_picture(Image.fromarray(colour), channels=2)


def test_crop_takes_the_middle_and_squash_takes_all():
    striped = np.zeros((4, 12, 1), dtype=np.uint8)
    striped[:, 4:8] = 200
    assert fit(striped, (4, 4), "crop").tolist() == np.full((4, 4, 1), 200).tolist()
    squashed = fit(striped, (4, 4), "squash")
    assert squashed.shape == (4, 4, 1)
    assert squashed[0, 0, 0] < 20
    assert fit(striped, (4, 12), "crop") is striped


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_scaling_keeps_dtype_range_and_mean(dtype):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    image = image if dtype == np.uint8 else (image / 255).astype(np.float32)
    small = fit(image, (10, 10), "squash")
    assert small.dtype == dtype
    assert small.mean() == pytest.approx(image.mean(), rel=0.01)
    assert fit(np.kron(image[:8, :8], np.ones((5, 5, 1), dtype=dtype)), (7, 7), "crop").max() <= image.max()
    with pytest.raises(ValueError, match="expected 'crop' or 'squash'"):
        fit(image, (5, 5), "stretch")


def test_to_pil_inverts_reading(colour):
    np.testing.assert_array_equal(np.asarray(to_pil(colour / 255)), colour)
    assert to_pil(colour[..., :1]).mode == "L"
    with pytest.raises(ValueError, match="must have shape"):
        to_pil(colour[..., :2])
