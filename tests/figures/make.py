"""Makes cases.json: labels and scores that were drawn here, and what the evaluator makes of them.

The evaluator is not part of this repository. With its folder (the one with adeval.py and evaluate.py) at ../shared/eval:

    pip install numpy==2.* scikit-learn==1.* pandas==2.*
    python tests/figures/make.py ../shared/eval > tests/figures/cases.json

src/stats/metrics.rs holds its own figures against the file, to 1e-9.
"""

import json
import sys

import numpy as np

sys.path.insert(0, sys.argv[1])
import adeval  # noqa: E402
import evaluate  # noqa: E402


def case(name, seed, n, events, lift, *, steps=0, scale=1.0, window=20, flag=0.95):
    """n rows with these events (first and last row), scores lifted within them; `steps`: as many distinct values, for ties."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(n, int)
    for first, last in events:
        labels[first : last + 1] = 1
    scores = rng.gamma(2.0, 1.0, n) + labels * lift * rng.random(n)
    if steps:
        scores = np.floor(scores / scores.max() * steps) / steps
    scores = scores * scale
    alerts = (scores > np.quantile(scores, flag)).astype(int)
    series = adeval.ts_metrics(labels, scores, window)
    alert = evaluate.alert_metrics(labels, alerts)
    return {
        "name": name,
        "window": window,
        "labels": labels.tolist(),
        "scores": [float(score) for score in scores],
        "alerts": alerts.tolist(),
        "evaluator": {**series, **alert},
    }


def main():
    cases = [
        case("plain", 1, 400, [(50, 70), (200, 204), (390, 399)], 3.0),
        case("ties, one of a single row, two that touch when widened", 2, 600, [(0, 5), (30, 60), (64, 80), (500, 500)], 4.0, steps=25, window=33),
        case("one long event, tiny scores", 3, 300, [(100, 150)], 2.0, scale=1e-9, window=10),
        case("hopeless", 4, 250, [(20, 30), (200, 220)], 0.0, window=7),
        case("an event that no alert meets", 5, 500, [(10, 12), (300, 330)], 1.0, flag=0.995),
        case("separated", 6, 200, [(80, 99)], 1000.0, window=0, flag=0.91),
    ]
    json.dump(cases, sys.stdout, separators=(",", ":"))
    print()


main()
