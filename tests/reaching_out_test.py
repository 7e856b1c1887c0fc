"""Tests that a SavedModel which only computes is told from one that reaches out of TensorFlow."""

import os
import pathlib

import keras
import tensorflow as tf
from absl.testing import parameterized
from tensorflow.core.protobuf import saved_model_pb2

import keras_flowreg as fr
from keras_flowreg.reaching_out import reaching_operations
from tests import testing


def read(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(pathlib.Path(folder, "saved_model.pb").read_bytes())
    return saved


def write(saved, folder):
    pathlib.Path(folder, "saved_model.pb").write_bytes(saved.SerializeToString())


def _ops_of(function):
    return {node.op for node in function.node_def}


class Module(tf.Module):
    """A model of one function, which may use a table, a generator and a variable."""

    def __init__(self, function):
        super().__init__()
        keys = tf.lookup.KeyValueTensorInitializer(["a"], [1.0])
        self.table, self.generator = tf.lookup.StaticHashTable(keys, 0.0), tf.random.Generator.from_seed(1)
        self.variable, self.function = tf.Variable(1.0), function

    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def __call__(self, x):
        return self.function(self, x)


def computes(module, x):
    tf.debugging.assert_all_finite(x, "not finite")
    tf.print("to the terminal")
    steps = tf.TensorArray(tf.float32, 3)
    for step in tf.range(3):
        module.variable.assign_add(1.0)
        steps = steps.write(step, module.variable * tf.cast(step, tf.float32))
    return (
        x + module.table.lookup(tf.constant("a")) + module.generator.normal([4]) + tf.random.normal([4]) + steps.read(2)
    )


def prints_into_a_file(module, x):
    tf.print("anything", output_stream="file:///tmp/a_file")
    return x


def reads_lines(module, x):
    return x + tf.data.TextLineDataset("a_file").reduce(0.0, lambda total, line: total + 1)


def saves(module, x):
    tf.raw_ops.SaveV2(prefix="a_file", tensor_names=["x"], shape_and_slices=[""], tensors=[x])
    return x


def calls_python(module, x):
    return tf.ensure_shape(tf.py_function(lambda x: x, [x], tf.float32), x.shape)


def saves_in_a_branch(module, x):
    def save():
        saves(module, x)
        return x

    return tf.cond(tf.reduce_sum(x) > 0, save, lambda: x)


class ReachingOutTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        (computes, None),
        (prints_into_a_file, "PrintV2"),
        (reads_lines, "TextLineDataset"),
        (saves, "SaveV2"),
        (calls_python, "EagerPyFunc"),
        (lambda module, x: x + tf.strings.to_number(tf.io.read_file("a_file")), "ReadFile"),
    )
    def test_modules(self, function, operation):
        folder = self.get_temp_dir()
        tf.saved_model.save(Module(function), folder)
        found = set(reaching_operations(folder))
        if operation is None:
            self.assertEmpty(found)
        else:
            self.assertIn(f"the operation {operation}", found)

    @parameterized.parameters(True, False)
    def test_what_only_seems_to_be_the_saver(self, is_called):
        """A branch that saves, which a node of the saver's calls; or another function that may stand in for it."""
        folder = self.get_temp_dir()
        tf.saved_model.save(Module(saves_in_a_branch), folder)
        saved = read(folder)
        graph, saver = saved.meta_graphs[0].graph_def, saved.meta_graphs[0].saver_def
        functions = graph.library.function
        branch = next(each for each in functions if "cond" in each.signature.name and _ops_of(each) & {"SaveV2"})
        for function in [each for each in functions if "traced_" in each.signature.name]:
            functions.remove(function)
        graph.node.add(name="saver", op="StatefulPartitionedCall").attr["f"].func.name = branch.signature.name
        saver.save_tensor_name, saver.restore_op_name = "saver:0", "saver"
        if not is_called:
            for node in (node for each in functions for node in each.node_def):
                if node.op in ("If", "StatelessIf"):
                    node.attr["then_branch"].func.name = node.attr["else_branch"].func.name
            write(saved, folder)
            self.assertNotIn("the operation SaveV2", set(reaching_operations(folder)))
            branch.attr["api_implements"].s = b"network"
        write(saved, folder)
        self.assertIn("the operation SaveV2", set(reaching_operations(folder)))

    def test_without_objects_any_node_may_be_run(self):
        folder = self.get_temp_dir()
        tf.saved_model.save(Module(computes), folder)
        self.assertEmpty(set(reaching_operations(folder)))
        saved = read(folder)
        saved.meta_graphs[0].ClearField("object_graph_def")
        write(saved, folder)
        self.assertIn("the operation SaveV2", set(reaching_operations(folder)))

    def test_what_keras_makes(self):
        layers = keras.layers
        folder, inputs = self.get_temp_dir(), keras.Input([8, 8, 2])
        x = layers.RandomContrast(0.1)(layers.RandomZoom(0.1)(layers.RandomFlip()(inputs)))
        x = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
        model = keras.Model(inputs, layers.Dense(3)(layers.Bidirectional(layers.LSTM(3))(layers.Reshape([36, 4])(x))))
        model.export(os.path.join(folder, "saved"))
        fr.export(testing.network(), os.path.join(folder, "exported"), value_range=(0, 255), uint8_images=True)
        for name in ("saved", "exported"):
            self.assertEmpty(set(reaching_operations(os.path.join(folder, name))))


if __name__ == "__main__":
    tf.test.main()
