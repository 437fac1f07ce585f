"""How fast the playground trains in headless Chromium, beside TensorFlow.js, and what it costs.

    python benchmarks/playground.py

Needs Chromium, and npm for TensorFlow.js, which is fetched into a temporary folder (without npm, or
without a network, its rows are left out). Where there is no GPU, WebGL runs on the processor. The
processor time is that of all of the browser's processes: it says how fast one core is where other
work runs beside.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import machine
from build import memory_of
from playwright.sync_api import Browser, Page, sync_playwright

from vae_nb import data, explorer
from vae_nb.explorer.widgets import packaged

FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
STARTED = "/step [1-9]/.test(document.querySelector('.vae-running').textContent)"
READY = "document.querySelector('.vae-running')?.textContent.startsWith('Epoch')"

# Each begins by some steps, and leaves `train(seconds)`, which says how many digits it trained.
OURS = """() => new Promise((ready) => {
    const loop = `
        const t = (${vaeTraining})();
        const random = new t.Random(0);
        const pixel = () => Math.max(0, 255 * (random.uniform() * 5 - 4)); // a fifth is ink
        const bytes = (n) => Uint8Array.from({ length: n * 784 }, pixel);
        const data = { train: bytes(2500), heldOut: bytes(250), labels: Array(2750).fill(0) };
        const settings = { beta: 0.002, rate: 0.002, digits: 2500, labels: [0], latents: 2 };
        const trainer = new t.Trainer(data, { ...settings, variational: true, seed: 0 });
        onmessage = ({ data: seconds }) => {
            const [begin, first] = [performance.now(), trainer.steps];
            do trainer.step();
            while (performance.now() - begin < 1000 * seconds);
            postMessage([64 * (trainer.steps - first), (performance.now() - begin) / 1000]);
        };`;
    const worker = new Worker(URL.createObjectURL(new Blob([loop])));
    globalThis.train = (seconds) => new Promise((done) => {
        worker.onmessage = ({ data }) => done(data);
        worker.postMessage(seconds);
    });
    train(0.5).then(ready);
})"""

THEIRS = """async (backend) => {
    await tf.setBackend(backend);
    await tf.ready();
    const dense = (units, inputs, activation = "linear") =>
        tf.layers.dense({ units, inputShape: [inputs], activation });
    const encoder = tf.sequential({ layers: [dense(128, 784, "relu"), dense(4, 128)] });
    const decoder = tf.sequential({ layers: [dense(128, 2, "relu"), dense(784, 128, "sigmoid")] });
    const images = tf.tidy(() => tf.randomUniform([64, 784], -4, 1).relu());
    const adam = tf.train.adam(0.002);
    const step = () =>
        adam.minimize(() => {
            const [mean, logVariance] = tf.split(encoder.apply(images), 2, 1);
            const z = mean.add(logVariance.div(2).exp().mul(tf.randomNormal([64, 2])));
            const error = decoder.apply(z).sub(images).square().mean();
            const kl = mean.square().add(logVariance.exp()).sub(logVariance).sub(1).div(2).mean();
            return error.add(kl.mul(0.002));
        });
    const finished = () => decoder.layers[1].getWeights()[0].data(); // WebGL only queues a step
    globalThis.train = async (seconds) => {
        const begin = performance.now();
        let steps = 0;
        do {
            step();
            if (++steps % 10 === 0) await finished();
        } while (performance.now() - begin < 1000 * seconds);
        await finished();
        return [64 * steps, (performance.now() - begin) / 1000];
    };
    await train(0.5);
    return tf.getBackend();
}"""

FRAMES = """(seconds) => new Promise((done) => {
    const gaps = [];
    let [first, last] = [null, null];
    requestAnimationFrame(function next(now) {
        if (last !== null) gaps.push(now - last);
        first ??= now;
        last = now;
        if (now - first < 1000 * seconds || gaps.length < 2) requestAnimationFrame(next);
        else done(gaps);
    });
})"""


def tensorflow(folder: Path) -> Path | None:
    """TensorFlow.js in one script, fetched by npm into ``folder``; None if that fails."""
    if not shutil.which("npm"):
        return None
    fetch = ["npm", "pack", "--silent", "@tensorflow/tfjs@4"]
    if subprocess.run(fetch, cwd=folder, capture_output=True, check=False).returncode:
        return None
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extract("package/dist/tf.min.js", folder, filter="data")
    return folder / "package" / "dist" / "tf.min.js"


def open_page(browser: Browser, folder: Path, body: str) -> Page:
    """A page from a file."""
    (folder / "page.html").write_text(f"<!doctype html><meta charset='utf-8'>{body}", "utf-8")
    page = browser.new_page()
    page.goto((folder / "page.html").as_uri(), wait_until="load")
    return page


def processes(browser: Browser) -> list[dict[str, Any]]:
    """The processes of the browser, with the seconds of processor time that each has had."""
    session = browser.new_browser_cdp_session()
    return session.send("SystemInfo.getProcessInfo")["processInfo"]


def speed(browser: Browser, page: Page, given: argparse.Namespace) -> str:
    """Digits a second, and digits a second of processor time, as two cells: medians of rounds."""
    by_clock, by_processor = [], []
    for _ in range(given.rounds):
        before = sum(each["cpuTime"] for each in processes(browser))
        digits, seconds = page.evaluate("(seconds) => train(seconds)", given.seconds)
        used = sum(each["cpuTime"] for each in processes(browser)) - before
        by_clock.append(digits / seconds)
        by_processor.append(digits / used)
    return f"{statistics.median(by_clock):,.0f} | {statistics.median(by_processor):,.0f}"


def renderer(browser: Browser) -> int:
    """Bytes that the newest renderer holds: the page, and its worker."""
    found = [each["id"] for each in processes(browser) if each["type"] == "renderer"]
    return memory_of(max(found))


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        sys.exit("no Chromium: tests/chromium.sh installs it where it can")
    dataset = data.load("MNIST", 2500)
    widget = explorer.playground(explorer.record(dataset, epochs=1), "benchmark").html()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        options = {"executable_path": chromium, "args": FLAGS + WEBGL}
        print(machine.describe())
        print("\n| 2 latents, 128 hidden units | digits a second | of processor time |")
        print("| --- | ---: | ---: |")
        with playwright.chromium.launch(**options) as browser:
            page = open_page(browser, folder, f"<script>{packaged('vae.js')}</script>")
            page.evaluate(OURS)
            print(f"| vae.js, in a worker | {speed(browser, page, given)} |", flush=True)
            page.close()
            script = tensorflow(folder)
            for backend in ("cpu", "webgl") if script else ():
                page = open_page(browser, folder, f"<script src='{script.as_uri()}'></script>")
                its = page.evaluate(THEIRS, backend)
                print(f"| TensorFlow.js, {its} | {speed(browser, page, given)} |", flush=True)
                page.close()
            if not script:
                print("| TensorFlow.js | not fetched | |")
        with playwright.chromium.launch(**options) as browser:
            page = open_page(browser, folder, "")
            blank = renderer(browser)
            page.close()
            starts, gaps = [], []
            for _ in range(given.rounds):
                page = open_page(browser, folder, widget)
                page.wait_for_function(READY)
                page.wait_for_timeout(1500)
                begin = page.evaluate("performance.now()")
                page.get_by_role("button", name="train it yourself").click()
                page.wait_for_function(STARTED)
                starts.append(page.evaluate("performance.now()") - begin)
                gaps.append(page.evaluate(FRAMES, given.seconds))
                memory = renderer(browser)
                page.close()
        frames = sorted(gap for each in gaps for gap in each)
        late = frames[int(0.99 * len(frames))]
        print("\n| the page | |\n| --- | ---: |")
        print(f"| first step after play, ms | {statistics.median(starts):.0f} |")
        print(f"| longest frame of a round, ms | {statistics.median(map(max, gaps)):.0f} |")
        print(f"| 99 % of frames within, ms | {late:.0f} |")
        print(f"| memory of page and worker, MiB | {memory / 2**20:.0f} |")
        print(f"| of an empty page, MiB | {blank / 2**20:.0f} |")


if __name__ == "__main__":
    main()
