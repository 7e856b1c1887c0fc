# %% [markdown]
# # Many devices and shards
#
# Training on several GPUs needs no other code than Keras's own, and no other weights of the penalty. An evaluation is split
# in another way: into parts that know nothing of each other, on as many machines as there are.

# %%
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.commands import architectures, datasets

# %% tags=["parameters"]
epochs, train_size, examples = 2, 2048, 200

# %% [markdown]
# No second device is at hand? TensorFlow can make two of one CPU, if it is told before anything else. With GPUs, leave this
# cell out.

# %%
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

# %% [markdown]
# ## Train on all devices of a machine
#
# Whatever makes variables, the network and the optimizer, is made under the strategy. `fit` splits each batch among the
# devices; so a batch is that of all of them together, and here all batches are of one size.


# %%
def train(strategy):
    keras.utils.set_random_seed(0)
    digits = datasets.load("digits", batch_size=64, train_size=train_size)
    with strategy.scope():
        network = architectures.build("small_cnn", digits.image_shape, digits.num_classes, width=0.5)
        model = fr.FlowRegularizedModel(network, fr.FlowGradientRegularizer(weight=10))
        model.compile(
            keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    history = model.fit(digits.train, epochs=epochs, verbose=0, callbacks=[fr.callbacks.PenaltyWarmup(epochs / 2)])
    print({name: round(values[-1], 4) for name, values in history.history.items()})
    return model


alone = train(tf.distribute.get_strategy())
shared = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
pairs = zip(alone.get_weights(), shared.get_weights())
print(f"largest difference of a weight: {max(abs(ours - theirs).max() for ours, theirs in pairs):.0e}")

# %% [markdown]
# The loss, the penalty and the weights are those of one device, but for rounding, which grows from step to step: the penalty
# is a mean over the examples of the whole batch. (With `random_start`, each device draws its own starts.) [Many
# devices](../scaling.md) says what does differ, and how to train on several machines.
#
# ## Evaluate in parts
#
# `shard=(1, 3)` attacks the first of three parts of the batches, and keeps what it found in a file. Each part may run
# anywhere, at any time, and a killed one goes on where it was. In the end one file is made of all, and the report of it has
# nothing left to attack.

# %%
folder = tempfile.mkdtemp()
test = datasets.load("digits", batch_size=examples // 10).test
attack = fr.attacks.FlowFrankWolfe(epsilon=0.4)


def evaluate(resume_from, shard=None):
    classifier = alone.base_model
    classifier.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    options = {"epsilons": [0.2, 0.4], "examples": examples, "check": False, "verbose": 0}
    return fr.evaluate_robustness(classifier, test, attack, resume_from=resume_from, shard=shard, **options)


paths = [os.path.join(folder, f"part-{part}.jsonl") for part in (1, 2, 3)]
for part, path in enumerate(paths, 1):  # on three machines
    report = evaluate(path, shard=(part, 3))
    print(f"part {part}: {report.examples} examples, {report.worst_case()[0.4].mean():.3f} at 0.4 px")

# %%
whole = os.path.join(folder, "whole.jsonl")
fr.evaluation.merge_partial_results(paths, whole)
merged, at_once = evaluate(whole), evaluate(os.path.join(folder, "at-once.jsonl"))
print(merged)
print("the same as at once:", np.array_equal(merged.worst_case()[0.4], at_once.worst_case()[0.4]))

# %% [markdown]
# ## The same from a shell
#
# Any scheduler can start the parts. The last line makes one report of them:
#
#     keras-flowreg evaluate --model=digits.keras --attacks=FlowFrankWolfe --shard=1/2 --output=part1
#     keras-flowreg evaluate --model=digits.keras --attacks=FlowFrankWolfe --shard=2/2 --output=part2
#     keras-flowreg evaluate --model=digits.keras --attacks=FlowFrankWolfe --merge=part1.jsonl --merge=part2.jsonl --output=report
