"""Image data sets as batched `tf.data` pipelines of (images in [0, 1], labels)."""

import dataclasses
import os
import pathlib
from typing import Optional

import numpy as np
import tensorflow as tf

from keras_flowreg.commands import folders

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped")
_AUGMENTED = ("cifar10", "cifar100", "svhn_cropped")
_FLIPPED = ("cifar10", "cifar100")
_CROP_PADDING = 4
_NETWORK_TIMEOUT_SECONDS = 5
_PREPARED_COPIES_URL = "https://storage.googleapis.com/tfds-data"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set, split and batched.

    Elements are `(images, labels)`: float32 `[batch, height, width, channels]` in [0, 1], and int64
    `[batch]`. The last batch of an epoch may be smaller.

    Attributes:
      name: the name it was loaded by.
      train: `tf.data.Dataset`, in another order and with other augmentations each epoch.
      validation: `tf.data.Dataset` held out of the training split, or None.
      test: `tf.data.Dataset` of the test split, in its own order.
      image_shape: `(height, width, channels)`.
      num_classes: number of classes.
      class_names: a name for each label.
      train_examples: number of examples in an epoch of `train`.
    """

    name: str
    train: tf.data.Dataset
    validation: Optional[tf.data.Dataset]
    test: tf.data.Dataset
    image_shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...]
    train_examples: int


def load(
    name: str,
    *,
    batch_size: int = 128,
    data_dir: Optional[str] = None,
    augment: Optional[bool] = None,
    validation_size: int = 0,
    train_size: Optional[int] = None,
    seed: int = 0,
) -> Dataset:
    """Loads a data set: the digits embedded here, one of TensorFlow Datasets, or pictures in a folder.

    The training split is put in a fixed order. Its last `validation_size` examples are for validation and
    its first `train_size` for training, whatever the seed: runs with different seeds are comparable, and a
    smaller training set is part of a larger one.

    Args:
      name: one of `NAMES`, or the path of a folder of pictures; see `folders.read`.
      batch_size: examples in a batch.
      data_dir: where TFDS keeps its data sets; its own default when None.
      augment: whether to zero-pad training images by 4 pixels, crop them at random to their size, and, on
        CIFAR only, mirror them at random. None: on the colour data sets only.
      validation_size: number of training examples to hold out.
      train_size: number of the remaining examples to train on; None: all.
      seed: of the order and the augmentation of `train`.

    Returns:
      A `Dataset`.

    Raises:
      ValueError: if the name is unknown, a folder is not as expected, or a size is out of range.
      RuntimeError: if TFDS has not prepared the data set and cannot download it.
    """
    if not is_known(name):
        raise ValueError(f"Expected `name` to be a folder or one of {', '.join(NAMES)}. Received: name={name!r}")
    _check_at_least("batch_size", batch_size, 1)
    _check_at_least("validation_size", validation_size, 0)
    if train_size is not None:
        _check_at_least("train_size", train_size, 1)
    train, test, class_names = _read(name, data_dir)
    train, validation = _split(train, train_size, validation_size)
    if augment is None:
        augment = name in _AUGMENTED
    return Dataset(
        name=name,
        train=_train_batches(train, batch_size, augment, name in _FLIPPED, seed),
        validation=_batches(validation, batch_size) if validation_size else None,
        test=_batches(test, batch_size),
        image_shape=test[0].shape[1:],
        num_classes=len(class_names),
        class_names=class_names,
        train_examples=len(train[1]),
    )


def is_known(name: str) -> bool:
    """Whether there is a data set, or a folder, of this name."""
    return name in NAMES or os.path.isdir(name)


def augmentation(name: str) -> tuple[int, bool]:
    """By how many pixels a data set's training images are padded and cropped, and whether they are mirrored."""
    return _CROP_PADDING if name in _AUGMENTED else 0, name in _FLIPPED


