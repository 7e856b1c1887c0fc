# %% [markdown]
# # Your own perturbation and your own attack
#
# The library's attacks move every pixel on its own. Your camera does something else: its lens bends what it sees. To say so
# takes one short class, and then attacks, penalties and reports work on it. A second class makes an attack of your own.

# %%
import keras
import numpy as np
import tensorflow as tf
from matplotlib import pyplot

import keras_flowreg as fr
from keras_flowreg.commands import architectures, datasets

# %% tags=["parameters"]
epochs, train_size, examples = 8, 6000, 200

# %%
digits = datasets.load("digits", train_size=train_size)
images, labels = next(iter(digits.test.unbatch().batch(examples)))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train(**options):
    """A small network, trained plainly or with what `FlowRegularizedModel` takes."""
    keras.utils.set_random_seed(0)
    network = architectures.build("small_cnn", digits.image_shape, digits.num_classes, width=0.5)
    model = fr.FlowRegularizedModel(network, **options)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=1.0), loss)
    warmup = [fr.callbacks.AttackWarmup(epochs / 2)] if options else []
    model.fit(digits.train, epochs=epochs, verbose=0, callbacks=warmup)
    return model


plain = train()

# %% [markdown]
# ## A perturbation
#
# A perturbation is a map T(x; θ) that leaves the image as it is at θ = 0. Ours has two parameters, both in pixels: by how much
# the middles of the image's sides are pushed outwards, and by how much they are turned. Nearer to the centre both fade with
# the cube of the distance, as in a lens.
#
# It gives the shape of θ, the displacements, and the image. The warp it takes from `Flow`, which knows the border rule and the
# sign.


# %%
@keras.saving.register_keras_serializable(package="lens")
class Lens(fr.perturbations.Perturbation):
    """T(x; θ) = x as a lens bends it, with θ = (outwards, turned) `[batch, 2]`, in pixels."""

    def parameter_shape(self, images):
        return tf.stack([tf.shape(images)[0], 2])

    def flow(self, images, parameters):
        y, x = (tf.cast(tf.linspace(-1.0, 1.0, size), images.dtype) for size in images.shape[1:3])
        y, x = tf.meshgrid(y, x, indexing="ij")
        radial, turning = tf.stack([y, x], axis=-1), tf.stack([-x, y], axis=-1)
        outwards, turned = tf.unstack(parameters[:, :, tf.newaxis, tf.newaxis, tf.newaxis], axis=1)
        return (y**2 + x**2)[..., tf.newaxis] * (outwards * radial + turned * turning)

    def apply(self, images, parameters):
        return fr.perturbations.Flow().apply(images, self.flow(images, parameters))


# %%
# A grid through the lens: as it is, pushed outwards, drawn inwards, turned
lines = np.zeros((1, 29, 29, 1), "float32")
lines[:, ::4], lines[:, :, ::4] = 1, 1
figure, axes = pyplot.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
for each, theta in zip(axes, ([0.0, 0.0], [2.0, 0.0], [-2.0, 0.0], [0.0, 2.0])):
    fr.pictures.draw_image(each, Lens().apply(tf.constant(lines), tf.constant([theta]))[0].numpy(), f"θ = {theta}")

# %% [markdown]
# Nothing was said of derivatives: they come from a tape through `apply`. Compare them with finite differences once. (In
# float64, and away from θ = 0, where each pixel is at a kink of the interpolation.)

# %%
lens, exact_images = Lens(), tf.cast(images[:8], tf.float64)
theta = tf.constant([[0.3, -0.2]] * 8, tf.float64)
upstream = tf.random.stateless_normal(exact_images.shape, [0, 0], dtype=tf.float64)
differences = []
for direction in tf.eye(2, dtype=tf.float64)[:, tf.newaxis]:
    ahead, behind = (lens.apply(exact_images, theta + step * direction) for step in (1e-6, -1e-6))
    differences.append(tf.reduce_sum(upstream * (ahead - behind), axis=[1, 2, 3]) / 2e-6)
