"""Readers of files, one module a format.

`FORMATS` names the format of a file by its suffix. What is called otherwise, and standard input, is
told by its first line.
"""

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
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".bmp": "image",
    ".gif": "image",
    ".pbm": "image",
    ".pgm": "image",
    ".ppm": "image",
    ".tif": "image",
    ".tiff": "image",
    ".webp": "image",
}
