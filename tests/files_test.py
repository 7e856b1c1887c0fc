"""Tests of files and folders that are written whole or not at all."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import textwrap
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg import files


def write_folder(path, text):
    with files.replacing(path) as new:
        os.makedirs(new)
        pathlib.Path(new, "a.txt").write_text(text)


class FilesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.path = self.folder / "thing"

    def expect_alone(self):
        self.assertEqual(os.listdir(self.folder), ["thing"])

    def test_a_file(self):
        for text in ("old", "new"):
            files.write_text(self.path, text)
            self.assertEqual(self.path.read_text(), text)
            self.expect_alone()

    @parameterized.parameters(True, False)
    def test_a_folder(self, at_once):
        with mock.patch.object(
            files,
            "_exchange_at_once",
            side_effect=None if at_once else lambda *_: False,
            wraps=files._exchange_at_once if at_once else None,
        ):
            for text in ("old", "new"):
                write_folder(self.path, text)
                self.assertEqual((self.path / "a.txt").read_text(), text)
                self.expect_alone()

    def test_an_error_leaves_what_was_there(self):
        files.write_text(self.path, "old")
        with self.assertRaisesRegex(ValueError, "half"), files.replacing(self.path) as new:
            pathlib.Path(new).write_text("ne")
            raise ValueError("half")
        self.assertEqual(self.path.read_text(), "old")
        self.expect_alone()

    def killed(self, lines):
        program = f"""
            import os, pathlib, signal
            from keras_flowreg import files
            kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            with files.replacing({str(self.path)!r}) as new:
                os.makedirs(new)
                pathlib.Path(new, "a.txt").write_text("new")
        """
        program = textwrap.dedent(program) + textwrap.indent(lines, "    ")
        process = subprocess.run([sys.executable, "-c", program], check=False)
        self.assertEqual(process.returncode, -signal.SIGKILL)

    def test_what_a_killed_process_left_is_removed_by_the_next(self):
        write_folder(self.path, "old")
        self.killed("kill()")
        self.assertLen(os.listdir(self.folder), 2)
        self.assertEqual((self.path / "a.txt").read_text(), "old")
        write_folder(self.path, "newer")
        self.assertEqual((self.path / "a.txt").read_text(), "newer")
        self.expect_alone()

    def test_what_a_killed_process_had_moved_is_moved_back(self):
        write_folder(self.path, "old")
        rename = "files._exchange_at_once = lambda *_: False\nmove = os.rename\n"
        self.killed(rename + "os.rename = lambda *paths: (move(*paths), kill())")
        self.assertFalse(self.path.exists())
        with self.assertRaisesRegex(OSError, "disk"), files.replacing(self.path):
            raise OSError("disk")
        self.assertEqual((self.path / "a.txt").read_text(), "old")
        self.expect_alone()

    def test_what_another_process_is_writing_is_left(self):
        with files.replacing(self.path) as first:
            pathlib.Path(first).write_text("first")
            with files.replacing(self.path) as second:
                pathlib.Path(second).write_text("second")
            self.assertEqual(self.path.read_text(), "second")
            self.assertTrue(os.path.exists(first))
        self.assertEqual(self.path.read_text(), "first")
        self.expect_alone()

    def test_writable(self):
        files.expect_writable("output", self.folder / "new" / "file")
        self.assertEqual(os.listdir(self.folder / "new"), [])
        for path, folder in ((self.folder, False), ("", False), (f"{self.folder}/a/", False), (__file__, True)):
            with self.assertRaisesRegex(OSError, "Expected `output` to be the path of a"):
                files.expect_writable("output", path, folder=folder)
        with self.assertRaisesRegex(OSError, "Expected `output` to be in a folder that can be written to"):
            files.expect_writable("output", f"{__file__}/file")


if __name__ == "__main__":
    tf.test.main()
