"""Tests of every layer's rule, at random weights: no flow passes a bound, and linear networks are bounded exactly."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

import keras_flowreg as fr
from keras_flowreg import compat
from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.reach import reach
from keras_flowreg.certification.rules import steps_of
from keras_flowreg.ops.linear_maximization import extreme_displacements, maximizing_flow
from tests.certification import networks

LINEAR, OTHERS = networks.table()
IMAGES = networks.images(2)
# Each logit, upwards and downwards, of each image.
FORMS = np.tile(np.concatenate([np.eye(networks.CLASSES), -np.eye(networks.CLASSES)]), [2, 1]).astype("float32")
EXAMPLES = np.repeat([0, 1], 2 * networks.CLASSES)


def least_by_search(network, epsilon, steps=3):
    """The least of each form that linearized steps, and random flows, find; for linear networks the least there is."""
    start = tf.gather(IMAGES, EXAMPLES)
    found, images = np.full(len(FORMS), np.inf), start
    for step in range(steps):
        if step == steps - 1:
            shape = [*images.shape[:3], 2]
            flow = epsilon * np.random.RandomState(0).choice([-1.0, 0.0, 1.0], shape).astype("float32")
            images = fr.ops.dense_image_warp(start, flow)
        with tf.GradientTape() as tape:
            tape.watch(images)
            values = tf.reduce_sum(FORMS * network.values(images)[network.logits], axis=1)
        found = np.minimum(found, values)
        flow, _ = maximizing_flow(
            start, -tape.gradient(values, images), extreme_displacements("linf", epsilon), epsilon
        )
        images = fr.ops.dense_image_warp(start, flow)
    values = tf.reduce_sum(FORMS * network.values(images)[network.logits], axis=1)
    return np.minimum(found, values)


def bounds_of(network, epsilon):
    """The bounds of each method: intervals, lines, and lines on tightened intervals."""
    bounds = Bounds(network, reach(IMAGES, epsilon, "linf"))
    forms = tf.reshape(FORMS, [len(IMAGES), -1, networks.CLASSES])
    by_intervals, by_lines = bounds.minimum_by_intervals(forms), bounds.minimum(forms)
    bounds.tighten()
    return [np.ravel(bound) for bound in (by_intervals, by_lines, bounds.minimum(forms))]


class RulesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(name=[*LINEAR], epsilon=[0.3, 1.3])
    def test_linear_networks_are_bounded_exactly(self, name, epsilon):
        model = LINEAR[name]()
        network = networks.network_of(model)
        network.check(model, IMAGES)
        least = least_by_search(network, epsilon)
        for bound in bounds_of(network, epsilon):
            self.assertAllLessEqual(bound - least, 0)
            self.assertAllClose(bound, least, rtol=1e-3, atol=2e-3)

    @parameterized.product(name=[*OTHERS], epsilon=[1e-3, 0.3, 1.3])
    def test_no_flow_passes_a_bound(self, name, epsilon):
        model = OTHERS[name]()
        network = networks.network_of(model)
        network.check(model, IMAGES)
        least = least_by_search(network, epsilon)
        by_intervals, by_lines, by_tight_lines = bounds_of(network, epsilon)
        for bound in (by_intervals, by_lines, by_tight_lines):
            self.assertAllLessEqual(bound - least, 0)
        if epsilon == 1e-3:  # To first order lines are exact, but at kinks.
            clean = np.sum(FORMS * network.values(IMAGES)[network.logits].numpy()[EXAMPLES], axis=1)
            self.assertLess(np.mean(least - by_tight_lines), 0.35 * np.mean(clean - least) + 2e-3)


class ApplicationsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("MobileNetV3Small", "EfficientNetB0", "RegNetY002")
    def test_networks_of_keras(self, name):
        if not hasattr(keras.applications, name):
            self.skipTest(f"This Keras has no {name}.")
        build = getattr(keras.applications, name)
        model = build(weights=None, input_shape=(32, 32, 3), classes=3, classifier_activation=None)
        scaled = keras.Sequential([model, layers.Rescaling(1 / np.ptp(model(networks.images(8, (32, 32, 3)))))])
        networks.network_of(scaled).check(scaled, tf.constant(networks.images(4, (32, 32, 3))))


class AugmentationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("RandomFlip", {}),
        ("RandomContrast", {"factor": 0.2}),
        ("RandomHue", {"factor": 0.2}),
        ("RandomErasing", {}),
        ("RandAugment", {}),
    )
    def test_random_layers_change_nothing(self, name, options):
        if not hasattr(layers, name):
            self.skipTest(f"This Keras has no {name}.")
        head = keras.Sequential([layers.Flatten(), layers.Dense(3)])
        images, labels = np.random.RandomState(0).rand(2, 6, 6, 3).astype("float32"), np.array([0, 1])
        margins = [
            fr.certify(keras.Sequential([keras.Input((6, 6, 3)), *first, head]), images, labels, epsilon=0.1).margin
            for first in ([], [getattr(layers, name)(**options)])
        ]
        self.assertAllClose(*margins)


class BackwardTest(tf.test.TestCase):
    def test_rescaling_of_one_channel_to_three(self):
        (step,) = steps_of(layers.Rescaling([1.0, -2.0, 3.0], offset=5.0))
        (part,), terms = step.backward(tf.constant(np.arange(12.0).reshape(1, 2, 2, 3), tf.float32), [(2, 2, 1)], ())
        expected = [3 * pixel - 2 * (3 * pixel + 1) + 3 * (3 * pixel + 2) for pixel in range(4)]
        self.assertAllClose(part, np.reshape(expected, [1, 2, 2, 1]))
        self.assertAllClose(tf.reduce_sum(terms), 5.0 * 66)

    def test_what_changes_an_images_size_can_be_differentiated_again(self):
        coefficients, images = (tf.constant(networks.images(2, shape), tf.float32) for shape in ((4, 6, 2), (2, 3, 2)))
        for interpolation in ("nearest", "bilinear"):
            for layer in (layers.Resizing(4, 6, interpolation), layers.UpSampling2D(2, interpolation=interpolation)):
                (step,) = steps_of(layer)
                with tf.GradientTape() as tape:
                    tape.watch(coefficients)
                    (part,), _ = step.backward(coefficients, [images.shape[1:]], ())
                    form = tf.reduce_sum(part * images)
                self.assertAllClose(form, tf.reduce_sum(coefficients * layer(images)))
                self.assertAllClose(tape.gradient(form, coefficients), layer(images))

    def test_optimized_slopes_behind_operations(self):
        inputs = keras.Input(networks.SHAPE)
        x = layers.Conv2D(3, 3, activation="relu")(inputs)
        x = networks.concatenated([networks.flipped(networks.ops.tile(x, [1, 2, 1, 1]), [1])[:, ::2], x], 3)
        x = layers.ReLU()(networks.ops.roll(networks.mean(networks.ops.repeat(x, 2, 2), 1), 1, 1) - 0.5)
        model = networks.randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))
        labels = np.argmax(model(IMAGES), axis=1)
        plain, optimized = (
            fr.certify(model, IMAGES, labels, 1.0, method=method).margin for method in ("crown", "alpha_crown")
        )
        self.assertAllGreater(optimized - plain, -1e-5)
        self.assertGreater(np.sum(optimized - plain), 0.01)


class OfFunction(layers.Layer):
    """A layer of one's own, whose rule each test gives."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class BadNetworksTest(tf.test.TestCase, parameterized.TestCase):
    def expect_error(self, model, message):
        with self.assertRaisesRegex(ValueError, message):
            fr.certify(model, IMAGES, [0, 1], 0.1)

    def test_layers_without_a_rule(self):
        for layer, message in (
            (layers.Conv2DTranspose(2, 3, dilation_rate=2, name="wide"), r"without a dilation.*wide .*\(2, 2\)"),
            (layers.Lambda(tf.sort, name="own"), r"Received (own|tf.sort\w*) .*register_rule"),
            (layers.Lambda(networks.ops.sin), r"Received .*sin.*, an operation.*have rules.*register_rule"),
            (layers.Activation(tf.sin, name="wave"), r"Expected an activation.*relu.*Received sin in wave"),
            (
                layers.ReLU(max_value=6, negative_slope=0.1, name="six"),
                r"a slope or a largest value, not both.*six \(ReLU\)",
            ),
            (layers.ELU(-0.5, name="bent"), r"ELU that does not fall. Received bent \(ELU\) of alpha -0.5"),
            (
                layers.LayerNormalization(1, name="rows"),
                r"of the last axes. Received rows \(LayerNormalization\) of .*1",
            ),
            (layers.GroupNormalization(1, axis=1, name="rows"), r"the last axis. Received rows \(Group.*\) of axis 1"),
            (layers.Resizing(9, 9, "bicubic", name="size"), "'nearest' or 'bilinear'. Received 'bicubic' in size"),
            (layers.Softmax(axis=1, name="rows"), r"last axis.*rows"),
            (layers.Dense(3, dtype="mixed_float16", name="half"), "float32.*half.*float16"),
        ):
            self.expect_error(networks.chain(layer), message)

    def test_resizing_that_fills(self):
        if compat.KERAS_3:  # Keras 2 does not pad.
            layer = layers.Resizing(9, 9, pad_to_aspect_ratio=True, fill_value=0.5, name="size")
            self.expect_error(
                networks.chain(layer), r"padded with zeros. Received size \(Resizing\), which fills with 0.5"
            )

    def test_quantized_weights(self):
        dense = layers.Dense(3, name="small")
        model = networks.chain(dense)
        if hasattr(dense, "quantize"):  # Keras 2 quantizes nothing.
            dense.quantize("int8")
            self.expect_error(model, r"weights are float32. Received small \(Dense\), quantized to int8")

    def test_two_outputs(self):
        inputs = keras.Input(networks.SHAPE)
        flat = layers.Flatten()(inputs)
        self.expect_error(keras.Model(inputs, [layers.Dense(3)(flat)] * 2), "one output.*with 2")

    def test_operation_that_mixes_a_batch(self):
        class Mixed(layers.Layer):
            def call(self, inputs):
                return inputs - networks.mean(inputs, 0, keepdims=True)

        class Greatest(layers.Layer):
            def call(self, inputs):
                return inputs - networks.greatest(inputs, [0, 3], keepdims=True)

        class Windows(layers.Layer):
            def call(self, inputs):
                return networks.ops.reshape(inputs, [-1, 1, 6, 2])

        class Turned(layers.Layer):
            def call(self, inputs):  # Windows, before the images that they are of.
                x = networks.ops.transpose(networks.ops.reshape(inputs, [-1, 7, 6, 2]), [1, 0, 2, 3])
                return networks.ops.reshape(networks.ops.reshape(x, [-1, 6, 2]), [-1, 7, 6, 2])

        for layer in (Mixed(), Greatest(), Windows(), Turned()):
            self.expect_error(networks.chain(layer), "each image alone")

    @parameterized.product(
        dtype=["uint8", "int32", "float16", "bfloat16"], is_nested=[False, True], kind=["graph", "chain"]
    )
    def test_input_that_is_rounded(self, dtype, is_nested, kind):
        inputs = keras.Input(networks.SHAPE, dtype=dtype)
        stack = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3)]
        model = keras.Sequential([inputs, *stack])
        if kind == "graph":
            model = keras.Model(inputs, keras.Sequential(stack)(inputs))
        if is_nested:
            outer = keras.Input(networks.SHAPE)
            model = keras.Model(outer, model(outer))
        self.expect_error(model, f"an input of float32.*rounds its input to {dtype}")

    def test_normalization_of_two_axes(self):
        if not compat.KERAS_3:  # Which refuses it itself.
            self.expect_error(networks.chain(layers.BatchNormalization(axis=[1, 3], name="two")), "one axis.*two.*1, 3")

    def test_weights_that_are_no_numbers(self):
        for number in (np.nan, np.inf):
            model = networks.chain()
            model.set_weights([number * weights for weights in model.get_weights()])
            self.expect_error(model, "Expected finite predictions. Received NaN or infinity")

    def test_layers_in_training_mode(self):
        inputs = keras.Input(networks.SHAPE)
        for layer in (layers.Dropout(0.5, name="chance"), layers.BatchNormalization(name="batch")):
            if not compat.KERAS_3:  # There the model's own mode comes first.
                for x in (layer(inputs, training=True), layer(inputs, True)):
                    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
                    self.expect_error(model, f"mode of their model.*{layer.name}.*training=True")

    def test_output_of_a_dictionary(self):
        inputs = keras.Input(networks.SHAPE)
        model = keras.Model(inputs, {"logits": layers.Dense(3)(layers.Flatten()(inputs))})
        self.expect_error(model, "one output.* Received a model that gives dict")

    def test_function_that_is_no_operation(self):
        class Strange(layers.Layer):
            def call(self, inputs):
                return tf.ensure_shape(tf.numpy_function(np.negative, [inputs], tf.float32), inputs.shape)

        self.expect_error(networks.chain(Strange()), r"numpy_function\w* \(.*, an operation: of these")

    def test_call_that_takes_no_symbols(self):
        class Strange(layers.Layer):
            def call(self, inputs):
                if keras.backend.is_keras_tensor(inputs):
                    raise TypeError("not of symbols.\nAnd more")
                return inputs

        self.expect_error(
            networks.chain(Strange(name="own")),
            r"own \(Strange\).*`call` failed on symbolic tensors \(not of symbols.\)\.",
        )

    def test_two_inputs(self):
        inputs = [keras.Input(networks.SHAPE) for _ in range(2)]
        model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Add()(inputs))))
        self.expect_error(model, "one input, of images. Received one with 2")

    def test_inside_of_a_graph(self):
        with self.assertRaisesRegex(ValueError, "run eagerly.*tf.function"):
            tf.function(lambda images: fr.certify(networks.chain(), images, [0, 1], 0.1).margin)(IMAGES)

    def test_input_of_double_precision(self):
        inputs = keras.Input(networks.SHAPE, dtype="float64")
        model = keras.Model(inputs, networks.chain(layers.Conv2D(3, 3, activation="relu"))(inputs))
        least = np.diff(np.sort(model(IMAGES).numpy(), axis=1))[:, -1]
        margin = fr.certify(model, IMAGES, np.argmax(model(IMAGES), axis=1), 0.0).margin
        self.assertAllClose(margin, least, rtol=1e-3, atol=1e-2)

    def test_operations_without_a_rule(self):
        inputs = keras.Input(networks.SHAPE)
        for operation in (
            lambda x: x**5,
            lambda x: x**1.5,
            lambda x: 2**x,
            lambda x: keras.activations.relu(x, max_value=1.0),
            lambda x: networks.length(x, ord=1, axis=3),
            lambda x: networks.ops.cast(networks.ops.cast(x, "float16"), "float32"),
        ):
            model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(operation(inputs))))
            self.expect_error(model, "an operation: of these")

    def test_operations_that_mix_examples(self):
        inputs = keras.Input(networks.SHAPE)
        ops = networks.ops
        for operation in (
            lambda x: networks.flipped(x, [0]),
            lambda x: ops.roll(x, 1, 0),
            lambda x: ops.tile(x, [2, 1, 1, 1]),
        ):
            model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(operation(inputs))))
            self.expect_error(model, "each image alone")

    def test_variance_of_a_batch(self):
        inputs = keras.Input(networks.SHAPE)
        for operation in (
            lambda x: networks.variance(x, [0, 1, 2], keepdims=True),
            lambda x: networks.length(x, axis=0, keepdims=True),
        ):
            model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(operation(inputs) + inputs)))
            self.expect_error(model, "each image alone. Received .*along axis 0")

    def test_attention_among_other_places(self):
        inputs = keras.Input(networks.SHAPE)
        rows = layers.Reshape((14, 6))(inputs)
        for output, message in (
            (layers.MultiHeadAttention(2, 3)(layers.Dense(4)(inputs), layers.Dense(4)(inputs)), "along one axis"),
            (layers.MultiHeadAttention(2, 3, output_shape=(2, 2))(rows, rows), "along one axis.*more axes"),
            (layers.MultiHeadAttention(2, 3)(layers.Reshape((7, 12))(inputs), rows), "one number. Received 7 and 14"),
            (layers.MultiHeadAttention(2, 3)(rows, rows, use_causal_mask=True), "called with a constant"),
        ):
            self.expect_error(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(output))), message)

    def test_rule_that_is_not_the_layers(self):
        class Doubled(layers.Layer):
            def call(self, inputs):
                return 2 * inputs

        fr.certification.register_rule(Doubled)(lambda layer: [])
        self.expect_error(networks.chain(Doubled()), "computes what its layers' rules say")

    def test_linear_rule_that_hides_something(self):
        class Centered(layers.Layer):
            def call(self, inputs):
                return inputs - 0.5

        class Edges(layers.Layer):
            def call(self, inputs):
                return inputs[:, 1:] - inputs[:, :-1]

        class Contrast(layers.Layer):
            def call(self, inputs):  # One weight of many is negative.
                return tf.reduce_sum(inputs, axis=[1, 2], keepdims=True) - 2 * inputs[:, 2:3, 3:4]

        fr.certification.register_rule(Centered, Edges, Contrast)(lambda layer: [fr.certification.Linear(layer)])
        self.expect_error(networks.chain(Centered(name="c")), r"constant is its `offset`.*0\.5, by the rule of c \(Cen")
        self.expect_error(networks.chain(Edges(name="e")), r"`absolute`.*by the rule of e \(Edges\)")
        self.expect_error(networks.chain(Contrast(name="s")), r"`absolute`.*by the rule of s \(Contrast\)")

    def test_linear_rule_of_what_is_not_linear(self):
        fr.certification.register_rule(OfFunction)(lambda layer: [fr.certification.Linear(layer)])
        for function in (tf.nn.relu, tf.square, lambda x: tf.reduce_max(x, axis=1, keepdims=True)):
            self.expect_error(
                networks.chain(OfFunction(function, name="bent")),
                r"a difference of inputs.*rule of bent \(OfFunction\)",
            )

    def test_linear_rule_of_what_has_another_gradient(self):
        @tf.custom_gradient
        def reversed_gradient(x):
            return 2 * x, lambda upstream: -upstream

        fr.certification.register_rule(OfFunction)(lambda layer: [fr.certification.Linear(layer)])
        for function in (tf.stop_gradient, reversed_gradient, lambda x: x + tf.stop_gradient(x[:, ::-1])):
            self.expect_error(
                networks.chain(OfFunction(function, name="cut")),
                r"(derivative is its own|`absolute`).*rule of cut \(OfF",
            )

    def test_constants_in_a_call(self):
        class Gate(layers.Layer):
            def call(self, inputs, shift=0.0):
                return inputs + 0 * shift

        fr.certification.register_rule(Gate)(lambda layer: [fr.certification.Linear(tf.identity)])
        inputs = keras.Input(networks.SHAPE)
        features = layers.Dense(3)(layers.Flatten()(inputs))
        zeros, all_of_them = np.zeros([1, 3], "float32"), np.ones([1, 3], bool)
        for name, output in (
            ("sum", layers.Add(name="sum")([features, tf.constant(zeros)])),
            ("array", layers.Add(name="array")([features, zeros])),
            ("mask", layers.Softmax(name="mask")(features, mask=tf.constant(all_of_them))),
            ("gate", Gate(name="gate")(features, shift=5.0)),
        ):
            self.expect_error(
                keras.Model(inputs, output), rf"nothing but what other layers give.*{name} \(.*a constant"
            )

    def test_activations_whose_bounds_are_wrong(self):
        class Jump(fr.certification.Elementwise):
            def interval(self, inputs):
                return fr.certification.Interval(tf.round(inputs.low), tf.round(inputs.high))

            def relax(self, inputs):  # Right for rounding to nothing.
                return tf.ones_like(inputs.low), tf.zeros_like(inputs.low), tf.ones_like(inputs.low), 0.1

        bump, slope = lambda x: tf.exp(-(x**2)), lambda x: -2 * x * tf.exp(-(x**2))
        root = 0.5**0.5
        smooth = fr.certification.Smooth
        for function, step, message in (
            (bump, smooth(bump, slope, inflections=(-root, root)), "an interval.*at.*by the rule of bent"),
            (bump, smooth(bump, slope, extrema=(0.0,)), "lines"),
            (tf.sin, smooth(tf.sin, tf.cos, extrema=[k * np.pi / 2 for k in range(-99, 100, 2)]), "lines"),
            (tf.round, Jump(), "lines"),
        ):
            fr.certification.register_rule(OfFunction)(lambda layer, step=step: [step])
            self.expect_error(networks.chain(OfFunction(function, name="bent")), f"activation with {message}")
        scale = tf.constant(np.random.RandomState(0).rand(*networks.SHAPE), tf.float32)  # It is another for each pixel.
        own = smooth(lambda x: scale * tf.tanh(x), lambda x: scale * (1 - tf.tanh(x) ** 2), inflections=(0.0,))
        fr.certification.register_rule(OfFunction)(lambda layer: [own])
        self.assertEqual(
            fr.certify(networks.chain(OfFunction(lambda x: scale * tf.tanh(x))), IMAGES, [0, 1], 0.1).margin.shape, [2]
        )
        right = smooth(bump, slope, inflections=(-root, root), extrema=(0.0,))
        fr.certification.register_rule(OfFunction)(lambda layer: [right])
        self.assertEqual(fr.certify(networks.chain(OfFunction(bump)), IMAGES, [0, 1], 0.1).margin.shape, [2])

    def test_a_mode_among_other_options_of_a_call(self):
        class Open(layers.Layer):
            def call(self, inputs, **options):
                return inputs

        fr.certification.register_rule(Open)(lambda layer: [])
        inputs = keras.Input(networks.SHAPE)
        model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(Open()(inputs, training=False))))
        self.assertEqual(fr.certify(model, IMAGES, [0, 1], 0.1).margin.shape, [2])

    def expect_error_of_call(self, call, message):
        class Own(layers.Layer):
            def call(self, inputs):
                return call(inputs)

        self.expect_error(networks.chain(Own()), message)

    @parameterized.named_parameters(
        ("epsilon", lambda x: tf.math.l2_normalize(x, axis=-1, epsilon=1.0)),
        ("along one axis", lambda x: tf.nn.max_pool(x[:, 0], 2, 1, "VALID")),
        ("padding by numbers", lambda x: tf.nn.max_pool(x, 2, 1, [[0, 0], [1, 1], [1, 1], [0, 0]])),
    )
    def test_options_of_operations(self, call):
        self.expect_error_of_call(call, "Expected layers with a rule for bounds")

    def test_images_that_change_places(self):
        for shift in (1, 2):
            self.expect_error_of_call(lambda x, shift=shift: tf.roll(x, shift, axis=0), "on each image alone")

    def test_training_mode_that_is_written_in_a_call(self):
        noise = layers.GaussianNoise(1e-4)
        self.expect_error_of_call(lambda x: noise(x, training=True), "mode of their model")

    def test_options_of_keras_3(self):
        if not compat.KERAS_3:
            self.skipTest("Keras 2 has neither operations nor quantized layers.")
        self.expect_error_of_call(lambda x: keras.ops.max(x, axis=[1, 2], initial=0.0), "with a rule for bounds")
        self.expect_error_of_call(lambda x: keras.ops.normalize(x, epsilon=1.0), "with a rule for bounds")
        dense = layers.EinsumDense("bhwc,cd->bhwd", [7, 6, 3])
        model = networks.chain(dense)
        dense.quantize("int8")
        self.expect_error(model, "quantized to int8")

    def test_activation_that_has_no_hash(self):
        class Own:
            __hash__ = None

            def __call__(self, inputs):
                return inputs

        self.expect_error(networks.chain(layers.Dense(3, activation=Own())), "Expected an activation with a rule")

    def test_what_differs_where_no_image_is(self):
        class Edge(layers.Layer):
            def call(self, inputs):  # The identity on the images, whose first pixels are all the same.
                return inputs + tf.nn.relu(inputs - inputs[:, :1, :1])

        images = np.tile(np.float32(0.7), [2, *networks.SHAPE])
        images[:, 1] = 0.1
        fr.certification.register_rule(Edge)(lambda layer: [])
        with self.assertRaisesRegex(ValueError, "computes what its layers' rules say"):
            fr.certify(networks.chain(Edge()), images, [0, 1], 0.1)


