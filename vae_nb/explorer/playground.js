// The playground: a small VAE (vae.js) is trained in a worker while the reader looks on and moves its
// β. Until the reader takes over, a recorded run plays. vae_nb/explorer/small_vae.py writes what this
// reads; explorer.js, which comes before, has the elements.

(() => {
  "use strict";
  const { tools, widgets, start } = globalThis.vaeExplorer;
  const { SIDE, bytes, box, button, choice, element, fixed, guarded, loadPart, slider } = tools;
  const { later, speaker, whenNear } = tools;

  const PIXELS = SIDE * SIDE;
  const FRAME = 700; // milliseconds that a frame of the recorded run is seen
  const INACTIVE = 0.1; // nats: a latent with less than that
  const BETAS = { min: -5, max: 1, step: 0.02 }; // powers of ten; the left end is β = 0
  const RATES = { min: -4, max: 0, step: 0.05 };
  const COLOURS = ["#56b4e9", "#e69f00", "#2fc79a", "#f0e442", "#ff7f50"];
  COLOURS.push("#d68fd6", "#ffffff", "#8fa8ff", "#c7b299", "#7fe3e3");

  const total = (numbers) => numbers.reduce((sum, each) => sum + each, 0);
  const short = (value) => String(Number(value.toPrecision(2)));
  const count = (value) => Math.round(value).toLocaleString("en");
  const toBeta = (power) => (power <= BETAS.min ? 0 : 10 ** power);
  const toPower = (beta) => (beta > 0 ? Math.max(BETAS.min, Math.log10(beta)) : BETAS.min);

  // --- Challenges: what is asked, when it is done, and why it is so. `seen` has what a check needs of
  // the past: steps since β was moved, and whether this network has collapsed. ---

  const challenges = (noun) => [
    {
      title: "Half of the latents",
      task: `Take 8 or 16 latents, and find a β at which about half of them are inactive: a KL below
        ${INACTIVE} nats. Give the network 200 steps after the last change of β.`,
      done: ({ rates }, settings, seen) =>
        settings.latents > 2 &&
        rates &&
        seen.stepsAtBeta >= 200 &&
        Math.abs(rates.filter((rate) => rate < INACTIVE).length - settings.latents / 2) <=
          settings.latents / 8,
      why: `β is a price. A latent stays active while the error that it saves is worth more than β
        asks for its nats. They do not all save the same, so they do not all go at once: the least
        useful ones go first. It depends on the past as well: where β was raised slowly, more of them
        are left than in a network that began with it.`,
    },
    {
      title: "Samples of an autoencoder",
      task: `Train an autoencoder with 16 latents, and make samples of it with a coverage of at least
        0.7. Longer training is not the way.`,
      done: ({ coverage, steps }, { variational, latents }) =>
        !variational && latents === 16 && steps >= 200 && coverage >= 0.7,
      why: `The decoder was never at fault. Nothing tells an autoencoder where to put its codes, so
        N(0, I) proposes codes that the decoder has hardly ever seen. A Gaussian with the mean and
        the covariance of the codes proposes better ones. A VAE pays for its KL so that N(0, I)
        itself will do.`,
    },
    {
      title: "Back from collapse",
      task: `Train a VAE until its KL is above 1 nat, then raise β until the KL is below ${INACTIVE}.
        Now bring the same network back above 1 nat. At which β does it come back?`,
      done: ({ rates }, settings, seen) => rates && seen.collapsed && total(rates) > 1,
      why: `It takes a low β. There are values at which a network that never collapsed still has some
        nats, and this one stays at 0. A collapsed decoder does not listen to the code, so the error says nothing to the encoder: only the KL still speaks, and it
        holds the codes where they are. This is why a KL is often introduced slowly, from β = 0 up.`,
    },
    {
      title: "By heart",
      task: `Make a model that knows its training ${noun}s by heart: a held-out error at least 1.5
        times the training error.`,
      done: ({ error, trainError, steps }) => steps >= 200 && error >= 1.5 * trainError,
      why: `With few ${noun}s the network can afford a code for each. Held-out ${noun}s have none, and
        get the picture of some other ${noun}. More data is one remedy. A higher β is another: it
        makes codes so dear that only what many ${noun}s share is worth its nats.`,
    },
    {
      title: `A kind of ${noun} it has never seen`,
      task: `Leave a label out, press reset, and train. The held-out ${noun}s of that label must get an
        error at least 1.2 times the held-out error of the others, after 200 steps.`,
      done: ({ error, unknown, steps }) => steps >= 200 && unknown >= 1.2 * error,
      why: `A decoder can only draw what it was trained to draw. It answers an unknown ${noun} with the
        nearest one that it knows. So a large error marks what does not belong to the training data,
        a use that autoencoders are often put to; but never one to trust blindly.`,
    },
  ];

  // --- Data: pictures of many images, side by side ---

  async function tiles(base64, type, columns, number) {
    const bitmap = await createImageBitmap(new Blob([bytes(base64)], { type }));
    const canvas = element("canvas", { width: bitmap.width, height: SIDE });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const result = new Uint8ClampedArray(number * PIXELS);
    for (let row = 0; row * columns < number; row++) {
      context.drawImage(bitmap, 0, -row * SIDE);
      const { data } = context.getImageData(0, 0, bitmap.width, SIDE);
      for (let x = 0; x < bitmap.width; x++) {
        const image = row * columns + Math.floor(x / SIDE);
        if (image >= number) break;
        for (let y = 0; y < SIDE; y++) {
          result[image * PIXELS + y * SIDE + (x % SIDE)] = data[4 * (y * bitmap.width + x)];
        }
      }
      if (row % 8 === 7) await new Promise((resolve) => setTimeout(resolve)); // the page goes on
    }
    return result;
  }

  async function unpack(part) {
    const { labels, frames, columns } = part;
    const images = await tiles(part.images, "image/png", columns, labels.length);
    const heldOut = labels.length - part.train;
    const each = part.pictures; // of a frame: how many of each kind
    const perFrame = each.reconstructions + each.samples + each.plane;
    const film = await tiles(part.film, "image/webp", perFrame, perFrame * frames.length);
    let next = 0;
    const take = (number) => film.subarray(next, (next += number * PIXELS));
    const recorded = frames.map((frame) => ({
      ...frame,
      reconstructions: take(each.reconstructions),
      samples: take(each.samples),
      plane: take(each.plane),
    }));
    const split = images.length - heldOut * PIXELS;
    const data = { train: images.subarray(0, split), heldOut: images.subarray(split), labels };
    return { data, recorded };
  }

  // --- What is drawn ---

  // Many images on one canvas, in rows of `columns`.
  function mosaic(columns, rows, words) {
    const canvas = element("canvas", {
      class: "vae-mosaic",
      width: columns * SIDE,
      height: rows * SIDE,
      role: "img",
      "aria-label": words,
    });
    function show(pixels) {
      const width = columns * SIDE;
      const image = new ImageData(width, rows * SIDE);
      for (let n = 0; n < pixels.length; n++) {
        const [tile, inside] = [Math.floor(n / PIXELS), n % PIXELS];
        const x = (tile % columns) * SIDE + (inside % SIDE);
        const y = Math.floor(tile / columns) * SIDE + Math.floor(inside / SIDE);
        const place = 4 * (y * width + x);
        image.data.fill(pixels[n], place, place + 3);
        image.data[place + 3] = 255;
      }
      canvas.getContext("2d").putImageData(image, 0, 0);
    }
    return { canvas, show };
  }

  // The plane of two latents: decoded grid, circles of the prior, codes by label.
  function plane(spec, grid, labels) {
    const size = 504;
    const behind = mosaic(grid, grid, "");
    const canvas = element("canvas", { class: "vae-mosaic", width: size, height: size, role: "img" });
    canvas.setAttribute("aria-label", "Plane of two latents, not computed yet");
    function show({ plane: pixels, codes, reach }) {
      const context = canvas.getContext("2d");
      behind.show(pixels);
      context.globalAlpha = 0.45;
      context.fillStyle = "#000";
      context.clearRect(0, 0, size, size);
      context.drawImage(behind.canvas, 0, 0, size, size);
      context.globalAlpha = 1;
      const place = (value) => (size * (value / reach + 1)) / 2;
      context.strokeStyle = "#fff";
      context.lineWidth = 2;
      context.setLineDash([8, 8]);
      for (const radius of [1, 2]) {
        context.beginPath();
        context.arc(size / 2, size / 2, (size * radius) / reach / 2, 0, 2 * Math.PI);
        context.stroke();
      }
      context.font = "bold 18px sans-serif";
      context.textAlign = "center";
      context.textBaseline = "middle";
      labels().forEach((label, n) => {
        context.fillStyle = COLOURS[label % COLOURS.length];
        context.fillText(spec.marks[label], place(codes[2 * n]), place(-codes[2 * n + 1]));
      });
      const spread = Math.sqrt(total(Array.from(codes, (z) => z * z)) / codes.length);
      canvas.setAttribute(
        "aria-label",
        `Plane of two latents, ${short(reach)} to each side: held-out codes by label, ` +
          `${short(spread)} from the middle on average per latent`,
      );
    }
    return { canvas, show };
  }

  // Lines over epochs. `show` takes lists of [x, y], the first one drawn strongest.
  function chart(words, digits) {
    const [width, height, left, bottom] = [300, 120, 40, 18];
    const axis = element("path", { class: "vae-axis", d: `M${left},4V${height - bottom}H${width}` });
    const text = (x, y, anchor) => element("text", { x, y, "text-anchor": anchor });
    const [high, low] = [text(left - 4, 12, "end"), text(left - 4, height - bottom, "end")];
    const [last, first] = [text(width, height - 4, "end"), text(left, height - 4, "middle")];
    const lines = ["vae-curve", "vae-curve is-second"].map((kind) =>
      element("path", { class: kind }),
    );
    const svg = element(
      "svg",
      { class: "vae-chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
      axis,
      high,
      low,
      first,
      last,
      ...lines,
    );
    const caption = element("figcaption");
    function show(series, end, said) {
      const values = series.flat().map(([, y]) => y);
      // Of what stands out, the first steps of a training, only the foot is seen.
      const usual = values.toSorted((a, b) => a - b)[Math.floor(0.9 * (values.length - 1))] ?? 0;
      const top = Math.max(Math.min(Math.max(...values), 2 * usual), 10 ** -digits);
      const toX = (x) => left + ((width - left - 2) * x) / Math.max(end, 1e-6);
      const toY = (y) => 4 + (height - bottom - 4) * (1 - Math.min(1, y / top));
      lines.forEach((line, n) => {
        const path = (series[n] ?? []).map(([x, y]) => `${toX(x).toFixed(1)},${toY(y).toFixed(1)}`);
        line.setAttribute("d", path.length ? `M${path.join("L")}` : "");
      });
      high.textContent = fixed(top, digits);
      [low.textContent, first.textContent] = ["0", ""];
      last.textContent = `epoch ${fixed(end, end < 10 ? 1 : 0)}`;
      caption.textContent = said;
      svg.setAttribute("aria-label", `${words}: ${said}`);
    }
    return { figure: element("figure", { class: "vae-chart-box" }, caption, svg), show };
  }

  // The KL of each latent.
  function bars() {
    const [width, height] = [300, 120];
    const path = element("path", { class: "vae-bars" });
    const line = element("path", { class: "vae-prior" });
    const words = { role: "img", "aria-label": "KL of each latent, not computed yet" };
    const svg = element("svg", { class: "vae-chart", ...words }, path, line);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const caption = element("figcaption");
    function show(rates) {
      const values = rates ?? [];
      const top = Math.max(1, ...values);
      const toY = (nats) => height - 4 - ((height - 10) * nats) / top;
      const each = width / Math.max(values.length, 1);
      const bar = (nats, n) => `M${each * (n + 0.15)},${toY(0)}V${toY(nats)}h${each * 0.7}V${toY(0)}`;
      path.setAttribute("d", values.map(bar).join(""));
      line.setAttribute("d", rates ? `M0,${toY(INACTIVE)}H${width}` : "");
      const inactive = values.filter((nats) => nats < INACTIVE).length;
      caption.textContent = rates
        ? `KL of each latent, at most ${fixed(Math.max(...values), 2)} nats; ${inactive} of ` +
          `${values.length} below ${INACTIVE} (dashed)`
        : "An autoencoder has no KL";
      svg.setAttribute("aria-label", caption.textContent);
    }
    return { figure: element("figure", { class: "vae-chart-box" }, caption, svg), show };
  }

  // --- Settings in a link ---

  const NAME = "#playground&";

  function toFragment({ beta, rate, latents, variational, digits, labels }) {
    const model = variational ? "vae" : "ae";
    const numbers = { beta: short(beta), rate: short(rate), latents, digits };
    return NAME + new URLSearchParams({ model, ...numbers, labels: labels.join(".") });
  }

  // What a fragment asks for, and what of it is not allowed.
  function fromFragment(fragment, allowed) {
    const settings = {};
    const refused = [];
    if (!fragment.startsWith(NAME)) return null;
    for (const [name, text] of new URLSearchParams(fragment.slice(NAME.length))) {
      const value = Number(text || NaN);
      const labels = text.split(".").map((label) => Number(label || NaN));
      if (name === "model" && ["vae", "ae"].includes(text)) settings.variational = text === "vae";
      else if (name === "beta" && value >= 0 && value <= 10 ** BETAS.max) settings.beta = value;
      else if (name === "rate" && value >= 10 ** RATES.min && value <= 10 ** RATES.max)
        settings.rate = value;
      else if (allowed[name]?.includes(value)) settings[name] = value;
      else if (name === "labels" && labels.every((label) => allowed.label.includes(label)))
        settings.labels = [...new Set(labels)].sort((a, b) => a - b);
      else refused.push(`${name} = ${text}`);
    }
    return { settings, refused };
  }

  // --- The worker: from a Blob, because a page that was opened from a file may load no other ---

  function trainingWorker() {
    const code = `(${globalThis.vaeTraining})().serve(self)`;
    return new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  }

  // --- The widget ---

  function playground(widget, spec) {
    const { noun } = spec;
    const everyLabel = spec.marks.map((_, label) => label);
    const standard = { beta: spec.beta, rate: 0.002, latents: 2, variational: true, seed: spec.seed };
    const settings = { ...standard, digits: spec.digits.at(-1), labels: [...everyLabel] };
    const { line, say } = speaker();
    const state = { recorded: true, playing: false, broken: false, fitted: false, frame: 0 };
    const seen = { betaMovedAt: 0, collapsed: false, wasActive: false };
    let [data, recorded, worker, history, latest] = [null, null, null, [], null];

    // Elements.
    const play = button("train it yourself", () => (state.recorded ? takeOver() : run(!state.playing)));
    play.classList.add("is-main");
    const film = button("pause the recorded run", () => playFilm(!state.playing));
    const step = button("one step", () => {
      if (state.recorded) takeOver(false);
      run(false);
      worker?.postMessage(["step"]);
    });
    const reset = button("reset", () => {
      if (state.recorded) takeOver(false);
      else restart();
    });
    const numbers = element("p", { class: "vae-running" }, "loading …");
    const beta = slider("β", { ...BETAS, value: toPower(settings.beta) }, (power) => {
      change({ beta: toBeta(power) });
    });
    const rate = slider("learning rate", { ...RATES, value: Math.log10(settings.rate) }, (power) => {
      change({ rate: 10 ** power });
    });
    const models = choice("Model", ["autoencoder", "VAE"], 1, (index) => {
      change({ variational: index === 1 }, true);
    });
    const latentCounts = [2, 8, 16];
    const latents = choice("Latents", latentCounts.map(String), 0, (index) => {
      change({ latents: latentCounts[index] }, true);
    });
    const words = (digits) => `${count(digits)}`;
    const digits = choice(`Training ${noun}s`, spec.digits.map(words), spec.digits.length - 1, (n) => {
      change({ digits: spec.digits[n] });
    });
    const labels = element("fieldset", { class: "vae-choice" }, element("legend", {}, "Labels"));
    spec.marks.forEach((mark, label) => {
      const input = element("input", { type: "checkbox", value: label });
      input.checked = true;
      input.addEventListener("change", () => changeLabels(input));
      labels.append(element("label", {}, input, mark));
    });
    const from = choice("Samples from", ["N(0, I)", "a Gaussian fitted to the codes"], 0, (index) => {
      state.fitted = index === 1;
      if (state.recorded) takeOver();
      worker?.postMessage(["fitted", state.fitted]);
    });
    const heldOutLabels = () => data.labels.slice(-data.heldOut.length / PIXELS);
    const map = plane(spec, spec.grid, heldOutLabels);
    const rows = mosaic(spec.shown.length, 2, `Six held-out ${noun}s, above, and reconstructions`);
    const samples = mosaic(8, 3, "24 samples");
    const figure = (caption, ...content) =>
      element("figure", {}, element("figcaption", {}, caption), ...content);
    const mapFigure = figure(`Codes of held-out ${noun}s, by label; behind them what is decoded there.
      Dashed: one and two standard deviations of N(0, I).`, map.canvas);
    const samplesCaption = element("figcaption");
    const samplesFigure = element("figure", {}, samplesCaption, samples.canvas);
    const rowsFigure = figure(`Held-out ${noun}s and their reconstructions`, rows.canvas);
    const errors = chart("Reconstruction error by epoch", 3);
    const rates = chart("KL by epoch", 1);
    const each = bars();
    const link = button("copy a link to these settings", copyLink);
    const linkField = element("input", { type: "text", readonly: "", "aria-label": "the link" });
    linkField.hidden = true;
    const save = button("save the samples as a picture", saveSamples);
    const list = challengeList(challenges(noun));

    // --- What the reader does ---

    function change(changed, anew = false) {
      Object.assign(settings, changed);
      if ("beta" in changed) seen.betaMovedAt = latest?.steps ?? 0;
      showSettings();
      if (state.recorded) takeOver();
      else if (anew) restart(state.playing);
      else worker.postMessage(["change", settings]);
    }

    function changeLabels(input) {
      const inputs = [...labels.querySelectorAll("input")];
      const wanted = inputs.filter(({ checked }) => checked).map(({ value }) => Number(value));
      if (wanted.length) change({ labels: wanted });
      else {
        input.checked = true;
        say("One label has to stay.");
      }
    }

    function showSettings() {
      beta.input.value = toPower(settings.beta);
      beta.output.textContent = short(settings.beta);
      beta.input.setAttribute("aria-valuetext", short(settings.beta));
      beta.input.disabled = !settings.variational;
      rate.input.value = Math.log10(settings.rate);
      rate.output.textContent = short(settings.rate);
      rate.input.setAttribute("aria-valuetext", short(settings.rate));
      const check = (fieldset, index) =>
        (fieldset.querySelectorAll("input")[index].checked = true);
      check(models, settings.variational ? 1 : 0);
      check(latents, latentCounts.indexOf(settings.latents));
      check(digits, spec.digits.indexOf(settings.digits));
      labels.querySelectorAll("input").forEach((input, label) => {
        input.checked = settings.labels.includes(label);
      });
    }

    function showState() {
      play.textContent = state.recorded ? "train it yourself" : state.playing ? "pause" : "play";
      play.disabled = step.disabled = state.broken || state.refused;
      reset.disabled = state.refused;
      film.hidden = !state.recorded;
      film.textContent = `${state.playing ? "pause" : "play"} the recorded run`;
    }

    // --- Training ---

    // From the recorded run to the reader's own; `training` says whether it begins at once.
    function takeOver(training = true) {
      if (!data || state.refused) return;
      playFilm(false);
      state.recorded = false;
      showSettings(); // not those of the recorded run
      try {
        worker = trainingWorker();
      } catch {
        refuse();
        return;
      }
      worker.onmessage = ({ data: [, view] }) => later("playground", () => take(view));
      worker.onerror = ({ message }) => {
        if (!latest?.steps) refuse();
        else line.textContent = `Training has stopped: ${message}. Press reset.`;
      };
      worker.postMessage(["data", data]);
      worker.postMessage(["shown", spec.shown]);
      worker.postMessage(["fitted", state.fitted]);
      restart(training);
    }

    function restart(training = false) {
      history = [];
      latest = null;
      state.coverage = undefined;
      state.broken = false;
      Object.assign(seen, { betaMovedAt: 0, collapsed: false, wasActive: false });
      worker.postMessage(["play", false]);
      worker.postMessage(["start", settings]);
      run(training);
      if (!training) say("A new network, not trained yet. Press play.");
    }

    function run(training) {
      state.playing = training;
      worker?.postMessage(["play", training && !document.hidden]);
      showState();
      if (training) say("Training.");
      else if (latest) say("Paused.");
    }

    // Without a worker the recorded run is all that there is.
    function refuse() {
      worker?.terminate();
      worker = null;
      Object.assign(state, { recorded: true, refused: true });
      for (const input of widget.querySelectorAll("input")) input.disabled = true;
      line.textContent =
        "This browser does not let a page train in the background (it refuses a worker), so you see " +
        "a recorded run. Another browser may allow it.";
      playFilm(false);
    }

    function take(view) {
      if (view.broken) {
        state.broken = true;
        state.playing = false;
        showState();
        line.textContent =
          `Training has stopped: after ${view.steps} steps the loss is not a finite number. The ` +
          "learning rate is too high. Lower it, then press reset.";
      } else {
        if (latest && view.steps < latest.steps) history = []; // a look at the network before
        draw(view, view.rates && Array.from(view.rates));
        judge(view);
      }
      worker?.postMessage(["seen"]);
    }

    // --- The recorded run ---

    let timer = 0;

    function playFilm(playing) {
      clearTimeout(timer);
      state.playing = playing;
      showState();
      if (playing) timer = setTimeout(nextFrame, FRAME);
    }

    function nextFrame() {
      if (!document.hidden && onScreen) showFrame((state.frame + 1) % recorded.length);
      if (state.playing) timer = setTimeout(nextFrame, FRAME);
    }

    function showFrame(index) {
      if (index <= state.frame) history = [];
      state.frame = index;
      const frame = recorded[index];
      later("playground", () => {
        if (!state.recorded) return;
        beta.input.value = toPower(frame.beta);
        beta.output.textContent = short(frame.beta);
        draw(frame, frame.rates);
        const said = `Recorded: ${spec.phases[frame.phase]}`;
        if (line.textContent !== said && !state.refused) line.textContent = said;
      });
    }

    // --- Drawing ---

    function draw(view, each_) {
      latest = view;
      const kl = each_ && total(each_);
      history.push([view.epochs, view.error, view.trainError, kl]);
      if (history.length > 400) history = history.filter((_, n) => n % 2 === 0);
      mapFigure.hidden = !view.plane;
      if (view.plane) map.show(view);
      rows.show(joined(originals(), view.reconstructions));
      samples.show(view.samples);
      const line_ = (column) => history.map((row) => [row[0], row[column]]).filter(([, y]) => y !== null);
      const trained = Number.isFinite(view.trainError);
      errors.show(
        [line_(1), line_(2).filter(([, y]) => Number.isFinite(y))],
        view.epochs,
        `Squared error: held-out ${fixed(view.error, 4)}` +
          (trained ? `, training ${fixed(view.trainError, 4)} (thin)` : ""),
      );
      rates.show(
        [line_(3)],
        view.epochs,
        each_ ? `KL: ${fixed(kl, 2)} nats per ${noun}` : "An autoencoder has no KL",
      );
      each.show(each_);
      if (view.coverage !== undefined) state.coverage = view.coverage;
      const source = state.fitted && !state.recorded ? "a Gaussian fitted to the codes" : "N(0, I)";
      samplesCaption.textContent =
        `Samples from ${source}` +
        (state.coverage === undefined ? "" : `; coverage ${fixed(state.coverage, 2)}`);
      samples.canvas.setAttribute("aria-label", `24 samples; ${samplesCaption.textContent}`);
      showNumbers(view);
    }

    let speed = null;

    function showNumbers({ epochs, steps, unknown }) {
      const now = performance.now();
      let text = `Epoch ${fixed(epochs, 1)}, step ${count(steps)}`;
      if (!state.recorded && state.playing && speed && steps > speed.steps) {
        const batch = Math.min(64, settings.digits);
        text += `, ${count((1000 * batch * (steps - speed.steps)) / (now - speed.at))} ${noun}s a second`;
      }
      if (unknown) text += `. Error of the labels left out: ${fixed(unknown, 4)}`;
      numbers.textContent = text;
      speed = { steps, at: now };
    }

    const originals = () => joined(...spec.shown.map((n) => imageAt(n)));
    const imageAt = (n) => data.heldOut.subarray(n * PIXELS, (n + 1) * PIXELS);

    function joined(...parts) {
      const result = new Uint8ClampedArray(parts.reduce((sum, part) => sum + part.length, 0));
      let place = 0;
      for (const part of parts) {
        result.set(part, place);
        place += part.length;
      }
      return result;
    }

    // --- Challenges ---

    function challengeList(asked) {
      const items = asked.map(({ title, task, done, why }) => {
        const reason = element("p", { class: "vae-why" }, why);
        reason.hidden = true;
        const mark = element("span", { class: "vae-mark" });
        const show = button("explain", () => {
          reason.hidden = !reason.hidden;
          show.setAttribute("aria-expanded", String(!reason.hidden));
        });
        show.setAttribute("aria-expanded", "false");
        const head = element("p", {}, element("strong", {}, `${title}. `), task, " ", mark, " ", show);
        return { item: element("li", {}, head, reason), done, mark, show, reason, title };
      });
      const whole = element("ol", { class: "vae-challenges" }, ...items.map(({ item }) => item));
      return { whole, items };
    }

    function judge(view) {
      const kl = view.rates ? total(view.rates) : null;
      seen.stepsAtBeta = view.steps - seen.betaMovedAt;
      if (kl > 1) seen.wasActive = true;
      if (kl !== null && kl < INACTIVE && seen.wasActive) seen.collapsed = true;
      for (const each_ of list.items) {
        if (each_.solved || !each_.done(view, settings, seen)) continue;
        each_.solved = true;
        each_.mark.textContent = "✓ solved";
        each_.mark.classList.add("is-solved");
        each_.reason.hidden = false;
        each_.show.hidden = true;
        say(`Solved: ${each_.title}.`);
      }
    }

    // --- Link and picture ---

    async function copyLink() {
      const fragment = toFragment(settings);
      globalThis.history.replaceState(null, "", fragment);
      const address = globalThis.location.href;
      try {
        await navigator.clipboard.writeText(address);
        say("The link is copied.");
      } catch {
        linkField.hidden = false;
        linkField.value = address;
        linkField.select();
        say("The link is in the field: copy it from there.");
      }
    }

    function followLink() {
      const asked = fromFragment(globalThis.location.hash, {
        latents: latentCounts,
        digits: spec.digits,
        label: everyLabel,
      });
      if (!asked || !data) return;
      Object.assign(settings, asked.settings);
      showSettings();
      widget.scrollIntoView();
      if (state.recorded) takeOver(false);
      else restart();
      if (asked.refused.length && !state.refused) {
        say(`Not allowed in the link, and left out: ${asked.refused.join(", ")}. Press play.`);
      }
    }

    function saveSamples() {
      samples.canvas.toBlob((blob) => {
        const address = URL.createObjectURL(blob);
        const download = `samples-beta-${short(settings.beta)}.png`;
        element("a", { href: address, download }).click();
        setTimeout(() => URL.revokeObjectURL(address), 1000);
      });
    }

    // --- Start ---

    let onScreen = true;
    new IntersectionObserver((entries) => {
      onScreen = entries.at(-1).isIntersecting;
    }).observe(widget);
    document.addEventListener("visibilitychange", () => {
      if (!state.recorded && state.playing) worker.postMessage(["play", !document.hidden]);
    });
    addEventListener("hashchange", followLink);

    const knobs = box("vae-sliders", beta.whole, rate.whole);
    const choices = box("vae-choices", models, latents, digits, labels);
    const pictures = box("vae-column", rowsFigure, samplesFigure, from);
    widget.append(
      box("vae-buttons", play, film, step, reset),
      line,
      choices,
      knobs,
      numbers,
      box("vae-row is-playground", mapFigure, pictures),
      box("vae-row is-charts", errors.figure, rates.figure, each.figure),
      box("vae-buttons", link, save),
      linkField,
      element("p", { class: "vae-heading" }, "Five challenges"),
      list.whole,
    );
    showSettings();
    showState();
    const begin = () =>
      guarded(line, async () => {
        ({ data, recorded } = await unpack(await loadPart(spec.digest)));
        showFrame(0);
        // Who asks for less motion begins it by hand.
        playFilm(!globalThis.matchMedia("(prefers-reduced-motion: reduce)").matches);
        followLink();
      });
    if (globalThis.location.hash.startsWith(NAME)) begin();
    else whenNear(widget, begin);
  }

  widgets.playground = playground;
  globalThis.vaeExplorer.playground = { challenges, toFragment, fromFragment, unpack };
  start();
})();
