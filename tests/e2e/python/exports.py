"""Runs exported ONNX files and compares their logits with those of the program.

tests/e2e/tests/export.rs writes the folder that is the only argument.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

FOLDER = Path(sys.argv[1])
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1


def logits_of(name: str, kind: str) -> np.ndarray:
    logits = np.fromfile(FOLDER / f"{name}.{kind}.logits", np.float32)
    return logits.reshape(-1, len(EXPECTED["classes"]))


def compare(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape, (name, found.shape, expected.shape)
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    # Rounding: other runtimes add up in another order, and cifar-kernels uses Winograd's method.
    assert worst < 1e-4, f"{name}: {worst}"
    assert (found.argmax(1) == expected.argmax(1)).all(), name


def main() -> None:
    images = np.fromfile(FOLDER / "images.bytes", np.uint8).reshape(EXPECTED["shape"])
    floats = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    for name in EXPECTED["networks"]:
        plain, augmented = logits_of(name, "plain"), logits_of(name, "mirror_shift")
        # The augmented copies matter, or a graph without them would pass.
        assert np.abs(plain - augmented).max() > 1e-2 * np.abs(plain).max(), name
        for file, inputs, expected in [
            ("uint8", images, plain),
            ("float", floats, plain),
            ("mirror_shift", images, augmented),
        ]:
            path = FOLDER / f"{name}.{file}.onnx"
            session = onnxruntime.InferenceSession(path, OPTIONS, providers=["CPUExecutionProvider"])
            run = lambda batch: session.run(["logits"], {"images": batch})[0]
            compare(path.name, run(inputs), expected)
            compare(path.name, run(inputs[:1]), expected[:1])
            facts = session.get_modelmeta().custom_metadata_map
            assert json.loads(facts["classes"]) == EXPECTED["classes"], facts
            assert facts["architecture"] == name and facts["seed"] == "42", facts
            assert facts["numeric_target"] and len(facts["training_fingerprint"]) >= 32, facts
            assert (session.get_inputs()[0].shape[0], session.get_outputs()[0].shape[0]) == ("batch", "batch")


main()
