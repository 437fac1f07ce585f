"""Claims of the report, what decides each of them, and the questions that they answer.

A claim is the report's, in our words. Its verdict comes from criteria: an estimate with its 95 %
interval against a threshold. Evidence maps the roles of a question to measured numbers: "this" is
the chapter's own model, "ae" the autoencoder, "zero", "low" and "high" are the VAEs with beta = 0,
with a lower and with a higher beta, and "real" has the baseline of real images. Only measures that
rank the controls right decide a claim (see ``metrics.controls``).
"""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vae_nb.archive import Evidence
from vae_nb.metrics import METRICS, intervals, number
from vae_nb.metrics.intervals import Estimate
from vae_nb.report import templates

Seeds = Sequence[Evidence]  # of this build, then of every other seed
PERCENT, POINTS = "%", "percentage points"  # units of what is measured as a share
OWNERS = {"this": "this VAE", "ae": "autoencoder", "real": "real images", "zero": "β = 0"}
OWNERS |= {"low": "lower β", "high": "higher β"}


class Outcome:
    """What templates ask of a check or of a verdict: ``{% if checks.share.holds %}``."""

    @property
    @abc.abstractmethod
    def outcome(self) -> Verdict:
        """The verdict."""

    holds = property(lambda self: self.outcome is Verdict.HOLDS)
    part = property(lambda self: self.outcome is Verdict.PART)  # of a claim only
    fails = property(lambda self: self.outcome is Verdict.FAILS)


class Verdict(Outcome, enum.Enum):
    """What the measurement says of a claim; the value is its name on the page."""

    HOLDS = "holds"
    PART = "holds in part"
    FAILS = "does not hold"
    UNDECIDED = "undecided"

    @property
    def outcome(self) -> Verdict:
        """Itself."""
        return self

    @property
    def pill(self) -> str:
        """The verdict as HTML: a coloured pill in the book, the plain word in a notebook."""
        return f'<span class="verdict-{self.name.lower()}">{self.value}</span>'


@dataclasses.dataclass(frozen=True)
class Reading:
    """A number that is read from the evidence of one seed, what it is called, and its unit.

    ``reads`` are the paths of all numbers that it is made of; ``bounds`` is what is possible.
    """

    of: Callable[[Evidence], Estimate]
    what: str
    unit: str = ""
    owner: str = ""
    reads: tuple[str, ...] = ()
    bounds: tuple[float, float] = (-math.inf, math.inf)


def reading(path: str | Reading) -> Reading:
    """One number: "ae.mse_mean" is that metric of that role."""
    if isinstance(path, Reading):
        return path
    role, name = path.split(".", 1)
    metric = METRICS[name]
    unit = PERCENT if metric.format.endswith(("percent", "%")) else metric.unit
    return Reading(
        lambda evidence: evidence[role][name],
        metric.title,
        unit,
        OWNERS[role],
        (path,),
        metric.bounds,
    )


def relative(path: str) -> Reading:
    """A measure of samples as a share of what it is for real images, which is taken as exact."""
    of = reading(path)
    role, _, name = path.partition(".")
    real = f"real.{name.rpartition('_')[0]}_prior"

    def share(evidence: Evidence) -> Estimate:
        whole = reading(real).of(evidence).value
        return intervals.ratio(of.of(evidence), intervals.exactly(whole))

    what = f"{of.what}, relative to real images"
    return Reading(share, what, PERCENT, of.owner, (path, real), (0.0, math.inf))


def ratio(top: str | Reading, bottom: str | Reading) -> Reading:
    """The ratio of two numbers."""
    one, other = reading(top), reading(bottom)
    of, below = one.of, other.of
    return Reading(
        lambda e: intervals.ratio(of(e), below(e)),
        _joined(top, "over", bottom),
        reads=one.reads + other.reads,
    )


