"""Tests of image classifiers of KerasHub, small and at random weights: `pip install keras-hub`."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.certification.network import Network

try:
    from keras_hub import models
except ImportError:
    models = None

SHAPE, CLASSES = (32, 32, 3), 5
IMAGES = np.random.RandomState(0).uniform(size=(4, *SHAPE)).astype("float32")
LABELS = np.arange(4)
RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 64],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
    "block_type": "basic_block",
}
OPTIONS = {
    "ResNet": RESNET,
    "ResNet v2": {**RESNET, "block_type": "bottleneck_block", "use_pre_activation": True},
    "ResNet vd": {
        **RESNET,
        "input_conv_filters": [8, 8, 8],
        "input_conv_kernel_sizes": [3, 3, 3],
        "block_type": "basic_block_vd",
    },
    "DenseNet": {"stackwise_num_repeats": [2, 2], "growth_rate": 8},
    "DeiT": {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32},
    "ViT": {"patch_size": (8, 8), "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32},
    "MiT": {
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [8, 16],
    },
    "SwinTransformer": {"embed_dim": 4, "depths": (2, 1), "num_heads": (2, 2), "window_size": 2, "patch_size": 8},
    "Xception": {
        "stackwise_conv_filters": [[8, 8], [16, 16], [16, 16]],
        "stackwise_pooling": [True, True, False],
    },
    "EfficientNet": {
        "stackwise_kernel_sizes": [3, 3],
        "stackwise_num_repeats": [1, 1],
        "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 16],
        "stackwise_expansion_ratios": [1, 4],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
        "stackwise_strides": [1, 2],
        "stackwise_block_types": ["v1", "v1"],
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "num_features": 32,
    },
    "HGNetV2": {
        "depths": [1, 1],
        "embedding_size": 8,
        "hidden_sizes": [16, 16],
        "stem_channels": [3, 8, 8],
        "hidden_act": "relu",
        "use_learnable_affine_block": False,
        "stackwise_stage_filters": [(8, 8, 16, 1, 1, 3), (16, 8, 16, 1, 1, 3)],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, False],
    },
    "MobileNet": {
        "stackwise_expansion": [[8, 16], [16, 16]],
        "stackwise_num_blocks": [2, 2],
        "stackwise_num_filters": [[8, 8], [16, 16]],
        "stackwise_kernel_size": [[3, 3], [5, 5]],
        "stackwise_num_strides": [[2, 1], [2, 1]],
        "stackwise_se_ratio": [[None, None], [0.25, 0.25]],
        "stackwise_activation": [["relu", "relu"], ["hard_swish", "hard_swish"]],
        "stackwise_padding": [[1, 1], [2, 2]],
        "output_num_filters": 32,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "squeeze_and_excite": None,
        "last_layer_filter": 16,
        "input_num_filters": 8,
        "input_activation": "hard_swish",
        "output_activation": "hard_swish",
    },
}


def classifier(name):
    """A classifier of a kind: the first word of the name."""
    keras.utils.set_random_seed(0)
    kind, options = name.split()[0], OPTIONS[name]
    shape = {"input_shape" if kind == "EfficientNet" else "image_shape": SHAPE}
    backbone = getattr(models, f"{kind}Backbone")(**options, **shape)
    head = {"preprocessor": None, "head_filters": 16} if kind == "HGNetV2" else {}
    model = getattr(models, f"{kind}ImageClassifier")(backbone, num_classes=CLASSES, **head)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class KerasHubTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        if models is None:
            self.skipTest("KerasHub is not installed.")

    @parameterized.parameters(*OPTIONS)
    def test_attacks_and_penalties(self, name):
        model = classifier(name)
        report = fr.evaluate_robustness(model, (IMAGES, LABELS), fr.attacks.FlowPGD(0.3, steps=2), [0.3], check=False)
        self.assertEqual(report.examples, 4)
        self.assertEmpty(fr.checks.second_derivative(model, IMAGES))
        trained = fr.FlowRegularizedModel(model, fr.FlowGradientRegularizer(1.0))
        trained.compile("sgd", model.loss)
        history = trained.fit(IMAGES, LABELS, verbose=0).history
        self.assertGreater(history["gradient_penalty"][0], 0)

    @parameterized.parameters(*OPTIONS)
    def test_proofs(self, name):
        model = classifier(name)
        Network(model, SHAPE).check(model, tf.constant(IMAGES))
        labels = np.argmax(model(IMAGES), axis=1)
        leads = np.diff(np.sort(model(IMAGES), axis=1)[:, -2:], axis=1)[:, 0]
        margins = fr.certify(model, IMAGES, labels, 0.0, method="crown").margin
        self.assertAllClose(margins, leads, rtol=0.1, atol=1e-3)
