"""Tests of what the pictures show, in numbers."""

import subprocess
import sys
import textwrap

import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib import collections, pyplot, quiver

import keras_flowreg as fr
from keras_flowreg.evaluation import Accuracy


class PlotAccuracyTest(tf.test.TestCase):
    def tearDown(self):
        super().tearDown()
        pyplot.close("all")

    def test_curves(self):
        curves = {"plain": {0.0: 0.9, 0.4: 0.1}, "ours": {0.0: 0.8, 0.2: 0.7, 0.4: 0.6}}
        axes = pyplot.figure().subplots()
        self.assertIs(fr.pictures.plot_accuracy(axes, curves, ylabel="accuracy under FlowPGD"), axes)
        plain, ours = axes.get_lines()
        self.assertAllClose(plain.get_xydata(), [[0, 0.9], [0.4, 0.1]])
        self.assertAllClose(ours.get_xydata(), [[0, 0.8], [0.2, 0.7], [0.4, 0.6]])
        self.assertNotEqual(plain.get_marker(), ours.get_marker())
        self.assertEqual([text.get_text() for text in axes.get_legend().get_texts()], ["plain", "ours"])
        self.assertEqual((axes.get_ylabel(), axes.get_ylim()), ("accuracy under FlowPGD", (0, 1.02)))
        self.assertIn("pixels", axes.get_xlabel())

    def test_intervals_are_bands(self):
        curves = {"worst": {0.0: Accuracy(0.9, 0.8, 0.95), 0.4: Accuracy(0.5, 0.3, 0.7)}}
        axes = fr.pictures.plot_accuracy(None, curves)
        (line,), (band,) = axes.get_lines(), axes.findobj(collections.PolyCollection)
        self.assertAllClose(line.get_ydata(), [0.9, 0.5])
        corners = {tuple(corner) for corner in np.round(band.get_paths()[0].vertices, 6)}
        self.assertContainsSubset([(0, 0.8), (0, 0.95), (0.4, 0.3), (0.4, 0.7)], corners)

    def test_an_attack_without_a_radius_is_a_line_across(self):
        axes = fr.pictures.plot_accuracy(None, {"grid": {None: 0.6}, "other": {None: 0.1}})
        line, other = axes.get_lines()
        self.assertNotEqual(line.get_color(), other.get_color())
        self.assertAllClose(line.get_ydata(), [0.6, 0.6])
        self.assertEqual((line.get_linestyle(), list(line.get_xdata())), (":", [0, 1]))

    def test_styles(self):
        curves = {"plain": {0.0: 0.9, 0.4: 0.1}, "ours": {0.0: 0.8, 0.4: 0.6}}
        axes = fr.pictures.plot_accuracy(None, curves, styles={"plain": {"color": "black", "marker": "x"}})
        plain, ours = axes.get_lines()
        self.assertEqual((plain.get_color(), plain.get_marker()), ("black", "x"))
        self.assertNotEqual(ours.get_color(), "black")


class DrawTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.axes = pyplot.figure().subplots()
        # One vertical edge, between the second and the third column.
        self.image = np.tile(np.array([0, 0, 1, 1, 1], "float32")[None, :, None], [4, 1, 1])

    def tearDown(self):
        super().tearDown()
        pyplot.close("all")

    def test_image(self):
        for channels, shape in ((1, (4, 5)), (2, (4, 5)), (3, (4, 5, 3))):
            fr.pictures.draw_image(self.axes, np.repeat(self.image, channels, axis=-1), "an edge")
            shown = self.axes.get_images()[-1]
            self.assertEqual(shown.get_array().shape, shape)
            self.assertEqual((shown.norm.vmin, shown.norm.vmax), (0, 1))
        self.assertEqual(self.axes.get_title(), "an edge")

    def test_value_range(self):
        fr.pictures.draw_image(self.axes, 4 * self.image - 2, value_range=(-2, 2))
        self.assertAllClose(self.axes.get_images()[0].get_array(), self.image[..., 0])

    def test_an_arrow_ends_at_the_pixel_that_receives(self):
        flow = np.zeros([4, 5, 2], "float32")
        flow[...] = (0.25, -0.5)
        fr.pictures.draw_flow(self.axes, self.image, flow, "flow", magnify=3)
        (arrows,) = self.axes.findobj(quiver.Quiver)
        # Only beside the edge is there anything to move.
        self.assertEqual({tuple(place) for place in arrows.XY}, {(x, y) for x in (1, 2) for y in range(4)})
        self.assertAllClose(arrows.U, [-0.5] * 8)
        self.assertAllClose(arrows.V, [0.25] * 8)
        self.assertEqual((arrows.pivot, arrows.scale), ("tip", 1 / 3))
        self.assertEqual(self.axes.get_title(), "flow (arrows x3)")

    def test_gallery(self):
        images = np.stack([self.image, 1 - self.image])
        flows = np.zeros([2, 4, 5, 2], "float32")
        flows[1, 0, 0] = (0.3, 0.4)
        figure = fr.pictures.draw_gallery(images, tf.constant(flows), tf.constant(images / 2), [("a", "b"), ("c", "d")])
        panels = [axes for axes in figure.axes if axes.get_title()]
        self.assertLen(panels, 10)
        self.assertEqual([panels[index].get_title() for index in (0, 3, 5, 8)], ["a", "b", "c", "d"])
        # Both rows share one scale of displacements, up to the longest.
        for row in (0, 5):
            shown = panels[row + 2].get_images()[0]
            self.assertAllClose((shown.norm.vmin, shown.norm.vmax), (0, 0.5))
        self.assertAllClose(np.max(panels[7].get_images()[0].get_array()), 0.5)
        self.assertAllClose(panels[4].get_images()[0].get_array(), -self.image[..., 0] / 2)


class RenderedTest(tf.test.TestCase):
    def test_size(self):
        for resolution in (37, 60, 61):
            axes = fr.pictures.plot_accuracy(None, {"plain": {0.0: 0.97, 0.4: 0.2}})
            image = fr.pictures.rendered(axes.figure, resolution)
            self.assertEqual((image.shape, image.dtype), ((4 * resolution, 6 * resolution, 3), np.uint8))
            self.assertAllEqual(image[0, 0], [255] * 3)
            self.assertLess(image.min(), 100)

    def test_settings_of_saved_figures_do_not_matter(self):
        figure = fr.pictures.draw_gallery(
            np.zeros([1, 4, 5, 1]), np.zeros([1, 4, 5, 2]), np.zeros([1, 4, 5, 1]), [("a", "b")]
        )
        with matplotlib.rc_context({"savefig.bbox": "tight"}):
            self.assertEqual(fr.pictures.rendered(figure).shape, (162, 780, 3))


class WithoutMatplotlibTest(tf.test.TestCase):
    def test_only_pictures_need_it(self):
        program = """
            import sys
            sys.modules["matplotlib"] = None  # As if it were not installed.
            import keras_flowreg as fr
            try:
                fr.pictures.plot_accuracy(None, {"plain": {0.0: 0.9}})
            except ImportError as error:
                assert "Expected Matplotlib to be installed: pip install matplotlib" in str(error), error
            else:
                raise AssertionError("no error")
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=None, check=True)


if __name__ == "__main__":
    tf.test.main()