def difference(left: str | Reading, right: str | Reading) -> Reading:
    """The difference of two numbers; of two shares, in percentage points."""
    one, other = reading(left), reading(right)
    return Reading(
        lambda e: intervals.difference(one.of(e), other.of(e)),
        _joined(left, "minus", right),
        POINTS if one.unit in (PERCENT, POINTS) else one.unit,
        reads=one.reads + other.reads,
    )


def _joined(left: str | Reading, word: str, right: str | Reading) -> str:
    one, other = reading(left), reading(right)
    if one.what == other.what and one.owner:
        return f"{one.what} ({one.owner} {word} {other.owner})"
    return f"{one.what} {word} {other.what}"


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A number of the evidence against a threshold; ``relation`` is "≥" or "≤".

    ``name`` is unique within a question; ``of`` may be the path of one number. An ``optional`` one
    is left out where this build lacks the numbers that it reads.
    """

    relation: str
    name: str
    of: str | Reading
    threshold: float
    what: str = ""  # in place of the name of what is read
    optional: bool = False

    @property
    def read(self) -> Reading:
        """What is read."""
        read = reading(self.of)
        return dataclasses.replace(read, what=self.what or read.what)

    @property
    def needs(self) -> tuple[str, ...]:
        """The paths of the numbers without which it cannot be evaluated."""
        return () if self.optional else self.read.reads

    def check(self, seeds: Seeds) -> Check | None:
        """The criterion over several trainings: evaluated within each seed, then pooled.

        Two models of one seed have more in common than two of different seeds, so that comparing
        them within the seed tells more (a paired comparison). A seed counts if it has the numbers
        that are read here. Raises :class:`KeyError` if this build, the first, lacks one.
        """
        read, estimates = self.read.of, []
        for place, evidence in enumerate(seeds):
            try:
                estimates.append(read(evidence))
            except KeyError:
                if place == 0 and self.optional:
                    return None
                if place == 0:
                    raise
        return Check(self, intervals.pool_seeds(estimates).within(*self.read.bounds))


@dataclasses.dataclass(frozen=True)
class Check(Outcome):
    """A criterion and its estimate."""

    criterion: Criterion
    estimate: Estimate

    @property
    def outcome(self) -> Verdict:
        """Holds or fails where the whole interval lies on one side of the threshold."""
        value, low, high = self.estimate.interval
        if math.isnan(value):
            return Verdict.UNDECIDED
        threshold = self.criterion.threshold
        if self.criterion.relation == "≤":
            low, high, threshold = -high, -low, -threshold
        if low >= threshold:
            return Verdict.HOLDS
        return Verdict.FAILS if high < threshold else Verdict.UNDECIDED

    @property
    def threshold(self) -> str:
        """The threshold with its unit, as a text writes it."""
        return self._number(self.criterion.threshold) + self._unit

    @property
    def _unit(self) -> str:
        return f"\u00a0{self.criterion.read.unit}" if self.criterion.read.unit else ""

    def _number(self, value: float) -> str:
        return number(100 * value if self.criterion.read.unit in (PERCENT, POINTS) else value)

    @property
    def robust(self) -> str:
        """For which thresholds the outcome would be the same; "" where it is undecided."""
        if self.outcome is Verdict.UNDECIDED:
            return ""
        upward = (self.criterion.relation == "≥") == self.holds
        end = self.estimate.low if upward else self.estimate.high
        return f"unchanged {'up' if upward else 'down'} to {self._number(end)}"

    @property
    def brief(self) -> str:
        """What was measured, without interval and threshold."""
        mark = {Verdict.HOLDS: "✓", Verdict.FAILS: "✗"}.get(self.outcome, "?")
        value = self._number(self.estimate.value)
        return f"{mark}\u00a0{self.criterion.read.what}: **{value}{self._unit}**"

    def __str__(self) -> str:
        low, high, threshold = map(
            self._number, (self.estimate.low, self.estimate.high, self.criterion.threshold)
        )
        interval = "" if self.estimate.is_exact else f" [{low}, {high}]"
        robust = f" ({self.robust})" if self.robust else ""
        relation = f"threshold:\u00a0{self.criterion.relation}\u00a0{threshold}"
        return f"{self.brief}{interval}, {relation}{robust}"


at_least = functools.partial(Criterion, "≥")
at_most = functools.partial(Criterion, "≤")


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the report, and its criteria.

    ``expected`` is the verdict that the chapter was written for; ``vae-nb verify`` compares.
    """

    name: str
    says: str
    expected: Verdict
    criteria: Sequence[Criterion]

    def checks(self, seeds: Seeds) -> list[Check]:
        """Its criteria over several trainings."""
        return [check for each in self.criteria if (check := each.check(seeds))]

    def verdict(self, seeds: Seeds) -> Verdict:
        """Holds if all criteria hold, in part if some hold and some fail, fails if all fail.

        Undecided where what is undecided could still change that.
        """
        found = {check.outcome for check in self.checks(seeds)}
        if {Verdict.HOLDS, Verdict.FAILS} <= found:
            return Verdict.PART
        return found.pop() if len(found) == 1 else Verdict.UNDECIDED

    def alone(self, seeds: Seeds) -> list[Verdict]:
        """What each training would have concluded by itself, where it has all numbers."""
        return [
            self.verdict([evidence])
            for evidence in seeds
            if all(has(evidence, path) for each in self.criteria for path in each.needs)
        ]


