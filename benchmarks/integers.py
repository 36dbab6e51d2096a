"""What do integers cost, how tight is the proven bound, and does anything break the certificate of the C that runs?

    python benchmarks/integers.py [--seeds 3] [--points 100000] [--out hannet-results/benchmarks]

Tables: a HanRegressor of two members, 20 epochs, on four fifths of each regression set; the RMSE on the rest in float64, int16 and
int8. MNIST: a certified HanNet (four layers of 32 reflections), trained on all 60,000 images for --epochs; its accuracy and
certified accuracy on the test images in float64 and in integers; then test images that the C code certifies are moved up to
their radius, along gradients of the margin, of the float network, and in random directions, rounded to pixels so that they
stay within it, and given to the C again. The bound: a climb of many starts looks for features of a HanNet 20x200 for which integers
are furthest off.
Prints a table and appends a record; exits with 1 if a certificate was broken. About ten minutes.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

import hannet
from hannet.certify import certificates
from hannet.data import images, regression
from hannet.estimators.export_source import feature_positions
from hannet.experiments import store
from hannet.experiments.record import Record, Run
from hannet.export import c99, describe, verify
from hannet.export.c_integers import translate_integers
from hannet.export.integers import Integers
from hannet.export.program import Program, TensorInput
from hannet.export.quantisation import BITS, quantise
from hannet.export.sources import open_source
from hannet.train.recipe import Recipe
from hannet.train.trainer import train

RADIUS = 1.58
EPOCHS = 20  # of the regressors
FLAGS = ("-std=c99", "-O3", "-march=native")
CERTIFY = """#include "net.h"
#include <stdio.h>
int main(void)
{
    static net_workspace w;
    uint8_t row[NET_INPUTS];
    float out[NET_OUTPUTS], radius;
    while (fread(row, sizeof row, 1, stdin) == 1) {
        net_certify(row, out, &radius, &w);
        fwrite(w.integers, sizeof w.integers, 1, stdout);
        fwrite(&radius, sizeof radius, 1, stdout);
    }
    return 0;
}
"""


def tables(seeds: int) -> dict[str, float]:
    """Relative change of the test RMSE on each set, mean over seeds."""
    found: dict[str, float] = {}
    for name in regression.SETS:
        held = regression.regression(name)
        changes: dict[str, list[float]] = {dtype: [] for dtype in BITS}
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(held.y))
            train_rows, test_rows = np.split(order, [4 * len(order) // 5])
            model = hannet.HanRegressor(members=2, epochs=EPOCHS, random_state=seed).fit(
                held.x[train_rows], held.y[train_rows]
            )
            x, y = held.x[test_rows], np.ravel(held.y[test_rows])
            exact = rmse(model.predict(x), y)
            for dtype in BITS:
                changes[dtype].append(rmse(in_integers(model, x, dtype), y) / exact - 1)
        for dtype, values in changes.items():
            found[f"{name}, {dtype}: change of RMSE"] = fmean(values)
            found[f"{name}, {dtype}: std of the change"] = stdev(values) if seeds > 1 else 0.0
    return found


def rmse(found: np.ndarray, y: np.ndarray) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((found - y) ** 2)))


def in_integers(model: hannet.HanRegressor, x: np.ndarray, dtype: str) -> np.ndarray:
    """Predictions of the members in integers on the estimator's own features."""
    program = open_source(model).program
    made, output = quantise(program, dtype), program.output
    features = model._features.transform(x).numpy()[:, feature_positions(model._features, [list(range(x.shape[1]))])]
    return ((made.outputs(features) * made.unit).mean(0) * output.scale + output.shift)[:, 0]


def certified_net(epochs: int) -> torch.nn.Module:
    """Trained on MNIST as the record `certified` says."""
    held = images.mnist("train")
    x, y = held.x.flatten(1).float() / 255, F.one_hot(held.y, 10).float()
    torch.manual_seed(0)
    net = hannet.HanNet(784, 10, width=1024, depth=4, lipschitz=True, reflections=32)
    recipe = Recipe(lr=3e-3, optimizer="adam", schedule="cosine", batch=256, loss="cross_entropy", epochs=epochs)
    train([net], [recipe], [0], x, y)
    return net.eval()


def on_pixels(net: torch.nn.Module) -> Program:
    """The program of a net whose features are pixels."""
    program = describe(net)
    return Program("HanNet on pixels", TensorInput((784,), pixels=True), program.members, program.output)


