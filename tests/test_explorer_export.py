"""What the explorer exports is the fitted network, read back by PyTorch; and what widgets say."""

from __future__ import annotations

import base64
import dataclasses
import html
import importlib.util
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import explorer_examples as examples
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document
from explorer_examples import (
    BETAS,
    CODE,
    PIXEL,
    WIDTH,
    codes,
    few_images,
    images,
    judged,
    network,
)
from torch.nn import functional

from vae_nb import explorer
from vae_nb.explorer import LiveWidget
from vae_nb.explorer.export import LARGEST, export, quantised
from vae_nb.models import VAE, sample_prior


class Networks:
    """A second reader of the exported JSON, by PyTorch's convolutions instead of by networks.js."""

    def __init__(self, text: str) -> None:
        self.exported = json.loads(text)

    def run(self, layers, values, embedded):
        for layer in layers:
            shape = [layer[name] for name in ("outputs", "inputs", "kernel", "kernel")]
            weights = np.frombuffer(base64.b64decode(layer["weights"]), "<i2").reshape(shape)
            kernels = torch.from_numpy(weights.astype(np.float32))
            size, out, stride, padding = (layer[n] for n in ("size", "out", "stride", "padding"))
            assert values.shape[1:] == (shape[1], size, size)
            if layer["spreads"]:
                values = functional.conv_transpose2d(values, kernels.transpose(0, 1), stride=stride)
                values = functional.pad(values, (0, 2, 0, 2))[..., padding:, padding:]
            else:
                values = functional.conv2d(
                    functional.pad(values, [padding] * 4), kernels, None, stride
                )
            scale, shift = (torch.tensor(layer[n])[:, None, None] for n in ("scale", "shift"))
            values = values[..., :out, :out] * scale + shift
            if layer["response"]:
                s, t = self.run([layer["response"]], embedded, None).chunk(2, dim=1)
                values = values * (1 + s) + t
            values = torch.where(values < 0, layer["slope"] * values, values)
        return values

    def condition(self, beta):
        """Beta's embedding and the gates."""
        if (conditioning := self.exported["conditioning"]) is None:
            return None, torch.ones(1, self.exported["latents"])
        low, high = map(math.log, conditioning["betas"])
        u = (2 * math.log(beta) - low - high) / (high - low)
        powers = torch.tensor([u, u**2, u**3, math.sin(3 * u), math.cos(3 * u)])
        embedded = self.run(conditioning["embedding"], powers[None, :, None, None], None)
        response = 1 - beta / torch.tensor(conditioning["logThresholds"]).exp()
        return embedded, functional.softplus(response, beta=10).clamp(max=1)[None]

    def encode(self, images, beta=1.0):
        embedded, gates = self.condition(beta)
        outputs = self.run(self.exported["encoder"], images, embedded).flatten(1)
        return outputs * gates.repeat(1, outputs.shape[1] // gates.shape[1])

    def decode(self, codes, beta=1.0):
        embedded, gates = self.condition(beta)
        return self.run(
            self.exported["decoder"], (codes * gates)[..., None, None], embedded
        ).sigmoid()


@pytest.mark.parametrize("kind", ["vae", "ae"])
@torch.no_grad()
def test_the_exported_layers_are_the_network(kind):
    model, networks = network(kind), Networks(export(network(kind)))
    encoded = model.encoder(images(10))
    assert (networks.encode(images(10)) - encoded).abs().max() < CODE * encoded.std()
    assert (networks.decode(codes(10)) - model.decode(codes(10))).abs().max() < PIXEL


@torch.no_grad()
def test_an_exported_network_conditioned_on_beta_is_the_vae_at_each_beta():
    model = network("multi_rate")
    networks = Networks(export(model))
    for beta in BETAS:
        vae = model.at(beta)
        encoded, decoded = vae.encoder(images(10)), vae.decode(codes(10))
        error = (networks.encode(images(10), beta) - encoded).abs().max()
        assert error <= max(CODE * encoded.std(), 1e-9)  # all gates are closed at the end
        assert (networks.decode(codes(10), beta) - decoded).abs().max() < PIXEL
    assert (model.at(BETAS[1]).decode(codes(10)) - decoded).abs().max() > 0.1  # beta does something


@torch.no_grad()
def test_only_taps_that_reach_a_pixel_are_exported():
    vae = network("vae")
    exported = json.loads(export(vae))
    kernels = [layer["kernel"] for layer in exported["encoder"] + exported["decoder"]]
    assert kernels == [4, 4, 4, 2, 1, 1, 2, 4, 4, 4]
    # What was left out changes nothing: the same networks without it.
    cut = VAE(WIDTH, 64).eval()
    cut.load_state_dict(vae.state_dict())
    for layer in (cut.encoder[8], cut.decoder[4]):
        assert layer.weight[:, :, 0].abs().min() > 0
        layer.weight[:, :, 0] = layer.weight[:, :, :, 0] = 0
    assert torch.equal(cut.encode(images(2)), vae.encode(images(2)))
    assert torch.equal(cut.decode(codes(2)), vae.decode(codes(2)))


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 2, 2)])
def test_a_weight_is_off_by_half_a_step_at_most(shape):
    kernels = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernels[1] = 0
    weights, step = quantised(kernels)
    assert weights.dtype == np.int16 and np.abs(weights).max() == LARGEST
    for kernel, rounded, size in zip(kernels.numpy(), weights, step, strict=True):
        assert np.abs(kernel - rounded * size).max() <= size / 2 + 1e-12
        assert size == pytest.approx(np.abs(kernel).max() / LARGEST) or not kernel.any()


