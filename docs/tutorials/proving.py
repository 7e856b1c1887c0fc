# %% [markdown]
# # Prove it
#
# An attack that finds nothing proves nothing: another one may find more. A proof bounds the network from the other side. So
# the true robust accuracy, which nobody knows, lies in a sandwich:
#
#     certified accuracy ≤ true robust accuracy ≤ accuracy under attack
#
# Of an ordinary network little can be proven. Of one that is trained for it, much.

# %%
import keras
import numpy as np
from matplotlib import pyplot

import keras_flowreg as fr
from keras_flowreg.commands import datasets

# %% tags=["parameters"]
epochs, train_size, examples = 20, 6000, 200

# %%
digits = datasets.load("digits", batch_size=64, train_size=train_size)
images, labels = next(iter(digits.test.unbatch().batch(examples)))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build():
    """A network of few layers, which bounds go through well; the same weights each time."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input(digits.image_shape),
            keras.layers.Conv2D(16, 4, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 4, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(digits.num_classes),
        ]
    )


def train(model, callbacks=()):
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    model.fit(digits.train, epochs=epochs, verbose=0, callbacks=list(callbacks))
    print(f"clean accuracy: {model.evaluate(images, labels, verbose=0, return_dict=True)['accuracy']:.3f}")
    return model


plain = train(build())

# %% [markdown]
# ## What a pixel can become
#
# Where no pixel moves by more than ε along either axis, each one moves on its own. So its value lies in an interval that is
# known without any search: from the least to the greatest value of the interpolated image in the square of side 2ε around
# it. Where the image is flat, the interval is a point.

# %%
# The first test image, the least and the greatest value of each pixel at ε = 0.4, and how far they are apart
low, high = fr.certification.reach_box(images[:1], 0.4)
figure, axes = pyplot.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
panels = {"image": images[0], "least": low[0], "greatest": high[0], "apart by": (high - low)[0]}
for each, (title, panel) in zip(axes, panels.items()):
    fr.pictures.draw_image(each, panel.numpy(), title)

# %% [markdown]
# Whatever a network answers on *every* image between the two, it answers under every flow. To bound that is a known problem,
# and `fr.certify` solves it in several ways, from quick and loose to slow and tight. The margin is the label's logit minus the
# best other one. Under every flow it is at least what is proven; if that is positive, no flow fools the network.

# %%
for method in ("ibp", "crown_ibp", "crown"):
    certificate = fr.certify(plain, images[:20], labels[:20], epsilon=0.1, method=method)
    certified, margin = certificate.certified.numpy().mean(), certificate.margin.numpy().mean()
    print(f"{method:<9}: {certified:.2f} certified; the mean margin is at least {margin:.1f}")

attack = fr.attacks.FlowFrankWolfe(0.1, loss="margin")
result = attack.run(images[:20], labels[:20], model=plain, stop_when_fooled=False)
robust, margin = 1 - result.success.numpy().mean(), -result.loss.numpy().mean()
print(f"{'attacked':<9}: {robust:.2f} robust; the mean margin is at most {margin:.1f}")

# %% [markdown]
# ## The sandwich
#
# `certify=True` puts the proof beside the attacks, in the table, the JSON and the figure. The default attack, `AutoDeform`, is
# the strongest; here a quicker one does.

# %%
epsilons = [0.05, 0.1, 0.2, 0.4]


def ask(model):
    report = fr.evaluate_robustness(
        model, (images, labels), fr.attacks.FlowFrankWolfe(0.4), epsilons, certify=True, check=False, verbose=0
    )
    for epsilon, robust in report.worst_case().items():
        print(f"{epsilon:g} px: certified {report.certified[epsilon].mean():.3f} ≤ true ≤ {robust.mean():.3f} attacked")
    return report


before = ask(plain)

# %% [markdown]
# At small radii the two almost meet. At large ones the gap is wide: the network is open to attack, but for many an image the
# truth is simply not known.
#
# ## Train for the proof
#
# `IntervalBoundRegularizer` trains on the quickest of the bounds: on the worst logits that the intervals allow. The first
# weights must keep intervals narrow, and weight and ε must rise slowly, over half of the epochs.

# %%
network = build()
fr.certification.initialize(network)
warmups = [fr.callbacks.PenaltyWarmup(epochs / 2), fr.callbacks.EpsilonWarmup(epochs / 2)]
certified = train(fr.FlowRegularizedModel(network, fr.IntervalBoundRegularizer(epsilon=0.4)), warmups)
after = ask(certified)

# %%
# Between the lines lies the truth: of the plain network, and of the one that is trained for the proof
figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for each, report, title in zip(axes, (before, after), ("plain", "certified training")):
    report.plot(each).set_title(title)

# %% [markdown]
# More is now *proven* at 0.4 pixels than the plain network keeps under attack, for some clean accuracy. And the proof can be
# tested: no attack may fool a certified image. The report looks for one, and would say so among its findings.

# %%
flips = [(~robust & after.certified[epsilon]).sum() for epsilon, robust in after.worst_case().items()]
print(f"certified images that were fooled: {np.sum(flips)}; findings: {after.findings}")

# %% [markdown]
# For pictures of your own, put your data in the place of `digits`, as [your own model](own_model.md) reads them (with values
# to 255, begin the network with `Rescaling(1 / 255)` and tell the attack and the report its `value_range`). Or let
# [the commands](../commands.md#from-your-pictures-to-a-proof) do all of it. [What is proven](../certification.md) has the
# bounds, the promise, and where it ends.
