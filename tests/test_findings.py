"""What is said of a multi-rate VAE's curve is what its numbers say."""

import pytest
import torch

from vae_nb import archive, findings
from vae_nb.evaluation.interval import Measured
from vae_nb.evaluation.measure import measure_curve
from vae_nb.objective import held_out


def test_the_course_of_a_curve_names_the_steps_that_go_the_wrong_way():
    def point(mse_step, rate_step):
        return {"mse_step": Measured(*mse_step), "rate_step": Measured(*rate_step)}

    curve = {
        0.1: {},
        0.2: point((0.01, 0.009, 0.011), (-1.0, -1.1, -0.9)),
        0.5: point((-0.01, -0.011, -0.009), (0.5, 0.4, 0.6)),
        1.0: point((-0.01, -0.03, 0.01), (1e-6, 0.9e-6, 1.1e-6)),  # unsure, and rounding
    }
    text = findings.course_of(curve)
    assert "the distortion falls on the way to 0.5, and the rate rises on the way to 0.5." in text
    del curve[0.5]
    assert "the distortion falls at no step, and the rate rises at no step." in findings.course_of(
        curve
    )


def test_latents_that_come_back_are_counted():
    betas = [0.1, 0.2, 0.5, 1.0]
    gone = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.05, 0.0], [0.0, 0.0]])
    assert "None that has fallen silent" in findings.switched_off(betas, gone)
    gone[3, 1] = 0.5
    assert "1 of 2 are silent at some β and speak again" in findings.switched_off(betas, gone)


def test_one_model_is_compared_with_the_median_of_separate_trainings(multi_rate):
    sweep = archive.load()
    rows = sorted(sweep.of("vae", 0.1), key=lambda row: row.objective)
    expected = rows[1].measured["mse_sample"].value + 0.1 * rows[1].measured["rate"].value / 64
    point = {"mse_sample": Measured(0.03, 0.0, 1.0), "rate": Measured(6.4, 0.0, 9.0)}
    (ratio,) = findings.over_separate(multi_rate, {0.1: point}, sweep).values()
    assert ratio == pytest.approx((0.03 + 0.1 * 6.4 / 64) / expected)


@pytest.mark.slow
def test_a_measured_curve_is_that_of_the_model_at_each_beta(multi_rate):
    dataset = multi_rate.dataset
    curve = measure_curve(multi_rate, dataset, [0.001, 0.1])
    for beta, point in curve.items():
        values = held_out(multi_rate.model.at(beta), dataset.test_images, beta)
        assert point["mse_sample"].value == pytest.approx(values["mse_sample"], rel=1e-4)
        assert point["mse_mean"].value == pytest.approx(values["mse_mean"], rel=1e-4)
        assert point["rate"].value == pytest.approx(64 * values["kl"], rel=1e-4)
    first, second = curve.values()
    step = second["mse_sample"].value - first["mse_sample"].value
    assert second["mse_step"].value == pytest.approx(step, rel=1e-4)
    # Image by image with the same noise: far narrower than two independent intervals.
    apart = second["mse_sample"].high - second["mse_sample"].low
    assert second["mse_step"].high - second["mse_step"].low < 1.2 * apart
    assert "mse_step" not in first