class GreatestOfPlace(layers.Layer):
    def call(self, inputs):
        return tf.reduce_max(inputs, axis=[1, 2])


class TracingTest(tf.test.TestCase, parameterized.TestCase):
    def margins(self, model, method="crown"):
        return fr.certify(model, IMAGES, [0, 1], 0.1, method=method).margin

    def own_model(self):
        class Own(keras.Model):
            def __init__(self):
                super().__init__()
                self.convolution = layers.Conv2D(3, 3)
                self.normalization = layers.BatchNormalization()
                self.end = keras.Sequential([layers.ReLU(), layers.Flatten(), layers.Dense(3)])

            def call(self, images, training=None):
                return self.end(self.normalization(self.convolution(images), training=training))

        own = Own()
        own(IMAGES)
        parts = [keras.Input(networks.SHAPE), own.convolution, own.normalization, own.end]
        return networks.randomize(own), keras.Sequential(parts)

    @parameterized.parameters("ibp", "crown_ibp", "crown", "alpha_crown")
    def test_model_of_a_call_of_its_own(self, method):
        own, functional = self.own_model()
        self.assertAllClose(self.margins(own, method), self.margins(functional, method))

    def test_output_that_is_not_the_last_to_be_computed(self):
        class Heads(layers.Layer):
            def __init__(self):
                super().__init__()
                self.logits, self.other = layers.Dense(3), layers.Dense(3)

            def call(self, inputs):
                return tf.nn.softmax(self.other(inputs)), self.logits(inputs)

        inputs, heads = keras.Input(networks.SHAPE), Heads()
        own = networks.randomize(keras.Model(inputs, heads(layers.Flatten()(inputs))[1]))
        plain = keras.Sequential([keras.Input(networks.SHAPE), layers.Flatten(), heads.logits])
        for method in ("ibp", "crown"):
            self.assertAllClose(self.margins(own, method), self.margins(plain, method))

    @parameterized.parameters("crown", "alpha_crown", "beta_crown")
    def test_greatest_value(self, method):
        inputs = keras.Input(networks.SHAPE)
        values = layers.Conv2D(4, 3)(inputs)
        end = layers.Dense(3)
        own = networks.randomize(keras.Model(inputs, end(GreatestOfPlace()(values))))
        plain = keras.Model(inputs, end(layers.GlobalMaxPooling2D()(values)))
        self.assertAllClose(self.margins(own, method), self.margins(plain, method), rtol=1e-3, atol=1e-4)

    def test_attention_by_names(self):
        inputs = keras.Input(networks.SHAPE)
        places = layers.Reshape([-1, networks.SHAPE[-1]])(inputs)
        first, second, third = (layers.Dense(size, activation="relu")(places) for size in (2, 3, 4))
        attention, end = layers.MultiHeadAttention(2, 3), keras.Sequential([layers.Flatten(), layers.Dense(3)])
        named = networks.randomize(keras.Model(inputs, end(attention(key=first, value=second, query=third))))
        plain = keras.Model(inputs, end(attention(third, second, first)))
        self.assertAllClose(self.margins(named), self.margins(plain))

    def models_of_pixels(self):
        """A model whose layers see single pixels, in windows of fewer pixels than channels, and the same without them."""

        class Pixelwise(layers.Layer):
            def __init__(self, windows):
                super().__init__()
                self.windows = windows
                self.parts = [layers.LayerNormalization(epsilon=0.1), layers.Dense(5), layers.PReLU(shared_axes=[1])]
                self.parts += [layers.Dense(6, activation="relu"), layers.BatchNormalization()]

            def call(self, inputs):
                x = networks.ops.reshape(inputs, [-1, 3, 6] if self.windows else [-1, 30, 6])
                for part in self.parts:
                    x = part(x)
                return networks.ops.reshape(keras.activations.tanh(x), [-1, 30, 6])

        for windows in (True, False):
            inputs = keras.Input(networks.SHAPE)
            x = layers.Reshape((30, 6))(layers.Conv2D(6, (3, 1), activation="relu")(inputs))
            x = layers.Dense(3)(layers.Flatten()(Pixelwise(windows)(x)))
            yield networks.randomize(keras.Model(inputs, x))

    @parameterized.parameters("ibp", "crown", "alpha_crown")
    def test_windows_in_the_batch_change_nothing(self, method):
        models = [*self.models_of_pixels()]
        labels = np.argmax(models[0](IMAGES), axis=1)
        for epsilon in (0.02, 0.3):
            margins = [fr.certify(model, IMAGES, labels, epsilon, method=method).margin for model in models]
            self.assertAllClose(*margins, rtol=1e-4, atol=1e-4)

    def test_windows_in_the_batch_are_trained_as_without_them(self):
        regularizer = fr.IntervalBoundRegularizer(0.1, crown_ibp=(0.5, 0.5))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        penalties, gradients = [], []
        for model in self.models_of_pixels():
            with tf.GradientTape() as tape:
                _, penalty = regularizer(model, tf.constant(IMAGES), tf.constant([0, 1]), loss, training=True)
            penalties.append(penalty)
            gradients.append(tape.gradient(penalty, compat.tf_variables(model.trainable_variables)))
        self.assertAllClose(*penalties, rtol=1e-4)
        for one, other in zip(*gradients):
            self.assertAllClose(one, other, rtol=1e-3, atol=1e-4 * float(tf.norm(other)) + 1e-6)

    def test_windows_in_the_batch_that_are_padded(self):
        class Padded(layers.Layer):
            def call(self, inputs):
                windows = networks.ops.reshape(inputs, [-1, 6, 2])
                windows = networks.ops.pad(windows, [[0, 0], [1, 0], [0, 0]], constant_values=0.3)
                return networks.ops.reshape(windows, [-1, 98])

        model = networks.chain(Padded())
        labels = np.argmax(model(IMAGES), axis=1)
        leads = np.diff(np.sort(model(IMAGES), axis=1)[:, -2:], axis=1)[:, 0]
        self.assertAllClose(fr.certify(model, IMAGES, labels, 0.0).margin, leads, rtol=1e-2, atol=1e-2)

    def test_a_batch_that_is_not_on_the_first_axis(self):
        inputs = keras.Input(networks.SHAPE)
        moved = networks.ops.transpose(inputs, [1, 0, 2, 3])
        x = networks.ops.transpose(keras.activations.relu(moved - 0.5), [1, 0, 2, 3])
        model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
        with self.assertRaisesRegex(ValueError, "sub.*, of values whose batch is not on the first axis"):
            fr.certify(model, IMAGES, [0, 1], 0.1)

    def test_functional_model_of_a_call_of_its_own(self):
        class Own(keras.Sequential):
            def call(self, images, training=None, mask=None):
                return 2 * super().call(images)

        model = Own([keras.Input(networks.SHAPE), layers.Flatten(), layers.Dense(3)])
        plain = keras.Sequential(model.layers)
        self.assertAllClose(self.margins(model), 2 * self.margins(plain), rtol=1e-4)

    def test_subclass_of_a_layer_that_has_a_rule(self):
        class Own(layers.Dense):
            def call(self, inputs):
                return 3 * super().call(inputs)

        own = networks.chain(Own(4, activation="relu"))
        plain = networks.chain(layers.Dense(4, activation="relu"), layers.Rescaling(3.0))
        self.assertAllClose(self.margins(own), self.margins(plain), rtol=1e-4)

    def test_layers_of_one_name(self):
        class Own(layers.Layer):
            def __init__(self):
                super().__init__()
                self.parts = [layers.Dense(4, activation="relu", name="same") for _ in range(2)]

            def call(self, inputs):
                return self.parts[1](self.parts[0](inputs))

        own = networks.chain(Own())
        first, second = own.layers[0].parts
        plain = keras.Sequential([keras.Sequential([first]), second, *own.layers[1:]])
        self.assertAllClose(self.margins(own), self.margins(plain))
        self.assertEqual([first.name, second.name], ["same", "same"])

    def test_lambda(self):
        self.assertAllClose(
            self.margins(networks.chain(layers.Lambda(lambda x: 0.5 - x))),
            self.margins(networks.chain(layers.Rescaling(-1.0, 0.5))),
            rtol=1e-4,
        )

    def test_layers_are_left_as_they_are(self):
        own, _ = self.own_model()
        before = [(len(each._inbound_nodes), len(each._outbound_nodes)) for each in own._flatten_layers()]
        self.margins(own)
        after = [(len(each._inbound_nodes), len(each._outbound_nodes)) for each in own._flatten_layers()]
        self.assertEqual(before, after)
        self.assertEqual([*own.end.output.shape], [None, 3])

    def test_gradients_of_bounds_are_those_of_the_functional_model(self):
        own, functional = self.own_model()
        regularizer = fr.IntervalBoundRegularizer(0.1, crown_ibp=(0.5, 0.5))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        @tf.function
        def gradients(model):
            with tf.GradientTape() as tape:
                _, penalty = regularizer(model, tf.constant(IMAGES), tf.constant([0, 1]), loss)
            return tape.gradient(penalty, compat.tf_variables(own.trainable_variables))

        for one, other in zip(gradients(own), gradients(functional)):
            self.assertGreater(tf.norm(one), 0)
            self.assertAllClose(one, other, rtol=1e-4, atol=1e-5)

    def test_gradients_reach_arrays_of_ones_own(self):
        model = networks.table()[1]["own_layers"]()
        regularizer = fr.IntervalBoundRegularizer(0.01, crown_ibp=(1.0, 1.0))
        with tf.GradientTape() as tape:
            _, penalty = regularizer(
                model, IMAGES, [0, 1], keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            )
        for gradient in tape.gradient(penalty, compat.tf_variables(model.trainable_variables)):
            self.assertGreater(tf.norm(gradient), 0)


class RegisterRuleTest(tf.test.TestCase):
    def test_only_classes_of_layers(self):
        for thing in ("Dense", layers.Dense(3), dict):
            with self.assertRaisesRegex(TypeError, "Expected classes of Keras layers"):
                fr.certification.register_rule(layers.Dense, thing)

    def test_layer_of_ones_own(self):
        class Mirror(layers.Layer):
            def call(self, inputs):
                return -tf.reverse(inputs, [2])

        @fr.certification.register_rule(Mirror)
        def _mirror(layer):
            return [fr.certification.Linear(layer, absolute=lambda inputs: tf.reverse(inputs, [2]))]

        model, mirrored = networks.chain(), networks.chain(Mirror())
        kernel = -np.reshape(model.get_weights()[0], [*networks.SHAPE, -1])[:, ::-1]
        mirrored.set_weights([kernel.reshape(-1, networks.CLASSES), model.get_weights()[1]])
        plain, own = (fr.certify(each, IMAGES, [0, 1], 0.4, method="crown").margin for each in (model, mirrored))
        self.assertAllClose(plain, own, rtol=1e-4)


if __name__ == "__main__":
    tf.test.main()
