"""What a user may get wrong: one table, a row a case. Nothing wrong passes silently.

A row says what is called, which error comes, and what its one line says. `for_both` repeats it with and without XLA.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import tempfile
import zipfile
from unittest import mock

import h5py
import keras
import numpy as np
import PIL.Image
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import files
from keras_flowreg.commands import outputs
from keras_flowreg.evaluation.journal import Journal
from tests import command_line, testing

# It lasts as long as the process: tests that run side by side leave a module, and come back to it.
_TEMPORARY = tempfile.TemporaryDirectory()
FOLDER = pathlib.Path(_TEMPORARY.name)
IMAGES, LABELS = testing.data(8)
ONE_HOT = np.eye(testing.CLASSES, dtype="float32")[LABELS]
NAN, INFINITY, HUGE = float("nan"), float("inf"), 10**400
NO_FOLDER = "/proc/no/folder"  # where nobody can write


class Ended(Exception):
    """A script did not end well, and these were its last words."""


@functools.cache
def model(loss="logits", kind="network"):
    network = {
        "network": testing.network,
        "probabilities": lambda: testing.network(keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.Softmax()),
        "nan": testing.network,
        "variable": lambda: keras.Sequential(
            [keras.layers.Input([None, None, 2]), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
        ),
    }[kind]()
    if kind == "nan":
        network.set_weights([weights * NAN for weights in network.get_weights()])
    network.compile("sgd", testing.cross_entropy() if loss == "logits" else loss)
    return network


def two_outputs():
    image = keras.Input(testing.SHAPE)
    flat = keras.layers.Flatten()(image)
    return keras.Model(image, [keras.layers.Dense(4)(flat), keras.layers.Dense(4)(flat)])


class GivingPairs(testing.Subclassed):
    """A model that gives its predictions and something else."""

    def call(self, images):
        return super().call(images), images


def giving_pairs():
    classifier = GivingPairs()
    classifier(IMAGES)
    return classifier


@functools.cache
def saved(name="model.keras"):
    """A model in a file."""
    path = FOLDER / name
    networks = {
        "model.keras": lambda: model(),
        "lambda.keras": lambda: testing.network(keras.layers.Lambda(lambda x: x)),
        "lambda.h5": lambda: testing.network(keras.layers.Lambda(lambda x: x)),
        "nan.keras": lambda: model(kind="nan"),
        "digits.keras": lambda: keras.Sequential(
            [keras.layers.Input([28, 28, 1]), keras.layers.Flatten(), keras.layers.Dense(10)]
        ),
    }
    networks[name]().save(path)
    return str(path)


def written(name, content=b"some text\n"):
    """A file of that content."""
    path = FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return str(path)


def made_folder(name, **contents):
    path = FOLDER / name
    path.mkdir(exist_ok=True)
    for entry, text in contents.items():
        (path / entry).write_text(text)
    return str(path)


def forged(name, change):
    """A saved model whose configuration, as text, is changed."""
    path = str(FOLDER / name)
    with zipfile.ZipFile(saved()) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.namelist():
            content = source.read(entry)
            target.writestr(entry, change(content.decode()) if entry == "config.json" else content)
    return path


def truncated(path, name):
    return written(name, pathlib.Path(path).read_bytes()[:-200])


@functools.cache
def exported():
    path = str(FOLDER / "exported")
    fr.export(model(), path)
    return path


def operating(name):
    """A SavedModel that reads a file as it is called."""
    module = tf.Module()
    module.run = tf.function(
        lambda images: (
            tf.zeros([tf.shape(images)[0], 4]) + tf.cast(tf.strings.length(tf.io.read_file("/etc/hosts")), "float32")
        ),
        input_signature=[tf.TensorSpec([None, *testing.SHAPE])],
    )
    path = str(FOLDER / name)
    tf.saved_model.save(module, path, signatures={"serving_default": module.run})
    return path


@functools.cache
def report_text():
    report = fr.evaluate_robustness(model(), (IMAGES, LABELS), fr.attacks.RandomFlow(0.1, draws=1), [0.1], **QUIET)
    return report.to_json()


def picture(name, mode="L", size=(28, 28), frames=1):
    path = str(FOLDER / name)
    image = PIL.Image.new(mode, size)
    image.save(
        path, save_all=True, append_images=[PIL.Image.new(mode, size, 9)] * (frames - 1)
    ) if frames > 1 else image.save(path)
    return path


QUIET = {"check": False, "verbose": 0}
LITTLE = fr.attacks.FlowFGSM(0.1)


def run(images=IMAGES, labels=LABELS, classifier=None, attack=LITTLE, jit=False, **options):
    return attack.replace(jit_compile=jit).run(images, labels, model=classifier or model(), **options)


def run_in_graph(images=IMAGES, labels=LABELS):
    function = tf.function(lambda images, labels: LITTLE(images, labels, model=model()), autograph=False)
    return function(tf.constant(images), tf.constant(labels))


def evaluate(data=(IMAGES, LABELS), attacks=LITTLE, epsilons=(0.1,), classifier=None, jit=False, **options):
    attacks = attacks.replace(jit_compile=jit) if isinstance(attacks, fr.attacks.Attack) else attacks
    return fr.evaluate_robustness(classifier or model(), data, attacks, epsilons, **{**QUIET, **options})


def gradients_of(function):
    """Of a model that calls a function of images in colour."""
    layers = [keras.layers.Lambda(lambda images: function(images, 0.1)), keras.layers.Flatten(), keras.layers.Dense(4)]
    colours = keras.Sequential([keras.Input((8, 10, 3)), *layers])
    return fr.flow_gradients(colours, np.zeros([8, 8, 10, 3], "float32"), LABELS, testing.cross_entropy())


def penalize(images=IMAGES, labels=LABELS, classifier=None, **options):
    return fr.FlowGradientRegularizer(1.0, **options)(classifier or model(), images, labels, seed=[0, 1])


def monitor(data, kind=fr.callbacks.FlowGradientMonitor, **options):
    given = kind(data, **options) if kind is fr.callbacks.FlowGradientMonitor else kind(LITTLE, data, **options)
    given.set_model(model())
    given.on_epoch_end(0, {})


def dataset(images=IMAGES, labels=LABELS):
    return tf.data.Dataset.from_tensor_slices((images, labels))


def images_with(value):
    changed = IMAGES.copy()
    changed[3, 2, 1, 0] = value
    return changed


class Endless(keras.utils.Sequence):
    """Has no length."""

    def __len__(self):
        raise TypeError("no length")

    def __getitem__(self, number):
        return IMAGES, LABELS


def generator():
    while True:
        yield IMAGES, LABELS


def script(name, *flags):
    code, _, errors = command_line.run(f"examples/{name}", *map(str, flags))
    if code:
        raise Ended(errors.splitlines()[-1])


def leaving(path, call):
    """Calls, and checks that a file or folder is left as it was."""
    before = contents(path)
    try:
        call()
    finally:
        after = contents(path)
        if after != before:
            raise AssertionError(f"{path} has changed: {before} to {after}")


def contents(path):
    """The bytes of a file, or of all files below a folder; and the names of those beside it."""
    path = pathlib.Path(path)
    inside = {str(entry): entry.read_bytes() for entry in sorted(path.rglob("*")) if entry.is_file()}
    return path.is_file() and path.read_bytes(), inside, sorted(entry.name for entry in path.parent.glob(".*"))


@contextlib.contextmanager
def failing(owner, name, error=None, times=None):
    """A function that fails: from the first call on, or at one alone."""
    works, calls = getattr(owner, name), itertools.count()

    def fail(*arguments, **options):
        if times is None or next(calls) == times:
            raise error or OSError("No space left on device")
        return works(*arguments, **options)

    with mock.patch.object(owner, name, fail):
        yield


def full_disk_export():
    with failing(tf.saved_model, "save"):
        fr.export(model(), exported(), overwrite=True)


def second_rename_fails():
    with mock.patch.object(files, "_exchange_at_once", return_value=False), failing(os, "rename", times=1):
        fr.export(model(), exported(), overwrite=True)


def full_disk_text():
    path = written("old.md")
    with failing(os, "fsync"):
        leaving(path, lambda: files.write_text(path, "new"))


def full_disk_model():
    path = saved()
    with failing(os, "fsync"):
        leaving(path, lambda: outputs.save_model(model(), path))


def full_disk_journal():
    path = str(FOLDER / "full.jsonl")
    evaluate(dataset().batch(4).take(1), resume_from=path)
    with failing(os, "fsync"):
        leaving(path, lambda: evaluate(dataset().batch(4), resume_from=path))


def for_both(name, call, error, message):
    """The row with and without XLA: `call` takes which."""
    return [(f"{name}_xla" if jit else name, functools.partial(call, jit), error, message) for jit in (False, True)]


FlowPGD, Regularizer = fr.attacks.FlowPGD, fr.FlowGradientRegularizer

ATTACKS_AND_REPORTS = [  # kind 1; `fit` is tested in xla_test.py
    *for_both("nan_image", lambda jit: run(images_with(NAN), jit=jit), ValueError, "Expected finite images"),
    *for_both("infinite_image", lambda jit: run(images_with(INFINITY), jit=jit), ValueError, "Expected finite images"),
    *for_both("bytes_for_fractions", lambda jit: run(255 * IMAGES, jit=jit), ValueError, "from 0.0 to 1.0"),
    *for_both("label_9_of_4", lambda jit: run(labels=LABELS * 0 + 9, jit=jit), ValueError, "labels from 0 to 3"),
    *for_both("negative_label", lambda jit: run(labels=LABELS - 9, jit=jit), ValueError, "labels from 0 to 3"),
    *for_both(
        "label_9_of_4_margin",
        lambda jit: run(labels=LABELS * 0 + 9, jit=jit, loss="margin"),
        ValueError,
        "labels from 0 to 3",
    ),
    *for_both("nan_weights", lambda jit: run(classifier=model(kind="nan"), jit=jit), ValueError, "loss .*NaN"),
    *for_both(
        "report_nan_image", lambda jit: evaluate((images_with(NAN), LABELS), jit=jit), ValueError, "finite images"
    ),
    *for_both("report_range", lambda jit: evaluate((255 * IMAGES, LABELS), jit=jit), ValueError, "from 0.0 to 1.0"),
    *for_both("report_label", lambda jit: evaluate((IMAGES, LABELS + 9), jit=jit), ValueError, "labels from 0 to 3"),
    *for_both("report_weights", lambda jit: evaluate(classifier=model(kind="nan"), jit=jit), ValueError, "loss .*NaN"),
]

ARGUMENTS = [  # kind 2
    *(
        (f"epsilon_{number}", functools.partial(FlowPGD, value), ValueError, "`epsilon` to be")
        for number, value in enumerate(["0.4", None, NAN, INFINITY, -1, HUGE, True, [0.4], 1j, b"1", {}, np.ones(2)])
    ),
    *(
        (f"steps_{number}", functools.partial(FlowPGD, 0.4, steps=value), ValueError, "`steps` to be")
        for number, value in enumerate([2.5, "3", None, True, 0, -1, NAN, HUGE, 3.0])
    ),
    *(
        (f"seed_{number}", functools.partial(FlowPGD, 0.4, seed=value), ValueError, "`seed` to be")
        for number, value in enumerate([1.5, "a", None, True, 2**31, -(2**31) - 1, HUGE, NAN, (0, 1)])
    ),
    *(
        (f"value_range_{number}", functools.partial(FlowPGD, 0.4, value_range=value), ValueError, "`value_range` to be")
        for number, value in enumerate([(1, 0), 1.0, (0, NAN), (0,), "01", (0, 0), None, (0, 1, 2), (False, True)])
    ),
    *(
        (f"jit_compile_{number}", functools.partial(FlowPGD, 0.4, jit_compile=value), ValueError, "`jit_compile` to be")
        for number, value in enumerate(["never", 1, None, "AUTO"])
    ),
    *(
        (f"targeted_{number}", functools.partial(FlowPGD, 0.4, targeted=value), ValueError, "`targeted` to be True or")
        for number, value in enumerate(["no", 1, None])
    ),
    ("loss_name", lambda: FlowPGD(0.4, loss="nonsense"), ValueError, "`loss` .*'nonsense'"),
    ("loss_number", lambda: FlowPGD(0.4, loss=3), ValueError, "`loss` .*3"),
    ("option", lambda: FlowPGD(0.4, step=3), TypeError, "Expected options of FlowPGD.*Received step"),
    ("step_size", lambda: FlowPGD(0.4, step_size=NAN), ValueError, "`step_size`.*nan"),
    ("start", lambda: FlowPGD(0.4, start="middle"), ValueError, "`start`.*'middle'"),
    ("restarts", lambda: FlowPGD(0.4, restarts=1.0), ValueError, "`restarts`.*1.0"),
    ("restarts_from_zero", lambda: FlowPGD(0.4, restarts=2, start="zero"), ValueError, "start='random'"),
    ("momentum", lambda: FlowPGD(0.4, momentum=-0.1), ValueError, "`momentum`"),
    ("step_decay", lambda: FlowPGD(0.4, step_decay="fast"), ValueError, "`step_decay`"),
    ("norm", lambda: FlowPGD(0.4, norm="l7"), ValueError, "`norm`.*'l7'"),
    ("norm_of_smooth", lambda: FlowPGD(0.4, norm="l2", smoothing=1.0), ValueError, "`norm`.*smooth"),
    ("lattice", lambda: FlowPGD(0.4, lattice="two_sided"), ValueError, "`lattice`"),
    ("control_points", lambda: FlowPGD(0.4, control_points=2.5), ValueError, "`control_points`.*2.5"),
    ("one_control_point", lambda: FlowPGD(0.4, control_points=1), ValueError, "`control_points`.*at least 2"),
    ("smoothing", lambda: FlowPGD(0.4, smoothing="1"), ValueError, "`smoothing`.*'1'"),
    ("paper_size", lambda: FlowPGD.from_paper("28"), ValueError, "`image_size`.*'28'"),
    ("fgsm", lambda: fr.attacks.FlowFGSM(NAN), ValueError, "`epsilon`"),
    ("frank_wolfe_norm", lambda: fr.attacks.FlowFrankWolfe(0.4, norm="l2"), ValueError, "`norm`"),
    ("coordinate_sweeps", lambda: fr.attacks.FlowCoordinateAscent(0.4, sweeps=0), ValueError, "`sweeps`.*0"),
    ("coordinate_pixels", lambda: fr.attacks.FlowCoordinateAscent(0.4, pixels=2.5), ValueError, "`pixels`.*2.5"),
    ("coordinate_start", lambda: fr.attacks.FlowCoordinateAscent(0.4, start="here"), ValueError, "`start`.*'here'"),
    ("square_queries", lambda: fr.attacks.FlowSquare(0.4, queries=1e3), ValueError, "`queries`.*1000.0"),
    ("square_area", lambda: fr.attacks.FlowSquare(0.4, first_area=2), ValueError, "`first_area`"),
    ("spsa_queries", lambda: fr.attacks.FlowSPSA(0.4, queries=10), ValueError, "`queries`.*at least"),
    ("spsa_delta", lambda: fr.attacks.FlowSPSA(0.4, delta=0), ValueError, "`delta`"),
    ("random_draws", lambda: fr.attacks.RandomFlow(0.4, draws=True), ValueError, "`draws`.*True"),
    ("auto_norm", lambda: fr.attacks.AutoDeform(0.4, norm="l2"), ValueError, "`norm`"),
    ("intensity_norm", lambda: fr.attacks.IntensityPGD(0.4, norm="pixel_l2"), ValueError, "`norm`"),
    ("pgd_perturbation", lambda: fr.attacks.PGD("flow", 0.4), TypeError, "`perturbation`.*'flow'"),
    ("adef_epsilon", lambda: fr.attacks.ADef("0.4"), ValueError, "`epsilon`"),
    ("adef_classes", lambda: fr.attacks.ADef(classes=0), ValueError, "`classes`"),
    ("rotation_angle", lambda: fr.attacks.RotationTranslation(max_angle=NAN), ValueError, "`max_angle`"),
    ("rotation_angles", lambda: fr.attacks.RotationTranslation(angles=3.5), ValueError, "`angles`"),
    ("rotation_border", lambda: fr.attacks.RotationTranslation(border="white"), ValueError, "`border`"),
    ("st_adv_range", lambda: fr.attacks.StAdv(smoothness_range=(1.0, 0.1)), ValueError, "`smoothness_range`"),
    ("st_adv_one_number", lambda: fr.attacks.StAdv(smoothness_range=1.0), ValueError, "`smoothness_range`"),
    ("seed_of_a_call", lambda: run(seed=[1]), ValueError, "`seed` to be two whole numbers"),
    ("seed_of_halves", lambda: run(seed=[0.5, 1.0]), ValueError, "`seed` to be two whole numbers"),
    ("stop_when_fooled", lambda: run(stop_when_fooled="no"), ValueError, "`stop_when_fooled`"),
    ("no_model", lambda: LITTLE(IMAGES, LABELS, model="model.keras"), TypeError, "`model` to be a keras.Model"),
    ("loss_of_a_call", lambda: run(loss="nonsense"), ValueError, "loss.*nonsense"),
    ("weight", lambda: Regularizer(-1), ValueError, "`weight`"),
    ("weight_text", lambda: Regularizer("1"), ValueError, "`weight`.*'1'"),
    ("weight_bool", lambda: Regularizer(True), ValueError, "`weight`.*True"),
    ("random_start", lambda: Regularizer(1.0, random_start=NAN), ValueError, "`random_start`"),
    ("gradient_at", lambda: Regularizer(1.0, gradient_at="end"), ValueError, "`gradient_at`"),
    ("gradient_norm", lambda: Regularizer(1.0, gradient_norm="linf"), ValueError, "`gradient_norm`"),
    ("method", lambda: Regularizer(1.0, method="fast"), ValueError, "`method`"),
    ("step", lambda: Regularizer(1.0, step=0), ValueError, "`step`"),
    ("model_mode", lambda: Regularizer(1.0, model_mode="both"), ValueError, "`model_mode`"),
    ("fraction", lambda: Regularizer(1.0, fraction=0), ValueError, "`fraction`"),
    ("fraction_above_1", lambda: Regularizer(1.0, fraction=1.5), ValueError, "`fraction`"),
    ("penalized_loss", lambda: Regularizer(1.0, loss="odds"), ValueError, "`loss`"),
    ("regularizer", lambda: fr.GradientRegularizer("flow", 1.0), TypeError, "`perturbation`"),
    ("penalty_seed", lambda: Regularizer(1.0, random_start=0.1)(model(), IMAGES, LABELS, seed=3), ValueError, "`seed`"),
    ("base_model", lambda: fr.FlowRegularizedModel("cnn"), TypeError, "`base_model`"),
    ("model_regularizer", lambda: fr.FlowRegularizedModel(model(), "flow"), TypeError, "`regularizer`"),
    ("model_attack", lambda: fr.FlowRegularizedModel(model(), attack="pgd"), TypeError, "`attack`"),
    (
        "targeted_training",
        lambda: fr.FlowRegularizedModel(model(), attack=FlowPGD(0.1, targeted=True)),
        ValueError,
        "untargeted",
    ),
    ("penalty_every", lambda: fr.FlowRegularizedModel(model(), penalty_every=1.5), ValueError, "`penalty_every`"),
    ("clean_fraction", lambda: fr.FlowRegularizedModel(model(), clean_fraction=1), ValueError, "`clean_fraction`"),
    ("model_seed", lambda: fr.FlowRegularizedModel(model(), seed=2**40), ValueError, "`seed`"),
    (
        "images_of_integers",
        lambda: fr.FlowRegularizedModel(of_integers(), Regularizer(1.0)),
        ValueError,
        "of_bytes, which takes uint8: give its keras.Input the dtype float32",
    ),
    ("losses_of_activations", lambda: with_losses_of_activations(), ValueError, "`fraction` to be 1 .*Received 0.5"),
    (
        "labels_in_a_dictionary",
        lambda: fr.attacks.FlowFGSM(0.1)(IMAGES, {"digit": LABELS}, model=model()),
        TypeError,
        "`labels` to be an array of numbers. Received a dictionary of digit",
    ),
    ("several_outputs", lambda: fr.FlowRegularizedModel(two_outputs()), ValueError, "2 outputs"),
    ("warmup", lambda: fr.callbacks.PenaltyWarmup("2"), ValueError, "`epochs`.*'2'"),
    ("warmup_shape", lambda: fr.callbacks.AttackWarmup(2, shape="step"), ValueError, "`shape`"),
    ("warmup_start", lambda: fr.callbacks.AttackWarmup(2, start=2), ValueError, "`start`"),
    ("monitor_batch_size", lambda: monitor((IMAGES, LABELS), batch_size=0), ValueError, "`batch_size`"),
    ("monitor_batches", lambda: monitor((IMAGES, LABELS), batches=1.5), ValueError, "`batches`"),
    ("monitor_lattice", lambda: monitor((IMAGES, LABELS), lattice="both"), ValueError, "`lattice`"),
    ("restore_order", lambda: fr.callbacks.RestoreOrder("digits"), TypeError, "`dataset`"),
    ("epsilons_text", lambda: evaluate(epsilons="0.4"), ValueError, "`epsilons`.*'0.4'"),
    ("epsilons_number", lambda: evaluate(epsilons=0.4), ValueError, "`epsilons`.*0.4"),
    ("epsilons_nan", lambda: evaluate(epsilons=[NAN]), ValueError, "`epsilons`.*nan"),
    ("no_epsilons", lambda: evaluate(epsilons=[]), ValueError, "`epsilons`.*none"),
    ("examples", lambda: evaluate(examples=1.5), ValueError, "`examples`"),
    ("no_examples", lambda: evaluate(examples=0), ValueError, "`examples`"),
    ("report_seed", lambda: evaluate(seed=NAN), ValueError, "`seed`"),
    ("report_range_reversed", lambda: evaluate(value_range=(1, 0)), ValueError, "`value_range`"),
    ("check", lambda: evaluate(check="no"), ValueError, "`check`"),
    ("no_attack", lambda: evaluate(attacks=[]), ValueError, "at least one attack"),
    ("attack_by_name", lambda: evaluate(attacks=["FlowPGD"]), TypeError, "'FlowPGD'"),
    ("report_model", lambda: fr.evaluate_robustness("m.keras", (IMAGES, LABELS)), TypeError, "`model`.*'m.keras'"),
    ("bounds_epsilon", lambda: fr.first_order_bounds(model(), IMAGES, LABELS, -1), ValueError, "`epsilon`"),
    ("bounds_norm", lambda: fr.first_order_bounds(model(), IMAGES, LABELS, 1, norm="l2"), ValueError, "`norm`"),
    ("gradients_model", lambda: fr.flow_gradients(None, IMAGES, LABELS), TypeError, "`model`"),
    ("gradients_way", lambda: fr.flow_gradients(model(), IMAGES, LABELS, gradient="exact"), ValueError, "`gradient`"),
    ("export_overwrite", lambda: fr.export(model(), FOLDER / "e", overwrite="no"), ValueError, "`overwrite`"),
    ("export_bytes", lambda: fr.export(model(), FOLDER / "e", uint8_images=1), ValueError, "`uint8_images`"),
    ("export_shape", lambda: fr.export(model(), FOLDER / "e", image_shape=28), ValueError, "`image_shape`"),
    ("export_sizes", lambda: fr.export(model(), FOLDER / "e", image_shape=(8, 9.5, 2)), ValueError, "`image_shape`"),
    ("export_recipe", lambda: fr.export(model(), FOLDER / "e", recipe={"a": object()}), TypeError, "`recipe`"),
    ("export_report", lambda: fr.export(model(), FOLDER / "e", report="report.json"), TypeError, "`report`"),
    ("safe_mode", lambda: fr.load_classifier(saved(), safe_mode="no"), ValueError, "`safe_mode`"),
    ("logits", lambda: fr.ops.LogOddsLoss("no"), ValueError, "`from_logits`"),
    ("smoothed", lambda: fr.ops.SmoothedSparseCategoricalCrossentropy(2.0), ValueError, "`label_smoothing`"),
    ("smoothed_logits", lambda: fr.ops.SmoothedSparseCategoricalCrossentropy(0.1, 1), ValueError, "`from_logits`"),
    ("ball", lambda: fr.balls.get("l3", 1.0), ValueError, "`norm`"),
    ("ball_radius", lambda: fr.balls.L2Ball(NAN), ValueError, "`epsilon`"),
    ("warp_layer", lambda: fr.layers.DenseImageWarp(implementation="cv2"), ValueError, "`implementation`"),
    ("flow_lattice", lambda: fr.perturbations.Flow("middle"), ValueError, "`lattice`"),
    ("affine_border", lambda: fr.perturbations.Affine(border=0), ValueError, "`border`"),
    ("pixels", lambda: fr.pixels_from_normalized(0.01, 28.0), ValueError, "`image_size`.*28.0"),
    ("pixels_text", lambda: fr.pixels_from_normalized("0.01", 28), ValueError, "`displacement`.*'0.01'"),
    ("pixels_nan", lambda: fr.normalized_from_pixels(NAN, 28), ValueError, "`displacement`.*nan"),
    ("paper_weight", lambda: fr.weight_from_paper(-300, 128, 32), ValueError, "`weight`"),
    ("paper_batch", lambda: fr.weight_from_paper(300, 0, 32), ValueError, "`batch_size`"),
    ("epsilon_of_one", lambda: FlowPGD(np.ones(1)), ValueError, "`epsilon`"),
    ("value_range_too_wide", lambda: FlowPGD(0.1, value_range=(-1e308, 1e308)), ValueError, "`value_range`"),
    (
        "gradients_operation",
        lambda: gradients_of(tf.image.adjust_hue),
        ValueError,
        "an operation that has no derivative",
    ),
    ("gradients_mode", lambda: fr.flow_gradients(model(), IMAGES, LABELS, training="no"), ValueError, "`training`"),
    (
        "epsilons_of_another",
        lambda: evaluate(epsilons={"FlowFGSM": [0.1], "PDG": [0.1]}),
        ValueError,
        "`epsilons`.*PDG",
    ),
    ("attack_name", lambda: evaluate(attacks={3: LITTLE}), TypeError, "names to be strings"),
    ("export_path", lambda: fr.export(model(), 3), TypeError, "`path` to be a path"),
    ("load_path", lambda: fr.load_classifier(None), TypeError, "`handle` to be a path"),
    ("load_nothing", lambda: fr.load_classifier(""), TypeError, "`handle` to be a path"),
    ("resume_path", lambda: evaluate(resume_from=3), TypeError, "`resume_from` to be a path"),
    ("start_deviation", lambda: fr.perturbations.Flow().random_start(IMAGES, NAN, (0, 1)), ValueError, "`stddev`"),
    ("picture_range", lambda: gallery(value_range=(0, 0)), ValueError, "`value_range`"),
]

NOT_ONE_EACH = "one label for each"
SHAPES = [  # kind 3
    *for_both("attack_one_label", lambda jit: run(labels=LABELS[:1], jit=jit), ValueError, NOT_ONE_EACH),
    *for_both(
        "attack_margin_one", lambda jit: run(labels=LABELS[:1], loss="margin", jit=jit), ValueError, NOT_ONE_EACH
    ),
    *for_both(
        "attack_one_hot",
        lambda jit: run(labels=ONE_HOT, jit=jit),
        ValueError,
        r"`labels` of the shape \[batch\].*give a loss for such labels",
    ),
    *for_both("attack_width", lambda jit: run(labels=ONE_HOT[:, :3], loss="margin", jit=jit), ValueError, r"\(8, 3\)"),
    *for_both(
        "attack_indices", lambda jit: run(loss="categorical_crossentropy", jit=jit), ValueError, r"shape \[batch, 4\]"
    ),
    *for_both("attack_text", lambda jit: run(labels=LABELS.astype(str), jit=jit), TypeError, "`labels` to be numbers"),
    *for_both("attack_halves", lambda jit: run(labels=LABELS + 0.5, jit=jit), ValueError, "whole numbers.*0.5"),
    *for_both(
        "attack_own_loss",
        lambda jit: run(labels=LABELS + 9, loss=own_loss, jit=jit),
        ValueError,
        "labels from 0 to 3",
    ),
    *for_both(
        "attack_several_classes",
        lambda jit: run(labels=ONE_HOT + ONE_HOT[::-1], loss="categorical_crossentropy", jit=jit),
        ValueError,
        "add up to one",
    ),
    *for_both("attack_channels", lambda jit: run(IMAGES[..., :1], jit=jit), ValueError, "which the model takes"),
    ("attack_objects", lambda: run(labels=np.array([None] * 8)), TypeError, "`labels` to be numbers"),
    ("attack_nan_label", lambda: run(labels=LABELS * NAN), ValueError, "whole numbers.*nan"),
    ("attack_scalar_label", lambda: run(labels=3), ValueError, NOT_ONE_EACH),
    (
        "attack_rank_3_labels",
        lambda: run(labels=ONE_HOT[..., None], loss="margin"),
        ValueError,
        "`labels` of the shape",
    ),
    ("attack_renamed_loss", lambda: run(labels=LABELS + 9, loss=renamed()), ValueError, "labels from 0 to 3"),
    ("attack_squares", lambda: run(loss="mean_squared_error"), ValueError, r"shape \[batch, 4\]"),
    ("attack_one_image", lambda: run(IMAGES[0], LABELS[:1]), ValueError, r"\[batch, height, width, channels\]"),
    ("attack_no_channel", lambda: run(IMAGES[..., 0]), ValueError, r"\[batch, height, width, channels\]"),
    ("attack_text_images", lambda: run(np.full(IMAGES.shape, "a")), TypeError, "`images`.*string"),
    *(
        (f"{name}_pair", call, ValueError, "one output, .*Received a model that gives tuple")
        for name, call in {
            "attack": lambda: run(classifier=giving_pairs(), loss="margin"),
            "gradients": lambda: fr.flow_gradients(giving_pairs(), IMAGES, LABELS, testing.cross_entropy()),
            "bounds": lambda: fr.first_order_bounds(giving_pairs(), IMAGES, LABELS, 0.1, testing.cross_entropy()),
            "report": lambda: evaluate(classifier=giving_pairs(), loss=testing.cross_entropy()),
        }.items()
    ),
    ("attack_two_outputs", lambda: run(classifier=two_outputs(), loss="margin"), ValueError, "one output"),
    ("attack_not_compiled", lambda: run(classifier=testing.network()), ValueError, "Expected a loss"),
    ("attack_call_last_line", lambda: LITTLE(IMAGES, LABELS + 9, model=model()), ValueError, "labels from 0 to 3"),
    ("graph_labels", lambda: run_in_graph(labels=LABELS[:1]), ValueError, NOT_ONE_EACH),
    ("graph_one_hot", lambda: run_in_graph(labels=ONE_HOT), ValueError, "`labels` of the shape"),
    ("graph_label_9", lambda: run_in_graph(labels=LABELS + 9), tf.errors.InvalidArgumentError, "labels from 0 to 3"),
    ("graph_nan", lambda: run_in_graph(images_with(NAN)), tf.errors.InvalidArgumentError, "Expected finite images"),
    ("penalty_one_label", lambda: penalize(labels=LABELS[:1]), ValueError, NOT_ONE_EACH),
    ("penalty_one_label_margin", lambda: penalize(labels=LABELS[:1], loss="margin"), ValueError, NOT_ONE_EACH),
    ("penalty_one_hot", lambda: penalize(labels=ONE_HOT), ValueError, "`labels` of the shape"),
    ("penalty_width", lambda: penalize(labels=ONE_HOT[:, :3], loss="margin"), ValueError, r"\(8, 3\)"),
    ("penalty_label_9", lambda: penalize(labels=LABELS + 9), ValueError, "labels from 0 to 3"),
    ("penalty_label_9_margin", lambda: penalize(labels=LABELS + 9, loss="margin"), ValueError, "labels from 0 to 3"),
    ("penalty_halves", lambda: penalize(labels=LABELS + 0.5), ValueError, "whole numbers"),
    ("penalty_text", lambda: penalize(labels=LABELS.astype(str)), TypeError, "`labels` to be numbers"),
    ("penalty_channels", lambda: penalize(IMAGES[..., :1]), ValueError, "which the model takes"),
    ("penalty_of_elements", lambda: penalize(classifier=model("mse", "probabilities")), ValueError, r"\[batch, 4\]"),
    ("gradients_one_label", lambda: fr.flow_gradients(model(), IMAGES, LABELS[:1]), ValueError, NOT_ONE_EACH),
    ("gradients_margin", lambda: fr.flow_gradients(model(), IMAGES, LABELS[:1], "margin"), ValueError, NOT_ONE_EACH),
    ("gradients_label_9", lambda: fr.flow_gradients(model(), IMAGES, LABELS + 9), ValueError, "labels from 0 to 3"),
    ("gradients_nan", lambda: fr.input_gradients(model(), images_with(NAN), LABELS), ValueError, "finite images"),
    ("flow_of_rank_3", lambda: gradients_at(np.zeros([8, 8, 10])), ValueError, "`flow` to have the shape"),
    ("flow_of_another_batch", lambda: gradients_at(np.zeros([1, 8, 10, 2])), ValueError, "`flow` to have the shape"),
    ("flow_of_3_numbers", lambda: gradients_at(np.zeros([8, 8, 10, 3])), ValueError, "`flow` to have the shape"),
    ("warp_flow", lambda: fr.ops.dense_image_warp(IMAGES, np.zeros([8, 10, 2], "float32")), ValueError, "`flow`"),
    ("warp_whole_numbers", lambda: fr.ops.dense_image_warp(IMAGES, np.zeros([8, 8, 10, 2], int)), TypeError, "`flow`"),
    ("noise_of_another_batch", lambda: moved(fr.perturbations.Additive(), [1, 8, 10, 2]), ValueError, "parameters"),
    ("rotation_of_another_batch", lambda: moved(fr.perturbations.Affine(), [1, 4]), ValueError, "parameters"),
    ("rotation_of_3_numbers", lambda: moved(fr.perturbations.Affine(), [8, 3]), ValueError, "parameters"),
    ("smooth_flow", lambda: moved(fr.perturbations.SmoothFlow(3), [1, 3, 3, 2]), ValueError, "parameters"),
    ("smooth_flow_points", lambda: moved(fr.perturbations.SmoothFlow(3), [8, 4, 3, 2]), ValueError, "parameters"),
    ("bounds_one_label", lambda: fr.first_order_bounds(model(), IMAGES, LABELS[:1], 1), ValueError, NOT_ONE_EACH),
    (
        "loss_one_label",
        lambda: fr.ops.per_example_loss(own_loss, LABELS[:1], model()(IMAGES)),
        ValueError,
        NOT_ONE_EACH,
    ),
    ("report_one_label", lambda: evaluate((IMAGES, LABELS[:1])), ValueError, NOT_ONE_EACH),
    ("report_one_hot", lambda: evaluate((IMAGES, ONE_HOT)), ValueError, "`labels` of the shape"),
    ("report_text", lambda: evaluate((IMAGES, LABELS.astype(str))), TypeError, "`labels` to be numbers"),
    ("monitor_one_label", lambda: monitor((IMAGES, LABELS[:1])), ValueError, NOT_ONE_EACH),
    ("monitor_label_9", lambda: monitor((IMAGES, LABELS + 9), MONITOR), ValueError, "labels from 0 to 3"),
    ("gallery", lambda: gallery(flows=np.zeros([1, 8, 10, 2])), ValueError, "as many images"),
    ("statistics", lambda: fr.ops.displacement_statistics(np.zeros([8, 10, 2])), ValueError, "`flow`"),
    ("smoothness", lambda: fr.ops.flow_smoothness_loss(np.zeros([8, 8, 10, 3])), ValueError, "`flow`"),
    ("margin_width", lambda: fr.ops.MarginLoss()(ONE_HOT[:, :3], model()(IMAGES)), ValueError, "`labels` of the shape"),
    ("margin_one_label", lambda: fr.ops.MarginLoss()(LABELS[:1], model()(IMAGES)), ValueError, "`labels` of the shape"),
    ("margin_label_9", lambda: fr.ops.MarginLoss()(LABELS + 9, model()(IMAGES)), ValueError, "labels from 0 to 3"),
    ("binary_label_9", lambda: penalize(labels=LABELS + 9, classifier=binary()), ValueError, "labels from 0 to 1"),
    ("binary_attack", lambda: run(classifier=binary()), ValueError, "at least two classes"),
    ("penalty_weights", lambda: weighted(np.ones(1)), ValueError, "one weight for each image"),
    ("penalty_nan", lambda: penalize(images_with(NAN)), ValueError, "finite images"),
    ("flow_of_nan", lambda: gradients_at(np.full([8, 8, 10, 2], NAN)), ValueError, "finite parameters"),
    ("warp_by_nan", lambda: fr.ops.dense_image_warp(IMAGES, IMAGES * NAN), ValueError, "finite flow"),
    ("jagged_images", lambda: run([[1.0], [2.0, 3.0]]), TypeError, "`images` to be an array"),
    ("jagged_labels", lambda: run(labels=[[1], [2, 3]]), TypeError, "`labels` to be an array"),
    ("bool_images", lambda: run(IMAGES > 0.5), TypeError, "`images`.*bool"),
    ("swapped", lambda: run(LABELS, IMAGES), ValueError, r"\[batch, height, width, channels\]"),
]


def gallery(flows=None, **options):
    flows = np.zeros([2, 8, 10, 2]) if flows is None else flows
    fr.pictures.draw_gallery(IMAGES[:2], flows, IMAGES[:2], [("a", "b")] * 2, **options)


def weighted(weights):
    Regularizer(1.0)(model(), IMAGES, LABELS, sample_weight=weights)


@functools.cache
def binary():
    network = keras.Sequential([keras.layers.Input(testing.SHAPE), keras.layers.Flatten(), keras.layers.Dense(1)])
    network.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    return network


def own_loss(labels, predictions):
    return tf.reduce_sum(predictions, axis=-1)


def renamed():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="mine")


def gradients_at(flow):
    return fr.flow_gradients(model(), IMAGES, LABELS, flow=flow)


def moved(perturbation, shape):
    return perturbation.apply(tf.constant(IMAGES), tf.zeros(shape))


MONITOR = fr.callbacks.RobustAccuracyMonitor
NO_END, NO_BATCH, NO_IMAGES = "to have an end", "at least one batch", r"images \[batch, height, width, channels\]"
DATA = [  # kind 4
    ("report_repeated", lambda: evaluate(dataset().batch(4).repeat()), ValueError, NO_END),
    ("report_generator", lambda: evaluate(generator()), ValueError, NO_END),
    ("report_endless_sequence", lambda: evaluate(Endless()), ValueError, NO_END),
    ("report_unbatched", lambda: evaluate(dataset()), ValueError, NO_IMAGES),
    ("report_empty", lambda: evaluate(dataset().batch(4).take(0)), ValueError, NO_BATCH),
    ("report_empty_arrays", lambda: evaluate((IMAGES[:0], LABELS[:0])), ValueError, NO_BATCH),
    ("report_empty_batches", lambda: evaluate([(IMAGES[:0], LABELS[:0])] * 4), ValueError, NO_BATCH),
    ("report_ended_generator", lambda: evaluate(iter(()), examples=3), ValueError, NO_BATCH),
    (
        "report_images_alone",
        lambda: evaluate(dataset().batch(4).map(lambda x, y: x)),
        ValueError,
        r"\(images, labels\)",
    ),
    ("report_dictionaries", lambda: evaluate([{"image": IMAGES}]), ValueError, "Received dict: .*as_supervised=True"),
    ("report_one_array", lambda: evaluate(IMAGES), ValueError, r"\(images, labels\)"),
    ("report_path", lambda: evaluate("digits"), ValueError, r"\(images, labels\)"),
    ("report_none", lambda: evaluate(None), ValueError, r"\(images, labels\)"),
    ("report_four_parts", lambda: evaluate([(IMAGES, LABELS, LABELS, LABELS)]), ValueError, r"\(images, labels\)"),
    ("report_one_image", lambda: evaluate((IMAGES[0], LABELS[0])), ValueError, NO_IMAGES),
    (
        "report_last_batch",
        lambda: evaluate([(IMAGES, LABELS), (IMAGES[..., :1], LABELS)]),
        ValueError,
        "the model takes",
    ),
    ("report_last_labels", lambda: evaluate([(IMAGES, LABELS), (IMAGES, LABELS[:3])]), ValueError, NOT_ONE_EACH),
    *(
        (
            f"{name}_{'robust' if kind is MONITOR else 'flow'}",
            functools.partial(lambda make, kind: monitor(make(), kind), make, kind),
            ValueError,
            message,
        )
        for kind in (MONITOR, fr.callbacks.FlowGradientMonitor)
        for name, make, message in (
            ("monitor_repeated", lambda: dataset().batch(4).repeat(), NO_END),
            ("monitor_generator", generator, "read again after each epoch"),
            ("monitor_endless", Endless, NO_END),
            ("monitor_unbatched", dataset, NO_IMAGES),
            ("monitor_empty", lambda: dataset().batch(4).take(0), NO_BATCH),
            ("monitor_array", lambda: IMAGES, r"\(images, labels\)"),
        )
    ),
    ("restore_order_repeated", lambda: fr.callbacks.RestoreOrder(dataset().repeat()), ValueError, "known end"),
    ("restore_order_empty", lambda: fr.callbacks.RestoreOrder(dataset().take(0)), ValueError, "at least one"),
    ("report_swapped", lambda: evaluate((LABELS, IMAGES)), ValueError, NO_IMAGES),
    ("report_dictionary", lambda: evaluate({"x": IMAGES, "y": LABELS}), ValueError, r"\(images, labels\)"),
]

TOO_FAR = "in pixels, and at most 10"
SIZES = [  # kind 5
    *for_both("epsilon", lambda jit: run(attack=fr.attacks.FlowFrankWolfe(1000.0), jit=jit), ValueError, TOO_FAR),
    ("epsilon_pgd", lambda: run(attack=FlowPGD(11.0)), ValueError, TOO_FAR),
    ("epsilon_smooth", lambda: run(attack=FlowPGD(11.0, smoothing=1.0)), ValueError, TOO_FAR),
    ("epsilon_adef", lambda: run(attack=fr.attacks.ADef(11.0)), ValueError, TOO_FAR),
    ("epsilon_auto", lambda: run(attack=fr.attacks.AutoDeform(1000.0)), ValueError, TOO_FAR),
    ("report_epsilons", lambda: evaluate(epsilons=[0.1, 1000]), ValueError, TOO_FAR),
    ("report_epsilons_default", lambda: evaluate(attacks=None, epsilons=[28.0]), ValueError, TOO_FAR),
    ("penalty_start", lambda: penalize(random_start=28.0), ValueError, TOO_FAR),
    ("rotation", lambda: run(attack=fr.attacks.RotationTranslation(max_shift=28.0)), ValueError, TOO_FAR),
    ("bounds", lambda: fr.first_order_bounds(model(), IMAGES, LABELS, 1000), ValueError, TOO_FAR),
]

NUMBERS = [  # kind 6
    ("margin", lambda: run(classifier=model(kind="nan"), loss="margin"), ValueError, "NaN"),
    ("report_checks", lambda: evaluate(classifier=model(kind="nan"), check=True), ValueError, "NaN"),
    ("monitor", lambda: nan_monitor(MONITOR), ValueError, "NaN"),
    ("export", lambda: fr.export(model(kind="nan"), FOLDER / "nan"), ValueError, "finite predictions"),
    ("load", lambda: fr.load_classifier(saved("nan.keras")), ValueError, "finite weights"),
    ("save", lambda: outputs.save_model(model(kind="nan"), FOLDER / "new.keras"), ValueError, "has diverged"),
    ("targeted_report", lambda: evaluate(attacks=LITTLE.replace(targeted=True)), ValueError, "not targeted"),
    ("targeted_monitor", lambda: MONITOR(LITTLE.replace(targeted=True), (IMAGES, LABELS)), ValueError, "untargeted"),
    (
        "targeted_pictures",
        lambda: fr.callbacks.AttackPictures(LITTLE.replace(targeted=True), (IMAGES, LABELS), FOLDER),
        ValueError,
        "untargeted",
    ),
    ("json", lambda: json.loads(nan_report().to_json(), parse_constant=bare), ValueError, "reached"),
    ("report_of_letters", lambda: read_report(correct="abcdefgh"), ValueError, "8 times 0 or 1"),
    ("report_of_fewer", lambda: read_report(correct="01"), ValueError, "8 times 0 or 1"),
    ("divergence", lambda: train("--learning_rate=1e30", "--epochs=1"), Ended, "Expected finite|NaN|diverged"),
]


def nan_monitor(kind):
    callback = kind(LITTLE, (IMAGES, LABELS))
    callback.set_model(model(kind="nan"))
    callback.on_epoch_end(0, {})


def nan_report():
    report = fr.RobustnessReport.from_json(report_text())
    report.measures = {key: dict.fromkeys(measures, NAN) for key, measures in report.measures.items()}
    fr.RobustnessReport.from_json(report.to_json())
    raise ValueError("reached")


def bare(name):
    raise AssertionError(f"a bare {name}")


def read_report(**changes):
    return fr.RobustnessReport.from_dict({**json.loads(report_text()), **changes})


def of_integers():
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input(testing.SHAPE, dtype="uint8"), *layers], name="of_bytes")


def with_losses_of_activations():
    network = testing.network(keras.layers.Dense(3, activity_regularizer=keras.regularizers.L2(1.0)))
    Regularizer(1.0, fraction=0.5)(network, *testing.data(), testing.cross_entropy())


def train(*flags, output="trained.keras"):
    little = "--train_size=128", "--validation_size=0", "--width=0.1", "--method=plain"
    script("train.py", *little, f"--output={FOLDER / output}", *flags)


TEXT = b"a text of mine\nand its last line without an end"
OTHERS = "another file, which is left as it is"


def resume(content):
    path = written("mine", content)
    leaving(path, lambda: evaluate(resume_from=path))


def resume_with(**changes):
    """Goes on from another evaluation's results."""
    path = FOLDER / "resumed.jsonl"
    path.unlink(missing_ok=True)
    evaluate(resume_from=path)
    leaving(path, lambda: evaluate(resume_from=path, **changes))