def has(evidence: Evidence, path: str) -> bool:
    """Whether the evidence of a seed has a number."""
    role, name = path.split(".", 1)
    return name in evidence.get(role, {})


@dataclasses.dataclass(frozen=True)
class Question:
    """A question of the report: its chapter, its models by role, its claims, and its answer.

    ``template`` is the Markdown file beside its module. ``further`` are criteria that belong to no
    claim and decide sentences of the answer. ``facts`` gives what else the template needs: it takes
    the seeds and the keyword arguments of the caller.
    """

    name: str
    chapter: str
    template: str
    models: Mapping[str, tuple[str, float]]
    claims: Sequence[Claim]
    further: Sequence[Criterion] = ()
    facts: Callable[..., Mapping[str, Any]] = lambda seeds: {}

    def reads(self, role: str) -> set[str]:
        """The metrics of a role that its criteria read."""
        paths = [path.split(".", 1) for each in self.criteria.values() for path in each.read.reads]
        return {name for owner, name in paths if owner == role}

    def shows(self, role: str) -> set[str]:
        """The metrics of a role that its criteria, its answer or its facts read."""
        return self.reads(role) | (templates.reads(self.template, role) & METRICS.keys())

    @property
    def criteria(self) -> dict[str, Criterion]:
        """All criteria by name: those of the claims, and the further ones."""
        of_claims = [each for claim in self.claims for each in claim.criteria]
        return {each.name: each for each in (*of_claims, *self.further)}

    def answer(
        self,
        seeds: Seeds,
        betas: Mapping[str, float],
        noun: str = "digit",
        archived: bool = False,
        **given: Any,
    ) -> str:
        """The answer in Markdown.

        All seeds decide what is said; the numbers are those of this build, the first, which the
        figure beside the answer shows. ``betas`` are those of this build by role; ``noun`` is what
        an image of the data set shows; ``archived`` says that these are the archive's models.
        """
        checks = {name: each.check(seeds) for name, each in self.criteria.items()}
        return templates.render(
            self.template,
            **{role: templates.shown(numbers) for role, numbers in seeds[0].items()},
            checks={name: check for name, check in checks.items() if check},
            claims={each.name: each.verdict(seeds) for each in self.claims},
            betas=betas,
            beta=betas.get("this"),
            report_beta=self.models.get("this", ("", None))[1],
            noun=noun,
            archived=archived,
            **self.facts(seeds, **given),
        )
