"""The sets of images that have a name: who published them and on what terms, their files and checksums."""

from dataclasses import dataclass
from typing import Literal

from .download import Archive, File, Source

Part = Literal["train", "test"]


@dataclass(frozen=True, kw_only=True)
class ImageSource(Source):
    """Images of one size, (channels, height, width).

    files: first training_files to train on, then those to test on; counts: images to train on and to test on.
    """

    size: tuple[int, int, int]
    counts: tuple[int, int]
    training_files: int
    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height, width."""
        return self.size

    def part(self, part: Part) -> tuple[tuple[File, ...], int]:
        """The files of a part, and how many images they hold."""
        if part == "train":
            return self.files[: self.training_files], self.counts[0]
        return self.files[self.training_files :], self.counts[1]


def _idx(name: str, sha256: str) -> File:
    url = f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz"
    return File("mnist", f"{name}.gz", url, f"sha256:{sha256}")


def _members(archive: Archive, checksums: dict[str, str]) -> tuple[File, ...]:
    return tuple(
        File(folder, name, archive.url, checksum, archive)
        for path, checksum in checksums.items()
        for folder, _, name in [path.rpartition("/")]
    )


_MNIST = ImageSource(
    name="mnist",
    title="Handwritten digits",
    origin="LeCun, Cortes and Burges 1998",
    files=(
        _idx("train-images-idx3-ubyte", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        _idx("train-labels-idx1-ubyte", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        _idx("t10k-images-idx3-ubyte", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        _idx("t10k-labels-idx1-ubyte", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    terms="CC BY-SA 3.0",
    rows=70000,
    target="the digit",
    task="classification",
    quirks="60,000 images to train on, then 10,000 to test on, by other writers.",
    size=(1, 28, 28),
    counts=(60000, 10000),
    training_files=2,
    classes=tuple("0123456789"),
)

_CIFAR10_SUMS = {
    "data_batch_1.bin": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
_CIFAR10 = ImageSource(
    name="cifar10",
    title="Photographs of ten kinds of things",
    origin="Krizhevsky 2009",
    files=_members(
        Archive(
            "cifar-10-binary.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            170_052_171,
            tuple((f"cifar-10-batches-bin/{name}", 30_730_000) for name in _CIFAR10_SUMS),
        ),
        {f"cifar-10-batches-bin/{name}": checksum for name, checksum in _CIFAR10_SUMS.items()},
    ),
    terms="none stated",
    rows=60000,
    target="the kind of thing",
    task="classification",
    quirks="50,000 images to train on, then 10,000 to test on; the binary version.",
    size=(3, 32, 32),
    counts=(50000, 10000),
    training_files=5,
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)

_CIFAR100 = ImageSource(
    name="cifar100",
    title="Photographs of a hundred kinds of things",
    origin="Krizhevsky 2009",
    files=_members(
        Archive(
            "cifar-100-binary.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            168_513_733,
            (("cifar-100-binary/train.bin", 153_700_000), ("cifar-100-binary/test.bin", 30_740_000)),
        ),
        {
            "cifar-100-binary/train.bin": "sha256:f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            "cifar-100-binary/test.bin": "sha256:d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
        },
    ),
    terms="none stated",
    rows=60000,
    target="the kind of thing",
    task="classification",
    quirks="50,000 images to train on, then 10,000 to test on; the fine labels, not the 20 coarse ones.",
    size=(3, 32, 32),
    counts=(50000, 10000),
    training_files=1,
    classes=(
        *("apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl"),
        *("boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair"),
        *("chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin"),
        *("elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp"),
        *("lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain"),
        *("mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck"),
        *("pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road"),
        *("rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider"),
        *("squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger"),
        *("tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman"),
        "worm",
    ),
)

_STL10 = ImageSource(
    name="stl10",
    title="Larger photographs of ten kinds of things",
    origin="Coates, Lee and Ng 2011",
    files=_members(
        Archive(
            "stl10_binary.tar.gz",
            "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            "sha256:f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
            2_640_397_119,
            (
                ("stl10_binary/train_X.bin", 138_240_000),
                ("stl10_binary/train_y.bin", 5000),
                ("stl10_binary/test_X.bin", 221_184_000),
                ("stl10_binary/test_y.bin", 8000),
            ),
        ),
        {
            "stl10_binary/train_X.bin": "md5:918c2871b30a85fa023e0c44e0bee87f",
            "stl10_binary/train_y.bin": "md5:5a34089d4802c674881badbb80307741",
            "stl10_binary/test_X.bin": "md5:7f263ba9f9e0b06b93213547f721ac82",
            "stl10_binary/test_y.bin": "md5:36f9794fa4beb8a2c72628de14fa638e",
        },
    ),
    terms="none stated",
    rows=13000,
    target="the kind of thing",
    task="classification",
    quirks="5,000 images to train on, then 8,000 to test on; the 100,000 images without labels are left in the archive.",
    size=(3, 96, 96),
    counts=(5000, 8000),
    training_files=2,
    classes=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
)

_TERMS_OF_IMAGENET = "https://image-net.org/download.php"
_DOWNSAMPLED_IMAGENET = ImageSource(
    name="downsampled-imagenet",
    title="ImageNet at 32 x 32 pixels",
    origin="Chrabaszcz, Loshchilov and Hutter 2017",
    files=_members(
        Archive(
            "Imagenet32_train_npz.zip",
            _TERMS_OF_IMAGENET,
            "sha256:94226337ecc1b0309d9fcd0167127aaadc931587035fbcb53925235edbaec4fc",
            3_580_435_279,
            (),
            by_hand=True,
        ),
        {
            "Imagenet32_train_npz/train_data_batch_1.npz": "md5:464fde20de6eb44c28cc1a8c11544bb1",
            "Imagenet32_train_npz/train_data_batch_2.npz": "md5:bdb56e71882c3fd91619d789d5dd7c79",
            "Imagenet32_train_npz/train_data_batch_3.npz": "md5:83ff36d76ea26867491a281ea6e1d03b",
            "Imagenet32_train_npz/train_data_batch_4.npz": "md5:98ff184fe109d5c2a0f6da63843880c7",
            "Imagenet32_train_npz/train_data_batch_5.npz": "md5:62b8803e13c3e6de9498da7aaaae57c8",
            "Imagenet32_train_npz/train_data_batch_6.npz": "md5:e0b06665f890b029f1d8d0a0db26e119",
            "Imagenet32_train_npz/train_data_batch_7.npz": "md5:9731f469aac1622477813c132c5a847a",
            "Imagenet32_train_npz/train_data_batch_8.npz": "md5:60aed934b9d26b7ee83a1a83bdcfbe0f",
            "Imagenet32_train_npz/train_data_batch_9.npz": "md5:b96328e6affd718660c2561a6fe8c14c",
            "Imagenet32_train_npz/train_data_batch_10.npz": "md5:1dc618d544c554220dd118f72975470c",
        },
    )
    + _members(
        Archive(
            "Imagenet32_val_npz.zip",
            _TERMS_OF_IMAGENET,
            "sha256:013990e6dec1237dcd1f9beadbab81ead6604cc119af5cacbfb59ae28148377a",
            139_697_668,
            (),
            by_hand=True,
        ),
        {"Imagenet32_val_npz/val_data.npz": "md5:a8c04a389f2649841fb7a01720da9dd9"},
    ),
    terms="non-commercial research",
    rows=1331167,
    target="the kind of thing",
    task="classification",
    quirks=(
        "1,281,167 images to train on, then the 50,000 of ImageNet's validation to test on; 3.9 GB of memory; a class is "
        "called by its publishers' number, 1 to 1000, which is not that of other versions of ImageNet."
    ),
    size=(3, 32, 32),
    counts=(1281167, 50000),
    training_files=10,
    classes=tuple(map(str, range(1, 1001))),
)

SETS = {source.name: source for source in (_MNIST, _CIFAR10, _CIFAR100, _STL10, _DOWNSAMPLED_IMAGENET)}
