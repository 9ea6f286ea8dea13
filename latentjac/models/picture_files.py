"""Picture files, and what is no picture file."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from PIL import Image

_MOST_PIXELS = 600_000_000
_MOST_BYTES = 2**32
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")


def open_image(path: str | Path) -> Image.Image:
    """Open a picture file and read all of it.

    Args:
        path: The file.

    Raises:
        TypeError: If path is no path.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a picture that Pillow can read, or has more than 600 million pixels.
    """
    subject = "open_image: path"
    return load_image(identify(path, subject), subject)


def load_image(image: Image.Image, subject: str) -> Image.Image:
    """Read the pixels of a picture that was only opened.

    Raises:
        ValueError: If its file ends early, is broken, or was closed.
    """
    try:
        image.load()
    except Exception as error:
        # The decoders of Pillow raise whatever the broken bytes lead them to.
        raise ValueError(f"{subject} must be a whole picture, got {_name(image)} ({_reason(error)})") from error
    return image


def identify(path: str | Path, subject: str) -> Image.Image:
    """The picture in a file, its pixels not read yet. Errors are those of :func:`open_image`."""
    if not isinstance(path, (str, Path)):
        raise TypeError(f"{subject} must be a path, got {type(path).__name__}")
    expected = f"{subject} must be a picture file, got {str(path)!r}"
    content = _content(Path(path), expected)
    image = _identify(content, str(path), expected)
    if image is None:
        raise ValueError(f"{expected}, {_what_it_is(content)}")
    pixels = image.size[0] * image.size[1]
    if pixels > _MOST_PIXELS:
        raise ValueError(f"{expected}, which has {pixels} pixels: more than {_MOST_PIXELS}")
    return image


def _content(path: Path, expected: str) -> bytes:
    try:
        if path.is_file():
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError(f"{expected}, which is larger than 4 GiB")
            return path.read_bytes()
        exists = path.exists()
    except OSError as error:
        raise ValueError(f"{expected} ({error.strerror})") from error
    if not exists:
        raise FileNotFoundError(f"{expected}, which does not exist")
    raise ValueError(f"{expected}, which is {'a folder' if path.is_dir() else 'no regular file'}")


def _identify(content: bytes, name: str, expected: str) -> Image.Image | None:
    """What ``Image.open`` does, but for its limit on pixels.

    Phones take photos of 200 million, which it refuses; the limit is a global of Pillow and belongs to the user.
    """
    stream = io.BytesIO(content)
    tried: set[str] = set()
    for learn in (Image.preinit, Image.init):  # the common formats, then all
        learn()
        for kind in [kind for kind in Image.ID if kind not in tried]:
            tried.add(kind)
            factory, accepts = Image.OPEN[kind]
            stream.seek(0)
            try:
                accepted = accepts is None or accepts(content[:16])
                if accepted and not isinstance(accepted, str):  # a text is a reason why not
                    return factory(stream, name)
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
            except Exception as error:
                raise ValueError(f"{expected} ({_reason(error)})") from error
    return None


def _what_it_is(content: bytes) -> str:
    """Why a file is not read."""
    if not content:
        return "which is empty"
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
        return "a HEIF picture: Pillow needs the plugin pillow-heif for it, or save it as JPEG or PNG"
    return "whose format Pillow does not know"


def _name(image: Image.Image) -> str:
    name = getattr(image, "filename", "")
    return repr(str(name)) if name else f"one of mode {image.mode}"


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
