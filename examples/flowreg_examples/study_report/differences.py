"""What one variant has over another, example by example: the difference, its interval, and a verdict."""

import numpy as np

# 95 % of a normal distribution lie within so many standard deviations.
_Z = 1.96
EXPLANATION = (
    "Differences in points, of clean and of robust accuracy, over the seeds that both have, with 95 % intervals over",
    "the attacked images (paired); where there are several seeds, the least and the greatest difference of one seed",
    "in brackets.",
)


def clean_difference(better, worse):
    """Cells of a table: the difference in clean accuracy, and its interval."""
    return " | ".join(_cells(_by_seed(better, worse, _correct)))


def robust_difference(better, worse, run, verdicts):
    """Cells of a table: the difference in accuracy under a run, its interval, and a verdict.

    Args:
      better, worse: two `Variant`s.
      run: the attack and its radius.
      verdicts: what to say where the whole interval and every seed are above zero, where all are below, and else.
    """
    differences = _by_seed(better, worse, lambda report: report.robust[run])
    return " | ".join([*_cells(differences), _verdict(differences, verdicts)])


def _correct(report):
    return report.correct


def _by_seed(better, worse, judged):
    """`[seeds, examples]`: 1 where only the first is right, -1 where only the second is; over the seeds that both have."""
    seeds = sorted(set(better.reports) & set(worse.reports))
    ours, theirs = (np.array([judged(one.reports[seed]) for seed in seeds], float) for one in (better, worse))
    return ours - theirs


def _cells(differences):
    seeds, mean, error = _in_points(differences)
    spread = f" ({np.min(seeds):+.1f} to {np.max(seeds):+.1f})" if len(seeds) > 1 else ""
    return f"{mean:+.1f}{spread}", f"{mean - error:+.1f} to {mean + error:+.1f}"


def _verdict(differences, verdicts):
    seeds, mean, error = _in_points(differences)
    holds, fails, undecided = verdicts
    if min(mean - error, *seeds) > 0:
        return holds
    return fails if max(mean + error, *seeds) < 0 else undecided


def _in_points(differences):
    """The mean of each seed, that of all, and half of its interval over the examples."""
    by_seed, by_example = 100 * np.mean(differences, axis=1), 100 * np.mean(differences, axis=0)
    return by_seed, np.mean(by_example), _Z * np.std(by_example, ddof=1) / np.sqrt(len(by_example))