def activated():
    """The same weights as `model`, with another activation."""
    network = keras.Sequential(
        [
            keras.layers.Input(testing.SHAPE),
            keras.layers.Conv2D(6, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, dtype="float32"),
        ]
    )
    network.set_weights(model().get_weights())
    network.compile("sgd", testing.cross_entropy())
    return network


def resume_a_shorter_record():
    path = FOLDER / "shorter.jsonl"
    path.unlink(missing_ok=True)
    evaluate(resume_from=path)
    first, second = path.read_text().splitlines()
    record = json.loads(second)
    record["record"] = {name: part[:3] if isinstance(part, list) else part for name, part in record["record"].items()}
    path.write_text(f"{first}\n{json.dumps(record)}\n")
    evaluate(resume_from=path)


def kept(path, name, *flags):
    leaving(path, lambda: script(name, *flags))


def claimed(*flags):
    """Goes on with the logs of another training."""
    logs = FOLDER / "logs"
    with contextlib.suppress(Ended):
        with mock.patch("keras_flowreg.commands.training.build_model", side_effect=ValueError("claimed")):
            train(f"--logs={logs}", "--label_smoothing=0.1")
    leaving(logs, lambda: train(f"--logs={logs}", "--label_smoothing=0.1", *flags))


FILES = [  # kind 7
    *(
        (
            f"resume_from_{name}",
            functools.partial(resume, content),
            ValueError,
            "Expected .*mine to hold partial results",
        )
        for name, content in (
            ("text", TEXT),
            ("keras", b"PK\x03\x04\n\x00\x01 no line ends here"),
            ("json", b'{"a": 1}\n{"b": 2'),
            ("list", b"[1, 2]\n"),
            ("number", b"3\n"),
            ("newer", b'{"keras_flowreg partial results": 2, "settings": {}}\n'),
            ("old", b'{"settings": {}}\n'),
        )
    ),
    ("resume_other_activation", lambda: resume_with(classifier=activated()), ValueError, "another"),
    (
        "resume_other_loss",
        lambda: resume_with(loss=keras.losses.SparseCategoricalCrossentropy()),
        ValueError,
        "another",
    ),
    ("resume_other_seed", lambda: resume_with(seed=1), ValueError, "another"),
    ("resume_other_radius", lambda: resume_with(epsilons=[0.2]), ValueError, "another"),
    ("resume_other_images", lambda: resume_with(data=(IMAGES[::-1], LABELS)), ValueError, "other images or labels"),
    ("resume_other_labels", lambda: resume_with(data=(IMAGES, 3 - LABELS)), ValueError, "other images or labels"),
    ("resume_shorter_record", resume_a_shorter_record, ValueError, "record of 8 examples.*3"),
    ("resume_folder", lambda: evaluate(resume_from=FOLDER), OSError, "`resume_from` to be the path of a file"),
    (
        "resume_twice_at_once",
        lambda: [Journal(FOLDER / "two.jsonl", {}) for _ in range(2)] * 2,
        ValueError,
        "one process",
    ),
    ("export_report_activation", lambda: export_with_report(activated()), ValueError, "report of this model"),
    ("export_over_folder", lambda: export_over(made_folder("mine_too", note="x")), FileExistsError, "hold an export"),
    ("export_over_file", lambda: export_over(written("mine_three")), OSError, "the path of a folder"),
    (
        "export_over_model_folder",
        lambda: export_over(made_folder("m", **{"saved_model.pb": ""})),
        FileExistsError,
        "an export",
    ),
    (
        "export_again",
        lambda: leaving(exported(), lambda: fr.export(model(), exported())),
        FileExistsError,
        "overwrite=True",
    ),
    ("train_over_text", lambda: over_text("text.keras", lambda: train(output="text.keras")), Ended, "another file"),
    ("report_over_text", lambda: report_over("notes.md"), Ended, "another file"),
    ("report_over_json", lambda: report_over("notes.json"), Ended, "another file"),
    ("report_over_text_beside_a_report", lambda: beside_a_report("kept.md"), Ended, "kept.md, which is another"),
    ("report_that_was_changed", lambda: changed_report(), Ended, "changed.md, which is another"),
    ("report_over_picture_beside_a_report", lambda: beside_a_report("own.png"), Ended, "own.png, which is another"),
    ("picture_over_picture", lambda: picture_over(picture("own.png")), Ended, "another file"),
    ("picture_over_text", lambda: picture_over(written("own_text.png", TEXT)), Ended, "another file"),
    (
        "logs_of_something",
        lambda: train(f"--logs={made_folder('something', note='x')}"),
        Ended,
        "empty, or logs of this",
    ),
    ("study_result", lambda: study_over(b"{}"), Ended, "a result of reproduce.py"),
    ("study_result_cut_off", lambda: study_over(b'{"name": "dig'), Ended, "a file of JSON"),
    ("study_foreign_json", lambda: study_report(b'{"name": 3}'), Ended, "a result of reproduce.py"),
    ("logs_twice_at_once", lambda: claimed_twice(), ValueError, "one process"),
    (
        "export_image_shape",
        lambda: fr.export(model(), FOLDER / "e", image_shape=(9, 9, 2)),
        ValueError,
        "`image_shape`",
    ),
]


