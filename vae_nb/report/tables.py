"""Tables in Markdown: claims with their verdicts, and runs with their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vae_nb.archive import Archive, Numbers, objective
from vae_nb.metrics import CONTROLS, JUDGED, METRICS
from vae_nb.metrics.controls import ranks_right
from vae_nb.metrics.intervals import Estimate
from vae_nb.report import templates
from vae_nb.report.question import Check, Claim, Question, Seeds, Verdict
from vae_nb.runs import Run

# The metrics of each table.
_COMMON = ("mse_mean", "mse_sample", "rate", "active_units", "sharpness_reconstructions")
MODELS = (*_COMMON, "sharpness_prior", "fid_prior", "recognised_prior")
REPORT, BUILD = "the report's recipe (archived)", "this build"
CLOSER_LOOK = (*_COMMON, "fid_prior", "log_likelihood")
MIDPOINTS = (
    *("extra_strokes_0.5", "extra_strokes_0.5_matched", "extra_strokes_0.5_equal"),
    *("extra_euler_0.5", "midpoint_fid", "midpoint_fid_spherical", "midpoint_fid_equal"),
    "midpoint_entropy",
)
ALONG_BETA = ("rate", "mse_sample", "mse_mean", "active_units")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """A table; ``align`` has a letter for each column: l, c or r (all l where it is empty)."""
    lines = {"l": "---", "c": ":---:", "r": "---:"}
    rule = [lines[letter] for letter in align or "l" * len(head)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def heading(name: str) -> str:
    """A metric's title with its unit."""
    metric = METRICS[name]
    return f"{metric.title}, {metric.unit}" if metric.unit else metric.title


def cell(numbers: Numbers, name: str) -> str:
    """A number in its metric's format; a dash where a run does not have it."""
    return METRICS[name].show(numbers[name]) if name in numbers else "–"


def claims_table(claims: Iterable[Claim], columns: Mapping[str, Seeds], chapter: str = "") -> str:
    """Claims with, for each column, the verdict, the check that decides it, and what is folded.

    Folded are all checks, and what every training says alone. ``columns`` has the seeds by title;
    the verdict of a claim is that of the first. With ``chapter``, each name is a link to it.
    """

    def cell(claim: Claim, title: str, seeds: Seeds) -> str:
        verdict, checks = claim.verdict(seeds), claim.checks(seeds)
        lines = list(map(str, checks))
        if len(alone := claim.alone(seeds)) > 1:
            lines.append(dots(verdict, alone))
        count = f"{len(checks)} tests" if len(checks) > 1 else "the test"
        folded = f"<details><summary>{count}</summary>{'<br>'.join(lines)}</details>"
        # A phone has the columns one below the other, without their heads.
        column = f'<span data-column="{title}"></span>' if len(columns) > 1 else ""
        return f"{column}{verdict.pill}<br>{decisive(verdict, checks).brief}{folded}"

    rows = []
    for claim in claims:
        name = f"[{claim.name}]({chapter}.ipynb)" if chapter else claim.name
        says = f"{name}. {claim.says}"
        verdicts = {seeds_title: claim.verdict(seeds) for seeds_title, seeds in columns.items()}
        if len(set(verdicts.values())) > 1:
            says += f"<br>{_why_different(claim, columns)}"
        rows.append([says, *(cell(claim, *column) for column in columns.items())])
    return markdown(["the report says", *columns], rows)


def decisive(verdict: Verdict, checks: Sequence[Check]) -> Check:
    """The first check that fails, or is undecided, where not all of them hold."""
    wanted = Verdict.UNDECIDED if verdict is Verdict.UNDECIDED else Verdict.FAILS
    return next((check for check in checks if check.outcome is wanted), checks[0])


def dots(verdict: Verdict, alone: Sequence[Verdict]) -> str:
    """A dot for each training: filled if it says the same by itself."""
    marks = "".join("●" if each is verdict else "○" for each in alone)
    others = sum(each is not verdict for each in alone)
    said = f"{others} of {len(alone)} alone would say otherwise" if others else "each says the same"
    return f"{marks}\u00a0{said}"


def _why_different(claim: Claim, columns: Mapping[str, Seeds]) -> str:
    """Which checks come out otherwise in this build than with the report's recipe."""
    one, other = (
        {check.criterion.name: check.outcome for check in claim.checks(seeds)}
        for seeds in columns.values()
    )
    names = [
        check.criterion.read.what
        for check in claim.checks(columns[BUILD])
        if one.get(check.criterion.name) is not other[check.criterion.name]
    ]
    return f"*The two differ in: {'; '.join(names)}. This build's networks are smaller.*"


