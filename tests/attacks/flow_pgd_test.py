"""Tests of FlowPGD where the worst flow is known."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr


def pixel_reader(row, column):
    """Logits (0, value of one pixel): class 1 is lost by moving something darker there."""
    selector = np.zeros([5, 6, 1], "float32")
    selector[row, column] = 1
    inputs = keras.Input([5, 6, 1])
    outputs = keras.layers.Dense(2, use_bias=False)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.set_weights([np.stack([np.zeros(30), selector.ravel()], axis=1)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class FlowPGDTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        # Brightness rises by 0.1 a column and by 0.02 a row.
        self.images = (0.1 * np.arange(6)[None, :] + 0.02 * np.arange(5)[:, None]).astype("float32")[None, ..., None]

    @parameterized.product(norm=["linf", "pixel_l2"], label=[0, 1])
    def test_worst_flow_of_a_model_that_reads_one_pixel(self, norm, label):
        epsilon = 0.7
        attack = fr.attacks.FlowPGD(epsilon, steps=10, norm=norm, start="zero")
        result = attack.run(self.images, np.array([label]), model=pixel_reader(2, 3), stop_when_fooled=False)
        adversarial, flow = result.images, result.flow
        # Label 1 is lost by darker pixels, from up and left: a flow down and right brings them.
        sign = 1 if label == 1 else -1
        slope = np.array([0.02, 0.1])
        direction = np.ones(2) if norm == "linf" else slope / np.linalg.norm(slope)
        self.assertAllClose(flow[0, 2, 3], sign * epsilon * direction, atol=1e-4)
        expected = self.images[0, 2, 3, 0] - sign * epsilon * direction @ slope
        self.assertAllClose(adversarial[0, 2, 3, 0], expected, atol=1e-5)
        # The other pixels do not matter to the model, and are left where they are.
        others = np.delete(flow[0].numpy().reshape(-1, 2), 2 * 6 + 3, axis=0)
        self.assertAllEqual(others, np.zeros_like(others))

    @parameterized.parameters({"momentum": 0.9}, {"step_decay": "cosine"}, {"step_decay": "linear", "step_size": 0.3})
    def test_variants_reach_the_same_worst_flow(self, **options):
        attack = fr.attacks.FlowPGD(0.7, steps=10, start="zero", **options)
        flow = attack.run(self.images, np.array([1]), model=pixel_reader(2, 3), stop_when_fooled=False).flow
        self.assertAllClose(flow[0, 2, 3], [0.7, 0.7], atol=1e-4)

    @parameterized.parameters({"control_points": 3}, {"smoothing": 1.5})
    def test_smooth_flows_are_smooth(self, **options):
        rough, smooth = (
            fr.attacks.FlowPGD(0.7, steps=10, start="zero", **smoothing).run(
                self.images, np.array([1]), model=pixel_reader(2, 3), stop_when_fooled=False
            )
            for smoothing in ({}, options)
        )
        # The one pixel that matters moves as far; smoothly, it takes its neighbours along.
        step = tf.reduce_max(tf.abs(rough.flow[0, 2, 3] - rough.flow[0, 2, 2]))
        smooth_step = tf.reduce_max(tf.abs(smooth.flow[0, 2, 3] - smooth.flow[0, 2, 2]))
        self.assertLess(smooth_step, 0.8 * step)
        self.assertAllLessEqual(tf.abs(smooth.flow), 0.7 + 1e-5)
        self.assertGreater(smooth.loss[0], smooth.clean_loss[0])

    def test_a_model_that_ignores_the_image_is_left_alone(self):
        model = pixel_reader(0, 0)
        model.set_weights([np.zeros([30, 2])])
        adversarial = fr.attacks.FlowPGD(1.0, steps=3, start="zero")(self.images, np.array([0]), model=model)
        self.assertAllEqual(adversarial, self.images)

    def test_the_papers_setting_takes_k_sign_steps(self):
        epsilon = fr.pixels_from_normalized(0.01, 32)
        attack = fr.attacks.FlowPGD.from_paper(image_size=32)
        self.assertAllClose([attack.epsilon, attack.step_size, attack.steps], [epsilon, epsilon / 100, 100])
        flow = attack.run(self.images, np.array([1]), model=pixel_reader(2, 3)).flow
        self.assertAllClose(flow[0, 2, 3], [0.155, 0.155], atol=1e-5)

    def test_more_steps_and_restarts_never_lower_the_loss(self):
        random = np.random.RandomState(0)
        images, labels = random.rand(8, 5, 6, 1).astype("float32"), random.randint(0, 2, 8)
        model = pixel_reader(2, 3)

        def losses(**options):
            adversarial = fr.attacks.FlowPGD(1.5, **options)(images, labels, model=model)
            return fr.ops.per_example_loss(model.loss, labels, model(adversarial))

        self.assertAllGreaterEqual(losses(steps=5, restarts=4) - losses(steps=5, restarts=1), -1e-6)
        fixed = {"step_size": 0.2, "start": "zero"}
        self.assertAllGreaterEqual(losses(steps=20, **fixed) - losses(steps=5, **fixed), -1e-6)

    def test_bad_options(self):
        for options, message in (
            ({"steps": 0}, "Expected `steps`.*0"),
            ({"steps": 2.5}, "Expected `steps`.*2.5"),
            ({"restarts": 0}, "Expected `restarts`"),
            ({"restarts": 2, "start": "zero"}, "Expected `start='random'`"),
            ({"step_size": -1}, "Expected `step_size`"),
            ({"norm": "l1"}, "Expected `norm`.*'l1'"),
            ({"lattice": "two_sided"}, "Expected `lattice`.*'two_sided'"),
            ({"momentum": -1}, "Expected `momentum`.*-1"),
            ({"step_decay": "abrupt"}, "Expected `step_decay`.*'abrupt'"),
            ({"control_points": 1}, "Expected `control_points`.*1"),
            ({"control_points": 4, "norm": "l2"}, "Expected `norm`.*smooth.*'l2'"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                fr.attacks.FlowPGD(0.1, **options)


if __name__ == "__main__":
    tf.test.main()
