"""Tests of what the ascents share."""

import keras
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.attacks.ascent import best_of_restarts
from keras_flowreg.ops import random


class BestOfRestartsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 3)
    def test_each_run_has_a_seed_of_its_own(self, restarts):
        seeds = []

        class Recorded(fr.attacks.FlowPGD):
            """Notes the seeds of its starts and of its runs, and does not search."""

            is_compiled = False

            def search(self, objective, examples, clean, seed):
                seeds.extend(random.fold_in(seed, restart) for restart in range(restarts))

                def run(objective, examples, start, best, seed):
                    seeds.append(seed)
                    return best

                return best_of_restarts(self, run, objective, examples, clean, seed)

        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
        attack = Recorded(0.4, restarts=restarts, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        attack(tf.ones([1, 3, 3, 1]), [0], model=model)
        self.assertLen({tuple(seed.numpy()) for seed in seeds}, 2 * restarts)


if __name__ == "__main__":
    tf.test.main()
