"""Files and folders that are written whole or not at all."""

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Any, Union

try:
    import fcntl

    _HAS_LOCKS = True
except ImportError:  # On Windows.
    _HAS_LOCKS = False

__all__ = ["expect_writable", "replacing", "write_text"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


@contextlib.contextmanager
def replacing(path: Union[str, os.PathLike]) -> Iterator[str]:
    """Gives a place to write a file or a folder, which takes the place of `path` when all of it is written.

    If writing fails, or the process is killed, what was at `path` stays as it was. What a killed process leaves behind, a
    hidden folder beside `path`, is removed by the next one that writes there.

    ```python
    with fr.files.replacing("weights.npz") as new:
        np.savez(new, kernel=np.ones(3))
    ```

    Args:
      path: where the file or folder is to be. Its parent folder must exist.

    Yields:
      A path of the same name in a folder of its own.

    Raises:
      OSError: if the parent folder cannot be written to, or a file would take the place of a folder.
    """
    path = os.path.abspath(os.fspath(path))
    parent, name = os.path.split(path)
    with _locked_folder(parent):
        _remove_abandoned(parent, name)
        scratch = tempfile.mkdtemp(prefix=_prefix(name), dir=parent)
        lock = _try_to_lock(scratch)
    try:
        new = os.path.join(scratch, name)
        yield new
        _flush(new)
        if os.path.isdir(new) and os.path.lexists(path):
            _exchange(new, path, os.path.join(scratch, _OLD))
        else:
            os.replace(new, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def write_text(path: Union[str, os.PathLike], text: str) -> None:
    """Writes a text file in UTF-8; see `replacing`.

    ```python
    fr.files.write_text("report.md", "# Report")
    ```
    """
    with replacing(path) as new, open(new, "w", encoding="utf-8") as file:
        file.write(text)


def expect_writable(name: str, path: Union[str, os.PathLike], folder: bool = False) -> None:
    """Checks that a file, or a folder, can be written, before there is anything to write. It makes the parent folder.

    ```python
    fr.files.expect_writable("output", "report.json")
    ```

    Args:
      name: what the path is called.
      path: the path.
      folder: whether a folder is to be written there.

    Raises:
      OSError: if it cannot.
    """
    text = os.fspath(path)
    if "://" in text:
        raise OSError(f"Expected `{name}` to be a path on this machine. Received {text}.")
    is_other = os.path.exists(text) and os.path.isdir(text) != folder
    if not text or is_other or (not folder and text.endswith(os.sep)):
        raise OSError(f"Expected `{name}` to be the path of a {'folder' if folder else 'file'}. Received {text!r}.")
    parent = os.path.dirname(os.path.abspath(text))
    try:
        os.makedirs(parent, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=parent) as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError as error:
        raise OSError(f"Expected `{name}` to be in a folder that can be written to. Received {error}.") from None


def as_path(name: str, path: Union[str, os.PathLike]) -> str:
    """Checks that an option is a path; returns it as text.

    ```python
    print(fr.files.as_path("path", "report.json"))
    ```
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise TypeError(f"Expected `{name}` to be a path. Received {path!r}.")
    return os.fspath(path)


def lock(file: IO[Any]) -> None:
    """Locks an open file for this process, as long as it is open.

    ```python
    with open("log.jsonl", "a") as file:
        fr.files.lock(file)
    ```

    Raises:
      ValueError: if another one has locked it.
    """
    if _HAS_LOCKS:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"Expected {file.name} to be written by one process. Received a second one.") from None
        except OSError:  # The file system has no locks.
            pass


_OLD = "old.replaced"


def _prefix(name):
    return f".{name}.writing-"


@contextlib.contextmanager
def _locked_folder(folder):
    """Keeps other processes out of here, where the system has such locks."""
    descriptor = os.open(folder, os.O_RDONLY) if _HAS_LOCKS else None
    try:
        with contextlib.suppress(OSError):
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _try_to_lock(folder):
    """The descriptor that holds a folder's lock; `None` if another process holds it, or there are no locks."""
    if not _HAS_LOCKS:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(parent, name):
    """Removes what killed processes have left; what one had moved out of its place is moved back."""
    for entry in os.listdir(parent):
        scratch = os.path.join(parent, entry)
        if not entry.startswith(_prefix(name)) or not os.path.isdir(scratch):
            continue
        descriptor = _try_to_lock(scratch)
        if descriptor is None:
            continue
        old, path = os.path.join(scratch, _OLD), os.path.join(parent, name)
        if os.path.lexists(old) and not os.path.lexists(path):
            os.rename(old, path)
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(descriptor)


def _flush(path):
    """Has a file, or every file in a folder, written to the disk."""
    files = [path]
    if os.path.isdir(path):
        files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    for name in files:
        with open(name, "rb+") as file:
            os.fsync(file.fileno())


def _exchange(new, path, old):
    """Puts a folder in the place of what is there: at once where the system can, else by way of `old`."""
    if _exchange_at_once(new, path):
        return
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise


def _exchange_at_once(first, second):
    """Whether two paths have changed places."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, TypeError, OSError):  # Linux alone has it.
        return False
    return rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0
