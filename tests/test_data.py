"""Datasets: the built-in one, and TFDS without TensorFlow."""

import dataclasses
import errno
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging
from PIL import ExifTags, Image

from jaxcifar.data import datasets, facts, images, tfds_prepare, tfds_reader
from jaxcifar.data.reading import Reading
from jaxcifar.errors import UserError

OPTIONS = {"seed": 0, "train_examples": 500, "test_examples": 100}


def shapes(split, **options):
    return datasets.shapes(split, **OPTIONS | options)


def test_shapes_are_a_function_of_seed_and_split():
    once, again = shapes("train"), shapes("train")
    np.testing.assert_array_equal(once.images, again.images)
    np.testing.assert_array_equal(once.labels, again.labels)
    for other in (shapes("train", seed=1), shapes("test", test_examples=500)):
        assert (once.images != other.images).mean() > 0.9


def test_shapes_are_balanced_and_of_the_promised_kind():
    dataset = shapes("train")
    assert (dataset.images.shape, dataset.images.dtype) == ((500, 32, 32, 3), np.uint8)
    assert dataset.labels.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(dataset.labels), [50] * 10)
    assert len(dataset.class_names) == 10


def test_default_shapes_are_made_in_under_five_seconds():
    start = time.monotonic()
    shapes("train", train_examples=10_000)
    shapes("test", test_examples=2_000)
    assert time.monotonic() - start < 5


def test_logistic_regression_on_shapes_stays_under_60_percent():
    from sklearn.linear_model import LogisticRegression

    train, test = shapes("train", train_examples=3_000), shapes("test", test_examples=2_000)
    flat = [d.images.reshape(len(d), -1) / 127.5 - 1 for d in (train, test)]
    model = LogisticRegression(C=1e-2, max_iter=3_000).fit(flat[0], train.labels)
    assert model.n_iter_.max() < 3_000, "not converged"
    assert model.score(flat[1], test.labels) < 0.6


@pytest.mark.parametrize(
    "split, start, stop",
    [
        ("train", 0, 500),
        ("train[:90%]", 0, 450),
        ("train[450:]", 450, 500),
        ("train[-5:]", 495, 500),
    ],
)
def test_a_split_is_cut_as_tfds_cuts_it(split, start, stop):
    np.testing.assert_array_equal(shapes(split).images, shapes("train").images[start:stop])


def test_splits_add_up():
    assert len(shapes("train+test")) == 600
    both = shapes("train[:3]+test[:2]")
    np.testing.assert_array_equal(both.labels[3:], shapes("test").labels[:2])


@pytest.mark.parametrize(
    "split", ["trian", "train[:x]", "train[600:]", "train[5:5]", "", "all[:50%]", "train[:1shard]"]
)
def test_a_wrong_split_is_an_error_that_names_the_known_ones(split):
    with pytest.raises(UserError, match=r"split .*(train \(500 examples\)|must hold)"):
        shapes(split)


@pytest.mark.parametrize("channels", [1, 3])
def test_channel_statistics_are_those_of_the_data(channels):
    images = np.random.default_rng(0).integers(0, 256, (1234, 5, 7, channels), np.uint8)
    mean, std = facts.channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-9)


def test_a_channel_that_never_changes_can_still_be_divided_by():
    assert facts.channel_statistics(np.full((3, 2, 2, 1), 7, np.uint8))[1] == [1 / 255]


# What follows writes array_record datasets, as TFDS itself would.


