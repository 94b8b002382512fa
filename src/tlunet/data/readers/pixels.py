"""Read images and annotations as arrays.

Any content of a file gives either pixels or a one-line error.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tlunet.data import rle
from tlunet.data.source import MAX_CLASSES, Record
from tlunet.errors import DataError, reason_of

# Checked by content, not by suffix. Fewer than Pillow reads: for some formats it starts programs.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
_GREY, _COLOUR = ("L", "1", "LA"), ("RGB", "RGBA", "P")
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright

# Pillow warns above 89 million pixels and refuses twice as many; here the warning is an error.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def read_image(path: Path) -> np.ndarray:
    """Decode one image.

    Palettes are converted to colours, and an opaque alpha channel is dropped. Ambiguous images are
    rejected: more than 8 bits, print colours (CMYK), transparency, several images in one file, and
    an EXIF orientation (viewers rotate such an image, most annotation tools and libraries do not,
    so the orientation of its mask is unknown).

    Returns:
        uint8 (H, W) if all channels are equal, otherwise (H, W, 3).

    Raises:
        DataError: the file cannot be read as an image, or is rejected.
    """
    with _opened(path, "an image", FORMATS) as file:
        if file.mode not in (*_GREY, *_COLOUR):
            raise DataError(f"mode {file.mode}; {_EXPECTED}")
        if _is_deep(file):
            raise DataError(f"16 bits per channel; {_EXPECTED}")
        if (orientation := _orientation(file)) != 1:
            raise DataError(
                f"EXIF orientation {orientation}: viewers rotate it, other programs do not, so its "
                "mask may not match; save it upright, without this tag"
            )
        pixels = np.asarray(_opaque(file))
    if pixels.ndim == 3 and is_grey(pixels):
        return pixels[..., 0]
    return pixels


_EXPECTED = "expected 8 bits per channel, grey or RGB; convert it"


def read_size(path: Path) -> tuple[int, int]:
    """Read the (height, width) of an image from its header.

    Raises:
        DataError: the file cannot be read as an image.
    """
    with _opened(path, "an image", FORMATS) as file:
        return file.height, file.width


def is_grey(pixels: np.ndarray) -> bool:
    """Whether the channels of an (H, W, 3) image are equal everywhere."""
    first = pixels[..., 0]
    return bool((pixels[..., 1] == first).all() and (pixels[..., 2] == first).all())


def read_mask(record: Record, shape: tuple[int, int], classes: int) -> np.ndarray:
    """Decode one image's annotation into a bit field: bit m-1 of a pixel = class m is present.

    Args:
        record: the image.
        shape: (H, W) of the image.
        classes: M.

    Returns:
        uint32 (H, W).

    Raises:
        DataError: runs or mask do not fit the image or the classes; one line per problem, which
            starts with file and row.
    """
    bits, problems = np.zeros(shape, np.uint32), []
    for class_id, runs, where in record.runs:
        try:
            bits[rle.decode(runs, shape)] |= np.uint32(1 << (class_id - 1))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise DataError(*problems)
    if record.mask is not None:
        try:
            ids = _read_class_ids(record.mask, shape, classes, record.foreground)
        except DataError as error:
            raise DataError(f"{record.mask}: {error}") from error
        shift = np.maximum(ids - 1, 0).astype(np.uint32)
        bits |= np.where(ids > 0, np.uint32(1) << shift, np.uint32(0))
    return bits


def _read_class_ids(
    path: Path, shape: tuple[int, int], classes: int, foreground: int | None
) -> np.ndarray:
    with _opened(path, "a mask", ("PNG",)) as file:  # a lossy format would change the ids
        if file.mode not in ("L", "P", "1", "I", "I;16"):
            raise DataError(
                f"mask of mode {file.mode}; expected one channel of class ids (0 = background): "
                "save it as 8-bit grey"
            )
        if (size := (file.height, file.width)) != shape:
            raise DataError(
                f"mask of {size[0]}×{size[1]} (height × width) for an image of "
                f"{shape[0]}×{shape[1]}; expected the same size"
            )
        ids = np.asarray(file).astype(np.int64)
        is_binary = file.mode == "1"
    if foreground is not None and not is_binary:
        if (others := ids[(ids != 0) & (ids != foreground)]).size:
            raise DataError(
                f"value {others[0]}; expected 0 (background) or {foreground} (data.foreground)"
            )
        ids = (ids == foreground).astype(np.int64)
    if (top := int(ids.max())) > classes:
        way_out = ""
        if top > MAX_CLASSES and not ((ids > 0) & (ids < top)).any():  # a grey level
            if classes == 1:
                way_out = f"; if {top} is a single class, set data.foreground={top}"
            elif top == 255:
                way_out = "; masks of 0 and 255 need the class id instead of 255"
        raise DataError(
            f"class id {top}; expected 0 (background) to {classes} (one per name in data.classes)"
            + way_out
        )
    return ids


@contextmanager
def _opened(path: Path, what: str, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open an image file; any problem with it becomes a DataError."""
    try:
        with Image.open(path, formats=formats) as file:
            if not file.width * file.height:
                raise DataError("has no pixels")
            if (pictures := getattr(file, "n_frames", 1)) > 1:
                raise DataError(f"contains {pictures} images; expected one")
            yield file
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"no such file; expected {what}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        most = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise DataError(f"more than {most} million pixels; split it into smaller images") from None
    except Exception as error:  # each decoder raises its own exception types
        reason = _reason(error, path, formats)
        raise DataError(f"cannot be read as {what} ({reason})") from error


def _reason(error: Exception, path: Path, formats: tuple[str, ...]) -> str:
    if isinstance(error, UnidentifiedImageError):
        is_empty = path.stat().st_size == 0
        return "the file is empty" if is_empty else f"its content is not {' or '.join(formats)}"
    return " ".join(reason_of(error).split())[:120]


def _is_deep(file: Image.Image) -> bool:
    """Whether Pillow would reduce 16 bits per channel to 8 ("BGR;16" has 16 bits per pixel)."""
    if file.format == "PPM":  # the decoder's arguments end with the value of white
        arguments = [tile.args for tile in getattr(file, "tile", [])]
        return any(isinstance(args, tuple) and args[-1] > 255 for args in arguments)
    return re.search(r"\b(RGB|RGBA|RGBX|RGBa|LA);16", str(getattr(file, "tile", ""))) is not None


def _orientation(file: Image.Image) -> int:
    """Read the EXIF orientation, 2 to 8 if a viewer would rotate or flip the image, else 1."""
    if file.format == "PNG":  # if present, the tag comes after the pixels, where viewers ignore it
        return 1
    try:
        orientation = int(file.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata does not affect the pixels
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _opaque(file: Image.Image) -> Image.Image:
    """Convert an opaque image to grey or RGB."""
    mode = "L" if file.mode in _GREY else "RGB"
    if not file.has_transparency_data:
        return file if file.mode == mode else file.convert(mode)
    layered = file.convert("RGBA")
    least, _ = layered.getchannel("A").getextrema()
    if least < 255:  # type: ignore[operator]
        raise DataError("partly transparent; expected an opaque image: flatten it")
    return layered.convert(mode)
