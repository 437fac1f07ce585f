"""What the metrics of a run have in common, each part computed once.

A metric is a function of a :class:`Record`. What several metrics need (codes, reconstructions,
features, samples, paths) is a :func:`part` of it, computed when a metric first asks for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from torch import Tensor

from vae_nb import models
from vae_nb.data import Dataset
from vae_nb.metrics import classifier
from vae_nb.metrics.classifier import Classifier
from vae_nb.models import Posterior
from vae_nb.runs import Run

P = ParamSpec("P")
T = TypeVar("T")


def part(compute: Callable[Concatenate[Record, P], T]) -> Callable[Concatenate[Record, P], T]:
    """Make ``compute(record, *which)`` a part of records, computed once for each ``which``.

    No two parts have the same name: a record that is given some of its parts knows them by it.
    They take no keyword arguments, so that a part has one key (else :class:`TypeError`).
    """

    @functools.wraps(compute)
    def once(record: Record, *which: P.args, **none: P.kwargs) -> T:
        if none:
            raise TypeError(f"{compute.__name__} takes its arguments by position: {none}")
        key = (compute.__name__, *which)
        if key not in record.parts:
            given = record.given.get(key)
            record.parts[key] = given() if given else compute(record, *which, **none)
        return record.parts[key]

    return once


class Record:
    """A data set, a run that is measured on its held-out images, and parts made of both.

    ``given`` computes some parts in another way, by the part's name and arguments: for real images
    there is no run, and their samples are training images.
    """

    def __init__(
        self,
        dataset: Dataset,
        run: Run | None = None,
        given: Mapping[Any, Callable[[], Any]] | None = None,
    ) -> None:
        self.dataset = dataset
        self.images = dataset.test_images
        self.given = given or {}
        self.parts: dict[Hashable, Any] = {}
        self._run = run

    @property
    def run(self) -> Run:
        """The run. Raises :class:`ValueError` if there is none, as for real images."""
        if self._run is None:
            raise ValueError("this metric is that of a run, and real images have none")
        return self._run

    @part
    def classifier(self) -> Classifier:
        """The classifier of the data set."""
        return classifier.classifier(self.dataset)

    @part
    def space(self, name: str) -> Callable[[Tensor], Tensor]:
        """Features ``(n, F)`` of images, of one of ``classifier.SPACES``."""
        if name == "classifier":
            return functools.partial(classifier.features, self.classifier())
        return classifier.SPACES[name](self.dataset)

    @part
    def real_features(self, space: str) -> Tensor:
        """Features of the held-out images, ``(n, F)``."""
        return self.space(space)(self.images)

    @part
    def real_probabilities(self) -> Tensor:
        """The classifier's probabilities for the held-out images, ``(n, classes + 1)``."""
        return classifier.probabilities(self.classifier(), self.real_features("classifier"))

    @part
    def posterior(self) -> Posterior:
        """q(z|x) of the held-out images, of a VAE."""
        return models.posterior(self.run, self.images)

    @part
    def codes(self) -> Tensor:
        """Codes, or posterior means, of the held-out images, ``(n, M)``."""
        if has_posterior(self.run):
            return self.posterior().mean
        return models.encode(self.run, self.images)

    @part
    def sampled_codes(self) -> Tensor:
        """Codes, or one posterior sample each, of the held-out images, ``(n, M)``."""
        if not has_posterior(self.run):
            return self.codes()
        posterior = self.posterior()
        return posterior.sample(models.sample_prior(*posterior.mean.shape))

    @part
    def train_codes(self) -> Tensor:
        """Codes, or posterior means, of the training images, ``(n, M)``."""
        return models.encode(self.run, self.dataset.train_images)

    @part
    def reconstructions(self) -> Tensor:
        """The held-out images decoded from :meth:`codes`, ``(n, 1, 28, 28)``."""
        return models.decode(self.run, self.codes())

    @part
    def sampled_reconstructions(self) -> Tensor:
        """The held-out images decoded from :meth:`sampled_codes`, ``(n, 1, 28, 28)``."""
        return models.decode(self.run, self.sampled_codes())


def has_posterior(run: Run) -> bool:
    """Whether the run's network is a VAE, whose code is a distribution."""
    return hasattr(run.model, "posterior")
