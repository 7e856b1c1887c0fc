# %% [markdown]
# # Robustness of your own Keras model
#
# Your model is not made like those of a library's examples: it takes bytes, it augments, it ends in a softmax, its labels are
# one-hot, its pictures lie in a folder. This is such a model, measured, mended and handed on.

# %%
import os
import tempfile

import keras
import numpy as np
import PIL.Image
import tensorflow as tf
from matplotlib import pyplot
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import keras_flowreg as fr
from keras_flowreg.commands import datasets

# %% tags=["parameters"]
epochs, pictures_per_class, examples = 6, 300, 200

# %% [markdown]
# ## Pictures in a folder
#
# One folder a class, as `keras.utils.image_dataset_from_directory` reads them. Here they are digits, three classes of them;
# put the path of your own in the place of `folder`.

# %%
folder = tempfile.mkdtemp()
digits = datasets.load("digits", batch_size=6000)
for split, data in (("train", digits.train), ("test", digits.test)):
    images, labels = next(iter(data))
    for label in (3, 5, 8):
        place = os.path.join(folder, split, str(label))
        os.makedirs(place)
        for number, image in enumerate(images.numpy()[labels.numpy() == label][:pictures_per_class]):
            grey = PIL.Image.fromarray((255 * image[..., 0]).astype("uint8"))
            grey.convert("RGB").resize((56, 56)).save(os.path.join(place, f"{number}.png"))

options = {"label_mode": "categorical", "image_size": (56, 56), "batch_size": 32, "seed": 0}
training = keras.utils.image_dataset_from_directory(os.path.join(folder, "train"), **options)
testing = keras.utils.image_dataset_from_directory(os.path.join(folder, "test"), **options, shuffle=False)
print(training.class_names, training.element_spec[0].shape)

# %% [markdown]
# ## A model of yours
#
# It could as well be one of `keras.applications`, with a new head; nothing below would change. A binary model, of one output,
# becomes one of two classes by `fr.two_class_classifier`.

# %%
layers = keras.layers
keras.utils.set_random_seed(0)
stages = [
    layer
    for filters in (16, 32, 64)
    for layer in (
        layers.Conv2D(filters, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("swish"),
        layers.MaxPooling2D(),
    )
]
classifier = keras.Sequential(
    [
        layers.Input((56, 56, 3)),
        layers.Rescaling(1 / 255),
        layers.RandomTranslation(0.05, 0.05, fill_mode="nearest"),
        *stages,
        layers.GlobalAveragePooling2D(),
        layers.Dense(len(training.class_names), activation="softmax"),
    ]
)
classifier.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
classifier.fit(training, epochs=epochs, verbose=0)
print(f"clean accuracy: {classifier.evaluate(testing, verbose=0)[1]:.3f}")

# %% [markdown]
# ## Ask
#
# The report takes the data as `fit` does, and the loss that the model is compiled with. One thing it cannot know: what values
# an image may have. `value_range` says it. Begin with small radii: a network that nobody has hardened may stand very little.

# %%
attack = fr.attacks.FlowFrankWolfe(epsilon=0.2, value_range=(0, 255))
ask = {"attacks": attack, "epsilons": [0.05, 0.1, 0.2], "examples": examples, "value_range": (0, 255), "verbose": 0}
report = fr.evaluate_robustness(classifier, testing, **ask)
print(report)

# %% [markdown]
# ## Mend
#
# Will the penalty work on this model? `fr.checks.second_derivative` tries its layers, and lists those whose second derivative
# is wrong or missing.

# %%
batch, _ = next(iter(training))
print(fr.checks.second_derivative(classifier, batch))

# %% [markdown]
# The list is empty: all are exact. The gradient is with respect to a displacement, and so the penalty's weight does not ask
# for the range of the values; it begins where [the recipes](../choose.md#methods-of-training) are, and rises over the first
# half of the training. Where the `gradient_penalty` of the first epoch dwarfs the `task_loss`, begin with less, and clip the
# gradient ([Train](../train.md#the-weight-needs-a-warm-up)). TensorBoard shows how it goes: beside the scalars of Keras's
# callback, `AttackPictures` draws what the attack does to a few pictures after each epoch.

# %%
images, labels = (np.concatenate(parts)[:: len(testing)][:3] for parts in zip(*testing.as_numpy_iterator()))
logs = os.path.join(folder, "logs")
callbacks = [
    fr.callbacks.PenaltyWarmup(epochs / 2),
    keras.callbacks.TensorBoard(logs),
    fr.callbacks.AttackPictures(attack, (images, labels), logs),
]
model = fr.FlowRegularizedModel(classifier, fr.FlowGradientRegularizer(weight=10, random_start=0.25))
model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"])
model.fit(training, epochs=epochs, verbose=0, callbacks=callbacks)

# %% [markdown]
# `tensorboard --logdir=logs` shows both in a browser. Without one, its files are read like this:

# %%
# The attack after the first epoch, and after the last
written = EventAccumulator(os.path.join(logs, "attack")).Reload().Tensors("attack")
drawn = [tf.io.decode_png(tf.make_ndarray(event.tensor_proto)[2]) for event in (written[0], written[-1])]
figure, axes = pyplot.subplots(2, figsize=(10, 12.5), layout="constrained")
for each, picture, title in zip(axes, drawn, ("after the first epoch", "after the last")):
    each.imshow(picture)
    each.axis("off")
    each.set_title(title)
print("scalars:", *EventAccumulator(os.path.join(logs, "train")).Reload().Tags()["tensors"], sep="  ")

# %%
mended = fr.evaluate_robustness(model, testing, **ask)
for name, each in (("before", report), ("after", mended)):
    accuracies = {radius: round(float(robust.mean()), 3) for radius, robust in each.worst_case().items()}
    print(f"{name}: clean {each.clean_accuracy.value:.3f}, under attack {accuracies}")

# %% [markdown]
# ## Hand it on
#
# `classifier` was trained in place: it is the mended network, without any training code. The card beside the export holds
# the report. [Export, serve and fine-tune](hand_on.md) says what can be done with it.

# %%
path = os.path.join(folder, "export")
fr.export(model, path, report=mended, value_range=(0, 255))
restored = fr.load_classifier(path)
difference = restored.predict(images, verbose=0) - classifier.predict(images, verbose=0)
print(sorted(os.listdir(path)), np.abs(difference).max())