def claimed_twice():
    with outputs.claimed_folder(FOLDER / "twice", {}, "logs"), outputs.claimed_folder(FOLDER / "twice", {}, "logs"):
        pass


def export_with_report(classifier):
    fr.export(classifier, FOLDER / "other", report=fr.RobustnessReport.from_json(report_text()))


def export_over(path):
    leaving(path, lambda: fr.export(model(), path, overwrite=True))


def over_text(name, call):
    leaving(written(name, TEXT), call)


def report_over(name):
    path = written(name, TEXT)
    kept(path, "evaluate.py", f"--model={saved('digits.keras')}", f"--output={FOLDER / 'notes'}", "--examples=1")
    os.remove(path)


def beside_a_report(name):
    """A file beside the JSON file of a report, such as `evaluate.py --json > kept.json` leaves."""
    stem = name.partition(".")[0]
    written(f"{stem}.json", report_text().encode())
    path = written(name, TEXT)
    kept(path, "evaluate.py", f"--model={saved('digits.keras')}", f"--output={FOLDER / stem}", "--examples=1")


def changed_report():
    """A report's text with a note; without one it is replaced, though a stop has left it beside another report's JSON."""
    report = fr.RobustnessReport.from_json(report_text())
    outputs.write_report(report, FOLDER / "changed")
    files.write_text(
        FOLDER / "changed.json", dataclasses.replace(report, settings={}, robust={}, measures={}).to_json()
    )
    outputs.expect_report_path(str(FOLDER / "changed"), "output")
    path = FOLDER / "changed.md"
    path.write_text(f"A note.\n{path.read_text()}")
    leaving(path, lambda: evaluate_digits(f"--output={FOLDER}/changed"))


