"""Loads exported PyTorch networks by their load.py and compares their logits with the program's.

tests/e2e/tests/export.rs writes the folder that is the only argument.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(sys.argv[1])
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))

images = np.fromfile(FOLDER / "images.bytes", np.uint8).reshape(EXPECTED["shape"])
images = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
for name in EXPECTED["networks"]:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.pytorch" / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
        found = module.load()(images).numpy()
    expected = np.fromfile(FOLDER / f"{name}.plain.logits", np.float32).reshape(found.shape)
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    assert worst < 1e-4 and (found.argmax(1) == expected.argmax(1)).all(), f"{name}: {worst}"
    assert module.CLASSES == EXPECTED["classes"], name