def test_the_weights_of_one_model_are_small():
    assert len(export(network("vae"))) < 500_000
    assert len(export(network("multi_rate"))) < 600_000


def test_a_layer_that_the_script_cannot_run_is_named():
    model = VAE(4, 4)
    model.decoder.append(torch.nn.Tanh())
    with pytest.raises(TypeError, match="Tanh"):
        export(model)


# --- What widgets say ---


def words(widget) -> str:
    return json.dumps(widget.spec["models"], ensure_ascii=False) + widget.figure.caption


def test_an_autoencoder_has_no_posterior_and_no_kl():
    ae, vae = examples.a_run("ae"), examples.a_run("vae", 0.1)
    with examples.unmeasured():
        for wanted, models in ((False, {"AE": ae}), (True, {"AE": ae, "VAE": vae})):
            pad, draw = explorer.latent_pad(models, "pad"), explorer.draw(models, "draw")
            assert ("rate" in words(pad)) == wanted
            assert ("KL" in draw.figure.caption) == wanted
            assert ("posterior" in words(draw)) == wanted
            assert "0.0123" in words(pad)


def test_classes_and_noun_are_those_of_the_data_set():
    clothes = dataclasses.replace(examples.few_images(), name="FashionMNIST")
    with examples.unmeasured():
        pad = explorer.latent_pad({"AE": examples.a_run("ae", dataset=clothes)}, "pad")
        walk = explorer.interpolate({"AE": examples.a_run("ae", dataset=clothes)}, "walk", (3, 3))
    assert pad.spec["noun"] == "garment" and len(pad.spec["images"]) == 20
    assert {image["label"] for image in pad.spec["images"]} == set(clothes.classes)
    # A plane has no room for "ankle boot".
    assert {mark for mark, _, _ in pad.spec["models"][0]["points"]} == set("0123456789")
    assert walk.spec["chosen"] == [6, 7]  # two images of one class


def test_models_that_cannot_be_compared_are_refused():
    clothes = dataclasses.replace(examples.few_images(), name="FashionMNIST")
    models = {"one": examples.a_run("ae"), "other": examples.a_run("ae", dataset=clothes)}
    with pytest.raises(ValueError, match="FashionMNIST"):
        explorer.draw(models, "draw")
    with pytest.raises(ValueError, match="first = 'none'"):
        explorer.latent_pad(models, "pad", first="none")


def test_a_label_cannot_end_the_script():
    with examples.unmeasured():
        widget = explorer.draw({"</script>": examples.a_run("ae")}, "draw")
    assert widget.html().count("</script>") == 3


# --- In the book ---