def picture_over(path):
    kept(path, "attack.py", f"--model={saved('digits.keras')}", f"--image={picture('7.png')}", f"--picture={path}")


SMOKE_RESULT = "study/digits-small_cnn-plain-seed0.json"


def study_over(content):
    path = written(SMOKE_RESULT, content)
    kept(path, "reproduce.py", "--preset=smoke", f"--output={FOLDER / 'study'}", "--shard=1/2")


def study_report(content):
    written("foreign_study/a.json", content)
    script("reproduce.py", "--report", f"--output={FOLDER / 'foreign_study'}")


def evaluate_digits(*flags):
    """evaluate.py, which must end before it attacks anything."""
    with mock.patch.object(fr, "evaluate_robustness", side_effect=AssertionError("attacks")):
        script("evaluate.py", f"--model={saved('digits.keras')}", *flags)


def attack_digits(*flags):
    with mock.patch("keras_flowreg.attacks.runner.run", side_effect=AssertionError("attacks")):
        script("attack.py", f"--model={saved('digits.keras')}", *flags)


def train_nothing(*flags, **options):
    """train.py, which must end before it trains."""
    with mock.patch("keras_flowreg.commands.training.fit", side_effect=AssertionError("training")):
        train(*flags, **options)


def failing_check():
    """A check that fails must do so before the attacks."""
    from keras_flowreg.evaluation import checks, work

    with (
        failing(checks, "_randomness", ValueError("reached")),
        failing(work.Work, "_attack", AssertionError("attacks")),
    ):
        evaluate(check=True)


