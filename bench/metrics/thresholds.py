"""What a threshold does that was set on normal images, and what a system finds at a few false alarms."""

import math

import numpy as np

FALSE_ALARM_RATE = 0.05  # at which thresholds are set
AT_THRESHOLD = ("f1", "precision", "recall", "false_alarm")
RECALL_AT = {"image_recall_fpr1": 0.01, "image_recall_fpr5": 0.05}


def threshold_for(scores, rate: float = FALSE_ALARM_RATE) -> float:
    """The threshold above which a new normal image scores with probability `rate`, from normal `scores` (n,).

    A new score lies above the k-th lowest of n others of its kind with probability 1 - k / (n + 1), whatever their
    distribution, so where rate * (n + 1) is a whole number (n = 19, 39, 59, ... at 5 %) the rate is met exactly.
    Between two scores the threshold is interpolated (Weibull's plotting position), which errs to fewer alarms where
    the tail is long. Below n = 1 / rate - 1 images the threshold lies in a tail that they do not reach: see `_beyond`.
    NaN without scores.
    """
    scores = np.asarray(scores, float)
    if not scores.size:
        return math.nan
    if rate * (scores.size + 1) < 1 - 1e-9:
        return _beyond(np.sort(scores), rate)
    return float(np.quantile(scores, 1 - rate, method="weibull"))


def _beyond(scores: np.ndarray, rate: float) -> float:
    """The threshold where too few `scores` (ascending) are known: their upper tail is taken for an exponential one.

    A new score lies above the third highest with probability 3 / (n + 1), whatever the distribution. In an exponential
    tail (Weissman, JASA 73, 1978) what then lies between them is distributed as what lies between it and the two above,
    and exceeds t times the mean of the latter with probability (1 + t / 2)^-2. At a rate of 5 % of new normal images,
    10 scores of a normal distribution give 4.1 % false alarms, of Gumbel's 4.8 %, log-normal (deviation 1) 5.6 %;
    5 scores 2.7, 3.9 and 6.4 %. Student's prediction bound, made for the normal, gives 9.6 % of the log-normal.
    A single score is its own threshold: it tells no spread.
    """
    above = min(2, len(scores) - 1)
    if not above:
        return float(scores[-1])
    reach = above * (((above + 1) / (rate * (len(scores) + 1))) ** (1 / above) - 1)
    start = scores[-1 - above]
    return float(start + reach * (scores[-above:].mean() - start))


def threshold_metrics(scores, labels, threshold) -> dict[str, float]:
    """{"f1", "precision", "recall", "false_alarm"} when every image that scores above its threshold is rejected.

    `scores` (N,), `labels` (N,) 0/1, `threshold` a number or (N,). A score equal to the threshold passes.
    `false_alarm` is the share of normal images rejected. NaN where a ratio has no cases: precision when nothing is
    rejected, f1 and recall without anomalous images. ValueError if a score or a threshold is not finite.
    """
    scores, labels = (np.asarray(values.cpu() if hasattr(values, "cpu") else values) for values in (scores, labels))
    if scores.shape != labels.shape:
        raise ValueError(f"scores have shape {scores.shape}, labels {labels.shape}; they differ")
    if not np.isfinite(threshold).all():
        raise ValueError(f"the threshold is {threshold}; it must be finite")
    if bad := int((~np.isfinite(scores)).sum()):
        raise ValueError(f"{bad} of {len(scores)} scores are NaN or infinite; a threshold needs finite scores")
    rejected, anomalous = scores > threshold, labels > 0
    hits, total, positives = int((rejected & anomalous).sum()), int(rejected.sum()), int(anomalous.sum())
    return {
        "f1": _ratio(2 * hits, total + positives) if positives else math.nan,
        "precision": _ratio(hits, total),
        "recall": _ratio(hits, positives),
        "false_alarm": _ratio(total - hits, len(labels) - positives),
    }


def recall_at(scores, labels, rate: float) -> float:
    """Largest share of anomalous images found by a threshold with a share of false alarms of at most `rate`.

    `scores` (N,), `labels` (N,) 0/1. It is a point of the ROC curve of the test images themselves, so it says what
    could be found, and no threshold had to be set in advance. NaN unless there are both normal and anomalous images.
    """
    scores, labels = (np.asarray(values.cpu() if hasattr(values, "cpu") else values) for values in (scores, labels))
    normal, anomalous = np.sort(scores[labels == 0]), scores[labels > 0]
    if not len(normal) or not len(anomalous):
        return math.nan
    allowed = math.floor(rate * len(normal) + 1e-9)
    if allowed >= len(normal):
        return 1.0
    return float((anomalous > normal[-1 - allowed]).mean())


def drift(now, then, spread) -> float:
    """How far a threshold moved, in standard deviations (`spread`) of the normal scores that it was first set on.

    NaN where the spread is 0 or anything is missing.
    """
    return (now - then) / spread if spread > 0 else math.nan


def calibration_error(false_alarms, rate: float = FALSE_ALARM_RATE) -> float:
    """Mean over classes of how far the share of `false_alarms` (C,) lies from the `rate` that it was set for."""
    return float(np.mean(np.abs(np.asarray(false_alarms, float) - rate)))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
