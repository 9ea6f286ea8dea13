"""How good is a face model? Numbers that anybody can recompute, and a sheet of samples to look at.

OpenCV's frontal-face cascade looks for a face in samples, in held-out photos and, as a control, in photos
cut into shuffled tiles; a Fréchet distance compares OpenCV's HOG descriptors with those of held-out photos.

    python training/evaluate_faces.py --data faces64.zip --model latentjac/models/builtin/faces
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import cv2
import numpy as np
import torch
from data import load_faces
from PIL import Image

import latentjac
from latentjac.report import write_json, write_png
from latentjac.report.files import write_bytes

CASCADE = "haarcascade_frontalface_default.xml"


def detected(images: np.ndarray) -> float:
    """Share of RGB images ``[N, S, S, 3]`` in which the cascade finds at least one face."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + CASCADE)
    found = 0
    for image in images:
        grey = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        large = cv2.resize(grey, (160, 160), interpolation=cv2.INTER_CUBIC)
        # The photos are cropped tightly, and the cascade wants room around a face.
        padded = cv2.copyMakeBorder(large, 40, 40, 40, 40, cv2.BORDER_REPLICATE)
        found += len(cascade.detectMultiScale(padded, 1.05, 3, minSize=(90, 90))) > 0
    return found / len(images)


def hog_features(images: np.ndarray) -> np.ndarray:
    """HOG descriptors ``[N, D]`` of RGB images."""
    hog = cv2.HOGDescriptor((64, 64), (32, 32), (16, 16), (16, 16), 9)
    return np.stack([hog.compute(cv2.resize(image, (64, 64))).ravel() for image in images]).astype(np.float64)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two Gaussians fitted to features ``[N, D]`` (Heusel et al. 2017)."""
    difference = a.mean(0) - b.mean(0)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values = np.linalg.eigvals(first @ second)
    root = np.sqrt(np.clip(values.real, 0, None)).sum()
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * root)


def shuffled_tiles(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images cut into 4 x 4 tiles in random order: the same textures without a face."""
    n, size = len(images), images.shape[1] // 4
    tiles = images.reshape(n, 4, size, 4, size, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, 16, size, size, 3)
    mixed = np.stack([t[rng.permutation(16)] for t in tiles])
    return mixed.reshape(n, 4, 4, size, size, 3).transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)


def draw_samples(model: latentjac.Model, n: int, steps: int, seed: int) -> np.ndarray:
    """RGB samples ``[n, S, S, 3]``."""
    generator = torch.Generator().manual_seed(seed)
    images = latentjac.sample(
        model, num_images=n, num_inference_steps=steps, generator=generator, output_type="np", progress=True
    )
    return (images * 255).round().astype(np.uint8)


def sheet(images: np.ndarray, columns: int) -> Image.Image:
    """The first images as one picture, without any choice among them."""
    rows = len(images) // columns
    grid = images[: rows * columns].reshape(rows, columns, *images.shape[1:])
    return Image.fromarray(grid.transpose(0, 2, 1, 3, 4).reshape(rows * images.shape[1], -1, 3))


def evaluate(model: latentjac.Model, samples: np.ndarray, real: np.ndarray, fitted: np.ndarray) -> dict[str, object]:
    """All numbers of the model card."""
    rng = np.random.default_rng(0)
    half = len(real) // 2
    return {
        "samples": len(samples),
        "detector": f"OpenCV {cv2.__version__}, {CASCADE}",
        "face_found_in_samples": round(detected(samples), 4),
        "face_found_in_held_out_photos": round(detected(real), 4),
        "face_found_in_shuffled_photos": round(detected(shuffled_tiles(real, rng)), 4),
        "hog_frechet_samples": round(frechet_distance(hog_features(samples), hog_features(real)), 4),
        "hog_frechet_training_photos": round(
            frechet_distance(hog_features(fitted[: len(samples)]), hog_features(real)), 4
        ),
        "hog_frechet_shuffled_photos": round(
            frechet_distance(hog_features(shuffled_tiles(real, rng)), hog_features(real)), 4
        ),
        "hog_frechet_two_halves_of_the_photos": round(
            frechet_distance(hog_features(real[:half]), hog_features(real[half:])), 4
        ),
        "model_identity": model.identity(),
    }


def fill_card(card: Path, quality: dict[str, object], training: dict[str, object]) -> None:
    """Put the numbers between the markers of the model card."""
    lines = [
        "| | samples | held-out photos | shuffled photos |",
        "| --- | --- | --- | --- |",
        f"| face found by the detector | {quality['face_found_in_samples']:.1%} "
        f"| {quality['face_found_in_held_out_photos']:.1%} | {quality['face_found_in_shuffled_photos']:.1%} |",
        f"| Fréchet distance of HOG descriptors to held-out photos | {quality['hog_frechet_samples']:.2f} "
        f"| {quality['hog_frechet_training_photos']:.2f} (training photos) "
        f"| {quality['hog_frechet_shuffled_photos']:.2f} |",
        "",
        f"{quality['samples']} samples, 50 DDIM steps, {quality['detector']}; "
        f"trained on {training['images_seen']:,} images.",
    ]
    block = "<!-- quality -->\n" + "\n".join(lines) + "\n<!-- /quality -->"
    text = card.read_text()
    write_bytes(card, re.sub(r"<!-- quality -->.*<!-- /quality -->", lambda _: block, text, flags=re.DOTALL).encode())


def main() -> None:
    """Sample, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="zip of square JPEG faces")
    parser.add_argument("--model", type=Path, required=True, help="pipeline folder; its card gets the numbers")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="write a sheet of the first 40 samples here")
    args = parser.parse_args()

    model = latentjac.load(args.model)
    size = model.codec.size
    real, fitted = (load_faces(args.data, split, size).permute(0, 2, 3, 1).numpy() for split in ("held-out", "train"))
    samples = draw_samples(model, args.samples, args.steps, args.seed)
    quality = evaluate(model, samples, real, fitted)
    print(json.dumps(quality, indent=2))
    write_json(args.model / "quality.json", quality)
    training = json.loads((args.model / "training.json").read_text())
    if (args.model / "README.md").exists():
        fill_card(args.model / "README.md", quality, training)
    if args.sheet:
        write_png(args.sheet, sheet(samples[:40], 10))


if __name__ == "__main__":
    main()
