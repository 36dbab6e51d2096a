"""What `fuzz.py` feeds: every parser of files that a user brings, small valid files for it, and what it may answer to others."""

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from PIL import Image

import hannet
from hannet.cli.export import load_model
from hannet.data import DataError, archives, binary_formats, idx, images, pictures
from hannet.estimators.serialization import ModelError
from hannet.experiments.record import Record, Run
from hannet.experiments.store import Store
from hannet.export import ExportError
from hannet.models import ModelFolderError
from hannet.storage.files import StoreError
from hannet.tabular import pipeline, readers
from hannet.tabular.model import PARTS
from hannet.train import checkpoint
from hannet.train.errors import CheckpointError
from hannet.vision.preprocessing import Preprocessing

OWN_ERRORS = (DataError, ModelError, ModelFolderError, CheckpointError, StoreError, ExportError)
_TABLES = ("readers", "delimited", "dialect", "layout", "encodings", "typed_files", "sources")  # modules
SIZE = (3, 4, 4)  # of the images in binary formats
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Parser:
    """parse: reads a folder of files; seeds: valid ones; share: of all inputs; modules: whose lines are the parser's."""

    parse: Callable[[Path], object]
    seeds: Callable[[], list[Files]]
    share: float
    modules: tuple[str, ...]


def pack(files: Files) -> bytes:
    """Several files as one input."""
    return b"".join(b"%s\0%d\0%s" % (name.encode(), len(content), content) for name, content in files.items())


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of an input, and of one that is damaged those before the damage."""
    files = {}
    while data:
        name, _, rest = data.partition(b"\0")
        size, _, rest = rest.partition(b"\0")
        if not size.isdigit() or len(size) > 9 or not name.replace(b"_", b"").replace(b".", b"").isalnum():
            break
        files[name.decode()], data = rest[: int(size)], rest[int(size) :]
    return files


def _tables() -> list[Files]:
    plain = "a,b,day,y\n" + "".join(f'{n}.5,"x ""{n}""",2024-01-{n + 1:02d},{n % 2}\n' for n in range(9))
    semicolons = "sep=;\r\nid;Größe;wert\r\n" + "".join(f"{n};1.234,{n};ja\r\n" for n in range(5))
    parquet = io.BytesIO()
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "c": [0.5, 1e300, float("nan")]})
    frame.to_parquet(parquet)
    texts = (plain, semicolons, "a\tb\n1\t2\n\n3\t4\n", "p|q|r\n4|5|6\n", "name\nAnn\n  Bob  \n")
    contents = [text.encode() for text in texts]
    contents += [
        b'[{"a": 1, "b": "x"}, {"a": 2.5}]',
        b'{"a": 1}\n{"a": null, "b": [1]}\n',
        b"a  b    c\n1  2.5  x\n22 3    y\n",
    ]
    contents += [gzip.compress(contents[0], 1), semicolons.encode("utf-16"), semicolons.encode("cp1252")]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.csv", plain)
    return [{"table": content} for content in (*contents, parquet.getvalue(), packed.getvalue())]


def _parse_table(folder: Path) -> object:
    return readers.read(folder / "table")


def _idx() -> list[Files]:
    pixels = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in (5, *SIZE[1:])) + bytes(5 * 16)
    labels = b"\0\0\x08\x01" + (5).to_bytes(4, "big") + bytes(range(5))
    return [{"pixels": gzip.compress(pixels, 1), "labels": gzip.compress(labels, 1)}]


def _parse_idx(folder: Path) -> object:
    return idx.labelled([folder / "pixels", folder / "labels"], 5, (1, *SIZE[1:]), 5)


def _binary() -> list[Files]:
    count = 6
    pixels = np.arange(count * 48, dtype=np.uint8).reshape(count, 48)
    labels = np.arange(count, dtype=np.uint8)
    packed, own = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, data=pixels, labels=labels + 1)
    np.savez(own, x=pixels / 255, y=labels)
    return [
        {"records": np.hstack([labels[:, None], pixels]).tobytes()},
        {"pixels": pixels.tobytes(), "labels": (labels + 1).tobytes()},
        {"batches": packed.getvalue()},
        {"own": own.getvalue()},
    ]


def _parse_binary(folder: Path) -> object:
    if (folder / "records").exists():
        return binary_formats.records([folder / "records"], 6, SIZE, 6)
    if (folder / "batches").exists():
        return binary_formats.batches([folder / "batches"], 6, SIZE, 6)
    if (folder / "own").exists():
        return images.stored(folder / "own")
    return binary_formats.columns([folder / "pixels", folder / "labels"], 6, SIZE, 6)