def compile_certifier(made: Integers, folder: Path) -> Callable[[np.ndarray], tuple]:
    """The C that certifies: pixels (n, 784) -> integers (n, 10), radii (n,)."""
    rows = np.random.default_rng(0).integers(0, 256, (4, 784), dtype=np.uint8)
    expected = (made.outputs(rows)[0] * made.unit).astype(np.float32)
    files = c99.to_library(made.program, translate_integers(made), "net", rows, expected, np.full(4, 1e-3)).files
    for file, content in {**files, "main.c": CERTIFY}.items():
        (folder / file).write_text(content)
    program = verify.build(folder, ["net.c", "main.c"], "certify", FLAGS)

    def certify(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        done = subprocess.run([program], input=x.astype(np.uint8).tobytes(), capture_output=True, check=True)
        raw = np.frombuffer(done.stdout, np.int32).reshape(len(x), 11)
        return raw[:, :10], raw[:, 10].copy().view(np.float32)

    return certify


def moved(
    net: torch.nn.Module, x: np.ndarray, classes: np.ndarray, radii: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Pixels at most `radii` away, half of them along gradients towards a random other class, half in random directions."""
    rows = torch.from_numpy(x).float().div(255).requires_grad_()
    others = (classes + rng.integers(1, 10, len(classes))) % 10
    logits = net(rows)
    margin = logits.gather(1, torch.from_numpy(classes)[:, None]) - logits.gather(1, torch.from_numpy(others)[:, None])
    (gradient,) = torch.autograd.grad(margin.sum(), rows)
    step = -gradient.numpy().astype(np.float64)
    step[::2] = rng.normal(size=step[::2].shape)
    step *= 255 * (radii / np.linalg.norm(step, axis=1))[:, None]
    return np.clip(x + np.trunc(step), 0, 255).astype(np.uint8)  # truncation and clipping only shorten a step


def certified(epochs: int, points: int, dtype: str = "int16") -> dict[str, float]:
    """Accuracies, and broken certificates."""
    net, held, rng = certified_net(epochs), images.mnist("test"), np.random.default_rng(0)
    x, y = held.x.flatten(1).numpy(), held.y.numpy()
    made = quantise(on_pixels(net), dtype)
    exact = certificates(net.double(), torch.from_numpy(x).double() / 255)
    net.float()
    found = {"MNIST, float64: accuracy": float((exact[0].numpy() == y).mean())}
    found["MNIST, float64: certified"] = float(((exact[0].numpy() == y) & (exact[1].numpy() > RADIUS)).mean())
    with TemporaryDirectory() as temporary:
        certify = compile_certifier(made, Path(temporary))
        integers, radii = certify(x)
        assert np.array_equal(integers, made.outputs(x)[0]), "the C gives other integers than Python"
        classes = integers.argmax(1)
        found[f"MNIST, {dtype}: accuracy"] = float((classes == y).mean())
        found[f"MNIST, {dtype}: certified"] = float(((classes == y) & (radii > RADIUS)).mean())
        rows, tried, broken = np.flatnonzero(radii > 0), 0, 0
        while tried < points:
            chosen = rng.choice(rows, 2000)
            attacked = certify(moved(net, x[chosen], classes[chosen], radii[chosen], rng))[0].argmax(1)
            tried, broken = tried + len(chosen), broken + int((attacked != classes[chosen]).sum())
        twice = certify(moved(net, x[chosen], classes[chosen], 2 * radii[chosen], rng))[0].argmax(1)
    found |= {"trials at the certified radius": tried, "broken": broken}
    found["classes changed at twice the radius"] = float((twice != classes[chosen]).mean())
    found |= {"MNIST: proven error": made.error, "MNIST: kilobytes": flash(made) / 1024}
    return found


def flash(made: Integers) -> int:
    """Bytes of the tables."""
    return translate_integers(made).flash


def tightness(starts: int = 64, steps: int = 300) -> dict[str, float]:
    """The proven bound over the largest error that a climb finds, for a HanNet 20x200 on 13 inputs."""
    torch.manual_seed(0)
    net = hannet.HanNet(13, 1, width=200, depth=20).double().eval()
    for module in net.modules():
        if getattr(module, "b", None) is not None:
            module.b.data.normal_(0, 0.05)
    found: dict[str, float] = {}
    for dtype in BITS:
        made, rng = quantise(describe(net), dtype, (-3.0, 3.0)), np.random.default_rng(0)

        def error(x: np.ndarray, made: Integers = made) -> np.ndarray:
            with torch.no_grad():
                truth = net(torch.from_numpy(x).double()).numpy()
            return np.abs(made.outputs(x)[0] * made.unit - truth)[:, 0]

        best = np.where(rng.random((starts, 13)) < 0.5, -3.0, 3.0).astype(np.float32)
        largest, width = error(best), np.full(starts, 1.0)
        for _ in range(steps):
            tried = np.clip(best + rng.normal(size=best.shape) * width[:, None], -3, 3).astype(np.float32)
            values = error(tried)
            better = values > largest
            best[better], largest[better] = tried[better], values[better]
            width = np.where(better, width * 1.3, width * 0.97)
        found[f"{dtype}: proven error"], found[f"{dtype}: largest found"] = made.error, float(largest.max())
        found[f"{dtype}: proven over found"] = made.error / float(largest.max())
    return found


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began, metrics = perf_counter(), {}
    parts = (tightness, partial(tables, arguments.seeds), partial(certified, arguments.epochs, arguments.points))
    for part in (measure() for measure in parts):
        for what, value in part.items():
            print(f"{what:>50}  {value:.4g}", flush=True)
        metrics |= part
    run = Run(
        "benchmark integers", {"seeds": arguments.seeds, "points": arguments.points, "epochs": arguments.epochs}, 0
    )
    store.Store(arguments.out).append([Record.of(run, metrics, perf_counter() - began)])
    sys.exit(bool(metrics["broken"]))


if __name__ == "__main__":
    main()
