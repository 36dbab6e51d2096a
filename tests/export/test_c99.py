import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hannet import Abs, HanClassifier, HanNet, HanStack
from hannet.export import c99, targets, verify
from hannet.export.c_code import quote
from hannet.export.c_functions import FUNCTIONS

pytestmark = pytest.mark.usefixtures("needs_compiler")
FIXTURES = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"
SANITIZED = (*verify.FLAGS, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def write(folder, model, name, count=60):
    """The C of a model, and rows with what it must give."""
    made = targets.prepare(model, name)
    for file, content in made.library.files.items():
        (folder / file).write_text(content)
    return made.program, verify.trial(made.source, count)


def run(program, given=b"", *arguments):
    done = subprocess.run([program, *arguments], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


NETS = st.fixed_dictionaries({
    "features": st.integers(1, 64),
    "width": st.integers(1, 64),
    "outputs": st.integers(1, 64),
    "depth": st.integers(0, 40),
    "reflections": st.integers(1, 2),
    "exponent": st.sampled_from([-44, -30, 0, 30, 38]),
    "zero": st.booleans(),
    "bias": st.booleans(),
})  # fmt: skip


def net_of(features, width, outputs, depth, reflections, exponent, zero, bias):
    layers = [nn.Linear(features, width), Abs()]
    if depth:
        stack = HanStack(width, depth, bias, reflections=reflections)
        stack.u.data *= 10.0**exponent
        stack.u.data[0] *= not zero
        layers.append(stack)
    return nn.Sequential(*layers, nn.Linear(width, outputs))


@pytest.mark.slow
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(shapes=st.lists(NETS, min_size=10, max_size=10))
def test_random_networks_compute_the_same_under_sanitizers(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    names = [f"net{number}" for number in range(len(shapes))]
    cases = [(name, *write(folder, net_of(**shape), name)) for name, shape in zip(names, shapes, strict=True)]
    sources = ["main.c"]
    for name in names:
        text = verify.driver(name, "float").replace("int main(void)", f"int run_{name}(void);\nint run_{name}(void)")
        (folder / f"run_{name}.c").write_text(text)
        sources += [f"{name}.c", f"run_{name}.c"]
    calls = "".join(f"if (number == {n}) return run_{name}();\n" for n, name in enumerate(names))
    declared = "".join(f"int run_{name}(void);\n" for name in names)
    main = f"#include <stdlib.h>\n{declared}int main(int count, char **words)\n{{\nconst int number = count > 1 ? atoi(words[1]) : -1;\n"
    (folder / "main.c").write_text(f"{main}{calls}return 9;\n}}\n")
    program = verify.build(folder, sources, "nets", SANITIZED)
    for number, (name, described, tried) in enumerate(cases):
        given = np.vstack([tried.rows, np.full((1, tried.rows.shape[1]), np.nan, np.float32)])
        found = np.frombuffer(run(program, given.tobytes(), str(number)), np.float32)
        found = found.reshape(len(given), described.output.size)
        check = verify.compare(name, found[:-1], tried)
        assert check.passed, (shapes[number], check)
        assert np.isnan(found[-1]).all()


def test_exponential_and_root_are_right_to_two_units(tmp_path):
    parts = [FUNCTIONS[name].replace("@", "f") for name in ("exp", "bend")]
    loop = "float x;\nwhile (fread(&x, sizeof x, 1, stdin) == 1) {\nconst float y[2] = {f_exp(x < 0.0f ? x : -x), f_bend(x)};\n"
    text = "\n".join(["#include <stdint.h>\n#include <stdio.h>", *parts, "int main(void)\n{", loop])
    (tmp_path / "f.c").write_text(text + "fwrite(y, sizeof y, 1, stdout);\n}\nreturn 0;\n}\n")
    rng = np.random.default_rng(0)
    x = np.concatenate([-rng.uniform(0, 86, 20000), 10 ** rng.uniform(-10, 6, 20000), [0, -1e-30, 3, -3, 1e6, -1e6]])
    x = x.astype(np.float32)
    program = verify.build(tmp_path, ["f.c"], "f", SANITIZED)
    found = np.frombuffer(run(program, x.tobytes()), np.float32).reshape(-1, 2).astype(float)
    exact = np.abs(x.astype(float))
    inside = exact <= 86
    np.testing.assert_allclose(found[inside, 0], np.exp(-exact[inside]), rtol=2 * 2**-23)
    assert (found[exact > 88, 0] == 0).all()
    z = x.astype(float)
    np.testing.assert_allclose(found[:, 1], z / np.sqrt(1 + (z / 3) ** 2), rtol=2 * 2**-23)


def test_a_table_takes_words_and_refuses_null(table_models, tmp_path):
    model = table_models["color"]
    described, _ = write(tmp_path, model, "net")
    city = next(column for column in described.inputs.categories if column.name == "city")
    place = described.inputs.columns.index(city)
    words = [*city.levels, "", "nA", "never seen"]
    calls = "".join(f'printf("%g ", (double)net_code({place}, {quote(word).replace("@", "net")}));\n' for word in words)
    (tmp_path / "main.c").write_text(f"""#include "net.h"
#include <stdio.h>
int main(void)
{{
    static net_workspace w;
    float row[NET_INPUTS] = {{0}}, out[NET_OUTPUTS] = {{7.0f}};
    if (net_predict(0, out, &w) != NET_ERROR_NULL || net_predict(row, 0, &w) != NET_ERROR_NULL)
        return 1;
    if (net_predict(row, out, 0) != NET_ERROR_NULL || out[0] != 7.0f || net_predict(row, out, &w) != NET_OK)
        return 2;
    {calls}
    printf("%g %g %s", (double)net_code({place}, 0), (double)net_code(99, "x"), net_classes[net_class(out)]);
    return sizeof w != NET_WORKSPACE_BYTES;
}}
""")
    program = verify.build(tmp_path, ["net.c", "main.c"], "main", SANITIZED)
    *codes, label = run(program).decode().split()
    assert label in described.output.classes
    assert codes[: len(city.levels)] == [str(place) for place in range(len(city.levels))]
    assert codes[len(city.levels) :] == ["nan", "nan", "-1", "nan", "nan"]
    np.testing.assert_array_equal(c99.code_of(city, np.array(words, object)), np.array(codes[:-2], np.float32))


def test_an_estimator_refuses_what_is_not_finite(tmp_path):
    described, tried = write(tmp_path, HanClassifier.load(FIXTURES / "classifier"), "net")
    (tmp_path / "run.c").write_text(verify.driver("net", "float"))
    program = verify.build(tmp_path, ["net.c", "run.c"], "run", SANITIZED)
    rows = verify.c_rows(described, tried.rows)[:4].copy()
    rows[:3, 0] = [np.nan, np.inf, -np.inf]
    found = verify.run_c(program, described, rows)
    assert (found[:3] < -1e37).all()
    assert (found[3] >= 0).all()


def test_a_faulty_compiler_is_noticed(tmp_path):
    (tmp_path / "x.c").write_text("int main(void) { return y; }\n")
    with pytest.raises(verify.ExportError, match=r"the C does not compile: x\.c"):
        verify.build(tmp_path, ["x.c"], "x")


def test_reflections_and_dense_layers_take_what_they_should(tmp_path):
    report = targets.to_c(HanNet(13, 1, width=200, depth=20), tmp_path / "net", verified=False)
    assert report.facts == {"flash_bytes": 44100, "workspace_bytes": 1728, "multiply_adds": 10400}
