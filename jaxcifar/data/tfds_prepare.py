"""Prepares a TFDS dataset without TensorFlow: finds or fetches it, and writes it as array_record."""

import dataclasses
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from jaxcifar.errors import UserError, did_you_mean, first_line
from jaxcifar.host import compat, output
from jaxcifar.host.files import expanded

_WITHOUT = "to run without a dataset: --config=quick draws its own images"

NAMESPACES = ("huggingface", "kaggle", "kubric", "robotics")
"""What a name of TFDS may begin with, before a colon."""


@dataclasses.dataclass(frozen=True)
class Features:
    """Name the features of a dataset that hold image and label."""

    image: str = ""
    """Empty for the declared input, or `image` if none is declared."""
    label: str = ""
    """Empty for the declared target, or `label` if none is declared."""


NAMED_NONE = Features()
"""The features that the dataset declares."""


def prepared_builder(name: str, data_dir: str, features: Features = NAMED_NONE) -> Any:
    """Return the TFDS builder of `name`, downloading and preparing it first if need be.

    Raises:
      UserError: there is no such dataset, it was prepared in a format that only TensorFlow reads, or
        it is missing and cannot be fetched.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import constants

    compat.say_no_warnings_of_tfds()
    compat.take_no_path_for_a_pattern()
    if (data_dir or constants.DATA_DIR).startswith("~"):
        data_dir = str(expanded(data_dir or constants.DATA_DIR))
    try:
        builder: Any = tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"dataset {name!r} is unknown: {_near(name)}--config.data.name takes shapes, which the program "
            "draws itself, or an image-classification dataset of TFDS (cifar10, cifar100, svhn_cropped …)"
        ) from error
    except ImportError as error:
        raise UserError(
            f"dataset {name!r} needs another package ({first_line(error)}): install it, or name a dataset "
            "of TFDS itself, such as cifar10"
        ) from error
    except (AssertionError, TypeError, ValueError) as error:
        raise UserError(
            f"dataset {name!r}: {first_line(error)} {_near(name)}--config.data.name takes a name as cifar10 "
            "or cifar10:3.0.2"
        ) from error
    features_of(builder, features)
    if not builder.is_prepared():
        _prepare(tfds.builder(name, data_dir=data_dir or None, file_format="array_record"))
        builder = tfds.builder(name, data_dir=data_dir or None)
    if builder.info.file_format.value not in ("array_record", "parquet"):
        raise UserError(
            f"dataset {name!r} in {builder.data_path} was prepared as "
            f"{builder.info.file_format.value}, which only TensorFlow reads: name another "
            "directory with --config.data.data_dir (it is prepared there as array_record), or "
            "remove that one"
        )
    return builder


def features_of(builder: Any, features: Features) -> Features:
    """Return the features that hold image and label, with a name each.

    Raises:
      UserError: there are no such features.
    """
    import tensorflow_datasets as tfds

    known = dict(builder.info.features.items())
    image, label, *_ = builder.info.supervised_keys or ("image", "label")  # a third key is a weight
    image, label = features.image or image, features.label or label
    is_one = [
        isinstance(name, str) and isinstance(known.get(name), kind)
        for name, kind in ((image, tfds.features.Image), (label, tfds.features.ClassLabel))
    ]
    if not all(is_one):
        kinds = ", ".join(f"{name} ({type(known[name]).__name__})" for name in sorted(known))
        raise UserError(
            f"dataset {builder.name!r} has no feature {image if not is_one[0] else label!r} that is "
            f"{'an Image' if not is_one[0] else 'a ClassLabel'}: it has {kinds}; "
            "--config.data.image_feature and --config.data.label_feature name those to take; cifar10, "
            "cifar100 and svhn_cropped need no names"
        )
    return Features(image, label)


def _near(name):
    """Return a question that suggests the datasets with the nearest names."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    wanted = re.split("[:/]", name)[0]
    near = did_you_mean(wanted.lower().replace("-", "_"), known, form="{}", most=2)
    return "" if wanted in known else near


def _prepare(builder):
    """Download and prepare as array_record, after a check that there is a network at all."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    hosts = [url for url in builder.url_infos or () if url.startswith("http")]
    if hosts and not _answers(hosts[0]):
        raise UserError(
            f"dataset {builder.name!r} is not in {builder.data_path} and cannot be fetched: "
            f"{urllib.parse.urlparse(hosts[0]).hostname} does not answer; copy a prepared dataset "
            "(from a machine with a network, where this command prepares it) and name its directory "
            f"with --config.data.data_dir or TFDS_DATA_DIR; {_WITHOUT}"
        )
    output.say(f"preparing {builder.name} in {builder.data_path} (once)")
    try:
        with compat.tfds_without_tensorflow(builder):
            builder.download_and_prepare()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"dataset {builder.name!r} cannot be prepared without another package ({error}): install "
            "it, or prepare the dataset where TensorFlow is installed, with "
            f"`tfds build {builder.name} --file_format=array_record`, and copy it; {_WITHOUT}"
        ) from error
    except (
        AssertionError,  # files that must be fetched by hand are missing
        OSError,
        tfds.download.DownloadError,
        NonMatchingChecksumError,
    ) as error:
        if builder.is_prepared():  # by another process, in the meantime
            return
        raise UserError(
            f"dataset {builder.name!r} could not be prepared in {builder.data_path}: {error}; name "
            f"another directory with --config.data.data_dir; {_WITHOUT}"
        ) from error


def _answers(url: str, seconds: float = 6) -> bool:
    """Return whether the host of `url` answers at all, even with an error."""
    answered = threading.Event()

    def ask():
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()
        except OSError:
            pass

    # In a thread of its own, because the look-up of a name ignores the time limit.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answered.is_set()
