"""The robustness report: how far attacks fool a classifier, and whether the numbers can be trusted."""

from keras_flowreg.evaluation.evaluate import evaluate_robustness
from keras_flowreg.evaluation.report import RobustnessReport
from keras_flowreg.evaluation.results import Accuracy, Finding, Run, accuracy
from keras_flowreg.evaluation.shards import merge_partial_results

__all__ = [
    "Accuracy",
    "Finding",
    "RobustnessReport",
    "Run",
    "accuracy",
    "evaluate_robustness",
    "merge_partial_results",
]
