"""Picture files and PIL pictures as arrays, converted explicitly.

Everything becomes an array ``(height, width, channels)``: ``uint8`` for 8-bit pictures, ``float32`` in [0, 1] for
16-bit and floating-point ones (16-bit values are divided by 65535). The rules, all of them:

| a picture with | becomes |
| --- | --- |
| a palette | its colours |
| transparency | the picture on white: ``a c + (1 - a) 255``, rounded |
| CMYK, YCbCr, LAB, HSV | RGB, as Pillow converts it |
| 16-bit grey | float32 grey; of 16-bit colour Pillow reads the upper eight bits |
| one channel where three are asked | the grey value three times |
| three channels where one is asked | luma ``0.299 R + 0.587 G + 0.114 B`` (ITU-R 601-2) |
| an EXIF orientation | the picture turned upright |
| several frames | the first frame |

Sizes are never changed unless ``size`` and ``resize`` are given: ``"crop"`` scales the shorter side and cuts out the
middle, ``"squash"`` scales both sides and gives up the aspect ratio. Scaling is bicubic with antialiasing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ornstein.core.optional import need

__all__ = ["Resize", "array_from_picture", "fit", "image_size", "is_picture", "open_picture", "picture_size", "to_pil"]

Resize = Literal["crop", "squash"]

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
ORIENTATION = 0x0112  # the EXIF tag


def image_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """``(height, width)`` from a side or a pair.

    Raises:
        ValueError: not one or two positive whole numbers.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(f"size={size!r}: expected a positive side in pixels, or a pair (height, width)")
    return pair


def open_picture(path: str | Path, channels: int = 3) -> np.ndarray:
    """Read a picture file as ``(height, width, channels)``.

    Args:
        path: the file, in any format that Pillow reads.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an empty or corrupt file, or pixels that have no stated meaning.
    """
    with _opened(path) as picture:
        picture.load()
        upright = need("PIL.ImageOps", to="read pictures", extra="images").exif_transpose(picture)
    try:
        return array_from_picture(upright, channels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def picture_size(path: str | Path) -> tuple[int, int]:
    """Upright ``(height, width)`` of a picture file from its header alone; errors as `open_picture`."""
    with _opened(path) as picture:
        width, height = picture.size
        # PNG may keep its EXIF data behind the pixels; asking for them there would decode the whole file.
        header = picture.format != "PNG" or "exif" in picture.info
        turned = header and picture.getexif().get(ORIENTATION, 1) >= 5  # 5 to 8 swap the sides
    return (width, height) if turned else (height, width)


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """A picture file open for reading; whatever Pillow raises becomes one line that names the file."""
    image = need("PIL.Image", to="read pictures", extra="images")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such picture file")
    if Path(path).stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; replace or remove it")
    try:
        with image.open(path) as picture:
            yield picture
    except image.UnidentifiedImageError as error:
        raise ValueError(f"{path}: the file is no picture that Pillow can read; replace or remove it") from error
    except (OSError, SyntaxError, ValueError, EOFError, image.DecompressionBombError) as error:
        raise ValueError(f"{path}: the picture is corrupt ({error}); replace or remove it") from error


def is_picture(item: Any) -> bool:
    """Whether ``item`` is a PIL picture (without importing PIL)."""
    return any(base.__module__.startswith("PIL.") and base.__name__ == "Image" for base in type(item).__mro__)


def array_from_picture(picture: Any, channels: int = 3) -> np.ndarray:
    """A PIL picture as ``(height, width, channels)`` by the rules above, ``uint8`` or ``float32`` in [0, 1].

    Raises:
        ValueError: ``channels`` other than 1 and 3, or pixels that have no stated meaning.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels={channels}: pictures can be read as 1 (grey) or 3 (RGB) channels")
    mode = picture.mode
    if mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.float32) / 65535
    elif mode == "I":
        values = _checked(np.asarray(picture), 65535, "32-bit integers") / np.float32(65535)
    elif mode == "F":
        values = _checked(np.asarray(picture), 1, "floating-point pixels")
    else:
        return _eight_bit(picture, channels)
    return np.repeat(values[..., None], channels, axis=2)


def _checked(values: np.ndarray, top: int, what: str) -> np.ndarray:
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= top):  # also refuses NaN
        raise ValueError(
            f"{what} from {low} to {high} where 0 to {top} is expected; save it with 8 or 16 bits a channel"
        )
    return values.astype(np.float32)


def _eight_bit(picture: Any, channels: int) -> np.ndarray:
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        pixels = np.asarray(picture.convert("RGBA")).astype(np.uint32)
        colour, alpha = pixels[..., :3], pixels[..., 3:]
        on_white = (colour * alpha + 255 * (255 - alpha) + 127) // 255
        return _grey(on_white.astype(np.uint8)) if channels == 1 else on_white.astype(np.uint8)
    if picture.mode in ("1", "L"):
        grey = np.asarray(picture.convert("L"))[..., None]
        return np.repeat(grey, channels, axis=2)
    colour = np.asarray(picture.convert("RGB"))
    return _grey(colour) if channels == 1 else colour


def _grey(colour: np.ndarray) -> np.ndarray:
    luma = colour.astype(np.float32) @ LUMA
    return (np.rint(luma).astype(np.uint8) if colour.dtype == np.uint8 else luma)[..., None]


def fit(array: np.ndarray, size: tuple[int, int], resize: Resize) -> np.ndarray:
    """Scale ``(h, w, c)`` to ``(height, width, c)`` in its own dtype, by cropping the middle or by squashing."""
    image = need("PIL.Image", to="resize pictures", extra="images")
    height, width = size
    if array.shape[:2] == (height, width):
        return array
    box = (0.0, 0.0, float(array.shape[1]), float(array.shape[0]))
    if resize == "crop":
        scale = min(array.shape[0] / height, array.shape[1] / width)
        left, top = (array.shape[1] - width * scale) / 2, (array.shape[0] - height * scale) / 2
        box = (left, top, left + width * scale, top + height * scale)
    elif resize != "squash":
        raise ValueError(f"resize={resize!r}: expected 'crop' or 'squash'")
    channels = [
        np.asarray(image.fromarray(np.ascontiguousarray(c)).resize((width, height), image.Resampling.BICUBIC, box=box))
        for c in np.moveaxis(array, 2, 0)
    ]
    scaled = np.stack(channels, axis=2)
    # Bicubic weights overshoot at edges; 8-bit pictures are rounded into range by Pillow, floats are not.
    return scaled if array.dtype == np.uint8 else scaled.clip(0, 1)


def to_pil(image: np.ndarray) -> Any:
    """An array ``(height, width, channels)`` in [0, 1] (or ``uint8``) as a PIL picture, rounded to 8 bits.

    Raises:
        ValueError: another shape than ``(h, w, 1)`` or ``(h, w, 3)``.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"a picture must have shape (height, width, 1) or (height, width, 3), got {image.shape}")
    pixels = image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return need("PIL.Image", to="make pictures", extra="images").fromarray(
        pixels[..., 0] if image.shape[2] == 1 else pixels
    )