error = tf.reduce_max(tf.abs(lens.pullback(exact_images, theta, upstream) - tf.stack(differences, axis=1)))
print(f"largest error of the derivative: {error:.0e}")

# %% [markdown]
# ## The attacks that are there
#
# `PGD` takes any perturbation. Its ball is in θ's own units: here neither number is larger than ε pixels. A report takes it
# like every attack.

# %%
epsilons = [1.0, 2.0, 4.0]
steps = fr.attacks.PGD(lens, epsilon=4.0, steps=10)
ask = {"epsilons": epsilons, "check": False, "verbose": 0}
report = fr.evaluate_robustness(plain, (images, labels), steps, **ask)
print(report)

# %% [markdown]
# ## An attack of your own
#
# θ has two numbers only, so a search can try them all. An attack gives the perturbation, the ball, and `search`, which looks
# for the θ of the highest loss. Its tools: `objective.query` runs the model on some examples at some θ (`query_with_gradient`
# gives the gradient, too), and `fr.attacks.search.iterate` repeats a step, keeps the best θ of each example, and stops work on
# those that are fooled. Checks, targets, losses, seeds and compiling are the base class's.


# %%
@keras.saving.register_keras_serializable(package="lens")
class LensGrid(fr.attacks.Attack):
    """Tries every lens of a grid, `side` by `side`, in the ball of radius `epsilon`."""

    needs_gradient = False

    def __init__(self, epsilon, side=9, **options):
        super().__init__(**options)
        self.epsilon, self.side = epsilon, side

    @property
    def perturbation(self):
        return Lens()

    @property
    def ball(self):
        return fr.balls.get("linf", self.epsilon)

    def search(self, objective, examples, clean, seed):
        ticks = tf.linspace(-self.epsilon, self.epsilon, self.side)
        grid = tf.reshape(tf.stack(tf.meshgrid(ticks, ticks), axis=-1), [-1, 2])

        def step(count, examples, state):
            theta = tf.repeat(grid[tf.newaxis, count], tf.shape(examples.images)[0], axis=0)
            return objective.query(examples, theta), state

        return fr.attacks.search.iterate(step, self.side**2, examples, clean, state=())[0]


grid = LensGrid(epsilon=4.0)
print(grid)
print(keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(grid)) == grid)

# %% [markdown]
# `replace`, equality and saving follow from the constructor; that the class is *registered* lets Keras find it again when a
# model that was trained on it is loaded. Do gradient steps find what the whole grid finds?

# %%
attacks = {"gradient steps": steps, "grid": grid}
report = fr.evaluate_robustness(plain, (images, labels), attacks, **ask)
print(report)

# %% [markdown]
# At the largest radius they do not: on twelve more images the grid finds a lens that fools the network. Searches err on the
# side of the network, and so the worst case over all of them is the number that counts.

# %%
# What the grid has found
result = grid.run(images, labels, model=plain)
chosen = np.flatnonzero(result.success & ~result.clean_success)[:3]
answers = plain.predict(result.images.numpy()[chosen], verbose=0).argmax(axis=1)
captions = [(f"{labels[number]}", f"seen as {answer}") for number, answer in zip(chosen, answers)]
figure = fr.pictures.draw_gallery(*(part.numpy()[chosen] for part in (images, result.flow, result.images)), captions)
print("θ:", *result.parameters.numpy()[chosen].round(1).tolist())

# %% [markdown]
# ## Mend it
#
# What an attack finds can be trained on. (Where displacements are small, a penalty is cheaper:
# `fr.GradientRegularizer(Lens(), weight)`.)

# %%
mended = train(attack=steps.replace(steps=3))
after = fr.evaluate_robustness(mended, (images, labels), attacks, **ask)
for name, each in (("before", report), ("after", after)):
    accuracies = {radius: round(float(robust.mean()), 3) for radius, robust in each.worst_case().items()}
    print(f"{name}: clean {each.clean_accuracy.value:.3f}, under attack {accuracies}")

# %% [markdown]
# [Attacks](../reference/attacks.md) and [perturbations](../reference/perturbations.md) have what else a class of yours may
# give: a closed form of the derivative, options that need no new compiling, a radius in another norm.
