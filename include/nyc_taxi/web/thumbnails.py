"""Small copies of pictures, made when a browser asks for one.

A map has 150 kB, its thumbnail 11 kB. Making one takes 30 ms, and a browser keeps it until the picture is made again.
A second picture drawn by the task would take the task 80 ms, and older pictures would have none.
"""

import functools
import io
import os
from collections.abc import Mapping
from typing import BinaryIO

from include.nyc_taxi import conditional_requests
from include.nyc_taxi.web import pages

WIDTH, HEIGHT = 360, 480
COLOURS = 64
LARGEST_PIXELS = 40_000_000
"""Larger pictures are sent as they are: reading one would take too much memory."""
KEPT = 256
"""The newest thumbnails that stay in the memory of a web server, about 3 MB."""


def thumbnail_answer(
    base: str,
    path: str,
    asked: Mapping[str, str] | None = None,
    wanted: str = "",
    may_see: pages.MaySee = pages.everything,
) -> pages.Answer:
    """A picture of at most 360 by 480 pixels; the output itself if it cannot be made smaller.

    Args:
        base, path, asked, may_see: as in `pages.file_answer`. Ranges are not supported.
        wanted: the version of the picture that the address names. If it is the current one, browsers keep the answer.

    Returns:
        A response with status 200 or 304, or a page with status 404 if there is no such picture, or if the user may not
        see it.
    """
    output = pages.find(path) if may_see(path) else None
    if output is None or not output.is_picture:
        return pages.missing(base)
    small = _small(path, output.version)
    if small is None:
        return pages.file_answer(base, path, asked, may_see)
    etag = f'"thumbnail-{output.version}"'
    headers = pages.HEADERS | {
        "ETag": etag,
        "Content-Type": pages.MEDIA_TYPES[pages.PICTURE],
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox",
    }
    if wanted == output.version:
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    if conditional_requests.is_current(asked or {}, etag, output.made_at.timestamp()):
        return pages.Answer(pages.NOT_MODIFIED, headers, b"")
    return pages.Answer(200, headers, small)


@functools.lru_cache(maxsize=KEPT)
def _small(path: str, version: str) -> bytes | None:
    """The thumbnail of this version of a picture; None if the picture is too large or damaged, or Pillow is missing."""
    opened = pages.open_output(path)
    if opened is None:
        return None
    with opened as file:
        return _shrunk(file) if pages.version(os.fstat(file.fileno())) == version else None


def _shrunk(file: BinaryIO) -> bytes | None:
    try:
        from PIL import Image  # a web server needs it for thumbnails only
    except ModuleNotFoundError:
        return None
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                return None
            small = picture.convert("RGBA")
        small.thumbnail((WIDTH, HEIGHT), Image.Resampling.BOX)
        flat = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
        made = io.BytesIO()
        flat.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(made, "PNG")
    # Pillow raises many kinds of errors for damaged files, among them SyntaxError.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return made.getvalue()