def _check_at_least(argument, value, minimum):
    if value < minimum:
        raise ValueError(f"Expected `{argument}` to be at least {minimum}. Received: {argument}={value}")


def _read(name, data_dir):
    """Images and labels for training, the same for the test, and the names of the classes."""
    if name not in NAMES:
        return folders.read(name)
    return _read_digits() if name == "digits" else _read_tfds(name, data_dir)


def _read_digits():
    with np.load(pathlib.Path(__file__).parent / "digits" / "digits.npz") as arrays:
        train = arrays["x_train"], arrays["y_train"]
        test = arrays["x_test"], arrays["y_test"]
    return train, test, tuple("0123456789")


def _read_tfds(name, data_dir):
    # Imported here, so that the digits need no TFDS.
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.is_prepared():
        _download(builder)
    train, test = (
        tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True, batch_size=-1)) for split in ("train", "test")
    )
    return train, test, tuple(builder.info.features["label"].names)


def _download(builder):
    import tensorflow_datasets as tfds

    try:
        _check_network([_PREPARED_COPIES_URL, next(iter(builder.url_infos))])
        builder.download_and_prepare()
    except (OSError, tf.errors.OpError, tfds.download.DownloadError) as error:
        raise RuntimeError(
            f"Expected the data set {builder.name!r} prepared in {builder.data_dir}, or a network to "
            f"download it from. Received: nothing prepared there, and {type(error).__name__} on downloading. "
            f"Pass as `data_dir` the folder that holds {builder.name!r}, or run `tfds build {builder.name} "
            "--data_dir=...` where there is a network and copy what it makes, or load 'digits', which needs "
            "none."
        ) from error


def _check_network(urls):
    """Raises the last URL's `requests.RequestException` when no URL's server answers."""
    # TFDS itself retries for more than three minutes without a network.
    import requests

    for url in urls:
        try:
            requests.head(url, timeout=_NETWORK_TIMEOUT_SECONDS)
            return
        except requests.RequestException as error:
            last_error = error
    raise last_error


def _split(examples, train_size, validation_size):
    images, labels = examples
    remaining = len(labels) - validation_size
    if remaining < 1:
        raise ValueError(
            f"Expected `validation_size` to be less than the {len(labels)} training examples. "
            f"Received: validation_size={validation_size}"
        )
    if train_size is None:
        train_size = remaining
    if train_size > remaining:
        raise ValueError(
            f"Expected `train_size` to be at most {remaining}, the {len(labels)} training examples less the "
            f"{validation_size} for validation. Received: train_size={train_size}"
        )
    # RandomState, because its stream is frozen: Generator's may change with NumPy.
    order = np.random.RandomState(0).permutation(len(labels))
    train, validation = order[:train_size], order[remaining:]
    return (images[train], labels[train]), (images[validation], labels[validation])


def _train_batches(examples, batch_size, augment, flip, seed):
    dataset = tf.data.Dataset.from_tensor_slices(examples).shuffle(len(examples[1]), seed=seed)
    if augment:
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2).batch(2)
        dataset = tf.data.Dataset.zip((dataset, seeds)).map(
            lambda example, seeds: (_augment(example[0], seeds, flip), example[1]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return _finish(dataset, batch_size)


def _batches(examples, batch_size):
    return _finish(tf.data.Dataset.from_tensor_slices(examples), batch_size)


def _finish(dataset, batch_size):
    return dataset.batch(batch_size).map(_to_float, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _to_float(images, labels):
    return tf.image.convert_image_dtype(images, tf.float32), labels


def _augment(image, seeds, flip):
    height, width, channels = image.shape
    padded = tf.image.resize_with_crop_or_pad(image, height + 2 * _CROP_PADDING, width + 2 * _CROP_PADDING)
    image = tf.image.stateless_random_crop(padded, (height, width, channels), seed=seeds[0])
    return tf.image.stateless_random_flip_left_right(image, seed=seeds[1]) if flip else image
