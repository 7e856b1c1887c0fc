# %% [markdown]
# # How a deformation fools a network
#
# A network that classifies digits, and a flow of less than half a pixel that changes its mind. `keras_flowreg` brings 6,000
# training images and 1,000 test images of MNIST along, so that nothing is downloaded.

# %%
import keras
import numpy as np

import keras_flowreg as fr
from keras_flowreg.commands import architectures, datasets

# %% tags=["parameters"]
epochs, train_size, examples = 8, 6000, 300

# %%
keras.utils.set_random_seed(0)
digits = datasets.load("digits", train_size=train_size)
classifier = architectures.build("small_cnn", digits.image_shape, digits.num_classes, width=0.5)
classifier.compile(
    keras.optimizers.SGD(0.05, momentum=0.9),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
classifier.fit(digits.train, epochs=epochs, verbose=0)
loss, accuracy = classifier.evaluate(digits.test, verbose=0)
print(f"clean accuracy: {accuracy:.3f}")

# %% [markdown]
# ## Random flows do nothing
#
# A flow gives each pixel a displacement `(dy, dx)` of its own, in pixels. The threat model: no component of any displacement
# is larger than ε. Take the first test images, and let every pixel move at random by up to 0.4 pixels.

# %%
images, labels = next(iter(digits.test.unbatch().batch(examples)))
epsilon = 0.4
ball = fr.balls.get("linf", epsilon)
flow = ball.sample([*images.shape[:3], 2], seed=[0, 0])
deformed = fr.ops.dense_image_warp(images, flow)
print(f"accuracy on randomly deformed images: {classifier.evaluate(deformed, labels, verbose=0)[1]:.3f}")

# %% [markdown]
# ## The worst flow does much
#
# An attack looks for the flow in the ball that raises the loss most. `run` returns all there is to know of it. (Where both
# components of a displacement are 0.4 pixels, it is 0.57 pixels long.)

# %%
attack = fr.attacks.FlowFrankWolfe(epsilon)
result = attack.run(images, labels, model=classifier)
print(f"accuracy under attack: {1 - result.success.numpy().mean():.3f}")
print(f"largest displacement: {result.displacement.largest.numpy().max():.2f} pixels")

# %%
# Three digits that were right, and are not any more
chosen = np.flatnonzero(result.success & ~result.clean_success)[:3]
answers = classifier.predict(result.images, verbose=0).argmax(axis=1)
captions = [(f"{labels[number]}", f"seen as {answers[number]}") for number in chosen]
parts = (part.numpy()[chosen] for part in (images, result.flow, result.images))
figure = fr.pictures.draw_gallery(*parts, captions)

# %% [markdown]
# The flow points across the edges of the strokes, for only there a displacement changes anything: it eats a stroke away here,
# and thickens one there. A reader still sees the same digit.
#
# ## How far is far enough?
#
# The same for several radii, and a weaker attack beside it: gradient steps, which the kinks of the warp mislead.

# %%
# Accuracy against the radius
report = fr.evaluate_robustness(
    classifier,
    (images, labels),
    [fr.attacks.FlowPGD(epsilon), attack],
    epsilons=[0.1, 0.2, 0.3, 0.4],
    check=False,
    verbose=0,
)
report.plot()
print({radius: round(float(robust.mean()), 3) for radius, robust in report.worst_case().items()})

# %% [markdown]
# The next tutorial, [flow-gradient regularization from scratch](from_scratch.md), mends the network.
