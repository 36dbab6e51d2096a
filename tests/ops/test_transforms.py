"""Operators under compilation, export and the transforms of torch.func."""

import shutil

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.testing import assert_close

from hannet import HanLayer, HanNet, HanStack, ops
from hannet.functional import han_layer, han_stack, householder
from hannet.ops import reference


def cubes(function, *inputs):
    return function(*inputs).pow(3).sum()


BACKENDS = [
    ("aot_eager", (4, 9, 5)),
    pytest.param("inductor", (4,), marks=pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "batches"), BACKENDS)
def test_compiles_without_graph_breaks(backend, batches, kernel_only):
    model = HanNet(3, 2, width=8, depth=4)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for rows in batches:
        x = torch.randn(rows, 3, requires_grad=True)
        expected = torch.autograd.grad(model(x).pow(2).sum(), [x, *model.parameters()])
        for one, other in zip(
            torch.autograd.grad(compiled(x).pow(2).sum(), [x, *model.parameters()]), expected, strict=True
        ):
            assert_close(one, other)
    with torch.no_grad():
        assert_close(compiled(x), model(x))


def test_compiles_along_another_dimension(kernel_only):
    model = HanStack(6, 3, dim=1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for size in (5, 7):
        x = torch.randn(2, 6, size, size, requires_grad=True)
        both = [torch.autograd.grad(m(x).pow(2).sum(), [x, *model.parameters()]) for m in (model, compiled)]
        assert_close(*both)


def test_an_exported_program_holds_only_pytorchs_operators():
    model = HanNet(3, 2, width=8, depth=4)
    rows = torch.export.Dim("rows")
    program = torch.export.export(model, (torch.randn(4, 3),), dynamic_shapes=({0: rows},))
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert all(target.startswith("aten.") for target in targets)
    x = torch.randn(9, 3)
    assert_close(program.module()(x), model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model", [HanNet(3, 2, width=8, depth=4), HanLayer(3, reflections=2), HanStack(3, 2, bias=False)]
)
def test_onnx_computes_the_same(model):
    pytest.importorskip("onnxscript")
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
    program = torch.onnx.export(model, (torch.randn(4, 3),), dynamo=True, dynamic_shapes=({0: "rows"},), verbose=False)
    x = torch.randn(9, 3)
    (y,) = evaluator(program.model_proto).run(None, {program.model_proto.graph.input[0].name: x.numpy()})
    assert_close(torch.from_numpy(y), model(x).detach())


@pytest.mark.filterwarnings("ignore")
def test_traces():
    model = HanNet(3, 2, width=8, depth=4)
    traced = torch.jit.trace(model, (torch.randn(4, 3),))
    x = torch.randn(9, 3)
    assert_close(traced(x), model(x))


@pytest.mark.parametrize("function", [han_layer, householder, han_stack])
@pytest.mark.parametrize(
    "dims", [(0, 0, 0), (0, None, None), (None, 0, 0), (None, 0, None), (1, None, 0), (None, 1, 1)]
)
def test_vmap_runs_the_kernel(function, dims, kernel_only):
    shape = (2, 6) if function is han_stack else (6,)
    shapes = [(5, 6), shape, shape]
    inputs = [
        torch.randn(s if dim is None else (*s[:dim], 3, *s[dim:]), dtype=torch.double, requires_grad=True)
        for s, dim in zip(shapes, dims, strict=True)
    ]

    def slices(index):
        return [t if dim is None else t.select(dim, index) for t, dim in zip(inputs, dims, strict=True)]

    y = vmap(function, dims)(*inputs)
    expected = torch.stack([function(*slices(index)) for index in range(3)])
    assert_close(y, expected)
    weight = torch.randn_like(y)
    for one, other in zip(
        torch.autograd.grad(y, inputs, weight), torch.autograd.grad(expected, inputs, weight), strict=True
    ):
        assert_close(one, other)


@pytest.mark.parametrize("dims", [(0, 0, 0), (0, None, None), (None, 0, 0), (None, 0, None), (2, None, 0)])
def test_vmap_with_the_features_last_but_one(dims, kernel_only):
    shapes = [(5, 6, 17), (2, 6), (2, 6)]
    inputs = [
        torch.randn(s if dim is None else (*s[:dim], 3, *s[dim:]), dtype=torch.double, requires_grad=True)
        for s, dim in zip(shapes, dims, strict=True)
    ]

    def run(x, u, b):
        return han_stack(x, u, b, dim=-2)

    y = vmap(run, dims)(*inputs)
    apart = [[t if dim is None else t.select(dim, i) for t, dim in zip(inputs, dims, strict=True)] for i in range(3)]
    expected = torch.stack([run(*one) for one in apart])
    assert_close(y, expected)
    weight = torch.randn_like(y)
    assert_close(torch.autograd.grad(y, inputs, weight), torch.autograd.grad(expected, inputs, weight))


def test_vmap_without_bias_and_of_members(kernel_only):
    x, u, b = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 6, 5), torch.randn(3, 2, 6, 5)
    for dims in ((0, 0, 0), (0, None, None), (None, 0, 0)):
        inputs = [t if dim == 0 else t[0] for t, dim in zip((x, u, b), dims, strict=True)]
        apart = [[t[index] if dim == 0 else t for t, dim in zip(inputs, dims, strict=True)] for index in range(3)]
        assert_close(vmap(han_stack, dims)(*inputs), torch.stack([han_stack(*one) for one in apart]))
        assert_close(
            vmap(han_stack, dims[:2])(*inputs[:2]),
            torch.stack([han_stack(*one[:2]) for one in apart]),
        )
    assert_close(vmap(vmap(han_stack))(x, u, b), torch.stack([han_stack(*one) for one in zip(x, u, b, strict=True)]))


