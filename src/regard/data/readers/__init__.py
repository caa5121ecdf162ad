"""Readers of files, one module a format.

`FORMATS` is the format of a file by its suffix. Files of other names, and standard input, are
recognized by their first line.
"""

_IMAGES = ".png .jpg .jpeg .bmp .gif .pbm .pgm .ppm .tif .tiff .webp"

FORMATS: dict[str, str] = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".md": "text",
    ".text": "text",
    ".wav": "audio",
    ".wave": "audio",
    **dict.fromkeys(_IMAGES.split(), "image"),
}
