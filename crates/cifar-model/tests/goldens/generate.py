"""Golden values from PyTorch: `python generate.py` writes ops.safetensors and trajectories.json beside itself.

Operations are computed in f64 and stored as f32. Trajectories are ten losses of each network, narrow, under SGD with
Nesterov momentum: in f64, and in f32 for the distance that rounding makes. Inputs and initial weights are a formula of
integers (`formula`), the same bits here and in ../common/mod.rs, so they need not be stored.

Layouts are those of the crate: images NHWC, filters [K, K, I, O], matrices [I, O].
"""

import json
import pathlib
import struct

import numpy
import torch
import torch.nn.functional as F

FOLDER = pathlib.Path(__file__).parent
LOW = 0xFFFFFFFF


def formula(seed, *shape):
    """Returns numbers in -1..1 that depend on `seed`."""
    x = (seed * 1000003 + numpy.arange(numpy.prod(shape), dtype=numpy.uint64) + 1) * 2654435761 & LOW
    x ^= x >> 15
    x = x * 2246822519 & LOW
    x ^= x >> 13
    values = (x.astype(numpy.float64) / 2**31 - 1).astype(numpy.float32)
    return torch.tensor(values.reshape(shape))


def variable(seed, *shape):
    return formula(seed, *shape).double().requires_grad_()


def conv(x, weight, stride, padding):
    return F.conv2d(x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1), None, stride, padding).permute(0, 2, 3, 1)


def pool(x, function, window):
    return function(x.permute(0, 3, 1, 2), window).permute(0, 2, 3, 1)


ACTIVATIONS = {"gelu": F.gelu, "silu": F.silu, "relu": F.relu}


# --- operations ------------------------------------------------------------------------------------------------------

golden = {}


def record(name, output, **arguments):
    """Stores the output and the gradients of its sum weighted by formula(9)."""
    (output * formula(9, *output.shape).double()).sum().backward()
    golden[f"{name}/output"] = output
    for argument, tensor in arguments.items():
        golden[f"{name}/{argument}"] = tensor.grad


for kernel, stride, padding in [(3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 1, 0)]:
    x, weight = variable(1, 2, 7, 6, 5), variable(2, kernel, kernel, 5, 18)
    record(f"conv{kernel}x{kernel}s{stride}", conv(x, weight, stride, padding), images=x, weight=weight)

x, weight = variable(1, 2, 7, 6, 5), variable(2, 3, 3, 5, 18)
record("conv_pool", pool(conv(x, weight, 1, 1), F.max_pool2d, 2), images=x, weight=weight)

x, weight, bias = variable(1, 2, 7, 6, 3), variable(2, 2, 2, 3, 24), variable(3, 24)
record("whitening", F.gelu(conv(x, weight, 1, 0) + bias), images=x, weight=weight, bias=bias)

for name, f in ACTIVATIONS.items():
    for residual in [None, variable(4, 3, 4, 3, 6)]:
        x, scale, shift = variable(1, 3, 4, 3, 6), variable(2, 6), variable(3, 6)
        rows = x.reshape(-1, 6)
        for training in [True, False]:
            mean, variance = formula(5, 6).double(), formula(6, 6).double() + 1.5
            y = F.batch_norm(rows, mean, variance, scale, shift, training, 1.0, 1e-3).reshape(x.shape)
            y = f(y if residual is None else y + residual)
            case = f"norm_{name}{'' if residual is None else '_residual'}"
            if training:
                record(case, y, input=x, scale=scale, shift=shift, **({} if residual is None else {"residual": residual}))
                golden[f"{case}/mean"], golden[f"{case}/unbiased_variance"] = mean, variance
            else:
                golden[f"{case}/evaluated"] = y

x = variable(1, 2, 7, 6, 5)
record("max_pool", pool(x, F.max_pool2d, 2), images=x)
x = variable(1, 2, 7, 6, 5)
record("global_max_pool", x.amax((1, 2)), images=x)
x = variable(1, 2, 7, 6, 5)
record("global_average_pool", x.mean((1, 2)), images=x)

x, weight, bias = variable(1, 7, 13), variable(2, 13, 10), variable(3, 10)
record("linear", x @ weight + bias, input=x, weight=weight, bias=bias)

x = variable(1, 6, 10)
loss = F.cross_entropy(4 * x, torch.tensor([0, 9, 3, 3, 5, 1]), label_smoothing=0.2)
loss.backward()
golden["cross_entropy/output"], golden["cross_entropy/logits"] = loss, x.grad / 4


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name in sorted(tensors):
        values = tensors[name].detach().float().contiguous().numpy()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.astype("<f4").tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


write_safetensors(FOLDER / "ops.safetensors", golden)


# --- trajectories ----------------------------------------------------------------------------------------------------

