// The fitted networks in the reader's browser, and what is measured of an image there. Nothing in
// this file touches the page. vae_nb/explorer/export.py writes what `unpack` reads; explorer.js,
// which follows in the same script, has the widgets.

globalThis.vaeNetworks ??= (() => {
  "use strict";

  const SIDE = 28;
  const PIXELS = SIDE * SIDE;

  // --- Layers ---

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
        const row = (c * fromSide + y) * fromSide;
        const values = from.subarray(row + first, row + end);
        to.set(values, (c * toSide + y + shift) * toSide + first + shift);
      }
    }
    return to;
  }

  // The layer's outputs; `embedded` is beta's embedding in a multi-rate VAE.
  function apply(layer, values, embedded) {
    const { inputs, outputs, size, out, kernel, stride, padding, spreads, slope } = layer;
    let result = new Float32Array(outputs * out * out);
    if (spreads) {
      const side = Math.max((size - 1) * stride + kernel, padding + out);
      const wide = new Float32Array(outputs * side * side);
      slide(layer, values, wide, size, side);
      result = place(wide, side, result, out, outputs, -padding);
    } else {
      const side = Math.max((out - 1) * stride + kernel, padding + size);
      const padded = new Float32Array(inputs * side * side);
      slide(layer, result, place(values, size, padded, side, inputs, padding), out, side);
    }
    // Scale and shift hold the step of the weights, the bias and the batch normalisation.
    let { scale, shift } = layer;
    if (layer.response) {
      const change = apply(layer.response, embedded);
      scale = scale.map((value, c) => value * (1 + change[c]));
      shift = shift.map((value, c) => value * (1 + change[c]) + change[outputs + c]);
    }
    return result.map((sum, n) => {
      const channel = Math.floor(n / (out * out));
      const value = sum * scale[channel] + shift[channel];
      return value < 0 ? value * slope : value;
    });
  }

  const run = (layers, values, embedded) =>
    layers.reduce((inputs, layer) => apply(layer, inputs, embedded), values);

  // --- A network ---

  function bytes(base64) {
    const text = atob(base64);
    const result = new Uint8Array(text.length); // `from` is much slower
    for (let n = 0; n < text.length; n++) result[n] = text.charCodeAt(n);
    return result;
  }

  const unpackLayer = (layer) => ({
    ...layer,
    weights: new Float32Array(new Int16Array(bytes(layer.weights).buffer)),
    response: layer.response && unpackLayer(layer.response),
  });

  function unpack(exported) {
    const { latents, conditioning } = exported;
    const [encoder, decoder] = [exported.encoder, exported.decoder].map((layers) =>
      layers.map(unpackLayer),
    );
    const embedding = conditioning && conditioning.embedding.map(unpackLayer);

    // What depends on beta in a multi-rate VAE: its embedding, and how far each latent is open
    // (`embed` and `gates` of vae_nb/multirate.py).
    function condition(beta) {
      if (!conditioning) return { gates: new Float32Array(latents).fill(1) };
      const [low, high] = conditioning.betas;
      const logBeta = Math.log(Math.min(Math.max(beta, low), high));
      const u = (2 * logBeta - Math.log(low) - Math.log(high)) / Math.log(high / low);
      const powers = [u, u ** 2, u ** 3, Math.sin(3 * u), Math.cos(3 * u)];
      const gate = (logThreshold) =>
        Math.min(1, Math.log1p(Math.exp(10 * (1 - Math.exp(logBeta - logThreshold)))) / 10);
      return {
        embedded: run(embedding, Float32Array.from(powers)),
        gates: Float32Array.from(conditioning.logThresholds, gate),
      };
    }

    return {
      latents,
      // Pixels in [0, 1] to the code of an autoencoder or the posterior's mean and log-variance.
      encode(pixels, beta) {
        const { embedded, gates } = condition(beta);
        const outputs = run(encoder, pixels, embedded).map((value, n) => value * gates[n % latents]);
        const logVariance = outputs.length > latents ? outputs.slice(latents) : null;
        return { mean: outputs.slice(0, latents), logVariance };
      },
      // A code to pixels in (0, 1).
      decode(code, beta) {
        const { embedded, gates } = condition(beta);
        const gated = Float32Array.from(code, (z, j) => z * gates[j]);
        return run(decoder, gated, embedded).map((value) => 1 / (1 + Math.exp(-value)));
      },
    };
  }

  // --- What is measured of an image or a code ---

  function squaredError(a, b) {
    return a.reduce((sum, value, n) => sum + (value - b[n]) ** 2, 0) / a.length;
  }

  // KL(q(z|x) || N(0, I)) in nats, summed over the latents.
  function rate({ mean, logVariance }) {
    const nats = (m, n) => 0.5 * (m * m + Math.exp(logVariance[n]) - logVariance[n] - 1);
    return mean.reduce((sum, m, n) => sum + nats(m, n), 0);
  }

  // Connected pieces (diagonals count) of at least 3 pixels above one half.
  function strokes(pixels) {
    const unseen = new Set();
    pixels.forEach((value, n) => {
      if (value > 0.5) unseen.add(n);
    });
    let count = 0;
    while (unseen.size) {
      const [start] = unseen;
      const piece = [start];
      unseen.delete(start);
      for (let n = 0; n < piece.length; n++) {
        const x = piece[n] % SIDE;
        for (let dy = -1; dy <= 1; dy++) {
          for (let dx = -1; dx <= 1; dx++) {
            const near = piece[n] + dy * SIDE + dx;
            if (x + dx >= 0 && x + dx < SIDE && unseen.delete(near)) piece.push(near);
          }
        }
      }
      if (piece.length >= 3) count++;
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
    const pieces = [];
    for (let n = Math.floor(start + 1e-9); n < end - 1e-9; n++) {
      pieces.push([n, Math.min(end, n + 1) - Math.max(start, n)]);
    }
    return pieces;
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

  return { SIDE, bytes, unpack, squaredError, rate, strokes, centred, normalCode };
})();
