r"""Trains a classifier on several workers, which go on from their last backup when one of them is lost.

    python examples/train_distributed.py --workers=2 --method=flow_gradient --output=/tmp/digits.keras

starts the workers on this machine. On several machines, start it on each with TF_CONFIG set: it is then one of
the workers. docs/scaling.md says more.

The flags are those of train.py, but for --logs and --pictures; --batch_size is that of all workers together.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import keras
import tensorflow as tf
from absl import flags

from keras_flowreg import compat, files
from keras_flowreg.commands import command_line, outputs, training, training_flags
from keras_flowreg.commands.command_line import Result
from keras_flowreg.commands.flags import model_options

_SECONDS_BETWEEN_LOOKS = 0.1


def define_flags():
    """Those of a training; how many workers, and where their backup is."""
    training_flags.define_training_flags()
    flags.DEFINE_integer("workers", 2, "processes to start on this machine", lower_bound=1)
    flags.DEFINE_integer("restarts", 3, "how often to start again when a worker is lost", lower_bound=0)
    flags.DEFINE_string("backup", None, "folder of the backup, for all workers; by default beside the output")


def backup_folder():
    return flags.FLAGS.backup or f"{flags.FLAGS.output}.backup"


def claimed_backup():
    """The folder of the backup, for this training alone: another one's weights are not gone on from."""
    return outputs.claimed_folder(backup_folder(), training_flags.settings(), "backup")


def launch():
    """Starts the workers on this machine, and again when one is lost, until the chief has saved the model."""
    expect_equal_shares(flags.FLAGS.workers)
    with claimed_backup():
        pass  # It is the chief's, but an error should come before the workers.
    stops = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stops.append(number))
    for restarts_left in reversed(range(flags.FLAGS.restarts + 1)):
        failures = run_workers(flags.FLAGS.workers, stops)
        if not failures:
            return
        print(f"Failed, with exit status: {failures}. Restarts left: {restarts_left}", file=sys.stderr, flush=True)
        if not tf.io.gfile.exists(os.path.join(backup_folder(), "chief")):
            sys.exit("Expected a backup to go on from. Received a failure before the first: it would come again.")
    sys.exit(f"Expected at most {flags.FLAGS.restarts + 1} starts. Received a failure of each.")


def run_workers(count, stops):
    """Runs the workers until the chief, worker 0, is done or any has failed, and stops the others.

    Args:
      count: how many.
      stops: a signal in this list stops them all. (An exception from the signal's handler would come anywhere, also
        between the start of a worker and the note of it here.)

    Returns:
      `{worker: exit status}` of those that failed; none if the chief is done.
    """
    workers = []
    try:
        for config in cluster(count):
            workers.append(start_worker(config))
            print(f"Started worker {len(workers) - 1}: process {workers[-1].pid}", flush=True)
        while not stops:
            statuses = [worker.poll() for worker in workers]
            failures = {f"worker {index}": status for index, status in enumerate(statuses) if status}
            if failures or statuses[0] == 0:
                return {} if statuses[0] == 0 else failures
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        print("Stopped, with the workers.", file=sys.stderr)
        sys.exit(command_line.INTERRUPTED)
    finally:
        # A worker may wait for ever for one that is lost.
        for worker in workers:
            worker.kill()
            worker.wait()


def cluster(count):
    """TF_CONFIG of each worker on this machine."""
    addresses = {"worker": [f"localhost:{port}" for port in free_ports(count)]}
    tasks = ({"type": "worker", "index": index} for index in range(count))
    return [json.dumps({"cluster": addresses, "task": task}) for task in tasks]


def start_worker(config):
    """Starts this script as one worker."""
    return subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "TF_CONFIG": config})


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def train():
    """One worker's part of the training."""
    tf.get_logger().setLevel("WARNING")
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    keras.utils.set_random_seed(flags.FLAGS.seed)
    dataset = training_flags.load_dataset()
    expect_equal_shares(strategy.num_replicas_in_sync, dataset.train_examples)
    recipe = training_flags.recipe()
    with strategy.scope():
        model = training.build_model(dataset, recipe, **model_options())
    is_chief = strategy.extended.should_checkpoint
    # The backup stays until the model is saved.
    backup = keras.callbacks.BackupAndRestore(backup_folder(), delete_checkpoint=False)
    with claimed_backup() if is_chief else contextlib.nullcontext():
        training.fit(model, dataset, recipe.schedule, [backup], verbose=2 if is_chief else 0)
        save(model, is_chief)


def expect_equal_shares(replicas, train_size=0):
    """Checks that each batch, the last ones too, is divided evenly: a replica's loss is the mean of its own share."""
    sizes = {
        "batch_size": flags.FLAGS.batch_size,
        "validation_size": flags.FLAGS.validation_size,
        "train_size": train_size or flags.FLAGS.train_size or 0,
    }
    for name, size in sizes.items():
        if size % replicas:
            raise ValueError(f"Expected --{name} to be a multiple of {replicas}, the replicas. Received: {size}")


def save(model, is_chief):
    """Saves by the chief; the others save to a folder that is thrown away, for some variables are read together."""
    output = flags.FLAGS.output
    with tempfile.TemporaryDirectory() as folder:
        with files.replacing(output if is_chief else os.path.join(folder, "model.keras")) as new:
            model.save(new)
    if is_chief:
        print(f"Saved {output}")
        tf.io.gfile.rmtree(backup_folder())


def main():
    if compat.KERAS_3:
        raise RuntimeError(
            "Expected Keras 2: Model.fit of Keras 3 does not train under tf.distribute.MultiWorkerMirroredStrategy "
            f"(keras-team/keras#20585). Received Keras {keras.__version__}."
        )
    outputs.expect_model_path(flags.FLAGS.output, "output")
    if "TF_CONFIG" in os.environ:
        return train()
    launch()
    return Result(f"The model is in {flags.FLAGS.output}", {"output": flags.FLAGS.output})


if __name__ == "__main__":
    command_line.run(main, define_flags)
