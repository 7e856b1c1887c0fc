"""Two virtual CPU devices, for tests of `tf.distribute`. Import before TensorFlow touches a device."""

import tensorflow as tf

_CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(_CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