def test_a_vmapped_ensemble_of_modules(kernel_only):
    models = [HanStack(6, 3) for _ in range(4)]
    parameters, _ = stack_module_state(models)
    x = torch.randn(5, 6)
    y = vmap(lambda parameters: functional_call(models[0], parameters, x))(parameters)
    assert_close(y, torch.stack([model(x) for model in models]))
    y.sum().backward()
    models[2](x).sum().backward()
    assert_close(parameters["u"].grad[2], models[2].u.grad)


TRANSFORMS = {
    "grad": lambda f: grad(lambda *inputs: cubes(f, *inputs), argnums=(0, 1, 2)),
    "grad of grad": lambda f: grad(
        lambda *inputs: sum(g.pow(2).sum() for g in grad(lambda *i: cubes(f, *i), argnums=(0, 1, 2))(*inputs)),
        argnums=(0, 1, 2),
    ),
    "per-sample gradients": lambda f: vmap(grad(lambda *inputs: cubes(f, *inputs), argnums=(1, 2)), (0, None, None)),
    "gradient of a vmap": lambda f: grad(lambda *inputs: cubes(vmap(f, (0, None, None)), *inputs), argnums=(1, 2)),
    "jacrev": lambda f: jacrev(f, argnums=(0, 1, 2)),
    "jacfwd": lambda f: jacfwd(f, argnums=(0, 1, 2)),
    "hessian": lambda f: hessian(lambda *inputs: cubes(f, *inputs), argnums=(0, 1, 2)),
    "reverse over reverse": lambda f: jacrev(jacrev(lambda *inputs: cubes(f, *inputs), argnums=1), argnums=1),
    "jvp": lambda f: lambda *inputs: jvp(f, inputs, tuple(t.cos() for t in inputs)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_equal_those_of_the_reference(make, name):
    inputs = make(3, 4, 2)
    assert_close(TRANSFORMS[name](han_stack)(*inputs), TRANSFORMS[name](reference.stack)(*inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grad", "per-sample gradients", "gradient of a vmap", "jacrev", "jacfwd", "jvp"])
def test_transforms_compile(make, name):
    inputs = make(3, 4, 2)
    compiled = torch.compile(TRANSFORMS[name](han_stack), fullgraph=True, backend="aot_eager")
    assert_close(compiled(*inputs), TRANSFORMS[name](reference.stack)(*inputs))


def test_forward_mode_gives_dual_tensors(make):
    x, u, b = make(3, 4, 2)
    with forward_ad.dual_level():
        y = han_stack(forward_ad.make_dual(x, x.cos()), u, b)
        tangent = forward_ad.unpack_dual(y).tangent
    assert_close(tangent, jvp(lambda x: reference.stack(x, u, b), (x,), (x.cos(),))[1])


def test_batched_gradients(make):
    """torch.autograd.functional.jacobian(vectorize=True) hands the backward pass tensors without memory."""
    x, u, b = make(3, 4, 2)
    jacobian = torch.autograd.functional.jacobian
    assert_close(jacobian(han_stack, (x, u, b), vectorize=True), jacobian(reference.stack, (x, u, b), vectorize=False))


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("create_graph", [True, False])
def test_gradients_under_vmap_and_saved_tensors_of_other_strides(make, members, bias, create_graph):
    """Only the slopes are mapped: the operator gets the output and its sign bits as one for all."""
    inputs = [t if t is None else t.requires_grad_() for t in make(16, 20, 3, members=members, bias=bias)]
    wanted = [t for t in inputs if t is not None]
    slopes = torch.randn(5, *inputs[0].shape).double()

    def outputs():
        return [ops.stack(*inputs)] if members else [ops.stack(*inputs), ops.stacks(inputs[0], [inputs[1:]], [-1])]

    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t.mT.contiguous().mT if t.dim() > 1 else t):
        others = outputs()
    for y in (*outputs(), *others):

        def gradients(slope, y=y):
            return torch.autograd.grad(y, wanted, slope, retain_graph=True, create_graph=create_graph)

        alone = [gradients(slope) for slope in slopes]
        assert_close(alone[0], torch.autograd.grad(reference.stack(*inputs), wanted, slopes[0]))
        assert_close(vmap(gradients)(slopes), tuple(map(torch.stack, zip(*alone, strict=True))))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("create_graph", [True, False])
def test_forward_mode_through_a_backward_pass(make, bias, create_graph):
    """A gradient is linear in the slope: along t it changes by the gradient for t."""
    inputs = [t if t is None else t.requires_grad_() for t in make(16, 20, 3, bias=bias)]
    wanted = [t for t in inputs if t is not None]
    slope, t = torch.randn(2, *inputs[0].shape).double()
    mapped = vmap(lambda x: ops.stack(x, *inputs[1:]))(inputs[0])  # by the operator
    for y in (ops.stack(*inputs), ops.stacks(inputs[0], [inputs[1:]], [-1]), mapped):

        def gradients(slope, y=y):
            return torch.autograd.grad(y, wanted, slope, retain_graph=True, create_graph=create_graph)

        expected = gradients(t)
        with forward_ad.dual_level():
            tangents = [forward_ad.unpack_dual(g).tangent for g in gradients(forward_ad.make_dual(slope, t))]
        assert_close(tangents, list(expected))
        assert_close(jvp(gradients, (slope,), (t,))[1], expected)
        if create_graph:
            back = torch.func.vjp(gradients, slope)[1](expected)[0]
            assert_close((back * t).sum(), sum(g.square().sum() for g in expected))
