r"""The main job: the same network, trained plainly and with flow-gradient regularization, under attack.

    scripts/demo

Prints one table and writes one picture.
"""

import dataclasses
import os
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from absl import flags

import keras_flowreg as fr
from keras_flowreg.commands import command_line, datasets, outputs, recipes, training
from keras_flowreg.commands.command_line import Result
from keras_flowreg.commands.flags import (
    build_attack,
    build_attacks,
    define_attack_flags,
    define_dataset_flags,
    define_model_flags,
    epsilons,
    model_options,
)
from keras_flowreg.commands.models import predict

_PICTURED_EXAMPLES = 3


def define_flags():
    """Those of data sets, models and attacks; what to compare, and where the results go."""
    define_dataset_flags()
    define_model_flags()
    define_attack_flags(["FlowFrankWolfe"])
    flags.DEFINE_multi_enum("methods", ["plain", "flow_gradient"], recipes.METHODS, "what to compare")
    flags.DEFINE_integer("epochs", None, "epochs of each training, if not the recipe's", lower_bound=1)
    flags.DEFINE_string("picture", "demo.png", "where to write the picture")
    flags.DEFINE_float("pictured_epsilon", 0.4, "the radius of the pictured flows, in pixels", lower_bound=0)
    flags.DEFINE_string("models", None, "a folder to save the trained models in, for the other commands")


def load_dataset():
    """The data set, in the same order for every method."""
    args = flags.FLAGS
    keras.utils.set_random_seed(args.seed)
    return datasets.load(args.dataset, batch_size=args.batch_size, data_dir=args.data_dir, seed=args.seed)


def train(dataset, method):
    """Trains one model from the same weights; returns it and its seconds an epoch."""
    recipe = recipes.get(method, dataset.name)
    schedule = recipe.schedule
    if flags.FLAGS.epochs:
        schedule = dataclasses.replace(schedule, epochs=flags.FLAGS.epochs)
        recipe = dataclasses.replace(recipe, schedule=schedule)
    model = training.build_model(dataset, recipe, **model_options())
    start = time.perf_counter()
    training.fit(model, dataset, schedule, verbose=2)
    return model, (time.perf_counter() - start) / schedule.epochs


def measure(model, dataset):
    """`{0: clean accuracy, ε: worst-case accuracy, ...}`, and the number of examples."""
    report = fr.evaluate_robustness(
        model, dataset.test, build_attacks(), epsilons(), examples=flags.FLAGS.examples, check=False, verbose=0
    )
    worst = {epsilon: robust.mean() for epsilon, robust in report.worst_case().items()}
    return {0.0: report.clean_accuracy.value, **worst}, report.examples


def attack_description():
    args = flags.FLAGS
    attacks = [
        attack.name + (f", {attack.steps} steps" if hasattr(attack, "steps") else "") for attack in build_attacks()
    ]
    return f"{', '.join(attacks)}, {args.norm}, seed {args.seed}"


def table(accuracies, seconds, examples):
    """Accuracy at each radius, one training a row, in Markdown."""
    _, *radii = next(iter(accuracies.values()))
    columns = ["training", "clean", *(f"ε = {radius:g} px" for radius in radii), "s/epoch"]
    lines = [
        f"\nAccuracy on {examples} test images of {flags.FLAGS.dataset}; {attack_description()}\n",
        f"| {' | '.join(columns)} |",
        "| --- " + "| ---: " * (len(columns) - 1) + "|",
    ]
    for name, by_radius in accuracies.items():
        cells = " | ".join(f"{accuracy:.3f}" for accuracy in by_radius.values())
        lines.append(f"| {name} | {cells} | {seconds[name]:.1f} |")
    return "\n".join(lines)


def values(accuracies, seconds, examples):
    """The numbers of the table."""
    trainings = {
        name: {
            "accuracy": [{"epsilon": epsilon, "value": value} for epsilon, value in by_radius.items()],
            "seconds_per_epoch": seconds[name],
        }
        for name, by_radius in accuracies.items()
    }
    return {"examples": examples, "attack": attack_description(), "trainings": trainings}


def pictured_examples(model, dataset):
    """Images that the model gets right, and its attack gets wrong: images, labels, flows, deformed images."""
    images, labels = next(iter(dataset.test.unbatch().batch(64)))
    attack = build_attack(flags.FLAGS.attacks[0], flags.FLAGS.pictured_epsilon)
    result = attack.run(images, labels, model=model)
    chosen = np.flatnonzero(result.success & ~result.clean_success)[:_PICTURED_EXAMPLES]
    return [tf.gather(tensor, chosen).numpy() for tensor in (images, labels, result.flow, result.images)]


def draw(models, accuracies, dataset):
    """One picture: accuracy against ε, and digits with the flow that fools the plain model."""
    examples = pictured_examples(models[flags.FLAGS.methods[0]], dataset)
    figure, curve, panels = figure_grid(_PICTURED_EXAMPLES, 3)
    curve.set_title(f"{flags.FLAGS.dataset}: {attack_description()}")
    fr.pictures.plot_accuracy(curve, accuracies)
    for axes in panels.ravel():
        axes.axis("off")
    for row, image, label, flow, deformed in zip(panels, *examples):
        says = {name: _says(model, deformed, dataset) for name, model in models.items()}
        fr.pictures.draw_image(row[0], image, f"{dataset.class_names[label]}")
        fr.pictures.draw_flow(row[1], image, flow, f"flow, ε = {flags.FLAGS.pictured_epsilon:g} px")
        fr.pictures.draw_image(row[2], deformed, "\n".join(f"{name}: {said}" for name, said in says.items()))
    outputs.save_picture(figure, flags.FLAGS.picture)


def figure_grid(rows, columns):
    """A figure with one wide panel on the left and `rows` x `columns` small ones on the right."""
    figure = plt.figure(figsize=(6 + 2.8 * columns, 2.9 * rows), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[6, 2.8 * columns])
    return figure, left.subplots(), right.subplots(rows, columns)


def _says(model, image, dataset):
    (label,), (confidence,) = predict(model, image[np.newaxis])
    return f"{dataset.class_names[label]} ({confidence:.0%})"


def main():
    args = flags.FLAGS
    outputs.expect_picture_path(args.picture, "picture")
    for name in args.methods if args.models else ():
        outputs.expect_model_path(os.path.join(args.models, f"{name}.keras"), "models")
    models, seconds, accuracies = {}, {}, {}
    for name in args.methods:
        print(f"\nTraining: {name}", flush=True)
        dataset = load_dataset()
        models[name], seconds[name] = train(dataset, name)
        if args.models:
            outputs.save_model(models[name], os.path.join(args.models, f"{name}.keras"))
        print(f"Attacking: {name}", flush=True)
        accuracies[name], examples = measure(models[name], dataset)
    draw(models, accuracies, dataset)
    text = f"{table(accuracies, seconds, examples)}\n\nThe picture is in {args.picture}"
    return Result(text, {**values(accuracies, seconds, examples), "picture": args.picture})


if __name__ == "__main__":
    command_line.run(main, define_flags)