def moved_out(folder: Path, *texts: str) -> list[str]:
    """The HTML of widgets after book/_ext/model_weights.py."""
    path = Path(__file__).resolve().parents[1] / "book" / "_ext" / "model_weights.py"
    spec = importlib.util.spec_from_file_location("model_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    document = new_document("page")
    document += [nodes.raw("", text, format="html") for text in texts]
    module.move_out(SimpleNamespace(outdir=str(folder)), document, "page")
    return [node.astext() for node in document.findall(nodes.raw)]


def test_networks_script_and_picture_are_files_that_widgets_share(tmp_path):
    widgets = examples.widgets()
    texts = [widgets[name].html() for name in ("pad", "draw")]
    pad, draw, other = moved_out(tmp_path, *texts, "<p>other</p>")
    assert other == "<p>other</p>"
    assert len(pad) + len(draw) < 150_000 < 1_000_000 < sum(map(len, texts))
    assert pad.count("<style>") == 1 and draw.count("<style>") == 0
    assert pad.count("<script defer") == 1 and draw.count("<script defer") == 0
    names = [path.name for path in (tmp_path / "_explorer").iterdir()]
    assert all(f"_explorer/{name}" in pad + draw for name in names)
    kinds = sorted(name.split("-")[0] for name in names)
    assert kinds == ["explorer", "network", "network", "still", "still"]
    assert html.escape(widgets["draw"].figure.alt) in draw


def test_codes_tell_what_a_larger_beta_gains():
    run = examples.a_run("multi_rate")
    draws = sample_prior(300, 64)
    with torch.no_grad():
        low, high = (run.model.at(b).decode(draws).mean(dim=(1, 2, 3)) for b in (1e-4, 0.1))
    threshold = high.median().item()
    told = (high > threshold) & (low <= threshold)
    assert 3 < told.sum() <= 150
    with examples.judging(threshold, sign=-1):
        found = explorer.telling_codes(run)
        few = explorer.telling_codes(run, count=5, tried=4)
    assert torch.equal(found, draws[told][:3]) and len(few) == 4


# --- You be the judge ---


def test_pictures_to_judge_are_shuffled_and_know_their_source():
    widget, recognised = judged()
    shown = widget.spec["pictures"]
    assert widget.spec["sources"] == ["real", "AE", "β = 0.1"] and widget.networks == {}
    assert sorted(each["source"] for each in shown) == [0, 0, 1, 1, 2, 2]
    assert [each["source"] for each in shown] != [0, 0, 1, 1, 2, 2]
    assert recognised == [each["source"] == 0 for each in shown]
    sources = [few_images().test_images[:2], images(2), images(4)[2:]]
    for each in shown:
        pixels = np.frombuffer(base64.b64decode(each["pixels"]), np.uint8).reshape(28, 28) / 255
        apart = [np.abs(image[0].numpy() - pixels).max() for image in sources[each["source"]]]
        assert min(apart) < 1 / 255


def test_the_key_has_every_number_once_and_the_picture_on_paper_none_of_it():
    widget, recognised = judged()
    key = explorer.judge_key(widget)
    numbers = [int(n) for n in re.findall(r"(?<![\d.])(\d)(?!\.)", key.split("β = 0.1:")[-1])]
    assert numbers == [n for n, p in enumerate(widget.spec["pictures"], 1) if p["source"] == 2]
    bold = {int(n) - 1 for n in re.findall(r"\*\*(\d)\*\*", key)}
    assert bold == {n for n, is_one in enumerate(recognised) if is_one}
    for words in (widget.figure.caption, widget.figure.alt):
        assert "AE" not in words and "β" not in words


@pytest.mark.parametrize("label", ["</script><b>", "<!--<script>", "<img src=x onerror=alert(1)>"])
def test_a_label_is_text_in_the_page(label):
    page = BeautifulSoup(LiveWidget(None, {"labels": [label]}).html(), "html.parser")
    (spec,) = page.find_all("script", type="application/json")
    assert json.loads(spec.string) == {"labels": [label]} and "<" not in spec.string
    assert not page.find_all(["b", "img"])
