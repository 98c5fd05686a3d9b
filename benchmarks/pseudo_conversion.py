"""A submission of many images at 2048 to a training folder, and whether every pixel came through.

    python -m benchmarks.pseudo_conversion [--images 288] [--sources 1]

Phantom radiographs and masks, a few of them again and again under other names; the masks' borders are roughened, and
they get holes and loose pieces, as networks leave them. Reading, converting and writing are timed together, with all
measures and the selection that `carpus pseudo` makes on the way; then every file is read back and compared with the run
lengths.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carpus import data, kernels
from carpus import labels as label_map
from carpus.formats import images, submission
from carpus.kernels import Runs
from carpus.labels import BONES
from carpus.phantom import exposure, skeleton
from carpus.phantom.hands import filled, within
from carpus.pseudo import make

SIZE, DIFFERENT = 2048, 8


def hand(seed: int) -> tuple[NDArray[np.uint8], list[Runs]]:
    """A radiograph, and the runs of its bones, whose masks have rough borders, holes and loose pieces."""
    rng = np.random.default_rng(seed)
    who = skeleton.patient(rng)
    bones = skeleton.pose(rng, who, wrist="straight", side="right", size=SIZE)
    image = exposure.image(bones, who, SIZE, rng.spawn(1)[0], side="right")
    labels = filled(tuple(within(outline, SIZE) for outline in bones.outlines), SIZE)
    for k, box in enumerate(label_map.boxes(labels, len(BONES))):
        assert box is not None
        rows, columns = box
        middle = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
        labels[middle[0] : middle[0] + 3, middle[1] : middle[1] + 3] = 0
        label_map.paint(labels, k, np.ones((2, 2), bool), rows.start, columns.start)
    shift = rng.integers(-1, 2, (SIZE, 1))
    return image, kernels.encode(np.take_along_axis(labels, (np.arange(SIZE)[None] + shift) % SIZE, axis=1), len(BONES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=288)
    parser.add_argument("--sources", type=int, default=1)
    options = parser.parse_args()
    kernels.rasterise(kernels.polygons(np.ones((4, 4), np.int32), 1), (4, 4))  # so that nothing is compiled when timed
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        hands = []
        for seed in range(DIFFERENT):
            image, runs = hand(seed)
            images.write(root / f"{seed}.png", image)
            hands.append(runs)
        names = [f"ID{n // 2:03}/image{n:04}.png" for n in range(options.images)]
        for n, name in enumerate(names):
            (root / "DCM" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "DCM" / name).hardlink_to(root / f"{n % DIFFERENT}.png")
        content = {submission.image_name(name): hands[n % DIFFERENT] for n, name in enumerate(names)}
        submission.write(root / "sub.csv", content.items(), BONES)
        began, busy = time.perf_counter(), time.process_time()
        make.make([root / "sub.csv"] * options.sources, root / "DCM", root / "pseudo")
        seconds, used = time.perf_counter() - began, time.process_time() - busy
        cases = data.read(root / "pseudo").train
        for case in cases:
            expected = kernels.decode(content[submission.image_name(f"{case.name}.png")], (SIZE, SIZE))
            assert np.array_equal(data.read_labels(case), expected), case.name
        print(
            f"{len(cases)} images at {SIZE}, {options.sources} submissions: {seconds:.1f} s, {used:.1f} s of processor "
            f"time ({used / 2:.1f} s on each of two cores); every pixel the same"
        )


if __name__ == "__main__":
    main()
