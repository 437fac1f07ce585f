"""How useful is the code to a model that is fed with it?"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from vae_nb.evaluation.interval import Measured, of_mean


def linear_probe(
    codes: Tensor,
    labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    count: int = 1000,
    draws: int = 5,
) -> Measured:
    """Held-out accuracy of logistic regression on ``count`` labelled codes, over several draws.

    The codes ``(n, M)`` are the autoencoder's codes or the *posterior means* (not samples, and not
    a hidden layer), standardised. The interval is over the draws of labelled examples.
    """
    scores = []
    for draw in range(draws):
        chosen = np.random.default_rng(draw).choice(len(codes), count, replace=False)
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(codes[chosen].numpy(), labels[chosen].numpy())
        scores.append(probe.score(test_codes.numpy(), test_labels.numpy()))
    return of_mean(scores)
