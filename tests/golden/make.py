"""Makes what the golden test predicts with: ``python tests/golden/make.py [--hashes]``, a minute on two quiet cores.

A network of 0.1 million weights learns phantoms of 128 pixels. Its weights are rounded to bfloat16, so that run.zip
stays small; its thresholds (calibration.json) lie where no pixel of the images is near, so that rounding on another
processor moves no label. With ``--hashes`` only expected.json is written anew, for outputs that are meant to change.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from pydicom import dcmread
from torch.nn import functional

from carpus import config, data, phantom, run, segment, train
from carpus.formats import files, images
from carpus.labels import BONES
from carpus.postprocess import Calibration, Step
from carpus.predict import Predictor

HERE = Path(__file__).parent
SIZE = 128
SETTINGS = [
    "model.encoder=tu-test_efficientnet",
    "model.decoder_channels=[16, 16, 8, 8, 8]",
    f"data.image_size={SIZE}",
    f"data.label_size={SIZE}",
    "data.folds=2",
    "train.steps=600",
    "train.batch_size=4",
    "train.precision=32",
    "train.validate_every=300",
]


def make() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "data", Path(folder) / "run"
        phantom.write(root, patients=8, test_patients=1, size=SIZE, seed=3)
        train.train(config.load(["demo"], SETTINGS), root, out)
        _shrink(out)
        with zipfile.ZipFile(HERE / "run.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
            for name in (run.CONFIG, run.WEIGHTS, run.METRICS, run.MANIFEST):
                zipped.writestr(zipfile.ZipInfo(name), (out / name).read_bytes(), zipfile.ZIP_DEFLATED, 9)
        shown = [images.read(case.image) for case in data.read(root).test]
        images.write(HERE / "images" / "square.png", shown[0])
        images.write(HERE / "images" / "oblong.png", shown[1][:, : SIZE * 3 // 4])
        _between().write(HERE / "calibration.json")


def _shrink(out: Path) -> None:
    """Round the weights, and forget on what machine and from what folder the run was made."""
    weights = safetensors.torch.load_file(out / run.WEIGHTS)
    rounded = {name: of.bfloat16().to(of.dtype) if of.is_floating_point() else of for name, of in weights.items()}
    safetensors.torch.save_file(rounded, out / run.WEIGHTS)
    manifest = json.loads((out / run.MANIFEST).read_text())
    manifest.pop("environment")
    manifest["data"].pop("path")
    manifest["files"] = {name: files.sha256(out / name) for name in manifest["files"]}
    (out / run.MANIFEST).write_text(json.dumps(manifest, indent=2))


def _between() -> Calibration:
    """For every class the threshold, from 0.3 to 0.7, that is farthest from any pixel's logit."""
    found = torch.cat([logits.flatten(1) for logits in upsampled()], dim=1).numpy()
    steps = {}
    for name, logits in zip(BONES, found, strict=True):
        least, most = -0.85, 0.85
        near = np.sort([least, *logits[(logits > least) & (logits < most)], most])
        gap = int(np.diff(near).argmax())
        cut = float(near[gap] + near[gap + 1]) / 2
        steps[name] = Step(threshold=round(1 / (1 + np.exp(-cut)), 4))
    return Calibration(steps, BONES)


def upsampled() -> list[torch.Tensor]:
    """(K, H, W) logits of every image, as they are cut."""
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor.of(opened(Path(folder)), "cpu")
        shown = [images.read(path) for path in sorted((HERE / "images").iterdir())]
        return [
            functional.interpolate(predictor.logits(image), (SIZE, SIZE), mode="bilinear")[0][
                :, : image.shape[0], : image.shape[1]
            ]
            for image in shown
        ]


def opened(folder: Path) -> run.Run:
    """The run, unpacked into `folder`."""
    with zipfile.ZipFile(HERE / "run.zip") as zipped:
        zipped.extractall(folder / "run")
    return run.read(folder / "run")


def outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of everything that is predicted.

    Of text the bytes; of PNGs the pixels, as their bytes depend on the version of zlib; of a DICOM segmentation the
    bits, names and codes, as the file has its date and the version.
    """
    trained = opened(folder)
    calibration = Calibration.read(HERE / "calibration.json", BONES)
    inputs = Path(shutil.copytree(HERE / "images", folder / "images"))
    found: dict[str, str] = {}

    def keep(name: str, content: bytes) -> None:
        found[name] = hashlib.sha256(content).hexdigest()

    for target, to in (
        ("sub.csv", None),
        ("labels", None),
        ("coco.json", None),
        ("masks", "masks"),
        ("seg", "dicomseg"),
    ):
        out = folder / "out" / target
        segment.segment([trained], inputs, out, device="cpu", calibration=calibration, target_format=to)
        for path in [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file()):
            name = path.relative_to(folder / "out").as_posix()
            if path.suffix == ".png":
                keep(name, images.read(path).tobytes())
            elif path.suffix == ".dcm":
                content = dcmread(path)
                keep(name, content.PixelData)
                told = [
                    f"{segment.SegmentLabel} {segment.SegmentedPropertyTypeCodeSequence[0].CodeValue} "
                    f"{segment.AnatomicRegionSequence[0].CodeValue}"
                    for segment in content.get("SegmentSequence", [])
                ]
                keep(f"{name} segments", "\n".join(told).encode())
            else:
                keep(name, path.read_bytes())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", action="store_true", help="only write expected.json anew")
    if not parser.parse_args().hashes:
        make()
    with tempfile.TemporaryDirectory() as folder:
        files.write_json(HERE / "expected.json", outputs(Path(folder)), indent=1)


if __name__ == "__main__":
    main()