def verdicts_table(
    questions: Mapping[str, Question], columns: Mapping[str, Mapping[str, Seeds]]
) -> str:
    """All claims in order, with links to their chapters; both arguments are by question."""
    tables = {
        claim.name: claims_table([claim], columns[name], question.chapter).splitlines()
        for name, question in questions.items()
        for claim in question.claims
    }
    head = next(iter(tables.values()))[:2]
    return "\n".join([*head, *(tables[name][2] for name in sorted(tables))])


def findings(questions: Mapping[str, Question], columns: Mapping[str, Mapping[str, Seeds]]) -> str:
    """What the report asks, what was found, and the verdict of each claim; both are by question."""
    rows = []
    for name, question in questions.items():
        if not (asks := templates.macro("findings.md", "asks", question=name)):
            continue  # the report has no such question
        decides = next(iter(columns[name].values()))
        claims = {claim.name: claim.verdict(decides) for claim in question.claims}
        checks = {key: each.check(decides) for key, each in question.criteria.items()}
        facts = {"question": name, "claims": claims, "checks": checks}
        found = templates.macro("findings.md", "finding", **facts)
        pills = " ".join(f"{claim}\u00a0{verdict.pill}" for claim, verdict in claims.items())
        answer = f"{found}<br>{pills}" if found else pills
        rows.append([f"[{asks}]({question.chapter}.ipynb)", answer])
    return markdown(["the report asks", "we find"], rows)


def models_table(models: Mapping[str, Numbers], thumbnails: Mapping[str, Mapping[str, str]]) -> str:
    """The numbers of several models, a row each.

    ``thumbnails`` has, for some of them, small PNGs in base64 by what they show.
    """
    shown = list(next(iter(thumbnails.values()), {}))

    def row(label: str, numbers: Numbers) -> list[str]:
        pngs = thumbnails.get(label, {})
        images = [
            f'<img class="vae-thumbnail dark-light" alt="{what} of {label}" '
            f'src="data:image/png;base64,{pngs[what]}">'
            if what in pngs
            else ""
            for what in shown
        ]
        return [label, *images, *(cell(numbers, name) for name in MODELS)]

    head = ["model", *shown, *map(heading, MODELS)]
    head = [title.replace("reconstr", "recon\u00adstr") for title in head]  # may be broken there
    align = "l" + "c" * len(shown) + "r" * len(MODELS)
    return markdown(head, [row(*each) for each in models.items()], align)


def midpoints_table(models: Mapping[str, Numbers]) -> str:
    """The metrics of midpoints, a row for each model."""
    rows = [[label, *(cell(its, name) for name in MIDPOINTS)] for label, its in models.items()]
    return markdown(["midpoints of", *map(heading, MIDPOINTS)], rows, "l" + "r" * len(MIDPOINTS))


def closer_look_table(models: Mapping[str, Numbers]) -> str:
    """Models in columns, with intervals; for a network of every beta beside a separate one."""

    def with_interval(name: str, estimate: Estimate) -> str:
        value, low, high = map(METRICS[name].show, estimate.interval)
        return value if estimate.is_exact else f"{value} [{low}, {high}]"

    rows = [
        [heading(name), *(with_interval(name, numbers[name]) for numbers in models.values())]
        for name in CLOSER_LOOK
    ]
    return markdown(["metric", *models], rows, "l" + "r" * len(models))


def controls_table(controls: Mapping[str, Numbers]) -> str:
    """The measures of samples by control; the last row says which rank the controls right."""
    rows = [
        [CONTROLS[name].title, *(cell(numbers, m) for m in JUDGED)]
        for name, numbers in controls.items()
    ]
    asks = ["asks whether a set", *(METRICS[name].asks for name in JUDGED)]
    right = [
        "ranks them right",
        *("yes" if decides(name, controls) else "**no**" for name in JUDGED),
    ]
    head = ["control", *(METRICS[name].title.replace(" of samples", "") for name in JUDGED)]
    return markdown(head, [asks, *rows, right], "l" + "r" * len(JUDGED))


def decides(name: str, controls: Mapping[str, Numbers]) -> bool:
    """Whether a measure of samples ranks the controls right, so that it may decide a claim."""
    values = {control: numbers[name] for control, numbers in controls.items()}
    return ranks_right(METRICS[name].asks, METRICS[name].better, values)


def every_beta_table(run: Run, curve: Mapping[float, Numbers], archived: Archive) -> str:
    """A multi-rate VAE along its curve, beside separate trainings where there are any."""
    ratios = archived.over_separate(curve, run.recipe)
    rows = []
    for beta, numbers in curve.items():
        own = objective(numbers, beta, run.latent_dim)
        separate = (f"{own / ratios[beta]:.4f}", f"{ratios[beta]:.3f}") if beta in ratios else "––"
        rows.append([f"{beta:g}", *(cell(numbers, n) for n in ALONG_BETA), f"{own:.4f}", *separate])
    head = ["β", *map(heading, ALONG_BETA), "objective", "of separate trainings", "ratio"]
    return markdown(head, rows, "r" * len(head))