THIS_MACHINE = "a path on this machine. Received .*(gs|s3)://bucket"
FOLDER_ERROR = "in a folder that can be written to"
BEFORE = [  # kind 8
    ("report_folder", lambda: evaluate_digits(f"--output={FOLDER}"), Ended, "which is a folder"),
    ("report_slash", lambda: evaluate_digits(f"--output={FOLDER}/new/"), Ended, "which is a folder"),
    ("report_nowhere", lambda: evaluate_digits(f"--output={NO_FOLDER}/report"), Ended, FOLDER_ERROR),
    ("report_below_file", lambda: evaluate_digits(f"--output={written('file')}/report"), Ended, FOLDER_ERROR),
    ("report_json_folder", lambda: evaluate_digits(f"--output={made_folder('r.json')[:-5]}"), Ended, "path of a file"),
    ("report_full_disk", lambda: on_full_disk(lambda: evaluate_digits(f"--output={FOLDER}/r2")), Ended, FOLDER_ERROR),
    ("resume_nowhere", lambda: evaluate(resume_from=f"{NO_FOLDER}/a"), OSError, FOLDER_ERROR),
    ("report_in_a_bucket", lambda: evaluate_digits("--output=gs://bucket/report"), Ended, THIS_MACHINE),
    ("resume_in_a_bucket", lambda: evaluate(resume_from="gs://bucket/a.jsonl"), OSError, THIS_MACHINE),
    ("export_into_a_bucket", lambda: fr.export(model(), "gs://bucket/a"), OSError, THIS_MACHINE),
    ("train_into_a_bucket", lambda: train_nothing("--output=s3://bucket/a.keras"), Ended, THIS_MACHINE),
    ("picture_folder", lambda: attack_digits(f"--picture={made_folder('p.png')}"), Ended, "path of a file"),
    ("picture_nowhere", lambda: attack_digits(f"--picture={NO_FOLDER}/a.png"), Ended, FOLDER_ERROR),
    ("picture_kind", lambda: attack_digits(f"--picture={FOLDER}/a.docx"), Ended, "to end in one of"),
    ("train_folder", lambda: train_nothing(output=os.path.basename(made_folder("f.keras"))), Ended, "path of a file"),
    ("train_nowhere", lambda: train_nothing(output=f"{NO_FOLDER}/a.keras"), Ended, FOLDER_ERROR),
    ("train_ending", lambda: train_nothing(output="model.h5"), Ended, "ends in .keras"),
    ("logs_nowhere", lambda: train_nothing(f"--logs={NO_FOLDER}"), Ended, FOLDER_ERROR),
    ("logs_file", lambda: train_nothing(f"--logs={written('logs_file')}"), Ended, "path of a folder"),
    ("logs_of_method", lambda: claimed("--method=flow_gradient"), Ended, "another recipe"),
    ("logs_of_network", lambda: claimed("--architecture=vgg11"), Ended, "another architecture"),
    ("logs_of_width", lambda: claimed("--width=0.2"), Ended, "another width"),
    ("logs_of_weight", lambda: claimed("--method=flow_gradient", "--weight=2"), Ended, "another recipe"),
    ("logs_of_data", lambda: claimed("--train_size=64"), Ended, "another train_size"),
    ("logs_of_seed", lambda: claimed("--seed=3"), Ended, "another seed"),
    ("demo_picture", lambda: script("demo.py", f"--picture={NO_FOLDER}/a.png"), Ended, FOLDER_ERROR),
    ("demo_radius", lambda: script("demo.py", "--pictured_epsilon=-1"), Ended, "pictured_epsilon"),
    *(
        (
            f"train_{flag}_of_another_method",
            functools.partial(train_nothing, *flags),
            Ended,
            f"Received --{flag}, which it",
        )
        for flag, flags in (
            ("weight", ("--method=plain", "--weight=2")),
            ("attack_steps", ("--method=flow_gradient", "--attack_steps=2")),
            ("lattice", ("--method=input_gradient", "--lattice=forward")),
            ("deformation", ("--method=intensity_training", "--deformation=FlowPGD")),
            ("random_start", ("--method=certified_training", "--random_start=0.1")),
        )
    ),
    ("train_pictures_without_logs", lambda: train_nothing("--pictures"), Ended, "`--pictures` with `--logs`"),
    ("attack_label_alone", lambda: attack_digits("--label=3"), Ended, "`--label` with the `--image`"),
    (
        "demo_models",
        lambda: script("demo.py", f"--picture={FOLDER}/d.png", f"--models={NO_FOLDER}"),
        Ended,
        FOLDER_ERROR,
    ),
    ("study_nowhere", lambda: script("reproduce.py", f"--output={NO_FOLDER}"), Ended, FOLDER_ERROR),
    ("export_nowhere", lambda: fr.export(model(), f"{NO_FOLDER}/export"), OSError, FOLDER_ERROR),
    ("export_script", lambda: script("export.py", f"--model={saved()}", f"--output={NO_FOLDER}"), Ended, FOLDER_ERROR),
    ("checks_come_first", failing_check, ValueError, "reached"),
    ("workers", lambda: distributed("--batch_size=63"), Ended, "--batch_size to be a multiple|Keras 2"),
    ("workers_output", lambda: distributed(output=f"{NO_FOLDER}/a.keras"), Ended, f"{FOLDER_ERROR}|Keras 2"),
]