def write_dataset(
    folder,
    *,
    shape=(12, 10, 3),
    seed=0,
    sizes=(None,),
    count=40,
    labels=(0, 1),
    keys=("image", "label"),
    images=None,
    dtype=np.uint8,
    more=(),
):
    """Prepare a dataset `Tiny` in `folder`, of `images` if given; return the drawn ones by split.

    `more` are other features, each with its value in all examples.
    """
    rng = np.random.default_rng(seed)
    made = {}

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=shape, dtype=dtype),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            }
            features |= {name: feature for name, (feature, _) in dict(more).items()}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=keys,
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples(count), "test": self._generate_examples(7)}

        def _generate_examples(self, examples):
            drawn = made[examples] = []
            for i in range(examples):
                size = sizes[i % len(sizes)] or shape[:2]
                drawn.append(rng.integers(0, 256, (*size, shape[2]), np.uint8))
                image = drawn[-1] if images is None else images[i % len(images)]
                others = {name: value for name, (_, value) in dict(more).items()}
                yield i, {"image": image, "label": labels[i % 2]} | others

    try:
        builder = Tiny(data_dir=str(folder), file_format="array_record")
        tfds_prepare._prepare(builder)
    finally:
        tfds.core.registered._DATASET_REGISTRY.pop("tiny", None)
    return {"train": made.get(count), "test": made.get(7)}


def load_tiny(folder, split="train", image_size=0, cache_dir=None, channels=0, **features):
    """Load `Tiny`, with a cache beside it."""
    reading = Reading(image_size, channels, str(cache_dir or f"{folder}-cache"))
    features = datasets.Features(**features)
    where = {"name": "tiny", "data_dir": str(folder)}
    dataset = datasets.tfds(split, **where, reading=reading, features=features)
    return dataclasses.replace(dataset, name="tiny")


def cache_entries(folder):
    return sorted(path.parent for path in folder.rglob("images.npy"))


def contents(folder):
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize("channels", [1, 3])
def test_tfds_images_are_read_back_bit_for_bit(tmp_path, channels):
    made = write_dataset(tmp_path, shape=(12, 10, channels))
    dataset = load_tiny(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.images.shape == (40, 12, 10, channels)
    # TFDS shuffles what it writes.
    key = lambda pair: pair[0].tobytes()
    expected = sorted(((image, i % 2) for i, image in enumerate(made["train"])), key=key)
    for (image, label), (read, read_label) in zip(
        expected, sorted(zip(dataset.images, dataset.labels), key=key), strict=True
    ):
        np.testing.assert_array_equal(read, image)
        assert read_label == label


def test_tensorflow_is_not_imported():
    assert "tensorflow" not in sys.modules


def test_decoded_once_and_then_read_from_the_cache_and_nothing_is_written_beside_the_data(
    tmp_path, monkeypatch
):
    data = tmp_path / "data"
    write_dataset(data)
    before = contents(data)
    first = load_tiny(data)
    monkeypatch.setattr(tfds_reader, "_decode_split", lambda *args: pytest.fail("decoded again"))
    second = load_tiny(data)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert (load_tiny(data, "train[5:9]").images == first.images[5:9]).all()
    assert len(cache_entries(tmp_path)) == 1 and contents(data) == before


def test_images_from_the_cache_are_mapped_into_memory(tmp_path):
    write_dataset(tmp_path / "data")
    for _ in range(2):
        assert isinstance(load_tiny(tmp_path / "data").images, np.memmap)


def test_the_cache_is_the_users_unless_a_directory_is_named(tmp_path, monkeypatch):
    write_dataset(tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    options = {"name": "tiny", "data_dir": str(tmp_path / "data")}
    datasets.tfds("train", **options, reading=Reading())
    (entry,) = cache_entries(tmp_path)
    assert entry.is_relative_to(tmp_path / "xdg/jaxcifar/decoded/tiny/1.0.0")
    datasets.tfds("train", **options, reading=Reading(cache_dir=str(tmp_path / "named")))
    assert len(cache_entries(tmp_path / "named")) == 1


def test_a_changed_file_another_place_and_another_reader_are_decoded_anew(tmp_path, monkeypatch):
    for data in (tmp_path / "data", tmp_path / "other"):
        write_dataset(data)
        load_tiny(data, cache_dir=tmp_path / "cache")
    assert len(cache_entries(tmp_path)) == 2
    os.utime(next(tmp_path.rglob("tiny-train.array_record*")), ns=(0, 0))
    for data in (tmp_path / "data", tmp_path / "other"):
        load_tiny(data, cache_dir=tmp_path / "cache")
    assert len(cache_entries(tmp_path)) == 3
    monkeypatch.setattr("jaxcifar.data.images.VERSION", 10**6)
    load_tiny(data, cache_dir=tmp_path / "cache")
    assert len(cache_entries(tmp_path)) == 4


def test_a_cache_entry_that_was_cut_off_is_not_used(tmp_path):
    data = tmp_path / "data"
    write_dataset(data)
    whole = np.array(load_tiny(data).images)
    (entry,) = cache_entries(tmp_path)
    # Killed while it wrote, and killed between the two files.
    unfinished = entry.rename(entry.with_name(entry.name + ".unfinished"))
    (unfinished / "labels.npy").unlink()
    os.truncate(unfinished / "images.npy", 100)
    again = load_tiny(data)
    np.testing.assert_array_equal(again.images, whole)
    assert entry.is_dir() and not unfinished.exists()
    # Damaged since, in a new file, not in the one that is mapped.
    (entry / "images.npy").unlink()
    (entry / "images.npy").write_bytes(b"")
    np.testing.assert_array_equal(load_tiny(data).images, whole)


def test_two_processes_at_once_give_one_entry_and_the_same_images(tmp_path):
    write_dataset(tmp_path / "data", count=3_000)
    code = (
        "import sys, hashlib; from jaxcifar.data import datasets; from jaxcifar.data.reading import Reading;"
        "reading = Reading(cache_dir=sys.argv[2]);"
        "d = datasets.tfds('train', name='tiny', data_dir=sys.argv[1], reading=reading);"
        "print(len(d), hashlib.sha256(d.images).hexdigest(), hashlib.sha256(d.labels).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data"), str(tmp_path / "cache")]
    root = Path(__file__).parent.parent
    both = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in both]
    assert sum("decoding" in output for output in outputs) == 1
    (told,) = {output.splitlines()[-1] for output in outputs}
    assert told.startswith("3000 ")
    assert len(cache_entries(tmp_path)) == 1


