# %% [markdown]
# # Export, serve and fine-tune
#
# A robust classifier is of use where others run it: without this library, and for tasks of their own. This one is trained,
# measured, exported with its card, served as TensorFlow Serving and TensorFlow Lite do it, and given a new head.

# %%
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

import keras_flowreg as fr
from keras_flowreg.commands import architectures, datasets

# %% tags=["parameters"]
epochs, train_size, examples = 8, 6000, 200

# %%
digits = datasets.load("digits", train_size=train_size)
images, labels = next(iter(digits.test.unbatch().batch(examples)))
attack = fr.attacks.FlowFrankWolfe(epsilon=0.4)
ask = {"attacks": attack, "epsilons": [0.2, 0.4], "check": False, "verbose": 0}


def train(regularizer=None):
    """A small network, trained plainly or with a penalty."""
    keras.utils.set_random_seed(0)
    network = architectures.build("small_cnn", digits.image_shape, digits.num_classes, width=0.5)
    model = fr.FlowRegularizedModel(network, regularizer)
    sgd = keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=1.0)
    model.compile(sgd, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(
        digits.train,
        epochs=epochs,
        verbose=0,
        callbacks=[fr.callbacks.PenaltyWarmup(epochs / 2)] if regularizer else [],
    )
    return model


robust = train(fr.FlowGradientRegularizer(weight=55, random_start=0.25))
report = fr.evaluate_robustness(robust, (images, labels), **ask)

# %% [markdown]
# ## Export
#
# The export is the plain classifier as a SavedModel. The card beside it says what to feed it, how it was trained, and what
# the report has measured. (A report of another model is refused.)

# %%
folder = tempfile.mkdtemp()
path = os.path.join(folder, "robust", "1")
card = fr.export(robust, path, report=report, recipe={"data": "6,000 images of MNIST", "epochs": epochs})
print(*sorted(os.listdir(path)), sep="  ")
with open(os.path.join(path, "model_card.md"), encoding="utf-8") as file:
    text = file.read()
print(text[text.index("## Inputs") : text.index("## Versions")])

# %% [markdown]
# ## Serve
#
# Whoever uses it needs TensorFlow alone. `hub.load` gives a function; TensorFlow Serving runs the signature
# `serving_default`, which takes images by name and gives logits by name. The folder's number, `1`, is the version that
# TensorFlow Serving looks for: `tensorflow_model_server --model_name=robust --model_base_path=.../robust`.

# %%
loaded = hub.load(path)
served = tf.saved_model.load(path).signatures["serving_default"](images=images)
print({name: logits.shape for name, logits in served.items()})
expected = robust.predict(images, verbose=0)
print(f"largest difference: {max(np.abs(each - expected).max() for each in (loaded(images), served['logits'])):.0e}")

# %% [markdown]
# For a phone, TensorFlow Lite converts the same folder. What comes from a camera are whole numbers from 0 to 255, and what an
# app shows are probabilities; the export can take the ones and give the others.

# %%
camera_path = os.path.join(folder, "camera")
fr.export(robust, camera_path, uint8_images=True, probabilities=True)
lite = tf.lite.Interpreter(model_content=tf.lite.TFLiteConverter.from_saved_model(camera_path).convert())
run = lite.get_signature_runner("serving_default")
image = tf.cast(tf.round(255 * images[:1]), tf.uint8)
probabilities = run(images=image)["probabilities"][0]
print(f"the label is {labels[0]}, the answer {probabilities.argmax()} with probability {probabilities.max():.3f}")

# %% [markdown]
# ## Attack what was handed on
#
# An export is a classifier like any other, whoever made it: `fr.load_classifier` takes it, and a report of it has the same
# numbers.

# %%
again = fr.evaluate_robustness(fr.load_classifier(path), (images, labels), **ask)
for epsilon in ask["epsilons"]:
    print(
        f"{epsilon:g} px: {report.worst_case()[epsilon].mean():.3f}, as it was handed on {again.worst_case()[epsilon].mean():.3f}"
    )

# %% [markdown]
# ## Fine-tune
#
# A new task for an old network: is the digit odd? The export becomes a layer, and a head is trained on what it gives. The
# layer has another name on each stack. (On Keras 2, `hub.KerasLayer(path, trainable=True)` trains the layer too. On Keras 3,
# `TFSMLayer` stays as it is: to train all of the network, keep the `.keras` file as well.)


# %%
def with_new_head(path):
    """A classifier of two classes on top of an export, with its head trained."""
    inputs = keras.Input(digits.image_shape)
    if keras.__version__.startswith("2."):
        logits = hub.KerasLayer(path)(inputs)
    else:
        logits = keras.layers.TFSMLayer(path, call_endpoint="serving_default", trainable=False)(inputs)["logits"]
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(32, activation="swish")(logits)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits.train.map(lambda images, labels: (images, labels % 2)), epochs=epochs, verbose=0)
    return model


plain_path = os.path.join(folder, "plain")
fr.export(train(), plain_path)
for name, each in (("plain", plain_path), ("robust", path)):
    odd = fr.evaluate_robustness(with_new_head(each), (images, labels % 2), **ask)
    accuracies = {epsilon: round(float(robust.mean()), 3) for epsilon, robust in odd.worst_case().items()}
    print(f"on the {name} network: clean {odd.clean_accuracy.value:.3f}, under attack {accuracies}")

# %% [markdown]
# The new task inherits what was won on the old one, although its head knows nothing of deformations. [Hand it
# on](../export.md) lists the other places that take an export.