def on_full_disk(call):
    full = mock.MagicMock()
    full.return_value.__enter__.return_value.write.side_effect = OSError("No space left on device")
    with mock.patch.object(tempfile, "NamedTemporaryFile", full):
        call()


def distributed(*flags, output=FOLDER / "workers.keras"):
    script("train_distributed.py", f"--output={output}", *flags)


NO_SPACE = "No space left on device"
ATOMIC = [  # kind 9
    ("export_full_disk", lambda: leaving(exported(), full_disk_export), OSError, NO_SPACE),
    ("export_second_rename", lambda: leaving(exported(), second_rename_fails), OSError, NO_SPACE),
    ("export_card", lambda: leaving(exported(), failing_card), OSError, NO_SPACE),
    ("model_full_disk", full_disk_model, OSError, NO_SPACE),
    ("text_full_disk", full_disk_text, OSError, NO_SPACE),
    ("picture_full_disk", lambda: full_disk_picture(), OSError, NO_SPACE),
    ("report_rename", lambda: failing_report(), OSError, NO_SPACE),
    ("journal_full_disk", lambda: full_disk_journal(), OSError, NO_SPACE),
]


def failing_card():
    with failing(json, "dumps"):
        fr.export(model(), exported(), overwrite=True)


def full_disk_picture():
    figure = fr.RobustnessReport.from_json(report_text()).plot().figure
    path = str(FOLDER / "full.png")
    outputs.save_picture(figure, path)
    with failing(os, "fsync"):
        leaving(path, lambda: outputs.save_picture(figure, path))


