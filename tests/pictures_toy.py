"""Pictures of one colour or of given values, and files of kinds that Pillow reads but does not write."""

import struct
import zlib

import numpy as np
import torch
from PIL import Image

RED, GREEN, BLUE, WHITE = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]


def plain(colour, size=(8, 8)):
    return Image.new("RGB", size, tuple(colour))


def colour_of(tensor):
    assert tensor.dtype == torch.uint8
    assert len(tensor) == 3
    assert (tensor == tensor[:, :1, :1]).all()
    return tensor[:, 0, 0].tolist()


def saved(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def grey16(path, values):
    """A PNG of 16 bits."""
    return saved(path, Image.fromarray(np.asarray(values, np.uint16)))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png16(values):
    """A PNG of 16 bits a channel.  values: (h, w, channels)."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, bits, order="<", packed=False, kind=1, data=None):
    """A TIFF of (h, w) or (h, w, channels). packed: by zlib; kind: 1 for unsigned, 2 for signed numbers, 3 for floats."""
    height, width, *others = values.shape
    channels = others[0] if others else 1
    data = values.astype(values.dtype.newbyteorder(order)).tobytes() if data is None else data
    data = zlib.compress(data) if packed else data
    tags = {256: [width], 257: [height], 258: [bits] * channels, 259: [8 if packed else 1], 262: [2 if others else 1]}
    tags |= {273: [0], 277: [channels], 278: [height], 279: [len(data)], 339: [kind] * channels}
    tags |= {338: [2]} if channels == 4 else {}
    after = 8 + 2 + 12 * len(tags) + 4  # where what does not fit into an entry begins
    long, entries = b"", b""
    tags[273] = [after + sum(4 * len(numbers) for numbers in tags.values() if len(numbers) > 1)]
    for tag, numbers in sorted(tags.items()):
        content = struct.pack(f"{order}{len(numbers)}I", *numbers)
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers))
        entries += content if len(numbers) == 1 else struct.pack(f"{order}I", after + len(long))
        long += content if len(numbers) > 1 else b""
    magic = b"II" if order == "<" else b"MM"
    head = magic + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + entries + bytes(4) + long + data