CLASSES, SIZE, BATCH = 5, 17, 12


class Parameters:
    """Provides parameters in the order in which the crate's networks add theirs."""

    def __init__(self, dtype):
        self.dtype, self.tensors = dtype, []

    def add(self, bound, offset, *shape):
        values = formula(100 + len(self.tensors), *shape) * numpy.float32(bound) + numpy.float32(offset)
        self.tensors.append(values.to(self.dtype).requires_grad_())
        return self.tensors[-1]

    def weight(self, *shape):
        return self.add((6 / numpy.prod(shape[:-1])) ** 0.5, 0, *shape)

    def norm(self, channels, epsilon=1e-5, scale=True):
        scale = self.add(0.25, 1, channels) if scale else None
        shift = self.add(0.25, 0, channels)
        return lambda x: F.batch_norm(x.reshape(-1, channels), None, None, scale, shift, True, 0, epsilon).reshape(x.shape)


def conv_norm(p, inputs, outputs, kernel=3, stride=1, norm={}, pooled=False):
    weight, norm = p.weight(kernel, kernel, inputs, outputs), p.norm(outputs, **norm)

    def forward(x):
        x = conv(x, weight, stride, kernel // 2)
        return norm(pool(x, F.max_pool2d, 2) if pooled else x)

    return forward


def simple_cnn(p):
    widths = [3, 4, 6, 8]
    blocks = [(conv_norm(p, i, o), conv_norm(p, o, o)) for i, o in zip(widths, widths[1:])]
    dense, norm = p.weight(2 * 2 * 8, 16), p.norm(16)
    head, bias = p.weight(16, CLASSES), p.add(0.25, 0, CLASSES)

    def forward(x):
        for first, second in blocks:
            x = pool(F.relu(second(F.relu(first(x)))), F.max_pool2d, 2)
        return F.relu(norm(x.flatten(1) @ dense)) @ head + bias

    return forward


def airbench(p, convolutions, residual):
    widths = [24, 32, 48, 48]
    norm = {"epsilon": 1e-12, "scale": False}
    whitening, bias = formula(99, 2, 2, 3, 24).to(p.dtype), p.add(0.25, 0, 24)
    groups = [
        [conv_norm(p, i if k == 0 else o, o, norm=norm, pooled=k == 0) for k in range(convolutions)]
        for i, o in zip(widths, widths[1:])
    ]
    head = p.weight(48, CLASSES)

    def forward(x):
        x = F.gelu(conv(x, whitening, 1, 0) + bias)
        for first, *middle, last in groups:
            x0 = x = F.gelu(first(x))
            for layer in middle:
                x = F.gelu(layer(x))
            x = F.gelu(last(x) + x0 if residual else last(x))
        return x.amax((1, 2)) @ head / 48

    return forward


def resnet18(p):
    widths, strides = [16, 18, 24, 32], [1, 2, 2, 2]
    stem, inputs, blocks = conv_norm(p, 3, widths[0]), widths[0], []
    for outputs, stride in zip(widths, strides):
        for stride in [stride, 1]:
            block = [conv_norm(p, inputs, outputs, 3, stride), conv_norm(p, outputs, outputs)]
            block.append(conv_norm(p, inputs, outputs, 1, stride) if (inputs, stride) != (outputs, 1) else lambda x: x)
            blocks.append(block)
            inputs = outputs
    head, bias = p.weight(inputs, CLASSES), p.add(0.25, 0, CLASSES)

    def forward(x):
        x = F.relu(stem(x))
        for first, second, shortcut in blocks:
            x = F.relu(second(F.relu(first(x))) + shortcut(x))
        return x.mean((1, 2)) @ head + bias

    return forward


def trajectory(network, rate, dtype):
    p = Parameters(dtype)
    forward = network(p)
    optimiser = torch.optim.SGD(p.tensors, rate, momentum=0.9, nesterov=True)
    images = formula(1000, BATCH, SIZE, SIZE, 3).to(dtype)
    labels = torch.tensor([image * image % CLASSES for image in range(BATCH)])
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        loss = F.cross_entropy(forward(images), labels, label_smoothing=0.1)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


NETWORKS = {
    "simple_cnn": (simple_cnn, 0.01),
    "airbench94": (lambda p: airbench(p, 2, False), 1),
    "airbench96": (lambda p: airbench(p, 3, True), 1),
    "resnet18": (resnet18, 0.01),
}
trajectories = {
    name: {
        "rate": rate,
        "f64": trajectory(network, rate, torch.float64),
        "f32": trajectory(network, rate, torch.float32),
    }
    for name, (network, rate) in NETWORKS.items()
}
(FOLDER / "trajectories.json").write_text(json.dumps(trajectories, indent=1) + "\n")