def failing_report():
    path = written("old.json", report_text().encode())
    with failing(os, "replace"):
        leaving(path, lambda: outputs.write_report(fr.RobustnessReport.from_json(report_text()), path[:-5]))


def load(path, **options):
    return fr.load_classifier(path, **options)


def image_attack(path, *flags):
    target = f"--picture={FOLDER / 'drawn.png'}"
    script("attack.py", f"--model={saved('digits.keras')}", f"--image={path}", target, "--label=0", *flags)


NOT_LOADED = "Expected .* to be a classifier that this Keras can load|as its name says"
BAD_FILES = [  # kind 10
    ("keras_truncated", lambda: load(truncated(saved(), "cut.keras")), ValueError, NOT_LOADED),
    ("keras_text", lambda: load(written("text_too.keras", TEXT)), ValueError, NOT_LOADED),
    ("keras_empty", lambda: load(written("empty.keras", b"")), ValueError, NOT_LOADED),
    ("keras_zip", lambda: load(another_zip()), ValueError, NOT_LOADED),
    ("keras_newer", lambda: load(forged("newer.keras", newer)), ValueError, NOT_LOADED),
    ("keras_json", lambda: load(forged("json.keras", lambda text: text[:-9])), ValueError, NOT_LOADED),
    ("h5_text", lambda: load(written("text.h5", TEXT)), ValueError, NOT_LOADED),
    ("h5_weights", lambda: load(h5_of_weights()), ValueError, "its weights alone"),
    ("picture_for_model", lambda: load(picture("7.png")), ValueError, "as its name says"),
    ("h5_named_keras", lambda: load(h5_named_keras()), ValueError, "as its name says. Received an HDF5 file"),
    ("folder_empty", lambda: load(made_folder("empty_folder")), ValueError, "to be a SavedModel"),
    (
        "folder_damaged",
        lambda: load(made_folder("damaged", **{"saved_model.pb": "x"})),
        ValueError,
        "to be a SavedModel",
    ),
    ("missing", lambda: load(FOLDER / "missing.keras"), FileNotFoundError, "does not exist"),
    (
        "model_flag",
        lambda: script("evaluate.py", f"--model={written('text_too.keras', TEXT)}"),
        Ended,
        "as its name says",
    ),
    ("model_flag_cut", lambda: script("attack.py", f"--model={truncated(saved(), 'cut.keras')}"), Ended, "name says"),
    ("export_flag_cut", lambda: export_script(f"--model={truncated(saved(), 'cut.keras')}"), Ended, "as its name says"),
    ("report_text", lambda: export_script(f"--report={written('r.txt', TEXT)}"), Ended, "the JSON file of a report"),
    ("report_empty", lambda: export_script(f"--report={written('r0.json', b'')}"), Ended, "the JSON file of a report"),
    ("report_list", lambda: export_script(f"--report={written('r1.json', b'[]')}"), Ended, "the JSON file of a report"),
    ("report_missing", lambda: export_script("--report=missing.json"), Ended, "the JSON file of a report"),
    ("report_binary", lambda: export_script(f"--report={saved()}"), Ended, "the JSON file of a report"),
    ("report_newer", lambda: read_report(schema_version=99), ValueError, "schema version 1. Received 99"),
    ("report_without_runs", lambda: read_report(runs=None), ValueError, "Expected a report"),
    ("report_cut_off", lambda: fr.RobustnessReport.from_json(report_text()[:-50]), ValueError, "report in JSON"),
    ("picture_text", lambda: image_attack(written("text.png", TEXT)), Ended, "to be a picture"),
    ("picture_empty", lambda: image_attack(written("empty.png", b"")), Ended, "to be a picture"),
    ("picture_missing", lambda: image_attack(FOLDER / "missing.png"), Ended, "to be a picture"),
    ("picture_cut_off", lambda: image_attack(truncated(noise_picture(), "cut.png")), Ended, "to be a picture"),
    ("picture_animated", lambda: image_attack(picture("moving.gif", frames=3)), Ended, "still picture.*frames"),
    ("picture_32_bits", lambda: image_attack(picture("float.tiff", "F")), Ended, "8 or 16 bits|finite"),
    ("picture_label", lambda: image_attack(picture("7.png"), "--label=12"), Ended, "labels from 0 to 9"),
    ("arguments", lambda: script("evaluate.py", f"--model={saved()}", "model.keras"), Ended, "flags alone"),
    ("reads_as_data", lambda: script("evaluate.py", f"--model={saved()}"), Ended, "which the model takes"),
]


