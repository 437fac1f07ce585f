// The live explorer: widgets that run the fitted networks in the reader's browser, or let the reader
// judge what they drew, without server or library. vae_nb/explorer/widgets.py writes what they read.
// Only one job runs in a frame.

(() => {
  "use strict";
  if (globalThis.vaeExplorer) {
    // Another widget of the same page brought this script, too.
    globalThis.vaeExplorer.start();
    return;
  }

  const networks = globalThis.vaeNetworks;
  const { SIDE, bytes, squaredError } = networks;

  // --- Networks, and other large parts, by digest ---

  // They are in the page (a notebook) or in a file beside it (the book); either way they are read
  // when they are first needed.
  const loading = new Map();
  const waiting = new Map();

  function loadPart(digest) {
    if (!loading.has(digest)) {
      const holder = document.querySelector(`script[data-model="${digest}"]`);
      const source = holder.dataset.file;
      const arrival = source
        ? new Promise((resolve, reject) => {
            waiting.set(digest, resolve);
            const script = element("script", { src: source });
            script.onerror = () => reject(new Error(`${source} could not be loaded`));
            document.head.append(script);
          })
        : Promise.resolve(JSON.parse(holder.textContent));
      loading.set(digest, arrival);
    }
    return loading.get(digest);
  }

  const unpacked = new Map();

  function load(digest) {
    if (!unpacked.has(digest)) unpacked.set(digest, loadPart(digest).then(networks.unpack));
    return unpacked.get(digest);
  }

  // A file of weights, or of other data, calls this.
  const receive = (digest, exported) => waiting.get(digest)(exported);

  // --- Elements that the widgets share ---

  let unique = 0;

  function element(tag, attributes = {}, ...children) {
    const created = ["svg", "circle", "path", "line", "text", "g"].includes(tag)
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
    created.append(...children);
    return created;
  }

  const box = (kind, ...children) => element("div", { class: kind }, ...children);

  // One job in a frame; a newer job of the same name takes the older one's place.
  const jobs = new Map();

  function later(name, job) {
    if (!jobs.size) requestAnimationFrame(nextJob);
    jobs.set(name, job);
  }

  function nextJob() {
    const [name, job] = jobs.entries().next().value;
    try {
      job();
    } finally {
      if (jobs.get(name) === job) jobs.delete(name);
      if (jobs.size) requestAnimationFrame(nextJob);
    }
  }

  // Words that screen readers hear when the reader's hand has come to rest.
  function speaker() {
    const line = element("p", { class: "vae-says", role: "status" });
    let timer;
    function say(text) {
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (line.textContent !== text) line.textContent = text;
      }, 250);
    }
    return { line, say };
  }

  // A picture of 28 x 28 pixels with the grey levels of the data, and words for it.
  function picture(caption, kind = "") {
    const canvas = element("canvas", {
      width: SIDE,
      height: SIDE,
      role: "img",
      "aria-label": "not computed yet",
    });
    const label = element("figcaption", {}, caption);
    const figure = element("figure", { class: `vae-picture ${kind}` }, canvas, label);
    function show(pixels, words) {
      const image = new ImageData(SIDE, SIDE);
      pixels.forEach((value, n) => {
        image.data.fill(Math.round(255 * value), 4 * n, 4 * n + 3);
        image.data[4 * n + 3] = 255;
      });
      canvas.getContext("2d").putImageData(image, 0, 0);
      canvas.setAttribute("aria-label", words);
    }
    return { figure, label, canvas, show };
  }

  function slider(label, { min, max, step, value }, changed) {
    const id = `vae-${unique++}`;
    const input = element("input", { type: "range", id, min, max, step, value });
    const output = element("output", { for: id });
    const whole = box("vae-slider", element("label", { for: id }, label), output, input);
    input.addEventListener("input", () => changed(Number(input.value)));
    return { whole, input, output };
  }

  // Radio buttons: `options` are texts or elements; calls changed(index).
  function choice(legend, options, chosen, changed, kind = "") {
    const name = `vae-${unique++}`;
    const labels = options.map((option, index) => {
      const input = element("input", { type: "radio", name, value: index });
      input.checked = index === chosen;
      input.addEventListener("change", () => changed(index));
      return element("label", {}, input, option);
    });
    const title = element("legend", {}, legend);
    return element("fieldset", { class: `vae-choice ${kind}` }, title, ...labels);
  }

  function button(text, pressed) {
    const created = element("button", { type: "button" }, text);
    created.addEventListener("click", pressed);
    return created;
  }

  function modelName({ name, colour }) {
    const dot = element("i", { class: "vae-dot", style: `background:${colour}` });
    return element("span", {}, dot, name);
  }

  const unpackImages = (spec) =>
    spec.images.map(({ label, pixels }) => ({
      label,
      pixels: Float32Array.from(bytes(pixels), (value) => value / 255),
    }));

  function thumbnails(images, noun) {
    return images.map(({ label, pixels }, n) => {
      const { canvas, show } = picture("");
      show(pixels, `held-out ${noun} ${n + 1}: ${label}`);
      return canvas;
    });
  }

  // Loads what a widget needs as soon as it comes near the screen, or is used.
  function whenNear(widget, begin) {
    let begun = false;
    const once = () => {
      if (begun) return;
      begun = true;
      observer.disconnect();
      begin();
    };
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) once();
      },
      { rootMargin: "600px" },
    );
    observer.observe(widget);
    widget.addEventListener("focusin", once);
    widget.addEventListener("pointerdown", once);
  }

  async function guarded(line, action) {
    try {
      await action();
    } catch (error) {
      line.textContent = `This explorer could not start: ${error.message}.`;
      throw error;
    }
  }

  function drag(target, pressed, moved, released = () => {}) {
    target.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      target.setPointerCapture(event.pointerId);
      pressed(event);
      event.preventDefault();
    });
    target.addEventListener("pointermove", (event) => {
      if (target.hasPointerCapture(event.pointerId)) moved(event);
    });
    target.addEventListener("lostpointercapture", released);
  }

  // A number for reading: a true minus sign, and none before zero.
  const fixed = (value, places) =>
    value
      .toFixed(places)
      .replace(/^-(?=0\.?0*$)/, "")
      .replace("-", "\u2212");

  // --- Move in the latent space ---

  function latentPad(widget, spec) {
    const images = unpackImages(spec);
    const original = picture(`held-out ${spec.noun}`, "is-small");
    const decoded = picture("decoded", "is-large");
    const facts = box("vae-facts");
    const sliders = box("vae-sliders");
    const { line, say } = speaker();
    const plane = element("svg", {
      class: "vae-plane",
      viewBox: "0 0 200 200",
      role: "img",
      "aria-label": "Plane of two latents, not computed yet",
    });
    const planeLabel = element("figcaption");
    const state = { model: spec.models[spec.first], from: { kind: "image", index: 0 } };
    let network, code, controls, moveDot;

    const choose = choice("Model", spec.models.map(modelName), spec.first, (index) => {
      state.model = spec.models[index];
      guarded(line, use);
    });
    choose.hidden = spec.models.length < 2;

    async function use() {
      const { model } = state;
      const loaded = await load(model.digest);
      if (model !== state.model) return; // chosen again meanwhile
      network = loaded;
      const rows = model.facts.map(([term, value]) => [
        element("dt", {}, term),
        element("dd", {}, value),
      ]);
      facts.replaceChildren(element("dl", {}, ...rows.flat()));
      controls = model.latents.map((latent, n) => {
        const scale = { min: latent.low, max: latent.high, step: "any", value: 0 };
        const control = slider(latent.label, scale, (value) => moveTo({ [latent.index]: value }));
        control.input.step = (latent.high - latent.low) / 100;
        control.whole.classList.add(...["is-across", "is-up"].slice(n, n + 1));
        return control;
      });
      sliders.replaceChildren(...controls.map(({ whole }) => whole));
      drawPlane(model);
      fetchCode();
    }

    function drawPlane({ latents: [across, up], points }) {
      const toX = (value) => (200 * (value - across.low)) / (across.high - across.low);
      const toY = (value) => 200 - (200 * (value - up.low)) / (up.high - up.low);
      const circles = [1, 2].map((radius) => {
        const [left, width, height] = [toX(-radius), toX(2 * radius) - toX(0), toY(0) - toY(radius)];
        const arc = (to) => `a${width / 2},${height} 0 1,0 ${to},0`;
        return element("path", {
          class: "vae-prior",
          d: `M${left},${toY(0)} ${arc(width)} ${arc(-width)}`,
        });
      });
      const marks = points.map(([mark, x, y]) => element("text", { x: toX(x), y: toY(y) }, mark));
      const dot = element("circle", { class: "vae-here", r: 6 });
      moveDot = () => {
        dot.setAttribute("cx", toX(code[across.index]));
        dot.setAttribute("cy", toY(code[up.index]));
      };
      plane.replaceChildren(...marks, ...circles, dot);
      planeLabel.textContent = `latent ${across.index} across, latent ${up.index} up`;
    }

    // The code that the chosen model gives to the same thing: an image, a noise vector, zero.
    function fetchCode() {
      const { kind, index } = state.from;
      later("code", () => {
        if (kind === "image") code = network.encode(images[index].pixels).mean;
        else if (kind === "noise") code = networks.normalCode(index, network.latents);
        else code = new Float32Array(network.latents);
        state.from = { kind, index };
        refresh();
      });
    }

    // Moves some latents, by index.
    function moveTo(values) {
      if (!code) return;
      Object.assign(code, values);
      state.from = { ...state.from, moved: true };
      refresh();
    }

    function refresh() {
      const { name, latents } = state.model;
      later("decode", () => {
        const { kind, index, moved } = state.from;
        const pixels = network.decode(code);
        latents.forEach((latent, n) => {
          controls[n].input.value = code[latent.index];
          controls[n].output.textContent = fixed(code[latent.index], 2);
        });
        moveDot();
        const image = kind === "image" ? images[index] : null;
        let source = kind === "noise" ? "a sample of N(0, I)" : "the zero code";
        if (image) source = `the code of a held-out ${image.label}`;
        let words = `${name}: ${source}${moved ? ", moved," : ""} decoded`;
        if (image && !moved) {
          words += `; squared error ${fixed(squaredError(pixels, image.pixels), 4)}`;
        }
        const place = latents
          .slice(0, 2)
          .map((latent) => `latent ${latent.index} at ${fixed(code[latent.index], 2)}`)
          .join(", ");
        decoded.show(pixels, `${words}; ${place}`);
        plane.setAttribute("aria-label", `Plane of two latents: ${place}`);
        original.figure.hidden = !image;
        if (image) original.show(image.pixels, `the held-out ${image.label} itself`);
        say(`${words}.`);
      });
    }

    function point(event) {
      const { left, bottom, width, height } = plane.getBoundingClientRect();
      const shares = [(event.clientX - left) / width, (bottom - event.clientY) / height];
      const places = shares.map((share, n) => {
        const { index, low, high } = state.model.latents[n];
        return [index, low + Math.min(1, Math.max(0, share)) * (high - low)];
      });
      moveTo(Object.fromEntries(places));
    }
    drag(plane, point, point);

    function start(kind, index) {
      state.from = { kind, index };
      if (network) fetchCode();
    }
    let [lastImage, lastNoise] = [0, 0];
    const buttons = box(
      "vae-buttons",
      button(`next held-out ${spec.noun}`, () => {
        lastImage = (lastImage + 1) % images.length;
        start("image", lastImage);
      }),
      button("sample of N(0, I)", () => {
        lastNoise++;
        start("noise", lastNoise);
      }),
      button("zero", () => start("zero", 0)),
    );
    const planeBox = element("figure", { class: "vae-plane-box" }, plane, planeLabel);
    const pictures = box("vae-pictures", decoded.figure, original.figure);
    widget.append(choose, box("vae-row is-pad", planeBox, pictures, facts), sliders, buttons, line);
    whenNear(widget, () => guarded(line, use));
  }

  // --- From one image to another ---

  function interpolate(widget, spec) {
    const images = unpackImages(spec);
    const chosen = [...spec.chosen];
    const { line, say } = speaker();
    const rows = spec.models.map((model) => {
      const ends = [picture("start", "is-small"), picture("end", "is-small")];
      const middle = picture("", "is-large");
      const whole = element(
        "figure",
        { class: "vae-path" },
        element("figcaption", {}, modelName(model)),
        box("vae-pictures", ends[0].figure, middle.figure, ends[1].figure),
      );
      return { model, ends, middle, whole };
    });
    const scale = { min: 0, max: 100, step: 1, value: 50 };
    const position = slider("position between start and end", scale, walk);
    const choices = ["Start", "End"].map((legend, end) => {
      const changed = (index) => {
        chosen[end] = index;
        encode();
      };
      return choice(legend, thumbnails(images, spec.noun), chosen[end], changed, "is-images");
    });

    function encode() {
      for (const row of rows.filter(({ network }) => network)) {
        const { name } = row.model;
        later(`ends ${name}`, () => {
          row.codes = chosen.map((index) => row.network.encode(images[index].pixels).mean);
          walk();
        });
        row.ends.forEach(({ show }, n) =>
          later(`end ${n} ${name}`, () =>
            show(row.network.decode(row.codes[n]), `${name}: decoded ${["start", "end"][n]}`),
          ),
        );
      }
    }

    function walk() {
      const share = position.input.value / 100;
      const place = `${position.input.value} %`;
      position.output.textContent = place;
      for (const row of rows.filter(({ codes }) => codes)) {
        later(`walk ${row.model.name}`, () => {
          const [start, end] = row.codes;
          const pixels = row.network.decode(start.map((z, n) => z + share * (end[n] - z)));
          const count = networks.strokes(pixels);
          const strokes = `${count} ${count === 1 ? "stroke" : "strokes"}`;
          row.words = `${row.model.name}: ${strokes}`;
          row.middle.label.textContent = strokes;
          row.middle.show(pixels, `${row.words}, at ${place}`);
          const counts = rows.map(({ words }) => words).filter(Boolean);
          say(`At ${place} of the way. ${counts.join("; ")}.`);
        });
      }
    }

    const paths = box("vae-row", ...rows.map(({ whole }) => whole));
    widget.append(...choices, position.whole, paths, line);
    whenNear(widget, () =>
      rows.forEach((row) =>
        guarded(line, async () => {
          row.network = await load(row.model.digest);
          encode();
        }),
      ),
    );
  }

  // --- Draw codes from several distributions, and walk from draw to draw ---

  const DRAWS = 8; // shown at once

  function samples(widget, spec) {
    const own = unique++;
    const { line, say } = speaker();
    const rows = spec.draws.map(({ title }) => {
      const here = picture("", "is-large");
      const drawn = Array.from({ length: DRAWS }, () => picture(""));
      const pictures = box("vae-pictures is-grid", ...drawn.map(({ figure }) => figure));
      const name = element("figcaption", {}, title);
      const whole = element("figure", { class: "vae-path" }, name, here.figure, pictures);
      return { title, here, drawn, whole };
    });
    const scale = { min: 1, max: DRAWS, step: 0.1, value: 1 };
    const position = slider("walk from draw to draw", scale, walk);
    let network;
    let first = 0;

    const count = spec.draws[0].codes.length;
    const number = (n) => ((first + n - 1) % count) + 1; // of the n-th that is shown, from 1

    function walk() {
      const place = Number(position.input.value);
      const start = Math.min(Math.floor(place), DRAWS - 1);
      const share = place - start;
      const [one, two] = [number(start), number(start + 1)];
      let words = `${fixed(100 * share, 0)} % of the way from draw ${one} to ${two}`;
      if (Number.isInteger(place)) words = `draw ${number(place)}`;
      position.output.textContent = words;
      position.input.setAttribute("aria-valuetext", words);
      if (!network) return;
      for (const row of rows) {
        row.drawn.forEach(({ figure }, n) =>
          figure.classList.toggle("is-end", Math.abs(n + 1 - place) < 1),
        );
        later(`walk ${own} ${row.title}`, () => {
          const [from, to] = [row.codes[one - 1], row.codes[two - 1]];
          const pixels = network.decode(from.map((z, n) => z + share * (to[n] - z)));
          const strokes = networks.strokes(pixels);
          row.here.label.textContent = `${strokes} ${strokes === 1 ? "stroke" : "strokes"}`;
          row.words = `${row.title}, ${row.here.label.textContent}`;
          row.here.show(pixels, `${row.words}, at ${words}`);
          say(`At ${words}: ${rows.map((each) => each.words).filter(Boolean).join("; ")}.`);
        });
      }
    }

    // The next whole draw, by Page Up and Page Down.
    position.input.addEventListener("keydown", (event) => {
      const place = Number(position.input.value);
      const next = { PageUp: Math.floor(place) + 1, PageDown: Math.ceil(place) - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      position.input.value = next;
      walk();
    });

    function draw() {
      position.input.value = 1;
      walk();
      for (const { title, codes, drawn } of rows) {
        drawn.forEach(({ label, show }, n) =>
          later(`draw ${own} ${n} ${title}`, () => {
            label.textContent = number(n + 1);
            const pixels = network.decode(codes[number(n + 1) - 1]);
            show(pixels, `${title}: draw ${number(n + 1)}, decoded`);
          }),
        );
      }
    }

    const again = button(`draw ${DRAWS} others`, () => {
      first += DRAWS;
      draw();
    });
    again.disabled = true;
    const paths = box("vae-row is-pair", ...rows.map(({ whole }) => whole));
    widget.append(box("vae-buttons", again), position.whole, paths, line);
    walk();
    whenNear(widget, () =>
      guarded(line, async () => {
        network = await load(spec.models[0].digest);
        rows.forEach((row, n) => {
          row.codes = spec.draws[n].codes.map((code) => Float32Array.from(code));
        });
        again.disabled = false;
        draw();
      }),
    );
  }

  // --- A network conditioned on beta ---

  const SAMPLES = 3; // of the prior

  function betaSlider(widget, spec) {
    const images = unpackImages(spec);
    const { line, say } = speaker();
    const original = picture(`held-out ${spec.noun}`);
    const ofMean = picture("decoded mean");
    const ofSample = picture("decoded sample of q(z|x)");
    const samples = Array.from({ length: SAMPLES }, () => picture("decoded sample of N(0, I)"));
    const state = { image: 0, noise: 0 };
    let network;
    const [low, high] = [spec.curve[0][0], spec.curve.at(-1)[0]].map(Math.log10);
    const scale = { min: low, max: high, step: 0.01, value: Math.log10(spec.beta) };
    const control = slider("β, logarithmic", scale, refresh);
    const chart = rateDistortion(spec.curve);

    function refresh() {
      const beta = 10 ** control.input.value;
      const words = `β = ${Number(beta.toPrecision(2))}`;
      control.output.textContent = words.slice(4);
      control.input.setAttribute("aria-valuetext", words);
      if (!network) return;
      const noises = samples.map((_, n) =>
        state.noise === 0 && spec.codes.length
          ? Float32Array.from(spec.codes[n])
          : networks.normalCode(state.noise * SAMPLES + n + 1, network.latents),
      );
      const { label, pixels } = images[state.image];
      const [rate, distortion] = chart.move(Number(control.input.value));
      later("mean", () => {
        const posterior = network.encode(pixels, beta);
        const { mean, logVariance } = posterior;
        const reconstruction = network.decode(mean, beta);
        const error = fixed(squaredError(reconstruction, pixels), 4);
        original.show(pixels, `the held-out ${label} itself`);
        const what = `decoded from the posterior mean at ${words}`;
        ofMean.show(reconstruction, `${what}, squared error ${error}`);
        later("sample", () => {
          const code = mean.map((m, n) => m + Math.exp(logVariance[n] / 2) * noises[0][n]);
          ofSample.show(network.decode(code, beta), `decoded from a posterior sample at ${words}`);
        });
        say(
          `${words}: ${fixed(rate, 1)} nats and squared error ${fixed(distortion, 4)} over all ` +
            `held-out images; this ${label}: ${fixed(networks.rate(posterior), 1)} nats, ` +
            `${error} from its mean.`,
        );
      });
      samples.forEach(({ show }, n) =>
        later(`prior ${n}`, () =>
          show(network.decode(noises[n], beta), `sample ${n + 1} of N(0, I) decoded at ${words}`),
        ),
      );
    }

    const buttons = box(
      "vae-buttons",
      button(`next held-out ${spec.noun}`, () => {
        state.image = (state.image + 1) % images.length;
        refresh();
      }),
      button("other noise", () => {
        state.noise++;
        refresh();
      }),
    );
    const figures = [original, ofMean, ofSample, ...samples].map(({ figure }) => figure);
    const pictures = box("vae-pictures is-grid is-triples", ...figures);
    widget.append(control.whole, box("vae-row", pictures, chart.figure), buttons, line);
    refresh();
    whenNear(widget, () =>
      guarded(line, async () => {
        network = await load(spec.models[0].digest);
        refresh();
      }),
    );
  }

  // The measured curve, rate across (asinh: linear near 0, logarithmic above) and error up.
  function rateDistortion(curve) {
    const [width, height, left, bottom] = [300, 210, 46, 38];
    const most = Math.max(...curve.map(([, rate]) => rate));
    const worst = 1.1 * Math.max(...curve.map(([, , distortion]) => distortion));
    const toX = (rate) => left + ((width - left - 12) * Math.asinh(rate)) / Math.asinh(most);
    const toY = (distortion) => (height - bottom) * (1 - distortion / worst) + 4;
    const line = curve.map(([, rate, distortion]) => `${toX(rate)},${toY(distortion)}`).join("L");
    const dot = element("circle", { class: "vae-here", r: 6, cx: -99 }); // unseen till it is placed
    const text = (x, y, words, anchor) => element("text", { x, y, "text-anchor": anchor }, words);
    const rates = [0, 1, 10, 100].filter((rate) => rate <= most);
    const errors = [0.02, 0.04, 0.06].filter((error) => error < worst);
    const words = "Curve of squared error against rate";
    const svg = element(
      "svg",
      { class: "vae-chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
      element("path", { class: "vae-axis", d: `M${left},4V${toY(0)}H${width - 8}` }),
      ...rates.map((rate) => text(toX(rate), toY(0) + 15, String(rate), "middle")),
      ...errors.map((error) => text(left - 5, toY(error) + 4, String(error), "end")),
      text((left + width) / 2, height - 3, "rate, nats", "middle"),
      element("path", { class: "vae-curve", d: `M${line}` }),
      dot,
    );
    const label = "squared error of a posterior sample against rate, all held-out images";
    const caption = element("figcaption", {}, label);
    // Rate and distortion at log10(beta), between neighbours of the curve; the dot goes there.
    function move(logBeta) {
      const next = curve.findIndex(([beta]) => Math.log10(beta) >= logBeta - 1e-9);
      const one = curve[Math.max(0, next - 1)];
      const two = curve[next < 0 ? curve.length - 1 : next];
      const span = Math.log10(two[0] / one[0]);
      const share = span ? (logBeta - Math.log10(one[0])) / span : 0;
      const [rate, distortion] = [1, 2].map((n) => one[n] + share * (two[n] - one[n]));
      dot.setAttribute("cx", toX(rate));
      dot.setAttribute("cy", toY(distortion));
      const place = `${fixed(rate, 1)} nats, ${fixed(distortion, 4)}`;
      svg.setAttribute("aria-label", `${words}; at the dot ${place}`);
      return [rate, distortion];
    }
    return { figure: element("figure", { class: "vae-chart-box" }, svg, caption), move };
  }

  // --- Draw ---

  function draw(widget, spec) {
    const images = unpackImages(spec);
    const side = 280;
    const { line, say } = speaker();
    const sheet = element("canvas", {
      class: "vae-sheet",
      width: side,
      height: side,
      tabindex: 0,
      role: "img",
      "aria-label": "Drawing area. Arrow keys move the pen, the space bar lowers and lifts it.",
    });
    const input = picture("as the encoder sees it");
    const rows = spec.models.map((model) => {
      const output = picture("");
      const numbers = element("span", { class: "vae-numbers" });
      output.label.append(modelName(model), numbers);
      return { model, output, numbers };
    });
    const pen = sheet.getContext("2d", { willReadFrequently: true });
    Object.assign(pen, { lineWidth: 22, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
    let last = null; // where the pen was
    let isExample = false; // a held-out image is on the sheet: the first stroke takes its place
    let latest;

    function wipe() {
      pen.clearRect(0, 0, side, side);
      last = null;
      isExample = false;
    }

    function lineTo(x, y) {
      if (isExample) wipe();
      const [fromX, fromY] = last ?? [x, y];
      pen.beginPath();
      pen.moveTo(fromX, fromY);
      pen.lineTo(x, y + (last ? 0 : 0.01));
      pen.stroke();
      last = [x, y];
      look();
    }

    function look() {
      later("look", () => {
        const { data } = pen.getImageData(0, 0, side, side);
        const ink = Float32Array.from({ length: side * side }, (_, n) => data[4 * n + 3] / 255);
        show(networks.centred(ink, side), "your drawing");
      });
    }

    function show(pixels, what) {
      latest = [pixels, what];
      const empty = pixels.every((value) => value === 0);
      input.show(pixels, empty ? "nothing is drawn yet" : `${what}, scaled and centred like MNIST`);
      for (const row of rows.filter(({ network }) => network)) {
        const { name } = row.model;
        later(`draw ${name}`, () => {
          const posterior = row.network.encode(pixels);
          const decoded = row.network.decode(posterior.mean);
          const error = fixed(squaredError(decoded, pixels), 4);
          const numbers = [error];
          if (posterior.logVariance) numbers.push(`${fixed(networks.rate(posterior), 1)} nats`);
          row.numbers.textContent = empty ? "" : numbers.join("\n");
          row.words = `${name}: ${error}`;
          const words = `${name}: ${what} reconstructed, squared error ${numbers.join(", ")}`;
          row.output.show(decoded, words);
          const errors = rows.map((other) => other.words).filter(Boolean);
          if (!empty) say(`Squared error of ${what}. ${errors.join("; ")}.`);
        });
      }
    }

    const inSheet = (event) => {
      const { left, top, width } = sheet.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top].map((place) => (place * side) / width);
    };
    const lift = () => {
      last = null;
    };
    const stroke = (event) => lineTo(...inSheet(event));
    const press = (event) => {
      lift();
      stroke(event);
    };
    drag(sheet, press, stroke, lift);

    // By keyboard: a pen that is up or down.
    const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const cursor = { x: side / 2, y: side / 4, down: false };
    const mark = element("span", { class: "vae-pen", hidden: "" });
    function showPen() {
      mark.hidden = document.activeElement !== sheet || !sheet.matches(":focus-visible");
      mark.classList.toggle("is-down", cursor.down);
      mark.style.left = `${(100 * cursor.x) / side}%`;
      mark.style.top = `${(100 * cursor.y) / side}%`;
    }
    sheet.addEventListener("keydown", (event) => {
      const step = keys[event.key];
      if (!step && event.key !== " ") return;
      event.preventDefault();
      if (step) {
        const moved = [cursor.x + 10 * step[0], cursor.y + 10 * step[1]];
        [cursor.x, cursor.y] = moved.map((place) => Math.min(side - 10, Math.max(10, place)));
      } else {
        cursor.down = !cursor.down;
        say(cursor.down ? "Pen down." : "Pen up.");
        lift();
      }
      if (cursor.down) lineTo(cursor.x, cursor.y);
      showPen();
    });
    sheet.addEventListener("focus", showPen);
    sheet.addEventListener("blur", showPen);

    let next = 0;
    function showExample() {
      const { pixels, label } = images[next];
      next = (next + 1) % images.length;
      wipe();
      isExample = true;
      pixels.forEach((value, n) => {
        pen.fillStyle = `rgba(255, 255, 255, ${value})`;
        pen.fillRect((n % SIDE) * 10, Math.floor(n / SIDE) * 10, 10, 10);
      });
      show(pixels, `a held-out ${label}`);
    }
    const clear = () => {
      wipe();
      look();
    };
    const example = button(`a held-out ${spec.noun} instead`, showExample);
    const buttons = box("vae-buttons", button("clear", clear), example);
    const outputs = rows.map(({ output }) => output.figure);
    const pictures = box("vae-pictures is-grid", input.figure, ...outputs);
    const left = element("div", {}, box("vae-sheet-box", sheet, mark), buttons);
    widget.append(box("vae-row", left, pictures), line);
    whenNear(widget, () => {
      showExample();
      rows.forEach((row) =>
        guarded(line, async () => {
          row.network = await load(row.model.digest);
          show(...latest);
        }),
      );
    });
  }

  // --- You be the judge ---

  function judge(widget, spec) {
    const { noun, sources } = spec;
    const pictures = unpackImages({ images: spec.pictures }).map(({ pixels }, n) => ({
      ...spec.pictures[n],
      pixels,
    }));
    const { line, say } = speaker();
    const large = picture("", "is-large");
    large.label.hidden = true;
    const answers = [];
    const article = /^[aeiou]/.test(noun) ? "an" : "a";
    const yes = button(`${article} ${noun} (Y)`, () => answer(true));
    const no = button(`no ${noun} (N)`, () => answer(false));
    const back = button("back (B)", () => {
      answers.pop();
      ask();
    });
    const results = box("vae-results");
    const asked = box("vae-row is-judge", large.figure, box("vae-buttons", yes, no, back));
    const again = button("judge them again", () => {
      answers.length = 0;
      ask();
      yes.focus();
    });

    function answer(isOne) {
      if (answers.length === pictures.length) return;
      answers.push(isOne);
      ask();
    }

    function ask() {
      const done = answers.length === pictures.length;
      back.disabled = answers.length === 0;
      asked.hidden = done;
      results.hidden = !done;
      if (done) {
        conclude();
        return;
      }
      const place = `Picture ${answers.length + 1} of ${pictures.length}`;
      large.show(pictures[answers.length].pixels, `${place}, not labelled`);
      say(`${place}: is it ${article} ${noun}?`);
    }

    function conclude() {
      const agreed = pictures.filter(({ recognised }, n) => recognised === answers[n]).length;
      const kappa = cohensKappa(
        answers,
        pictures.map(({ recognised }) => recognised),
      );
      let words = `You and the classifier agree on ${agreed} of ${pictures.length} pictures.`;
      words += Number.isNaN(kappa)
        ? " Cohen\u2019s kappa is not defined where both always say the same."
        : ` Cohen\u2019s kappa is ${fixed(kappa, 2)} (0: as much as by chance, 1: always).`;
      const rows = sources.map((source, place) => {
        const own = pictures
          .map((each, n) => ({ ...each, said: answers[n], number: n + 1 }))
          .filter((each) => each.source === place);
        const count = (what) => own.filter(what).length;
        const numbers = [
          count(({ said }) => said),
          count(({ recognised }) => recognised),
          count(({ said, recognised }) => said === recognised),
        ].map((n) => element("td", {}, `${n}/${own.length}`));
        const shown = own.map(({ pixels, said, recognised, number }) => {
          const { canvas, show } = picture("");
          const says = (isOne) => (isOne ? `${article} ${noun}` : `no ${noun}`);
          show(pixels, `${number}, ${source}: you ${says(said)}, classifier ${says(recognised)}`);
          canvas.classList.toggle("is-other", said !== recognised);
          return canvas;
        });
        const head = element("th", { scope: "row" }, source);
        return element("tr", {}, head, element("td", {}, box("vae-judged", ...shown)), ...numbers);
      });
      const titles = ["", "pictures", "you", "it", "agree"];
      const head = titles.map((title) => element("th", { scope: "col" }, title));
      const table = element(
        "table",
        {},
        element("thead", {}, element("tr", {}, ...head)),
        element("tbody", {}, ...rows),
      );
      results.replaceChildren(
        table,
        element("p", {}, `You, it: how often you and the classifier saw ${article} ${noun}. Framed: you differ.`),
        again,
      );
      say(words);
      again.focus();
    }

    const keys = { y: () => yes.click(), n: () => no.click(), b: () => back.click() };
    widget.tabIndex = 0;
    widget.addEventListener("keydown", (event) => {
      const press = keys[event.key.toLowerCase()];
      if (!press || asked.hidden || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      press();
    });
    widget.append(asked, line, results);
    ask();
  }

  // Agreement beyond chance of two judges that say yes or no (Cohen 1960): NaN where both always
  // say the same.
  function cohensKappa(one, other) {
    const share = (judge) => judge.filter(Boolean).length / judge.length;
    const observed = one.filter((said, n) => said === other[n]).length / one.length;
    const chance = share(one) * share(other) + (1 - share(one)) * (1 - share(other));
    return chance === 1 ? NaN : (observed - chance) / (1 - chance);
  }

  // --- What does your beta mean? ---

  // The weight of the KL over that of the summed squared error decides: both are divided by it. The
  // course's objective has N / M times its beta there, a Gaussian decoder 2 s².
  function translated({ beta, half, meanPixels, meanLatents, pixels, latents }) {
    const onError = (half ? 0.5 : 1) / (meanPixels ? pixels : 1);
    const onKl = beta / (meanLatents ? latents : 1);
    const ratio = onKl / onError;
    return { ours: (ratio * latents) / pixels, deviation: Math.sqrt(ratio / 2), onError, onKl };
  }

  function translator(widget, spec) {
    const state = { error: 1, meanPixels: 0, meanLatents: 0 };
    const answer = element("p", { class: "vae-says vae-answer-of", role: "status" });
    const formula = element("p", { class: "vae-formula" });
    const changed = (name) => (index) => {
      state[name] = index;
      update();
    };
    const choices = [
      choice("Error:", ["squared", "½ squared", "cross-entropy"], 1, changed("error")),
      choice("Pixels:", ["sum", "mean"], 0, changed("meanPixels")),
      choice("KL over latents:", ["sum", "mean"], 0, changed("meanLatents")),
    ];
    const fields = [
      ["their β", "beta", 4, "any"],
      ["pixels N", "pixels", spec.pixels, 1],
      ["latents M", "latents", 10, 1],
    ].map(([label, name, value, step]) => {
      const id = `vae-${unique++}`;
      const kind = { type: "number", id, value, step, min: 0, inputmode: "decimal" };
      const input = element("input", kind);
      input.addEventListener("input", update);
      state[name] = () => Number(input.value);
      return box("vae-field", element("label", { for: id }, label), input);
    });
    const short = (value) => String(Number(value.toPrecision(3)));

    function update() {
      const [beta, pixels, latents] = [state.beta(), state.pixels(), state.latents()];
      const whole = (count) => Number.isInteger(count) && count > 0;
      formula.textContent = "";
      if (!(beta >= 0) || !whole(pixels) || !whole(latents)) {
        answer.textContent = "β is a number, zero or more; pixels and latents are whole numbers.";
      } else if (state.error === 2) {
        answer.textContent =
          "A cross-entropy is no squared error: it has no variance, and its β is not one of this " +
          "book. Summed over pixels and latents, its ELBO has β = 1.";
      } else {
        const half = state.error === 1;
        const meanPixels = state.meanPixels === 1;
        const meanLatents = state.meanLatents === 1;
        const text = { beta, half, meanPixels, meanLatents, pixels, latents };
        const { ours, deviation, onError, onKl } = translated(text);
        const distance = (model) => Math.abs(Math.log(model.beta) - Math.log(ours));
        const near = spec.models.reduce((a, b) => (distance(b) < distance(a) ? b : a));
        const page = ours > 0 ? near : { beta: 0, page: spec.zero };
        answer.replaceChildren(
          element("strong", {}, `β = ${short(ours)} in this book. `),
          `As a Gaussian decoder it says that a pixel is off by s = ${short(deviation)}, on a ` +
            "scale from 0 to 1. Nearest model here: ",
          element("a", { href: `${page.page}.html` }, `β = ${page.beta}`),
          ".",
        );
        formula.textContent =
          `β = (weight of the KL ÷ weight of the squared error) · M/N = ` +
          `(${short(onKl)} ÷ ${short(onError)}) · ${latents}/${pixels}; s² = half of that ratio.`;
      }
    }

    widget.append(...choices, box("vae-row", ...fields), answer, formula);
    update();
  }

  // --- Draw the curve first ---

  // The reader drags over the axes, or walks from point to point by the arrow keys and lifts each.
  // The measured curve comes on top when it is asked for.
  function drawFirst(widget, spec) {
    const { points, ticks, across, up } = spec;
    const [width, height, left, bottom] = [340, 220, 52, 38];
    const top = 1.1 * Math.max(...points.map(([, , value]) => value));
    const toX = (place) => left + 10 + (width - left - 24) * place;
    const toY = (value) => 6 + (height - bottom - 6) * (1 - value / top);
    const guess = points.map(() => null);
    const { line, say } = speaker();
    let at = 0;

    const text = (x, y, words, anchor) => element("text", { x, y, "text-anchor": anchor }, words);
    const short = (value) => String(Number(value.toPrecision(2)));
    const drawn = element("path", { class: "vae-guess" });
    const measured = element("path", { class: "vae-curve", visibility: "hidden" });
    measured.setAttribute("d", `M${points.map(([, x, y]) => `${toX(x)},${toY(y)}`).join("L")}`);
    const dot = element("circle", {
      class: "vae-here",
      r: 6,
      tabindex: 0,
      role: "slider",
      "aria-label": `${up}, at the point that the left and right arrow keys choose`,
      "aria-valuemin": 0,
      "aria-valuemax": short(top),
    });
    const svg = element(
      "svg",
      { class: "vae-chart is-drawn", viewBox: `0 0 ${width} ${height}` },
      element("path", { class: "vae-axis", d: `M${left},4V${toY(0)}H${width - 4}` }),
      ...ticks.map(([label, place]) => text(toX(place), toY(0) + 15, label, "middle")),
      ...[0, 0.5, 1].map((n) => (n * top) / 1.1).map((y) => text(left - 5, toY(y) + 4, short(y), "end")),
      text((left + width) / 2, height - 3, across, "middle"),
      measured,
      drawn,
      dot,
    );

    function put(index, value, from = index) {
      // A quick stroke passes points by: they lie on the line between its ends.
      const [first, last] = [Math.min(index, from), Math.max(index, from)];
      for (let n = first; n <= last; n++) {
        const share = from === index ? 1 : (n - from) / (index - from);
        const start = guess[from] ?? value;
        guess[n] = Math.min(top, Math.max(0, start + share * (value - start)));
      }
      at = index;
      refresh();
    }

    function refresh() {
      const given = points.flatMap(([, x], n) => (guess[n] === null ? [] : [[x, guess[n]]]));
      const path = given.map(([x, y]) => `${toX(x)},${toY(y)}`).join("L");
      drawn.setAttribute("d", path && `M${path}`);
      const here = guess[at] ?? top / 2.2;
      dot.setAttribute("cx", toX(points[at][1]));
      dot.setAttribute("cy", toY(here));
      dot.setAttribute("aria-valuenow", short(here));
      const words = `${across} ${points[at][0]}: you say ${short(here)}`;
      dot.setAttribute("aria-valuetext", words);
      show.disabled = given.length < points.length / 2;
      if (guess[at] !== null) say(`${words}.`);
    }

    function reveal() {
      measured.setAttribute("visibility", "visible");
      const both = points.flatMap(([, , y], n) => (guess[n] === null ? [] : [[guess[n], y]]));
      const off = both.reduce((sum, [mine, its]) => sum + Math.abs(mine - its), 0) / both.length;
      const least = (of) => {
        const known = points.flatMap((point, n) => (of(point, n) === null ? [] : [n]));
        return points[known.reduce((a, b) => (of(points[b], b) < of(points[a], a) ? b : a))][0];
      };
      const lowest = least(([, , y]) => y);
      let words = `Yours is off by ${short(off)} on average, of at most ${short(top / 1.1)}.`;
      if (![points[0][0], points.at(-1)[0]].includes(lowest))
        words += ` Its lowest point: yours at ${least((_, n) => guess[n])}, measured at ${lowest}.`;
      say(words);
    }

    const show = button("show what was measured", reveal);
    const again = button("draw again", () => {
      guess.fill(null);
      measured.setAttribute("visibility", "hidden");
      line.textContent = "";
      refresh();
    });

    const place = (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) * width) / box.width;
      const y = ((event.clientY - box.top) * height) / box.height;
      const distance = ([, where]) => Math.abs(toX(where) - x);
      const index = points.reduce((a, p, n) => (distance(p) < distance(points[a]) ? n : a), 0);
      return [index, top * (1 - (y - 6) / (height - bottom - 6))];
    };
    drag(
      svg,
      (event) => put(...place(event)),
      (event) => put(...place(event), at),
    );
    const steps = { ArrowUp: top / 40, ArrowDown: -top / 40, PageUp: top / 8, PageDown: -top / 8 };
    dot.addEventListener("keydown", (event) => {
      const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!side && !steps[event.key]) return;
      event.preventDefault();
      if (side) {
        const next = Math.min(points.length - 1, Math.max(0, at + side));
        guess[next] ??= guess[at];
        at = next;
        refresh();
      } else put(at, (guess[at] ?? top / 2.2) + steps[event.key]);
    });
    const caption = element("figcaption", {}, `${up}. Drag over the axes to draw.`);
    widget.append(
      element("figure", { class: "vae-chart-box is-wide" }, caption, svg),
      box("vae-buttons", show, again),
      line,
    );
    refresh();
  }

  // --- Start ---

  const widgets = { latentPad, interpolate, samples, betaSlider, draw, judge, translator, drawFirst };

  function start() {
    for (const root of document.querySelectorAll(".vae-explorer:not(.is-live)")) {
      const spec = JSON.parse(root.querySelector("script[type='application/json']").textContent);
      if (!widgets[spec.widget]) continue; // its script comes after this one, and starts it
      root.classList.add("is-live");
      // The keys are the widget's own: JupyterLab would move or insert cells by them.
      root.addEventListener("keydown", (event) => event.stopPropagation());
      widgets[spec.widget](root.querySelector(".vae-widget"), spec);
    }
  }

  // For widgets with a script of their own.
  const tools = { SIDE, bytes, box, button, choice, element, fixed, guarded, later, loadPart, slider };
  Object.assign(tools, { speaker, whenNear });

  globalThis.vaeExplorer = { start, receive, load, cohensKappa, translated, widgets, tools };
  start();
})();