def _pictures() -> list[Files]:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    colour = Image.fromarray(pixels, "RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [("PNG", colour, {}), ("PNG", colour.convert("P"), {}), ("GIF", colour.convert("P"), {})]
    kinds += [("JPEG", colour.convert("RGB"), {"exif": exif}), ("JPEG", colour.convert("CMYK"), {})]
    kinds += [("BMP", colour.convert("RGB"), {}), ("PPM", colour.convert("L"), {}), ("WEBP", colour, {})]
    kinds += [("TIFF", colour, {"compression": name}) for name in ("raw", "tiff_lzw", "tiff_adobe_deflate")]
    kinds += [(form, Image.fromarray(pixels[..., 0].astype(np.uint16) * 200), {}) for form in ("PNG", "TIFF")]
    found = []
    for form, image, options in kinds:
        content = io.BytesIO()
        image.save(content, form, **options)
        found.append({"picture": content.getvalue()})
    return found


def _parse_picture(folder: Path) -> object:
    return pictures.picture(folder / "picture", 8)


def _archives() -> list[Files]:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as packed:
        for name in ("notes.txt", "data/part.bin"):
            member = tarfile.TarInfo(name)
            member.size = 20
            packed.addfile(member, io.BytesIO(bytes(20)))
    return [{"archive": content.getvalue()}]


def _extract(folder: Path) -> object:
    return archives.extract(folder / "archive", folder / "out", {"data/part.bin": 20})


def _contents(folder: Path) -> Files:
    names = (*PARTS, "config.json", "preprocessing.json", "checkpoint.safetensors")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name in names}


def _models() -> list[Files]:
    rng = np.random.default_rng(0)
    x, small = rng.normal(size=(60, 2)), {"members": 1, "epochs": 1, "width": 4, "depth": 2}
    with TemporaryDirectory() as name:
        folder = Path(name)
        hannet.HanRegressor(random_state=0, **small).fit(x, x[:, 0]).save(folder / "regressor")
        hannet.HanClassifier(random_state=0, **small).fit(x, x[:, 0] > 0).save(folder / "classifier")
        rows = [f"{a:.3f},{'uvw'[n % 3]},2024-01-{n % 28 + 1:02d},{a + n % 3:.2f}" for n, a in enumerate(x[:, 0])]
        (folder / "table.csv").write_text("\n".join(["a,kind,day,y", *rows]))
        plan = pipeline.FitOptions("y", baselines=False, options=small)
        model, _ = pipeline.fit(readers.read(folder / "table.csv"), plan, lambda _: None)
        model.save(folder / "table", {})
        hannet.HanNet(4, 2, width=4, depth=2).save_pretrained(folder / "net")
        hannet.HanMixer(8, 2, channels=(4, 4, 4, 4, 4), mlp_blocks=0, han_blocks=1).save_pretrained(folder / "pictures")
        ready = Preprocessing(3, 8, ("a", "b"), (0.5,) * 3, (0.25,) * 3)
        (folder / "pictures" / "preprocessing.json").write_bytes(ready.content())
        return [_contents(folder / one) for one in ("regressor", "classifier", "table", "net", "pictures")]


def _checkpoints() -> list[Files]:
    with TemporaryDirectory() as name:
        tensors = {"network.0.u": torch.randn(3, 4), "optimizer.0.step": torch.tensor(7), "empty": torch.empty(0, 2)}
        checkpoint.write(Path(name), tensors, {"step": 7, "epoch": 2, "fingerprint": "ab", "history": [0.5, 0.25]})
        return [_contents(Path(name))]


def _records() -> list[Files]:
    with TemporaryDirectory() as name:
        store, net = Store(Path(name)), torch.nn.Linear(2, 2)
        run = Run("toy", {"network": {"kind": "HanNet", "width": 4}, "rates": [0.1, 1e-300]}, 0)
        record = Record.of(run, {"error": 0.5, "lost": float("nan")}, 1.0, {"loss": [3.0, 2.0]})
        store.append([record, record])
        store.save_model(run, net)
        weights = (store.folder / "models" / f"{run.key}.safetensors").read_bytes()
        return [{"records.jsonl": store.path.read_bytes(), "weights": weights}]


def _parse_records(folder: Path) -> object:
    if (folder / "weights").exists():
        (folder / "models").mkdir(exist_ok=True)
        shutil.move(folder / "weights", folder / "models" / "some.safetensors")
    store = Store(folder, write=False)
    store.records()
    return store.load_model("some", torch.nn.Linear(2, 2))


PARSERS = {
    "tables": Parser(
        _parse_table,
        _tables,
        0.25,
        tuple(f"tabular.{name}" for name in _TABLES),
    ),
    "idx": Parser(_parse_idx, _idx, 0.1, ("data.idx",)),
    "binary": Parser(_parse_binary, _binary, 0.1, ("data.binary_formats", "data.images")),
    "pictures": Parser(_parse_picture, _pictures, 0.15, ("data.pictures",)),
    "archives": Parser(_extract, _archives, 0.05, ("data.archives",)),
    "models": Parser(
        load_model,
        _models,
        0.15,
        ("estimators.serialization", "tabular.model", "tabular.encoders", "models.hub", "models.registry"),
    ),
    "checkpoints": Parser(checkpoint.read, _checkpoints, 0.1, ("train.checkpoint",)),
    "records": Parser(_parse_records, _records, 0.1, ("experiments.store", "experiments.record")),
}
