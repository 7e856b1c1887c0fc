# %% [markdown]
# # Flow-gradient regularization from scratch
#
# The idea in one line: if the loss hardly changes as pixels begin to move, a small deformation cannot do much. So the
# training penalizes the gradient of the loss with respect to a flow. First in twenty lines of TensorFlow, then by the library.

# %%
import keras
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.commands import architectures, datasets

# %% tags=["parameters"]
epochs, train_size, examples = 12, 6000, 300

# %%
digits = datasets.load("digits", batch_size=64, train_size=train_size)
images, labels = next(iter(digits.test.unbatch().batch(examples)))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
attack = fr.attacks.FlowFrankWolfe(epsilon=0.4)


def build():
    """The same network with the same weights each time."""
    keras.utils.set_random_seed(0)
    return architectures.build("small_cnn", digits.image_shape, digits.num_classes, width=0.5)


def optimizer():
    """Gradient descent with momentum, along half a cosine; the gradient is clipped, for a penalty can be steep."""
    learning_rate = keras.optimizers.schedules.CosineDecay(0.05, epochs * len(digits.train))
    return keras.optimizers.SGD(learning_rate, momentum=0.9, global_clipnorm=1.0)


def measure(model):
    """Clean accuracy, and accuracy under attack."""
    result = attack.run(images, labels, model=model, loss=loss)
    clean, robust = 1 - result.clean_success.numpy().mean(), 1 - result.success.numpy().mean()
    print(f"clean {clean:.3f}, under attack {robust:.3f}")


# %% [markdown]
# ## The gradient of a flow
#
# A pixel that begins to move takes on the values beside it. By the chain rule, the gradient with respect to its displacement
# is the gradient with respect to its value, times the slope of the image there, summed over the channels. The library's warp
# has TensorFlow Addons' sign, `output[i, j] = image[i - dy, j - dx]`, and so the slope has a minus.


# %%
def slopes(images):
    """Differences to the next pixel down and right: [batch, height, width, channels, 2]."""
    down = tf.concat([images[:, 1:], images[:, -1:]], axis=1) - images
    right = tf.concat([images[:, :, 1:], images[:, :, -1:]], axis=2) - images
    return tf.stack([down, right], axis=-1)


def flow_gradients(model, images, labels, training=False):
    """The gradient of each example's loss with respect to a flow at zero: [batch, height, width, 2]."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(
            keras.losses.sparse_categorical_crossentropy(labels, model(images, training=training), True)
        )
    return -tf.einsum("bhwc,bhwcd->bhwd", tape.gradient(total, images), slopes(images))


# %% [markdown]
# It is what the library computes. At zero flow each pixel is at a kink of the bilinear interpolation, and its derivative is
# a choice, which has a name: `"forward"` is the difference to the next pixel.

# %%
model = build()
ours = flow_gradients(model, images[:8], labels[:8])
theirs = fr.flow_gradients(model, images[:8], labels[:8], loss=loss, lattice="forward")
print(f"largest difference: {tf.reduce_max(tf.abs(ours - theirs)):.1e} of {tf.reduce_max(tf.abs(theirs)):.1e}")

# %% [markdown]
# ## Training
#
# The penalty is the mean over the examples of the squared norm. The outer tape differentiates it once more, with respect to
# the weights. The weight rises over the first half of the training: all of it at once would drive the network to a constant
# answer.

# %%
sgd = optimizer()


@tf.function
def step(images, labels, weight):
    with tf.GradientTape() as tape:
        gradients = flow_gradients(model, images, labels, training=True)
        penalty = tf.reduce_mean(tf.reduce_sum(gradients**2, axis=[1, 2, 3]))
        total = loss(labels, model(images, training=True)) + weight * penalty
    sgd.apply_gradients(zip(tape.gradient(total, model.trainable_variables), model.trainable_variables))


for epoch in range(epochs):
    for batch in digits.train:
        step(*batch, tf.constant(55 * min(1.0, 2 * epoch / epochs)))
measure(model)

# %% [markdown]
# ## The same by the library
#
# Plainly first, to compare; then with the penalty. The library runs the model once a step for both, takes the gradient at a
# random start off the kinks (`random_start`) or on both sides of them, and has closed forms for layers whose second
# derivative TensorFlow gets wrong or takes long for. Everything else is Keras.


# %%
def train(regularizer, callbacks=()):
    model = fr.FlowRegularizedModel(build(), regularizer)
    model.compile(optimizer(), loss)
    model.fit(digits.train, epochs=epochs, verbose=0, callbacks=list(callbacks))
    measure(model)
    return model


plain = train(None)
regularizer = fr.FlowGradientRegularizer(weight=55, random_start=0.25)
regularized = train(regularizer, [fr.callbacks.PenaltyWarmup(epochs / 2)])

# %% [markdown]
# [Train](../train.md) says what else there is to choose, and [the concepts](../concepts.md) why.
