// The live explorer: the fitted networks run in the reader's browser, without server or library.
//
// Three parts: the networks (layers of 10-bit weights), what is measured of an image here, and the
// four widgets. vae_nb/explorer.py writes what this reads. Only one job runs in a frame.

(() => {
  "use strict";
  if (window.vaeExplorer) {
    // Another widget of the same page brought this script, too.
    window.vaeExplorer.start();
    return;
  }

  // --- The networks ---

  const SIDE = 28;
  const PIXELS = SIDE * SIDE;

  // Slides the kernel of one layer over the "narrow" side (positions y, x) and the "wide" side
  // (positions y * stride + ky, x * stride + kx). A convolution sums wide into narrow, a transposed
  // convolution spreads narrow over wide; a linear layer is either on 1 x 1 positions.
  function slide(layer, narrow, wide, narrowSide, wideSide) {
    const { inputs, outputs, kernel, stride, spreads, weights } = layer;
    let next = 0;
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i < inputs; i++) {
        const narrowStart = (spreads ? i : o) * narrowSide * narrowSide;
        const wideStart = (spreads ? o : i) * wideSide * wideSide;
        for (let ky = 0; ky < kernel; ky++) {
          for (let kx = 0; kx < kernel; kx++) {
            const weight = weights[next++];
            for (let y = 0; y < narrowSide; y++) {
              let n = narrowStart + y * narrowSide;
              let w = wideStart + (y * stride + ky) * wideSide + kx;
              for (let x = 0; x < narrowSide; x++, n++, w += stride) {
                if (spreads) wide[w] += weight * narrow[n];
                else narrow[n] += weight * wide[w];
              }
            }
          }
        }
      }
    }
  }

  // Copies square channels from one grid to another, `shift` further right and down.
  function place(from, fromSide, to, toSide, channels, shift) {
    const first = Math.max(0, -shift);
    const end = Math.min(fromSide, toSide - shift);
    for (let c = 0; c < channels; c++) {
      for (let y = first; y < end; y++) {
        for (let x = first; x < end; x++) {
          to[(c * toSide + y + shift) * toSide + x + shift] =
            from[(c * fromSide + y) * fromSide + x];
        }
      }
    }
    return to;
  }

  function apply(layer, values, at) {
    const { inputs, outputs, size, out, kernel, stride, padding, spreads, slope } = layer;
    let result = new Float32Array(outputs * out * out);
    if (spreads) {
      const side = Math.max((size - 1) * stride + kernel, padding + out);
      const wide = new Float32Array(outputs * side * side);
      slide(layer, values, wide, size, side);
      result = place(wide, side, result, out, outputs, -padding);
    } else {
      const side = Math.max((out - 1) * stride + kernel, padding + size);
      const wide = place(
        values,
        size,
        new Float32Array(inputs * side * side),
        side,
        inputs,
        padding,
      );
      slide(layer, result, wide, out, side);
    }
    // Scale and shift hold the step of the weights, the bias and the batch normalisation.
    const scale = row(layer.scale, outputs, at);
    const shift = row(layer.shift, outputs, at);
    for (let n = 0; n < result.length; n++) {
      const channel = Math.floor(n / (out * out));
      const value = result[n] * scale[channel] + shift[channel];
      result[n] = value < 0 ? value * slope : value;
    }
    return result;
  }

  // What a table has at one beta: `at` is the share of the way through its rows, from 0 to 1.
  function row(table, columns, at) {
    if (table.length === columns) return table; // the same for every beta
    const steps = table.length / columns - 1;
    const low = Math.min(Math.floor(at * steps), steps - 1);
    const weight = at * steps - low;
    return Float32Array.from({ length: columns }, (_, c) => {
      const first = table[low * columns + c];
      return first + weight * (table[(low + 1) * columns + c] - first);
    });
  }

  const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

  // A network as vae_nb.explorer exports it, ready to run.
  function unpack(exported) {
    const lower = bytes(exported.lower); // two bits of each weight
    const weights = Float32Array.from(
      new Int8Array(bytes(exported.upper).buffer),
      (upper, n) => 4 * upper + ((lower[n >> 2] >> (2 * (n & 3))) & 3),
    );
    const floats = new Float32Array(bytes(exported.floats).buffer);
    let w = 0;
    let f = 0;
    const floatsNext = (count) => floats.subarray(f, (f += count));
    const unpackLayer = (layer) => ({
      ...layer,
      weights: weights.subarray(w, (w += layer.outputs * layer.inputs * layer.kernel ** 2)),
      scale: floatsNext(layer.scales * layer.outputs),
      shift: floatsNext(layer.shifts * layer.outputs),
    });
    const encoder = exported.encoder.map(unpackLayer);
    const decoder = exported.decoder.map(unpackLayer);
    const gates = floatsNext(exported.gates * exported.latents);
    const [lowest, highest] = exported.betas.map(Math.log10);
    const { latents } = exported;

    // How far beta is from the lowest to the highest one, in their logarithm.
    function position(beta = exported.betas[0]) {
      const share = (Math.log10(beta) - lowest) / (highest - lowest);
      return Math.min(Math.max(share, 0), 1);
    }

    return {
      latents,
      // Pixels in [0, 1] to the code of an autoencoder or the posterior's mean and log-variance.
      encode(pixels, beta) {
        const at = position(beta);
        const found = encoder.reduce((values, layer) => apply(layer, values, at), pixels);
        const isVae = found.length === 2 * latents;
        return { mean: found.slice(0, latents), logVariance: isVae ? found.slice(latents) : null };
      },
      // A code to pixels in (0, 1).
      decode(code, beta) {
        const at = position(beta);
        const gate = row(gates, latents, at);
        const gated = Float32Array.from(code, (z, j) => z * gate[j]);
        const logits = decoder.reduce((values, layer) => apply(layer, values, at), gated);
        return logits.map((value) => 1 / (1 + Math.exp(-value)));
      },
    };
  }

  // Weights are in the page (a notebook) or in a file beside it (the book); either way they are
  // read when they are first needed.
  const loading = new Map();
  const waiting = new Map();

  function load(digest) {
    if (!loading.has(digest)) {
      const holder = document.querySelector(`script[data-model="${digest}"]`);
      const source = holder.dataset.file;
      const arrival = new Promise((resolve, reject) => {
        if (!source) return resolve(JSON.parse(holder.textContent));
        waiting.set(digest, resolve);
        const script = element("script", { src: source });
        script.onerror = () => reject(new Error(`${source} could not be loaded`));
        document.head.append(script);
      });
      loading.set(digest, arrival.then(unpack));
    }
    return loading.get(digest);
  }

  // --- What is measured of an image or a code here ---

  function squaredError(a, b) {
    return a.reduce((sum, value, n) => sum + (value - b[n]) ** 2, 0) / a.length;
  }

  // KL(q(z|x) || N(0, I)) in nats, summed over the latents.
  function rateOf({ mean, logVariance }) {
    const nats = (m, n) => 0.5 * (m * m + Math.exp(logVariance[n]) - logVariance[n] - 1);
    return mean.reduce((sum, m, n) => sum + nats(m, n), 0);
  }

  // Connected pieces (diagonals count) of at least 3 pixels above one half.
  function strokes(pixels) {
    const unseen = new Set();
    pixels.forEach((value, n) => value > 0.5 && unseen.add(n));
    let count = 0;
    while (unseen.size) {
      const found = [unseen.values().next().value];
      unseen.delete(found[0]);
      for (let n = 0; n < found.length; n++) {
        const x = found[n] % SIDE;
        for (let dy = -1; dy <= 1; dy++) {
          for (let dx = -1; dx <= 1; dx++) {
            const near = found[n] + dy * SIDE + dx;
            if (x + dx >= 0 && x + dx < SIDE && unseen.delete(near)) found.push(near);
          }
        }
      }
      if (found.length >= 3) count++;
    }
    return count;
  }

  // Ink (side x side, 0 to 1) to 28 x 28 pixels the way MNIST was made: its box is scaled to fit
  // 20 x 20, then its centre of mass is put into the pixel right and below of the middle.
  function centred(ink, side) {
    let [left, top, right, bottom] = [side, side, -1, -1];
    ink.forEach((value, n) => {
      if (value <= 0.05) return;
      const [x, y] = [n % side, Math.floor(n / side)];
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    });
    const result = new Float32Array(PIXELS);
    if (right < 0) return result;
    const unit = Math.max(right + 1 - left, bottom + 1 - top) / 20; // ink pixels to a pixel
    const small = new Float32Array(PIXELS);
    let [mass, sumX, sumY] = [0, 0, 0];
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const value = ink[y * side + x];
        if (value === 0) continue;
        for (const [v, high] of overlaps((y - top) / unit, (y + 1 - top) / unit)) {
          for (const [u, wide] of overlaps((x - left) / unit, (x + 1 - left) / unit)) {
            const amount = value * high * wide;
            small[v * SIDE + u] += amount;
            mass += amount;
            sumX += amount * (u + 0.5);
            sumY += amount * (v + 0.5);
          }
        }
      }
    }
    const [moveX, moveY] = [14 - Math.floor(sumX / mass), 14 - Math.floor(sumY / mass)];
    small.forEach((value, n) => {
      const [x, y] = [(n % SIDE) + moveX, Math.floor(n / SIDE) + moveY];
      if (value && x >= 0 && x < SIDE && y >= 0 && y < SIDE) {
        result[y * SIDE + x] = Math.min(1, value);
      }
    });
    return result;
  }

  // The whole pixels that the stretch from `start` to `end` touches, and how much of each.
  function overlaps(start, end) {
    const found = [];
    for (let n = Math.floor(start + 1e-9); n < end - 1e-9; n++) {
      found.push([n, Math.min(end, n + 1) - Math.max(start, n)]);
    }
    return found;
  }

  // A fixed series of standard normal codes (mulberry32, Box-Muller): the same for every model.
  function normalCode(seed, count) {
    let state = seed * 2654435769;
    const uniform = () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    const normal = () =>
      Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    return Float32Array.from({ length: count }, normal);
  }

  // --- Elements that the widgets share ---

  let unique = 0;

  function element(tag, attributes = {}, ...children) {
    const made = ["svg", "circle", "path", "line", "text", "g"].includes(tag)
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

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
      jobs.delete(name);
      if (jobs.size) requestAnimationFrame(nextJob);
    }
  }

  // Words that screen readers hear when the reader's hand has come to rest.
  function speaker() {
    const line = element("p", { class: "vae-says", role: "status" });
    let timer;
    return {
      line,
      say(text) {
        clearTimeout(timer);
        timer = setTimeout(() => line.textContent !== text && (line.textContent = text), 250);
      },
    };
  }

  // A picture of 28 x 28 pixels with the grey levels of the data, and words for it.
  function picture(caption, kind = "") {
    const first = { width: SIDE, height: SIDE, role: "img", "aria-label": "not computed yet" };
    const canvas = element("canvas", first);
    const label = element("figcaption", {}, caption);
    const figure = element("figure", { class: `vae-picture ${kind}` }, canvas, label);
    return {
      figure,
      label,
      canvas,
      show(pixels, words) {
        paint(canvas, pixels);
        canvas.setAttribute("aria-label", words);
      },
    };
  }

  function paint(canvas, pixels) {
    const image = new ImageData(SIDE, SIDE);
    pixels.forEach((value, n) => {
      image.data.fill(Math.round(255 * value), 4 * n, 4 * n + 3);
      image.data[4 * n + 3] = 255;
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function slider(label, { min, max, step, value }, changed) {
    const id = `vae-${unique++}`;
    const input = element("input", { type: "range", id, min, max, step, value });
    const output = element("output", { for: id });
    const whole = element(
      "div",
      { class: "vae-slider" },
      element("label", { for: id }, label),
      output,
      input,
    );
    input.addEventListener("input", () => changed(Number(input.value)));
    return { whole, input, output };
  }

  // Radio buttons: `options` are texts or elements; calls changed(index).
  function choice(legend, options, chosen, changed, kind = "") {
    const name = `vae-${unique++}`;
    const whole = element(
      "fieldset",
      { class: `vae-choice ${kind}` },
      element("legend", {}, legend),
    );
    const inputs = options.map((option, index) => {
      const input = element("input", { type: "radio", name, value: index });
      input.checked = index === chosen;
      input.addEventListener("change", () => changed(index));
      whole.append(element("label", {}, input, option));
      return input;
    });
    return { whole, select: (index) => (inputs[index].checked = true) };
  }

  function button(text, pressed) {
    const made = element("button", { type: "button" }, text);
    made.addEventListener("click", pressed);
    return made;
  }

  function modelNames(models) {
    return models.map(({ name, colour }) =>
      element("span", {}, element("i", { class: "vae-dot", style: `background:${colour}` }), name),
    );
  }

  function factList(facts) {
    const terms = facts.flatMap(([term, value]) => [
      element("dt", {}, term),
      element("dd", {}, value),
    ]);
    return element("dl", {}, ...terms);
  }

  const digits = (spec) =>
    spec.digits.map(({ label, pixels }) => ({
      label,
      pixels: Float32Array.from(bytes(pixels), (value) => value / 255),
    }));

  function thumbnails(shown) {
    return shown.map(({ label, pixels }, n) => {
      const { canvas, show } = picture("");
      show(pixels, `held-out digit ${n + 1}, a ${label}`);
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
      (entries) => entries.some((entry) => entry.isIntersecting) && once(),
      { rootMargin: "600px" },
    );
    observer.observe(widget);
    widget.addEventListener("focusin", once);
    widget.addEventListener("pointerdown", once);
  }

  // A number for reading: a true minus sign, and none before zero.
  const fixed = (value, places) =>
    value
      .toFixed(places)
      .replace(/^-(?=0\.?0*$)/, "")
      .replace("-", "\u2212");

  // --- (a) Move in the latent space ---

  function latentPad(widget, spec) {
    const shown = digits(spec);
    const original = picture("held-out digit", "is-small");
    const decoded = picture("decoded", "is-large");
    const facts = element("div", { class: "vae-facts" });
    const sliders = element("div", { class: "vae-sliders" });
    const { line, say } = speaker();
    const plane = element("svg", {
      class: "vae-plane",
      viewBox: "0 0 200 200",
      role: "img",
      "aria-label": "Plane of two latents, not computed yet",
    });
    const planeLabel = element("figcaption");
    const state = { model: spec.first, from: { kind: "digit", index: 0 } };
    let network, code, controls, dot;

    const choose = choice("Model", modelNames(spec.models), spec.first, (index) => {
      state.model = index;
      use();
    });
    if (spec.models.length < 2) choose.whole.hidden = true;

    async function use() {
      const model = spec.models[state.model];
      network = await load(model.digest);
      if (model !== spec.models[state.model]) return; // chosen again meanwhile
      facts.replaceChildren(factList(model.facts));
      controls = model.latents.map((latent, n) => {
        const scale = { min: latent.low, max: latent.high, step: "any", value: 0 };
        const each = slider(latent.label, scale, (value) => {
          code[latent.index] = value;
          state.from = { ...state.from, moved: true };
          refresh();
        });
        each.input.step = (latent.high - latent.low) / 100;
        if (n === 0) each.whole.classList.add("is-across");
        if (n === 1) each.whole.classList.add("is-up");
        return each;
      });
      sliders.replaceChildren(...controls.map(({ whole }) => whole));
      drawPlane(model);
      fetchCode();
    }

    function drawPlane({ latents: [across, up], points }) {
      const toX = (value) => (200 * (value - across.low)) / (across.high - across.low);
      const toY = (value) => 200 - (200 * (value - up.low)) / (up.high - up.low);
      const radius = [toX(1) - toX(0), toY(0) - toY(1)];
      const circles = [1, 2].map((times) =>
        element("path", {
          class: "vae-prior",
          d: ellipse(toX(0), toY(0), ...radius.map((r) => r * times)),
        }),
      );
      const marks = points.map(([label, x, y]) =>
        element("text", { x: toX(x), y: toY(y) }, String(label)),
      );
      dot = element("circle", { class: "vae-here", r: 6 });
      dot.move = () => {
        dot.setAttribute("cx", toX(code[across.index]));
        dot.setAttribute("cy", toY(code[up.index]));
      };
      plane.replaceChildren(...circles, ...marks, dot);
      planeLabel.textContent = `latent ${across.index} across, latent ${up.index} up`;
    }

    // The code that the chosen model gives to the same thing: a digit, a noise vector, zero.
    function fetchCode() {
      const { kind, index } = state.from;
      later("code", () => {
        if (kind === "digit") code = network.encode(shown[index].pixels).mean;
        else if (kind === "noise") code = normalCode(index, network.latents);
        else code = new Float32Array(network.latents);
        state.from = { kind, index };
        refresh();
      });
    }

    function refresh() {
      const model = spec.models[state.model];
      later("decode", () => {
        const { kind, index, moved } = state.from;
        const pixels = network.decode(code);
        model.latents.forEach((latent, n) => {
          controls[n].input.value = code[latent.index];
          controls[n].output.textContent = fixed(code[latent.index], 2);
        });
        dot.move();
        const digit = kind === "digit" ? shown[index] : null;
        const source = digit
          ? `the code of a held-out ${digit.label}`
          : kind === "noise"
            ? "a sample of N(0, I)"
            : "the zero code";
        const error =
          digit && !moved ? `; squared error ${fixed(squaredError(pixels, digit.pixels), 4)}` : "";
        const [across, up] = model.latents.map(
          ({ index }) => `latent ${index} at ${fixed(code[index], 2)}`,
        );
        const words = `${model.name}: ${source}${moved ? ", moved," : ""} decoded${error}`;
        decoded.show(pixels, `${words}; ${across}, ${up}`);
        plane.setAttribute("aria-label", `Plane of two latents: ${across}, ${up}`);
        original.figure.hidden = !digit;
        if (digit) original.show(digit.pixels, `the held-out ${digit.label} itself`);
        say(`${words}.`);
      });
    }

    function point(event) {
      if (!code) return;
      const box = plane.getBoundingClientRect();
      const share = [
        (event.clientX - box.left) / box.width,
        (box.bottom - event.clientY) / box.height,
      ];
      spec.models[state.model].latents.slice(0, 2).forEach(({ index, low, high }, n) => {
        code[index] = low + Math.min(1, Math.max(0, share[n])) * (high - low);
      });
      state.from = { ...state.from, moved: true };
      refresh();
    }
    drag(plane, point, point);

    function start(kind, index) {
      state.from = { kind, index };
      if (network) fetchCode();
    }
    let [lastDigit, lastNoise] = [0, 0];
    const buttons = element(
      "div",
      { class: "vae-buttons" },
      button("next held-out digit", () =>
        start("digit", (lastDigit = (lastDigit + 1) % shown.length)),
      ),
      button("sample of N(0, I)", () => start("noise", ++lastNoise)),
      button("zero", () => start("zero", 0)),
    );
    widget.append(
      choose.whole,
      element(
        "div",
        { class: "vae-row is-pad" },
        element("figure", { class: "vae-plane-box" }, plane, planeLabel),
        element("div", { class: "vae-pictures" }, decoded.figure, original.figure),
        facts,
      ),
      sliders,
      buttons,
      line,
    );
    whenNear(widget, () => guarded(line, use));
  }

  function ellipse(x, y, rx, ry) {
    return `M${x - rx},${y} a${rx},${ry} 0 1,0 ${2 * rx},0 a${rx},${ry} 0 1,0 ${-2 * rx},0`;
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

  async function guarded(line, action) {
    try {
      await action();
    } catch (error) {
      line.textContent = `This explorer could not start: ${error.message}.`;
      throw error;
    }
  }

  // --- (b) From one digit to another ---

  function interpolate(widget, spec) {
    const shown = digits(spec);
    const chosen = [...spec.chosen];
    const { line, say } = speaker();
    const rows = spec.models.map((model) => {
      const ends = [picture("start", "is-small"), picture("end", "is-small")];
      const middle = picture("", "is-large");
      const name = element("figcaption", {}, ...modelNames([model]));
      const whole = element(
        "figure",
        { class: "vae-path" },
        name,
        element("div", { class: "vae-pictures" }, ends[0].figure, middle.figure, ends[1].figure),
      );
      return { model, ends, middle, whole };
    });
    const way = slider("way from start to end", { min: 0, max: 100, step: 1, value: 50 }, walk);
    const choices = ["Start", "End"].map((legend, end) =>
      choice(
        legend,
        thumbnails(shown),
        chosen[end],
        (index) => {
          chosen[end] = index;
          encode();
        },
        "is-digits",
      ),
    );

    function encode() {
      for (const each of rows.filter(({ network }) => network)) {
        later(`ends ${each.model.name}`, () => {
          each.codes = chosen.map((index) => each.network.encode(shown[index].pixels).mean);
          walk();
        });
        each.ends.forEach(({ show }, end) =>
          later(`end ${end} ${each.model.name}`, () =>
            show(
              each.network.decode(each.codes[end]),
              `${each.model.name}: decoded ${["start", "end"][end]}`,
            ),
          ),
        );
      }
    }

    function walk() {
      const share = way.input.value / 100;
      way.output.textContent = `${way.input.value} %`;
      for (const each of rows.filter(({ codes }) => codes)) {
        later(`walk ${each.model.name}`, () => {
          const [start, end] = each.codes;
          const pixels = each.network.decode(start.map((z, n) => z + share * (end[n] - z)));
          const count = strokes(pixels);
          each.words = `${each.model.name}: ${count} ${count === 1 ? "stroke" : "strokes"}`;
          each.middle.label.textContent = count === 1 ? "1 stroke" : `${count} strokes`;
          each.middle.show(pixels, `${each.words}, ${way.input.value} % of the way`);
          say(
            `${way.input.value} % of the way. ${rows
              .map(({ words }) => words)
              .filter(Boolean)
              .join("; ")}.`,
          );
        });
      }
    }

    widget.append(
      ...choices.map(({ whole }) => whole),
      way.whole,
      element("div", { class: "vae-row" }, ...rows.map(({ whole }) => whole)),
      line,
    );
    whenNear(widget, () =>
      rows.forEach((each) =>
        guarded(line, async () => {
          each.network = await load(each.model.digest);
          encode();
        }),
      ),
    );
  }

  // --- (c) Any beta ---

  function anyBeta(widget, spec) {
    const shown = digits(spec);
    const model = spec.models[0];
    const { line, say } = speaker();
    const pictures = [
      picture("held-out digit"),
      picture("decoded mean"),
      picture("decoded sample of q(z|x)"),
      picture("decoded sample of N(0, I)"),
    ];
    const state = { digit: 0, noise: 1 };
    let network;
    const [low, high] = [spec.curve[0][0], spec.curve.at(-1)[0]].map(Math.log10);
    const scale = { min: low, max: high, step: 0.01, value: Math.log10(spec.beta) };
    const beta = slider("β, logarithmic", scale, () => refresh());
    const chart = rateDistortion(spec.curve);

    function refresh() {
      const now = 10 ** beta.input.value;
      const written = Number(now.toPrecision(2)).toString();
      beta.output.textContent = written;
      beta.input.setAttribute("aria-valuetext", `β = ${written}`);
      if (!network) return;
      const noise = normalCode(state.noise, network.latents);
      const digit = shown[state.digit];
      const [rate, distortion] = chart.move(Number(beta.input.value));
      later("mean", () => {
        const { mean, logVariance } = network.encode(digit.pixels, now);
        const sample = mean.map((m, n) => m + Math.exp(logVariance[n] / 2) * noise[n]);
        const here = rateOf({ mean, logVariance });
        const pixels = network.decode(mean, now);
        const error = fixed(squaredError(pixels, digit.pixels), 4);
        pictures[0].show(digit.pixels, `the held-out ${digit.label} itself`);
        pictures[1].show(
          pixels,
          `decoded from the posterior mean at β = ${written}, squared error ${error}`,
        );
        later("sample", () =>
          pictures[2].show(
            network.decode(sample, now),
            `decoded from a posterior sample at β = ${written}`,
          ),
        );
        say(
          `β = ${written}: ${fixed(rate, 1)} nats and squared error ${fixed(distortion, 4)} over ` +
            `all held-out digits; this ${digit.label}: ${fixed(here, 1)} nats, ${error} from its mean.`,
        );
      });
      later("prior", () =>
        pictures[3].show(network.decode(noise, now), `sample of N(0, I) decoded at β = ${written}`),
      );
    }

    const buttons = element(
      "div",
      { class: "vae-buttons" },
      button("next held-out digit", () => {
        state.digit = (state.digit + 1) % shown.length;
        refresh();
      }),
      button("other noise", () => {
        state.noise++;
        refresh();
      }),
    );
    widget.append(
      beta.whole,
      element(
        "div",
        { class: "vae-row" },
        element(
          "div",
          { class: "vae-pictures is-grid is-pairs" },
          ...pictures.map(({ figure }) => figure),
        ),
        chart.figure,
      ),
      buttons,
      line,
    );
    refresh();
    whenNear(widget, () =>
      guarded(line, async () => {
        network = await load(model.digest);
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
    const ticks = [0, 1, 10, 100].filter((rate) => rate <= most);
    const errors = [0.02, 0.04, 0.06].filter((error) => error < worst);
    const svg = element(
      "svg",
      {
        class: "vae-chart",
        viewBox: `0 0 ${width} ${height}`,
        role: "img",
        "aria-label": "Curve of squared error against rate",
      },
      element("path", { class: "vae-axis", d: `M${left},4V${toY(0)}H${width - 8}` }),
      ...ticks.map((rate) => text(toX(rate), toY(0) + 15, String(rate), "middle")),
      ...errors.map((error) => text(left - 5, toY(error) + 4, String(error), "end")),
      text((left + width) / 2, height - 3, "rate, nats", "middle"),
      element("path", { class: "vae-curve", d: `M${line}` }),
      dot,
    );
    const label = element(
      "figcaption",
      {},
      "squared error of a sample against rate, held-out digits",
    );
    return {
      figure: element("figure", { class: "vae-chart-box" }, svg, label),
      // Rate and distortion at log10(beta), between neighbours of the curve; the dot goes there.
      move(logBeta) {
        const at = curve.findIndex(([beta]) => Math.log10(beta) >= logBeta - 1e-9);
        const [one, two] = [curve[Math.max(0, at - 1)], curve[at < 0 ? curve.length - 1 : at]];
        const span = Math.log10(two[0]) - Math.log10(one[0]);
        const share = span ? (logBeta - Math.log10(one[0])) / span : 0;
        const [rate, distortion] = [1, 2].map((n) => one[n] + share * (two[n] - one[n]));
        dot.setAttribute("cx", toX(rate));
        dot.setAttribute("cy", toY(distortion));
        svg.setAttribute(
          "aria-label",
          `Curve of squared error against rate; at the dot ${fixed(rate, 1)} nats, ${fixed(distortion, 4)}`,
        );
        return [rate, distortion];
      },
    };
  }

  // --- (d) Draw ---

  function draw(widget, spec) {
    const shown = digits(spec);
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
    const seen = picture("as the encoder sees it");
    const rows = spec.models.map((model) => {
      const made = picture("");
      const words = element("span", { class: "vae-numbers" });
      made.label.append(...modelNames([model]), words);
      return { model, made, words };
    });
    const pen = sheet.getContext("2d", { willReadFrequently: true });
    Object.assign(pen, { lineWidth: 22, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
    let at = null;
    let latest;

    function lineTo(x, y) {
      const [fromX, fromY] = at ?? [x, y];
      pen.beginPath();
      pen.moveTo(fromX, fromY);
      pen.lineTo(x, y + (at ? 0 : 0.01));
      pen.stroke();
      at = [x, y];
      look();
    }

    function look() {
      later("look", () => {
        const alpha = pen.getImageData(0, 0, side, side).data;
        const ink = Float32Array.from({ length: side * side }, (_, n) => alpha[4 * n + 3] / 255);
        show(centred(ink, side), "your drawing");
      });
    }

    function show(pixels, what) {
      const empty = pixels.every((value) => value === 0);
      seen.show(pixels, empty ? "nothing is drawn yet" : `${what}, scaled and centred like MNIST`);
      for (const each of rows.filter(({ network }) => network)) {
        later(`draw ${each.model.name}`, () => {
          const posterior = each.network.encode(pixels);
          const decoded = each.network.decode(posterior.mean);
          const error = fixed(squaredError(decoded, pixels), 4);
          const nats = posterior.logVariance ? `${fixed(rateOf(posterior), 1)} nats` : "no KL";
          each.words.textContent = empty ? "" : `${error}\n${nats}`;
          each.found = `${each.model.name} ${error}`;
          each.made.show(
            decoded,
            `${each.model.name}: ${what} reconstructed, squared error ${error}, ${nats}`,
          );
          const found = rows.map((other) => other.found).filter(Boolean);
          if (!empty) say(`Squared error of ${what}: ${found.join(", ")}.`);
        });
      }
      latest = [pixels, what];
    }
    const inSheet = (event) => {
      const box = sheet.getBoundingClientRect();
      const scale = side / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    };
    drag(
      sheet,
      (event) => {
        at = null;
        lineTo(...inSheet(event));
      },
      (event) => lineTo(...inSheet(event)),
      () => (at = null),
    );

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
      if (!step) {
        cursor.down = !cursor.down;
        say(cursor.down ? "Pen down." : "Pen up.");
        at = null;
      } else {
        [cursor.x, cursor.y] = [cursor.x + 10 * step[0], cursor.y + 10 * step[1]].map((place) =>
          Math.min(side - 10, Math.max(10, place)),
        );
      }
      if (cursor.down) lineTo(cursor.x, cursor.y);
      showPen();
    });
    sheet.addEventListener("focus", showPen);
    sheet.addEventListener("blur", showPen);

    function wipe() {
      pen.clearRect(0, 0, side, side);
      at = null;
    }
    let last = -1;
    function showDigit() {
      const { pixels, label } = shown[(last = (last + 1) % shown.length)];
      wipe();
      pixels.forEach((value, n) => {
        pen.fillStyle = `rgba(255, 255, 255, ${value})`;
        pen.fillRect((n % SIDE) * 10, Math.floor(n / SIDE) * 10, 10, 10);
      });
      show(pixels, `a held-out ${label}`);
    }
    const buttons = element(
      "div",
      { class: "vae-buttons" },
      button("clear", () => {
        wipe();
        look();
      }),
      button("a held-out digit instead", showDigit),
    );
    widget.append(
      element(
        "div",
        { class: "vae-row" },
        element("div", {}, element("div", { class: "vae-sheet-box" }, sheet, mark), buttons),
        element(
          "div",
          { class: "vae-pictures is-grid" },
          seen.figure,
          ...rows.map(({ made }) => made.figure),
        ),
      ),
      line,
    );
    whenNear(widget, () => {
      showDigit();
      rows.forEach((each) =>
        guarded(line, async () => {
          each.network = await load(each.model.digest);
          show(...latest);
        }),
      );
    });
  }

  // --- Start ---

  const widgets = { latentPad, interpolate, anyBeta, draw };

  function start() {
    for (const root of document.querySelectorAll(".vae-explorer:not(.is-live)")) {
      const spec = JSON.parse(root.querySelector("script[type='application/json']").textContent);
      root.classList.add("is-live");
      widgets[spec.widget](root.querySelector(".vae-widget"), spec);
    }
  }

  // A file of weights calls this.
  const receive = (digest, exported) => waiting.get(digest)(exported);

  window.vaeExplorer = { start, receive, load, unpack, strokes, centred };
  start();
})();
