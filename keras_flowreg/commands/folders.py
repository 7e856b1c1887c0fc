"""Pictures in folders, one folder a class, as a data set."""

import pathlib

import numpy as np

from keras_flowreg.commands import images

SPLITS = ("train", "test")
_Arrays = tuple[np.ndarray, np.ndarray]


def read(path: str) -> tuple[_Arrays, _Arrays, tuple[str, ...]]:
    """Reads the pictures PATH/train/CLASS/... and PATH/test/CLASS/..., all of one size.

    If any is in colour, the grey ones become so. The order is the same each time, and mixes the classes.

    Args:
      path: of a folder with two folders, each with one folder a class.

    Returns:
      `((images, labels), (images, labels), class_names)`, of the training and of the test pictures: float32
      `[count, height, width, channels]` in [0, 1], and int64 `[count]`, indices of the sorted names.

    Raises:
      ValueError: if the folders are not so, hold something else than pictures, or pictures of several sizes.
    """
    train, test = (_files_of_classes(pathlib.Path(path) / split) for split in SPLITS)
    class_names = tuple(sorted(train))
    if set(test) != set(train) or len(train) < 2:
        raise ValueError(
            f"Expected the same classes, two or more, in the folders train and test of {path}. "
            f"Received {sorted(train)} and {sorted(test)}."
        )
    labelled = [
        [(file, label) for label, name in enumerate(class_names) for file in split[name]] for split in (train, test)
    ]
    pictures = _of_one_shape(
        {file: images.read(str(file), (None, None, None)) for part in labelled for file, _ in part}
    )
    arrays = [_mixed(pictures, part) for part in labelled]
    return arrays[0], arrays[1], class_names


def _files_of_classes(folder):
    """`{class: its files}`."""
    if not folder.is_dir():
        raise ValueError(f"Expected the folder {folder}, with a folder of pictures for each class. Received none.")
    found = {each.name: _visible(each) for each in _visible(folder) if each.is_dir()}
    for name, files in found.items():
        if not files:
            raise ValueError(f"Expected pictures in {folder / name}. Received none.")
    return found


def _visible(folder):
    """What is in a folder, sorted, but for what is hidden."""
    return sorted(each for each in folder.iterdir() if not each.name.startswith("."))


def _of_one_shape(pictures):
    """The same pictures, all in colour if one is."""
    channels = max(picture.shape[-1] for picture in pictures.values())
    first, size = next((file, picture.shape[:2]) for file, picture in pictures.items())
    for file, picture in pictures.items():
        if picture.shape[:2] != size:
            raise ValueError(
                f"Expected pictures of one size, height x width. Received {size[0]} x {size[1]} pixels in {first}, and "
                f"{picture.shape[0]} x {picture.shape[1]} in {file}."
            )
    return {file: np.repeat(each, channels // each.shape[-1], axis=-1) for file, each in pictures.items()}


def _mixed(pictures, labelled):
    """Images and labels in a fixed order, so that the first ones are of all classes."""
    order = np.random.RandomState(0).permutation(len(labelled))
    chosen = [labelled[index] for index in order]
    return np.stack([pictures[file] for file, _ in chosen]), np.array([label for _, label in chosen], "int64")