def test_a_cache_that_cannot_be_written_to_is_a_warning_that_names_it(tmp_path, capsys):
    write_dataset(tmp_path / "data")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/tiny").write_text("a file where the directory should be")
    capsys.readouterr()
    assert len(load_tiny(tmp_path / "data", cache_dir=tmp_path / "cache")) == 40
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: decoded images cannot be kept in") and "data.cache_dir" in line


def test_a_user_without_a_home_has_no_cache_and_the_dataset_all_the_same(
    tmp_path, monkeypatch, capsys
):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    write_dataset(tmp_path)
    where = {"data_dir": str(tmp_path), "reading": Reading()}
    capsys.readouterr()
    assert len(datasets.tfds("train", name="tiny", **where)) == 40
    assert capsys.readouterr().err == "" and not cache_entries(tmp_path)


# Images of a dataset and images given to prediction become the same pixels.


TAG_OF_THE_WRONG_TYPE = b"Exif\0\0" + struct.pack(
    "<2sHIH HHII HHI4s I", b"II", 42, 8, 2, 0x0112, 3, 1, 6, 0x0128, 2, 4, b"abc\0", 0
)
"""EXIF with orientation 6, and with text as the unit of resolution."""


def kinds_of_images():
    """Return images of many kinds by name, each of 12 rows of 10 pixels."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (12, 10), np.uint16))
    turned, exif = colour.rotate(90, expand=True), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # turn it clockwise by 90 degrees to see it upright
    turned.info["exif"] = exif.tobytes()
    damaged, odd = colour.copy(), colour.copy()
    damaged.info["exif"] = b"Exif\0\0garbage"
    exif[ExifTags.Base.Orientation] = 9  # only eight exist
    odd.info["exif"] = exif.tobytes()
    beside = turned.copy()  # a sound orientation beside a tag of the wrong type
    beside.info["exif"] = TAG_OF_THE_WRONG_TYPE
    opaque = colour.convert("RGBA")
    clear = colour.convert("RGBA")
    clear.putalpha(Image.fromarray(rng.integers(0, 256, (12, 10), np.uint8)))
    seen_through = colour.convert("L")
    seen_through.info["transparency"] = int(np.asarray(seen_through)[3, 3])
    deep_seen_through = deep.copy()
    deep_seen_through.info["transparency"] = int(np.asarray(deep)[3, 3])
    return {
        "colour.png": colour,
        "deep.png": deep,
        "dark.png": Image.fromarray(rng.integers(0, 256, (12, 10), np.uint16)),
        "deep.pgm": deep,
        "deep.tiff": deep,
        "turned.png": turned,
        "turned.tiff": turned,
        "turned.webp": turned,
        "damaged_tag.png": damaged,
        "odd_tag.png": odd,
        "turned_beside.png": beside,
        "opaque.png": opaque,
        "clear.png": clear,
        "seen_through.png": seen_through,
        "deep_seen_through.png": deep_seen_through,
        "palette.gif": colour.convert("P"),
        "bits.png": colour.convert("1"),
        "grey_alpha.png": clear.convert("LA"),
        "ink.jpg": colour.convert("CMYK"),
        "float.tiff": Image.fromarray(rng.random((12, 10), np.float32)),
    }


def save(image, path):
    """Save with the tag and the transparent colour that `image.info` names, without loss if possible."""
    known = {key: value for key, value in image.info.items() if key in ("exif", "transparency")}
    image.save(path, lossless=True, **known)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", kinds_of_images())
def test_a_dataset_holds_the_pixels_that_prediction_reads(tmp_path, name, channels):
    file = tmp_path / name
    save(kinds_of_images()[name], file)
    write_dataset(tmp_path / "data", shape=(12, 10, channels), images=[str(file)], count=2)
    predicted = images.read_image(file, (12, 10, channels))
    for image in load_tiny(tmp_path / "data").images:
        np.testing.assert_array_equal(image, predicted)


def read(name, channels=1):
    with tempfile.TemporaryDirectory() as folder:
        save(kinds_of_images()[name], Path(folder) / name)
        return images.read_image(Path(folder) / name, (12, 10, channels))


@pytest.mark.parametrize("name", ["deep.png", "deep.pgm", "deep.tiff", "dark.png"])
def test_16_bits_are_divided_by_257_however_dark_the_image(name):
    values = np.asarray(kinds_of_images()[name])
    np.testing.assert_array_equal(read(name)[..., 0], np.round(values / 257))
    assert (read("dark.png") <= 1).all()


def test_floating_point_runs_from_0_black_to_1_white():
    values = np.asarray(kinds_of_images()["float.tiff"])
    np.testing.assert_array_equal(read("float.tiff")[..., 0], np.round(values * 255))


@pytest.mark.parametrize("name", ["turned.png", "turned.tiff", "turned.webp", "turned_beside.png"])
def test_an_orientation_tag_is_obeyed(name):
    np.testing.assert_array_equal(read(name, 3), read("colour.png", 3))


@pytest.mark.parametrize("name", kinds_of_images())
def test_images_that_the_first_version_read_otherwise_are_known(tmp_path, name):
    save(kinds_of_images()[name], tmp_path / name)
    write_dataset(tmp_path / "data", images=[str(tmp_path / name)], count=2)
    dataset = load_tiny(tmp_path / "data")
    with Image.open(tmp_path / name) as image:
        before = np.asarray(image.convert("RGB"))
    same = before.shape == dataset.images[0].shape and (before == dataset.images[0]).all()
    assert datasets.was_read_otherwise(dataset, str(tmp_path / "data")) != same


@pytest.mark.parametrize("name", ["damaged_tag.png", "odd_tag.png"])
def test_an_orientation_tag_that_is_damaged_says_nothing(name):
    np.testing.assert_array_equal(read(name, 3), read("colour.png", 3))


def test_what_is_transparent_is_laid_on_white():
    image = kinds_of_images()["clear.png"]
    share = np.asarray(image)[..., 3:] / 255
    laid = np.asarray(image)[..., :3] * share + 255 * (1 - share)
    np.testing.assert_allclose(read("clear.png", 3), laid, atol=1)
    for name in ("seen_through.png", "deep_seen_through.png"):
        image = kinds_of_images()[name]
        through = np.asarray(image) == image.info["transparency"]
        assert through.any() and (read(name)[..., 0][through] == 255).all()


def test_cmyk_without_ink_is_white_and_with_all_of_it_black():
    for ink, colour in (
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
    ):
        assert (images.fit(Image.new("CMYK", (4, 4), ink), (4, 4, 3)) == colour).all()


@pytest.mark.parametrize(
    "image, words",
    [
        (
            Image.fromarray(np.full((4, 4), 3, np.int32)),
            "32-bit integers, whose white is not known",
        ),
        (Image.fromarray(np.full((4, 4), 128, np.float32)), "run from 128 to 128: scale them"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "run from nan to nan"),
        (Image.new("RGB", (4, 0)), "no pixels: 4×0"),
        (Image.new("La", (4, 4)), "mode, La, cannot be converted"),
    ],
)
def test_values_without_a_known_white_are_refused_not_guessed_at(image, words):
    with pytest.raises(UserError, match=words):
        images.fit(image, (4, 4, 3))


@pytest.mark.parametrize("dtype, white", [(np.uint16, 65535), (np.float32, 1)])
def test_the_types_of_tfds_are_scaled_to_white(tmp_path, dtype, white):
    steps = np.linspace(0, 1, 120).reshape(12, 10, 1)
    made = (steps * white).astype(dtype)
    write_dataset(tmp_path / "data", shape=(12, 10, 1), dtype=dtype, images=[made], count=2)
    expected = np.round(made.astype(float) / white * 255)
    np.testing.assert_array_equal(load_tiny(tmp_path / "data").images[0], expected)


def test_an_image_of_a_dataset_that_cannot_be_read_is_named(tmp_path):
    Image.fromarray(np.full((12, 10), 3, np.int32)).save(tmp_path / "unknown.tiff")
    unknown = [str(tmp_path / "unknown.tiff")]
    write_dataset(tmp_path / "data", shape=(12, 10, 1), images=unknown, count=2)
    with pytest.raises(UserError, match="image 0 of split 'train' of 'tiny' .*32-bit integers"):
        load_tiny(tmp_path / "data")


def test_images_of_different_sizes_need_a_size_and_get_it(tmp_path):
    write_dataset(tmp_path, shape=(None, None, 3), sizes=[(20, 30), (40, 16), (8, 8)])
    with pytest.raises(UserError, match="--config.data.image_size"):
        load_tiny(tmp_path)
    assert load_tiny(tmp_path, image_size=16).images.shape == (40, 16, 16, 3)


def test_a_scaled_image_keeps_its_colours(tmp_path):
    made = write_dataset(tmp_path, shape=(32, 32, 3), count=1)
    (scaled,) = load_tiny(tmp_path, image_size=8).images
    np.testing.assert_allclose(scaled.mean((0, 1)), made["train"][0].mean((0, 1)), atol=4)


def test_cifar10_is_prepared_without_tensorflow(tmp_path, monkeypatch):
    # The files that the real builder downloads, smaller.
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (20, 3073), np.uint8)
    rows[:, 0] = np.arange(20) % 10
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        rows.tofile(folder / name)
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    (folder / "batches.meta.txt").write_text("\n".join(names))
    monkeypatch.setattr(tfds_prepare, "_answers", lambda url: True)
    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", lambda self, url: str(tmp_path)
    )
    dataset = datasets.tfds(
        "test",
        name="cifar10",
        data_dir=str(tmp_path / "data"),
        reading=Reading(cache_dir=str(tmp_path / "cache")),
    )
    assert dataset.class_names == tuple(names)
    order = np.lexsort(dataset.images.reshape(20, -1).T)
    expected = rows[:, 1:].reshape(20, 3, 32, 32).transpose(0, 2, 3, 1)
    expected_order = np.lexsort(expected.reshape(20, -1).T)
    np.testing.assert_array_equal(dataset.images[order], expected[expected_order])
    np.testing.assert_array_equal(dataset.labels[order], rows[expected_order, 0])


def test_a_dataset_that_another_process_has_prepared_meanwhile_is_read(tmp_path, monkeypatch):
    write_dataset(tmp_path / "theirs")

    def lose(builder):
        shutil.copytree(tmp_path / "theirs", tmp_path / "ours")
        raise FileExistsError(builder.data_path)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lose)
    write_dataset(tmp_path / "ours")
    theirs, ours = load_tiny(tmp_path / "theirs"), load_tiny(tmp_path / "ours")
    np.testing.assert_array_equal(ours.images, theirs.images)


def test_reading_a_dataset_leaves_a_quieter_log_as_it_is(tmp_path):
    write_dataset(tmp_path)
    before = logging.get_verbosity()
    try:
        logging.set_verbosity(logging.FATAL)
        load_tiny(tmp_path)
        assert logging.get_verbosity() == logging.FATAL
    finally:
        logging.set_verbosity(before)


@pytest.mark.parametrize("listens", [True, False])
def test_no_network_is_an_error_within_ten_seconds(tmp_path, monkeypatch, listens):
    """Either the host accepts the connection and never answers, or nothing listens."""
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        if listens:
            host.listen()
        url = f"http://127.0.0.1:{host.getsockname()[1]}/cifar"
        builder = tfds.builder("cifar10", data_dir=str(tmp_path))
        monkeypatch.setattr(type(builder), "url_infos", {url: None})
        start = time.monotonic()
        with pytest.raises(UserError, match="cannot be fetched.*TFDS_DATA_DIR.*--config=quick"):
            datasets.tfds("train", name="cifar10", data_dir=str(tmp_path), reading=Reading())
        assert time.monotonic() - start < 10


def test_a_dataset_of_tfrecords_is_an_error_that_says_what_to_do(tmp_path):
    write_dataset(tmp_path)
    info = tmp_path / "tiny/1.0.0/dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="tfrecord.*--config.data.data_dir"):
        load_tiny(tmp_path)


@pytest.mark.parametrize(
    "name, words",
    [
        ("cifar11", "did you mean cifar10"),
        ("cifar10:9.9.9", "9.9.9"),
        ("no such thing", "takes a name as cifar10"),
        ("CIFAR10", "did you mean cifar10"),
        ("Fashion-MNIST", "did you mean fashion_mnist"),
        ("cifar10/x=1", "cifar10"),
        ("huggingface:mnist", "needs another package .*install it"),
    ],
)
def test_an_unknown_dataset_is_an_error(tmp_path, name, words):
    with pytest.raises(UserError, match=words):
        datasets.tfds("train", name=name, data_dir=str(tmp_path), reading=Reading())


def test_a_dataset_that_is_not_of_images_is_an_error(tmp_path, monkeypatch):
    write_dataset(tmp_path)
    features = tmp_path / "tiny/1.0.0/features.json"
    features.write_text(features.read_text().replace("image_feature.Image", "text_feature.Text"))
    with pytest.raises(UserError):
        load_tiny(tmp_path)


@pytest.mark.parametrize("keys", [("image", "label", "label"), None])
def test_a_dataset_may_name_a_weight_beside_image_and_label_or_nothing(tmp_path, keys):
    write_dataset(tmp_path / "data", keys=keys)
    assert len(load_tiny(tmp_path / "data")) == 40


@pytest.mark.parametrize(
    "keys", [({"a": "image"}, "label"), (("image", "image"), "label"), ("label", "image")]
)
def test_a_dataset_whose_keys_are_no_image_and_label_is_an_error(tmp_path, keys):
    with pytest.raises(
        UserError, match="has no feature .* that is an? (Image|ClassLabel): it has image"
    ):
        write_dataset(tmp_path / "data", keys=keys)
        load_tiny(tmp_path / "data")


def test_features_that_the_config_names_are_taken_and_kept_apart(tmp_path):
    grey = np.full((6, 5, 1), 9, np.uint8)
    write_dataset(
        tmp_path / "data",
        more={
            "depth": (tfds.features.Image(shape=(6, 5, 1)), grey),
            "kind": (tfds.features.ClassLabel(num_classes=1000), 999),
        },
    )
    plain = load_tiny(tmp_path / "data")
    named = load_tiny(tmp_path / "data", image="depth", label="kind")
    assert named.images.shape == (40, 6, 5, 1) and (named.images == 9).all()
    assert (named.labels == 999).all() and len(named.class_names) == 1000
    assert (load_tiny(tmp_path / "data").images == plain.images).all()
    with pytest.raises(UserError, match="has no feature 'colour' that is an Image: it has depth"):
        load_tiny(tmp_path / "data", image="colour")


def test_the_channels_of_the_config_are_those_of_the_images(tmp_path):
    write_dataset(tmp_path / "data")
    assert load_tiny(tmp_path / "data").images.shape[-1] == 3
    assert load_tiny(tmp_path / "data", channels=1).images.shape[-1] == 1


def test_a_tilde_in_the_directory_of_datasets_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_dataset(tmp_path / "mine")
    where = {"reading": Reading(cache_dir=str(tmp_path / "cache"))}
    assert len(datasets.tfds("train", name="tiny", data_dir="~/mine", **where)) == 40
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", "~/mine")
    assert len(datasets.tfds("train", name="tiny", data_dir="", **where)) == 40


def test_a_cache_that_fills_the_disk_gives_its_room_back(tmp_path, monkeypatch):
    def full(growing, part):
        growing._file.write(part[:1].data)
        raise OSError(errno.ENOSPC, "No space left on device")

    write_dataset(tmp_path / "data")
    monkeypatch.setattr("jaxcifar.data.array_cache._Growing.append", full)
    assert len(load_tiny(tmp_path / "data")) == 40
    assert [
        path
        for path in (tmp_path / "data-cache").rglob("*")
        if path.suffix != ".lock" and path.is_file()
    ] == []


def test_a_dataset_lies_in_a_directory_of_any_name(tmp_path):
    write_dataset(tmp_path / "a[0]*")
    assert len(load_tiny(tmp_path / "a[0]*")) == 40


def test_files_that_are_damaged_or_missing_are_an_error_that_names_them(tmp_path):
    write_dataset(tmp_path)
    file = next(tmp_path.rglob("tiny-test.array_record*"))
    file.unlink()
    with pytest.raises(
        UserError, match="split 'test' of 'tiny' .* cannot be read.*copy the dataset"
    ):
        load_tiny(tmp_path, "test")


def test_a_split_without_labels_is_an_error(tmp_path):
    write_dataset(tmp_path, labels=(1, -1))
    with pytest.raises(UserError, match="split 'train' of 'tiny' holds examples without a label"):
        load_tiny(tmp_path)


def test_images_with_an_alpha_channel_are_an_error(tmp_path):
    write_dataset(tmp_path, shape=(8, 8, 4))
    with pytest.raises(UserError, match="4 channels"):
        load_tiny(tmp_path)


def test_an_unsuitable_dataset_is_refused_before_it_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_prepare, "_prepare", lambda builder: pytest.fail("fetched"))
    with pytest.raises(UserError, match="no feature 'text' that is an Image"):
        datasets.tfds("train", name="imdb_reviews", data_dir=str(tmp_path), reading=Reading())
