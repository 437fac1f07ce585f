// A small autoencoder or VAE that is trained where this script runs: layers, objective, optimiser and
// the loop around them. Nothing in this file touches the page, and no name outside of the function is
// used, so that playground.js can hand its text to a worker. Gradients are written out by hand; the
// tests compare each of them with PyTorch's.
//
// A batch is one Float32Array, image after image (or code after code).

globalThis.vaeTraining = function vaeTraining() {
  "use strict";

  const PIXELS = 28 * 28;
  const HIDDEN = 128; // units between pixels and code, both ways
  const BATCH = 64;
  const COVERED = 100; // samples of which the coverage is measured
  const NEIGHBOURS = 5;

  // The array, or a new one if the length is another.
  const sized = (array, length) => (array?.length === length ? array : new Float32Array(length));

  // --- Random numbers that are the same on every machine: mulberry32, Box-Muller ---

  class Random {
    constructor(seed) {
      this.state = Math.imul(seed + 1, 0x9e3779b1);
    }

    uniform() {
      this.state = (this.state + 0x6d2b79f5) | 0;
      let t = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    }

    normal() {
      const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
      return radius * Math.cos(2 * Math.PI * this.uniform());
    }

    normals(count) {
      return Float32Array.from({ length: count }, () => this.normal());
    }

    shuffle(items) {
      for (let n = items.length - 1; n > 0; n--) {
        const other = Math.floor(this.uniform() * (n + 1));
        [items[n], items[other]] = [items[other], items[n]];
      }
      return items;
    }
  }

  // --- Layers: `forward` keeps what `backward` needs. `backward` takes the gradient of the loss by
  // the layer's outputs, keeps those by its own parameters, and returns that by its inputs. ---

  // y = x W + b, with W as (inputs, outputs): PyTorch has it transposed. Black pixels and hidden units
  // that are off are zeros, two thirds of all numbers: their products are left out. `passes` says for
  // which inputs a gradient is wanted: for "none", for "all", or for the "active" ones, which are not
  // zero (a ReLU before this layer stops the others).
  class Linear {
    constructor(inputs, outputs, passes, random) {
      Object.assign(this, { inputs, outputs, passes });
      const bound = 1 / Math.sqrt(inputs); // as PyTorch begins
      const draw = () => bound * (2 * random.uniform() - 1);
      this.weights = Float32Array.from({ length: inputs * outputs }, draw);
      this.bias = Float32Array.from({ length: outputs }, draw);
      this.weightGradient = new Float32Array(inputs * outputs);
      this.biasGradient = new Float32Array(outputs);
      this.places = new Int32Array(Math.max(inputs, BATCH));
    }

    get parameters() {
      return [
        [this.weights, this.weightGradient],
        [this.bias, this.biasGradient],
      ];
    }

    forward(x) {
      const { inputs, outputs, weights, places } = this;
      const batch = x.length / inputs;
      const y = (this.y = sized(this.y, batch * outputs));
      for (let b = 0; b < batch; b++) {
        const row = y.subarray(b * outputs, (b + 1) * outputs);
        row.set(this.bias);
        let count = 0;
        for (let i = 0; i < inputs; i++) if (x[b * inputs + i] !== 0) places[count++] = i;
        addRows(row, weights, x.subarray(b * inputs, (b + 1) * inputs), 1, places, count);
      }
      this.x = x;
      return y;
    }

    backward(gradient) {
      const { x, inputs, outputs, weightGradient, biasGradient } = this;
      const batch = x.length / inputs;
      const places = batch > this.places.length ? new Int32Array(batch) : this.places;
      weightGradient.fill(0);
      biasGradient.fill(0);
      for (let n = 0; n < gradient.length; n++) biasGradient[n % outputs] += gradient[n];
      for (let i = 0; i < inputs; i++) {
        const row = weightGradient.subarray(i * outputs, (i + 1) * outputs);
        let count = 0;
        for (let b = 0; b < batch; b++) if (x[b * inputs + i] !== 0) places[count++] = b;
        addRows(row, gradient, x.subarray(i), inputs, places, count);
      }
      return this.passes === "none" ? null : this.inputGradient(gradient, batch);
    }

    inputGradient(gradient, batch) {
      const { x, inputs, outputs, weights, passes } = this;
      const result = (this.result = sized(this.result, batch * inputs));
      for (let n = 0; n < result.length; n++) {
        let sum = 0;
        if (passes === "all" || x[n] !== 0) {
          const row = (n % inputs) * outputs;
          const start = Math.floor(n / inputs) * outputs;
          for (let o = 0; o < outputs; o++) sum += weights[row + o] * gradient[start + o];
        }
        result[n] = sum;
      }
      return result;
    }
  }

  // sum += factors[place * stride] * rows[place] for `count` places, four at a time: sums stay in
  // registers.
  function addRows(sum, rows, factors, stride, places, count) {
    const length = sum.length;
    let n = 0;
    for (; n + 3 < count; n += 4) {
      const [p, q, r, s] = [places[n], places[n + 1], places[n + 2], places[n + 3]];
      const [a, b] = [factors[p * stride], factors[q * stride]];
      const [c, d] = [factors[r * stride], factors[s * stride]];
      const [i, j, k, l] = [p * length, q * length, r * length, s * length];
      for (let o = 0; o < length; o++) {
        sum[o] += a * rows[i + o] + b * rows[j + o] + c * rows[k + o] + d * rows[l + o];
      }
    }
    for (; n < count; n++) {
      const [factor, start] = [factors[places[n] * stride], places[n] * length];
      for (let o = 0; o < length; o++) sum[o] += factor * rows[start + o];
    }
  }

  class Relu {
    parameters = [];

    forward(x) {
      this.y = sized(this.y, x.length);
      for (let n = 0; n < x.length; n++) this.y[n] = x[n] < 0 ? 0 : x[n]; // not a number stays one
      return this.y;
    }

    backward(gradient) {
      for (let n = 0; n < gradient.length; n++) if (!(this.y[n] > 0)) gradient[n] = 0;
      return gradient;
    }
  }

  class Sigmoid {
    parameters = [];

    forward(x) {
      this.y = sized(this.y, x.length);
      for (let n = 0; n < x.length; n++) this.y[n] = 1 / (1 + Math.exp(-x[n]));
      return this.y;
    }

    backward(gradient) {
      for (let n = 0; n < gradient.length; n++) gradient[n] *= this.y[n] * (1 - this.y[n]);
      return gradient;
    }
  }

  // z = mean + sigma * noise. A row of inputs has M means, then M log-variances log sigma^2.
  class Sampling {
    constructor(latents) {
      this.latents = latents;
    }

    forward(x, noise) {
      Object.assign(this, { x, noise });
      this.z = sized(this.z, noise.length);
      this.each((z, mean, logVariance) => {
        this.z[z] = x[mean] + Math.exp(x[logVariance] / 2) * noise[z];
      });
      return this.z;
    }

    backward(gradient) {
      const { x, noise } = this;
      const result = (this.result = sized(this.result, x.length));
      this.each((z, mean, logVariance) => {
        result[mean] = gradient[z];
        result[logVariance] = (gradient[z] * noise[z] * Math.exp(x[logVariance] / 2)) / 2;
      });
      return result;
    }

    // Where a latent stands in z, and its mean and log-variance in x.
    each(action) {
      const { latents, noise } = this;
      for (let z = 0; z < noise.length; z++) {
        const mean = z + Math.floor(z / latents) * latents;
        action(z, mean, mean + latents);
      }
    }
  }

  // --- The two terms of the objective, SSE / N + beta * KL / M, as means over the batch ---

  // The squared error, mean over pixels: its value, and its gradient by the reconstructions.
  function squaredError(images, reconstructions, gradient = null) {
    const count = images.length; // the batch's size times N
    let sum = 0;
    for (let n = 0; n < count; n++) {
      const off = reconstructions[n] - images[n];
      sum += off * off;
      if (gradient) gradient[n] = (2 * off) / count;
    }
    return sum / count;
  }

  // KL(q(z|x) || N(0, I)) of each latent, in nats, mean over the batch. Adds the gradient of the mean
  // over latents, times beta, by means and log-variances.
  function klDivergence(x, latents, beta = 0, gradient = null) {
    const count = x.length / 2; // the batch's size times M
    const rates = new Float64Array(latents);
    for (let n = 0; n < count; n++) {
      const mean = n + Math.floor(n / latents) * latents;
      const logVariance = mean + latents;
      const variance = Math.exp(x[logVariance]);
      const kl = 0.5 * (x[mean] * x[mean] + variance - x[logVariance] - 1);
      rates[n % latents] += (kl * latents) / count;
      if (gradient) {
        gradient[mean] += (beta * x[mean]) / count;
        gradient[logVariance] += (beta * 0.5 * (variance - 1)) / count;
      }
    }
    return rates;
  }

  // --- The optimiser: Adam (Kingma & Ba 2015, algorithm 1) ---

  class Adam {
    constructor(parameters, rate) {
      Object.assign(this, { parameters, rate, steps: 0 });
      this.moments = parameters.map(([values]) => [
        new Float32Array(values.length),
        new Float32Array(values.length),
      ]);
    }

    step() {
      const [beta1, beta2, epsilon] = [0.9, 0.999, 1e-8];
      this.steps++;
      const rate = this.rate / (1 - beta1 ** this.steps);
      const correction = Math.sqrt(1 - beta2 ** this.steps);
      this.parameters.forEach(([values, gradient], index) => {
        const [first, second] = this.moments[index];
        for (let n = 0; n < values.length; n++) {
          const g = gradient[n];
          first[n] = beta1 * first[n] + (1 - beta1) * g;
          second[n] = beta2 * second[n] + (1 - beta2) * g * g;
          values[n] -= (rate * first[n]) / (Math.sqrt(second[n]) / correction + epsilon);
        }
      });
    }
  }

  // --- The network ---

  class Network {
    constructor({ latents, variational, seed = 0 }) {
      Object.assign(this, { latents, variational });
      const random = new Random(seed);
      this.encoder = [
        new Linear(PIXELS, HIDDEN, "none", random),
        new Relu(),
        new Linear(HIDDEN, variational ? 2 * latents : latents, "active", random),
      ];
      this.decoder = [
        new Linear(latents, HIDDEN, "all", random),
        new Relu(),
        new Linear(HIDDEN, PIXELS, "active", random),
        new Sigmoid(),
      ];
      this.sampling = variational ? new Sampling(latents) : null;
    }

    get parameters() {
      return [...this.encoder, ...this.decoder].flatMap((layer) => layer.parameters);
    }

    // Means and log-variances, or the codes of an autoencoder. Read before the next call.
    encode = (images) => this.encoder.reduce((x, layer) => layer.forward(x), images);

    decode = (codes) => this.decoder.reduce((x, layer) => layer.forward(x), codes);

    // The codes to show of what `encode` says: the means, or those of an autoencoder.
    codes(x) {
      if (!this.variational) return x.slice();
      const { latents } = this;
      const mean = (_, n) => x[n + Math.floor(n / latents) * latents];
      return Float32Array.from({ length: x.length / 2 }, mean);
    }

    // Both terms, and all gradients of their weighted sum, for one batch with this noise.
    gradients(images, noise, beta) {
      const x = this.encode(images);
      const z = this.variational ? this.sampling.forward(x, noise) : x;
      const reconstructions = this.decode(z);
      this.error = sized(this.error, images.length);
      const error = squaredError(images, reconstructions, this.error);
      const back = (gradient, layer) => layer.backward(gradient);
      let gradient = this.decoder.toReversed().reduce(back, this.error);
      let rates = null;
      if (this.variational) {
        gradient = this.sampling.backward(gradient);
        rates = klDivergence(x, this.latents, beta, gradient);
      }
      this.encoder.toReversed().reduce(back, gradient);
      return { error, rates };
    }
  }

  // --- The loop ---

  const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);

  // `data` has images as bytes (`train` and `heldOut`) and `labels` of all of them, in this order.
  // Settings: beta, rate (of learning), digits (how many), labels (which), latents, variational, seed.
  class Trainer {
    constructor(data, settings) {
      this.data = data;
      this.random = new Random(settings.seed + 1);
      this.network = new Network(settings);
      this.adam = new Adam(this.network.parameters, settings.rate);
      this.steps = 0;
      this.epochs = 0;
      this.broken = false;
      this.trainedOn = new Set();
      this.recent = [];
      // The same noise for every look: what moves is the network.
      const { latents } = settings;
      const fixed = new Random(settings.seed + 2);
      const count = data.heldOut.length / PIXELS;
      this.noise = fixed.normals(count * latents);
      this.drawn = fixed.normals(24 * latents);
      this.covering = fixed.normals(COVERED * latents);
      this.change(settings);
    }

    // New settings for the same network; other latents or another model want another trainer.
    change(settings) {
      this.settings = settings;
      this.adam.rate = settings.rate;
      const wanted = new Set(settings.labels);
      const count = this.data.train.length / PIXELS;
      const all = Array.from({ length: count }, (_, n) => n);
      this.chosen = all.filter((n) => wanted.has(this.data.labels[n])).slice(0, settings.digits);
      this.order = [];
      wanted.forEach((label) => this.trainedOn.add(label));
    }

    images(bytes, places) {
      const result = new Float32Array(places.length * PIXELS);
      places.forEach((place, n) => {
        for (let i = 0; i < PIXELS; i++) result[n * PIXELS + i] = bytes[place * PIXELS + i] / 255;
      });
      return result;
    }

    // One batch. What is left of an epoch when it is less than a batch is not used.
    step() {
      const { settings, network, random, chosen } = this;
      const size = Math.min(BATCH, chosen.length);
      if (this.order.length < size) this.order = random.shuffle([...chosen]);
      const images = this.images(this.data.train, this.order.splice(0, size));
      const noise = random.normals(size * settings.latents);
      const { error, rates } = network.gradients(images, noise, settings.beta);
      this.adam.step();
      this.steps++;
      this.epochs += size / chosen.length;
      this.recent.push([error, rates ? sum(rates) : 0]);
      if (this.recent.length > 50) this.recent.shift();
      this.check(error, rates);
    }

    // Once a number is infinite, or none, all later ones are.
    check(error, rates) {
      if (!Number.isFinite(error) || (rates && !Number.isFinite(sum(rates)))) this.broken = true;
    }

    // Squared error of one sample each and KL of each latent, over the held-out images; and the error
    // of those whose labels the network was trained on, and of the others.
    heldOut() {
      const { data, network, noise } = this;
      const count = data.heldOut.length / PIXELS;
      const images = (this.heldOutImages ??= this.images(
        data.heldOut,
        Array.from({ length: count }, (_, n) => n),
      ));
      const x = network.encode(images);
      const rates = network.variational ? klDivergence(x, network.latents) : null;
      const z = network.variational ? network.sampling.forward(x, noise) : x;
      const reconstructions = network.decode(z);
      const labels = data.labels.slice(-count);
      const errors = { known: [], unknown: [] };
      labels.forEach((label, n) => {
        const part = [n * PIXELS, (n + 1) * PIXELS];
        const error = squaredError(images.subarray(...part), reconstructions.subarray(...part));
        errors[this.trainedOn.has(label) ? "known" : "unknown"].push(error);
      });
      const mean = (numbers) => (numbers.length ? sum(numbers) / numbers.length : null);
      const codes = network.codes(x);
      return { error: mean(errors.known), unknown: mean(errors.unknown), rates, codes };
    }

    // Codes to decode: the given draws of N(0, I), or these moved to the Gaussian with the mean and
    // the covariance of the held-out codes.
    draws(normals, codes, fitted) {
      if (!fitted) return normals;
      const { latents } = this.network;
      const count = codes.length / latents;
      const mean = Array.from({ length: latents }, (_, j) => {
        let total = 0;
        for (let n = 0; n < count; n++) total += codes[n * latents + j];
        return total / count;
      });
      const factor = cholesky(latents, (j, k) => {
        let total = 0;
        for (let n = 0; n < count; n++) {
          total += (codes[n * latents + j] - mean[j]) * (codes[n * latents + k] - mean[k]);
        }
        return total / count + (j === k ? 1e-9 : 0);
      });
      return normals.map((_, place) => {
        const j = place % latents;
        let total = mean[j];
        for (let k = 0; k <= j; k++) total += factor[j][k] * normals[place - j + k];
        return total;
      });
    }

    // The share of held-out images that have a sample nearer than their fifth neighbour among the
    // held-out images: coverage (Naeem et al. 2020), here in pixels.
    coverage(samples) {
      const images = this.heldOutImages;
      const count = images.length / PIXELS;
      this.radii ??= Array.from({ length: count }, (_, n) => {
        const apart = Array.from({ length: count }, (__, m) => distance(images, n, images, m));
        return apart.sort((a, b) => a - b)[NEIGHBOURS]; // the nearest one is the image itself
      });
      const labels = this.data.labels.slice(-count);
      const known = labels.map((label, n) => n).filter((n) => this.trainedOn.has(labels[n]));
      const covered = known.filter((n) => {
        for (let m = 0; m < samples.length / PIXELS; m++) {
          if (distance(images, n, samples, m) < this.radii[n]) return true;
        }
        return false;
      });
      return covered.length / known.length;
    }

    // All that the page shows. `fitted` says what samples are drawn from; the coverage takes longer,
    // so it is only measured when it is asked for.
    view(fitted, shown, withCoverage) {
      const { network, settings } = this;
      const measured = this.heldOut();
      const { codes } = measured;
      this.check(measured.error, measured.rates);
      const bytes = (pixels) => Uint8ClampedArray.from(pixels, (value) => 255 * value);
      const view = { ...measured, beta: settings.beta, broken: this.broken };
      Object.assign(view, { steps: this.steps, epochs: this.epochs });
      view.trainError = sum(this.recent.map(([error]) => error)) / this.recent.length;
      view.reconstructions = bytes(network.decode(this.codesOf(codes, shown)));
      view.samples = bytes(network.decode(this.draws(this.drawn, codes, fitted)));
      if (settings.latents === 2) {
        view.reach = reach(codes);
        view.plane = bytes(network.decode(grid(view.reach)));
      }
      if (withCoverage) {
        const samples = network.decode(this.draws(this.covering, codes, fitted));
        view.coverage = this.coverage(samples);
      }
      return view;
    }

    codesOf(codes, places) {
      const { latents } = this.network;
      const code = (place) => [...codes.subarray(place * latents, (place + 1) * latents)];
      return Float32Array.from(places.flatMap(code));
    }
  }

  function distance(a, n, b, m) {
    let total = 0;
    for (let i = 0; i < PIXELS; i++) total += (a[n * PIXELS + i] - b[m * PIXELS + i]) ** 2;
    return total;
  }

  // The lower triangle whose product with its transpose is the matrix.
  function cholesky(size, entry) {
    const rows = [];
    for (let j = 0; j < size; j++) {
      rows.push([]);
      for (let k = 0; k <= j; k++) {
        let rest = entry(j, k);
        for (let l = 0; l < k; l++) rest -= rows[j][l] * rows[k][l];
        rows[j].push(j === k ? Math.sqrt(Math.max(rest, 0)) : rest / (rows[k][k] || 1));
      }
    }
    return rows;
  }

  // How far the plane of two latents reaches to each side: 3, or so far that nearly all codes are in.
  function reach(codes) {
    const sizes = Float32Array.from(codes, Math.abs).sort();
    const far = sizes[Math.floor(0.98 * (sizes.length - 1))] || 0;
    return 3 * 1.25 ** Math.max(0, Math.ceil(Math.log(far / 3) / Math.log(1.25)));
  }

  // GRID x GRID codes over the plane, row by row from the top; the second latent grows upwards.
  const GRID = 9;
  function grid(far) {
    const place = (n) => far * ((2 * (n + 0.5)) / GRID - 1);
    const code = (_, n) => [place(n % GRID), -place(Math.floor(n / GRID))];
    return Float32Array.from(Array.from({ length: GRID * GRID }, code).flat());
  }

  // --- What a worker does with it: messages are [name, value] ---

  function serve(scope) {
    const now = () => performance.now();
    let [data, trainer, playing, fitted, shown] = [null, null, false, false, []];
    let [lookedAt, coveredAt, isSeen] = [0, 0, true];
    // A timer would be held back by 4 ms each time.
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => go();

    function show() {
      const withCoverage = !trainer.broken && now() - coveredAt > 1000;
      if (withCoverage) coveredAt = now();
      lookedAt = now();
      isSeen = false;
      scope.postMessage(["view", trainer.view(fitted, shown, withCoverage)]);
    }

    function go() {
      if (!playing || !trainer) return;
      const end = now() + 30;
      do trainer.step();
      while (now() < end && !trainer.broken);
      // No view before the page has drawn the last one.
      if (trainer.broken || (isSeen && now() - lookedAt > 200)) show();
      playing &&= !trainer.broken;
      if (playing) port2.postMessage(null);
    }

    const take = {
      data: (value) => (data = value),
      shown: (value) => (shown = value),
      start(settings) {
        trainer = new Trainer(data, settings);
        coveredAt = now();
        show();
      },
      change: (settings) => trainer.change(settings),
      fitted(value) {
        fitted = value;
        coveredAt = 0;
        if (trainer && !playing) show();
      },
      play(value) {
        const began = playing;
        playing = value && !trainer.broken;
        if (playing && !began) go();
        else if (began && !playing) show();
      },
      step() {
        if (trainer.broken) return;
        trainer.step();
        show();
      },
      seen: () => (isSeen = true),
    };
    scope.onmessage = ({ data: [name, value] }) => take[name](value);
  }

  const layers = { Linear, Relu, Sigmoid, Sampling };
  return { Random, layers, squaredError, klDivergence, Adam, Network, Trainer, serve, GRID, HIDDEN };
};
