"""Changes to files that keep their structure: inside gzip, zip, PNG, JSON and safetensors, with sums and digests made right again."""

import gzip
import hashlib
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from parsers import pack, unpack
from safetensors.torch import load

from hannet.train import checkpoint

TOKENS = rb"""nan NaN inf 1e999 -0 1.234,5 2024-02-30 null true [ { ] } PAR1 PK "" " ' , ; | \ sep=; #N/A""".split()
TOKENS += [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\t", b"\r", b"\r\n", b"\n\n", b"\x1a", b"\xe4", b"\xf0\x9f\x98\x80"]
TOKENS += [b"\x1f\x8b\x08", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"GIF89a", b"RIFF", b"\xff\xd8\xff"]
NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "a", "nan", "float32", "<U3", "|O", "HanNet", "é" * 50, "../../x", [], [[]], [0], {}, {"a": {}}, [None] * 50),
]
Bytes = Callable[[bytes], bytes]


def mutate_input(data: bytes, chance: random.Random, plainly: Bytes) -> bytes:
    """Change one or several files of an input. plainly: another way to change bytes, which knows what has been reached."""
    files = unpack(data)
    if not files or chance.random() < 0.02:
        return plainly(data)
    for name in chance.choices(list(files), k=chance.choice((1, 1, 2))):
        with suppress(Exception):  # what was damaged before can't be taken apart, and some values can't be written
            files[name] = _mutate(files[name], chance, plainly)
    if chance.random() < 0.05:
        files.pop(chance.choice(list(files)))
    if chance.random() < 0.8:
        _renew_digests(files)
    return pack(files)


def _mutate(content: bytes, chance: random.Random, plainly: Bytes) -> bytes:
    """Change a file, or what is in it."""
    if chance.random() < 0.2:
        return _damage(content, chance, plainly)
    kinds: list[tuple[bool, Callable[..., bytes]]] = [
        (content[:2] == b"\x1f\x8b", _in_gzip),
        (content[:4] == b"PK\x03\x04", _in_zip),
        (content[:4] == b"\x89PNG", _in_png),
        (content[:1] in (b"{", b"["), _in_json),
        (content[8:10] == b'{"', _in_safetensors),
    ]
    for fits, change in kinds:
        if fits:
            with suppress(Exception):  # what was damaged before may not open: then its bytes are changed
                return change(content, chance, plainly)
    return _damage(content, chance, plainly)


def _damage(content: bytes, chance: random.Random, plainly: Bytes) -> bytes:
    """Change bytes: numbers, words, pieces."""
    if chance.random() < 0.4:
        return plainly(content)
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place, size = chance.randrange(len(changed) + 1), chance.choice((1, 2, 4, 8, 40))
        match chance.randrange(6):
            case 0:
                number = chance.choice(NUMBERS) % 256 ** min(size, 8)
                order = chance.choice(("little", "big"))
                changed[place : place + min(size, 8)] = number.to_bytes(min(size, 8), order)  # type: ignore[arg-type]
            case 1:
                changed[place:place] = chance.choice(TOKENS)
            case 2:
                del changed[place : place + size]
            case 3:
                start = chance.randrange(len(changed) + 1)
                changed[place:place] = changed[start : start + size] * chance.choice((1, 1, 30))
            case 4:
                del changed[place:]
            case _:
                changed[place : place + size] = chance.randbytes(size)
    return bytes(changed[:16384])


def _in_gzip(content: bytes, chance: random.Random, plainly: Bytes) -> bytes:
    return gzip.compress(_mutate(gzip.decompress(content), chance, plainly), 1)


def _in_zip(content: bytes, chance: random.Random, plainly: Bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen = chance.choice(names)
        for name in names:
            part = old.read(name)
            new.writestr(
                name, _damage(part, chance, plainly) if name == chosen else part, old.getinfo(name).compress_type
            )
    return out.getvalue()


def _in_png(content: bytes, chance: random.Random, plainly: Bytes) -> bytes:
    """Change one chunk; its checksum fits."""
    chunks, place = [], 8
    while place < len(content):
        (size,) = struct.unpack_from(">I", content, place)
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    chosen = chance.randrange(len(chunks))
    kind, body = chunks[chosen]
    if kind == b"IDAT" and chance.random() < 0.7:
        body = zlib.compress(_damage(zlib.decompress(body), chance, plainly), 1)
    else:
        body = _damage(body, chance, plainly)
    chunks[chosen] = kind, body
    if chance.random() < 0.2:
        chance.shuffle(chunks)
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return content[:8] + b"".join(parts)


def _in_json(content: bytes, chance: random.Random, plainly: Bytes) -> bytes:
    """Change a value, of each line where every line is one."""
    *lines, last = content.split(b"\n")
    if len(lines) > 1 and lines[0][:1] == lines[1][:1] == b"{" and lines[0][-1:] == b"}":
        chosen = chance.randrange(len(lines))
        lines[chosen] = _in_json(lines[chosen], chance, plainly)
        return b"\n".join([*lines, last])
    return json.dumps(_changed(json.loads(content), chance), ensure_ascii=chance.random() < 0.5).encode(
        errors="surrogatepass"
    )


def _changed(value: Any, chance: random.Random) -> Any:
    """The tree with one branch changed."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        match chance.randrange(12):
            case 0:
                return {name: part for name, part in value.items() if name != key}
            case 1:
                return value | {chance.choice(("x", "format", "class", "")): chance.choice(VALUES)}
            case _:
                return value | {key: _changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        match chance.randrange(8):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value[:place] * 2 + value[place:]
            case _:
                return [*value[:place], _changed(value[place], chance), *value[place + 1 :]]
    if isinstance(value, int | float) and chance.random() < 0.5:
        return chance.choice((value + 1, -value, value * 2, float(value), str(value), value * 10**9))
    if isinstance(value, str) and value and chance.random() < 0.5:
        return chance.choice((value[:-1], value * 2, value.upper(), list(value)))
    return chance.choice(VALUES)


def _in_safetensors(content: bytes, chance: random.Random, plainly: Bytes) -> bytes:
    """Change the header, of which the length fits, or the numbers."""
    size = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + size], content[8 + size :]
    if chance.random() < 0.3:
        body = _damage(body, chance, plainly)
    else:
        tree = json.loads(header)
        kept = tree.get("__metadata__", {}).get("hannet")
        if kept and chance.random() < 0.7:  # a checkpoint's own entries
            tree["__metadata__"]["hannet"] = _in_json(kept.encode(), chance, plainly).decode(errors="replace")
        else:
            tree = _changed(tree, chance)
        header = json.dumps(tree).encode()
    return len(header).to_bytes(8, "little") + header + body


def _renew_digests(files: dict[str, bytes]) -> None:
    """Let each file name the content of that beside it, and a checkpoint its own."""
    for name, key, other in (
        ("estimator.json", "sha256", "model.safetensors"),
        ("table.json", "estimator", "estimator.json"),
    ):
        with suppress(KeyError, ValueError, RecursionError):
            entries = json.loads(files[name])
            if isinstance(entries, dict):
                entries[key] = hashlib.sha256(files[other]).hexdigest()
                files[name] = json.dumps(entries).encode()
    with suppress(Exception):  # of what is no checkpoint
        content = files["checkpoint.safetensors"]
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        told = header["__metadata__"]
        told["check"] = checkpoint._checksum(told["hannet"], load(content))
        text = json.dumps(header).encode()
        files["checkpoint.safetensors"] = len(text).to_bytes(8, "little") + text + content[8 + size :]
