"""Two virtual CPU devices, for tests of `tf.distribute`. Import before TensorFlow touches a device."""

import functools

import tensorflow as tf

_CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(_CPU, [tf.config.LogicalDeviceConfiguration()] * 2)


@functools.cache
def two_replicas():
    """One strategy for all tests of a process: TensorFlow mixes up the collective operations of several."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