def another_zip():
    path = str(FOLDER / "another.keras")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("note.txt", "hello")
    return path


def newer(text):
    return text.replace('"Conv2D"', '"Conv2DOfKeras9"')


def h5_of_weights():
    path = str(FOLDER / "weights.h5")
    with h5py.File(path, "w") as file:
        file["kernel"] = np.ones(3)
    return path


def h5_named_keras():
    return written("h5.keras", pathlib.Path(h5_of_weights()).read_bytes())


def noise_picture():
    path = str(FOLDER / "noise.png")
    PIL.Image.fromarray(np.random.RandomState(0).randint(0, 255, [28, 28], "uint8")).save(path)
    return path


def export_script(*flags):
    script("export.py", *(f"--model={saved()}",)[: "--model" not in flags[0]], f"--output={FOLDER / 'never'}", *flags)


def with_module(text):
    """The dense layer's initializer is a function of another module."""
    config = json.loads(text)
    layer = config["config"]["layers"][-1]
    layer["config"]["bias_initializer"] = {
        "module": "os",
        "class_name": "function",
        "config": "system",
        "registered_name": "function",
    }
    return json.dumps(config)


def with_class(text):
    return text.replace(
        '{"module": "keras.layers", "class_name": "Flatten"', '{"module": "subprocess", "class_name": "Popen"'
    )


SAFE = "safe_mode is on. Received one with"
UNTRUSTED = [  # kind 11
    ("lambda_keras", lambda: load(saved("lambda.keras")), ValueError, f"{SAFE} a Lambda"),
    ("lambda_h5", lambda: load(saved("lambda.h5")), ValueError, f"{SAFE} a Lambda"),
    ("lambda_h5_named_keras", lambda: load(renamed_file("lambda.h5", "evil.keras")), ValueError, "as its name says"),
    ("lambda_hdf5", lambda: load(renamed_file("lambda.h5", "evil.hdf5")), ValueError, f"{SAFE} a Lambda"),
    ("function_of_a_module", lambda: load(forged("os.keras", with_module)), ValueError, f"{SAFE} os.system"),
    ("class_of_a_module", lambda: load(forged("popen.keras", with_class)), ValueError, f"{SAFE} subprocess.Popen"),
    (
        "call_of_tensorflow",
        lambda: load(forged("call.keras", with_call)),
        ValueError,
        f"{SAFE} a call of tf.io.write_file",
    ),
    *(
        (
            f"call_of_{kind}",
            lambda forge=forge, kind=kind: load(forged(f"{kind}.keras", forge)),
            ValueError,
            f"{SAFE} {found}",
        )
        for kind, forge, found in (
            (
                "slices",
                lambda text: with_layer(text, "SlicingOpLambda", function="io.write_file"),
                "a call of tf.io.write_file",
            ),
            ("class_method", lambda text: with_layer(text, "ClassMethod", cls_symbol="io.write_file"), "a ClassMethod"),
            (
                "operation",
                lambda text: with_layer(text, "TensorFlowOpLayer", node_def="WriteFile"),
                "a TensorFlowOpLayer",
            ),
            (
                "disguised_call",
                lambda text: with_layer(
                    text,
                    "keras_flowreg>MarginLoss",
                    module="keras.src.layers.core.tf_op_layer",
                    registered_name="TFOpLambda",
                    function="io.write_file",
                ),
                "a call of tf.io.write_file",
            ),
            (
                "disguised_lambda",
                lambda text: with_layer(text, "core.Lambda", module="keras.layers", function="math.exp"),
                "a Lambda",
            ),
            (
                "lambda_beside_a_call",
                lambda text: with_layer(text, "TFOpLambda", registered_name="Lambda", function="math.exp"),
                "a Lambda",
            ),
            (
                "saved_classifier",
                lambda text: with_layer(
                    text, "SavedClassifier", module="keras_flowreg.saved_classifier", handle="evil", safe_mode=False
                ),
                "a SavedClassifier",
            ),
            (
                "our_function",
                lambda text: with_function(text, "keras_flowreg.files", "write_text"),
                "keras_flowreg.files.write_text",
            ),
            ("python", lambda text: with_function(text, "builtins", "exec"), "builtins.exec"),
            ("keras_function", lambda text: with_function(text, "keras.utils", "get_file"), "keras.utils.get_file"),
            (
                "keras_callback",
                lambda text: with_layer(text, "BackupAndRestore", module="keras.callbacks"),
                "keras.callbacks.Backup",
            ),
        )
    ),
    ("saved_model", lambda: load(operating("reads")), ValueError, f"{SAFE} the operation ReadFile"),
    ("saved_model_named_keras", lambda: load(operating("reads.keras")), ValueError, f"{SAFE} the operation ReadFile"),
    *(
        (f"flag_{name}", functools.partial(script, name, *flags), Ended, f"{SAFE} a Lambda")
        for name, flags in (
            ("export.py", (f"--model={FOLDER}/lambda.keras", f"--output={FOLDER}/evil")),
            ("evaluate.py", (f"--model={FOLDER}/lambda.h5",)),
            ("attack.py", (f"--model={FOLDER}/lambda.keras", f"--picture={FOLDER}/evil.png")),
        )
    ),
]


def with_call(text):
    return with_layer(text, "TFOpLambda", function="io.write_file")


def with_layer(text, class_name, module="keras.layers", registered_name=None, **options):
    """Another class for the first layer."""
    config = json.loads(text)
    layer = config["config"]["layers"][1]
    layer.update(class_name=class_name, module=module, registered_name=registered_name)
    layer["config"] = {"name": "call", **options}
    return json.dumps(config)


def with_function(text, module, name):
    """A function for the first layer."""
    config = json.loads(text)
    config["config"]["layers"][1].update(module=module, class_name="function", config=name)
    return json.dumps(config)


def renamed_file(name, other):
    return written(other, pathlib.Path(saved(name)).read_bytes())


PICTURES = [  # kind 13: what cannot be taken; `PicturesTest` has what can
    ("size", lambda: image_attack(picture("large.png", size=(100, 100))), Ended, "28 x 28 pixels"),
    ("size_turned", lambda: image_attack(picture("wide.png", size=(28, 27))), Ended, "28 x 28 pixels.*27, 28"),
    ("channels", lambda: script("attack.py", f"--model={saved()}", f"--image={picture('7.png')}"), Ended, "2 channels"),
]

TABLE = {
    "attacks_and_reports": ATTACKS_AND_REPORTS,
    "arguments": ARGUMENTS,
    "shapes": SHAPES,
    "data": DATA,
    "sizes": SIZES,
    "numbers": NUMBERS,
    "files": FILES,
    "before": BEFORE,
    "atomic": ATOMIC,
    "bad_files": BAD_FILES,
    "untrusted": UNTRUSTED,
    "pictures": PICTURES,
}


class BadInputTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.named_parameters(
        (f"{kind}_{name}", call, error, message) for kind, rows in TABLE.items() for name, call, error, message in rows
    )
    def test_clear_error(self, call, error, message):
        saved("lambda.keras"), saved("lambda.h5")
        with self.assertRaisesRegex(error, message) as raised:
            call()
        if not isinstance(raised.exception, tf.errors.OpError):
            self.assertNotIn("\n", str(raised.exception).strip())


if __name__ == "__main__":
    tf.test.main()
