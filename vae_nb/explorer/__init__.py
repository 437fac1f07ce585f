"""The explorer: the fitted networks at work in the reader's browser."""

from vae_nb.explorer.small_vae import playground, record
from vae_nb.explorer.widgets import (
    LiveWidget,
    beta_slider,
    draw,
    draw_first,
    interpolate,
    judge,
    judge_key,
    latent_pad,
    samples,
    telling_codes,
    translator,
)

__all__ = [
    "LiveWidget",
    "beta_slider",
    "draw",
    "draw_first",
    "interpolate",
    "judge",
    "judge_key",
    "latent_pad",
    "playground",
    "record",
    "samples",
    "telling_codes",
    "translator",
]
