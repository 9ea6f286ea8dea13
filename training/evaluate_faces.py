"""How good is a face model? Numbers that anybody can recompute, and a sheet of samples to look at.

OpenCV's frontal-face cascade looks for a face in samples, in held-out photos and, as a control, in photos
cut into shuffled tiles; a Fréchet distance compares OpenCV's HOG descriptors with those of held-out photos.

    python training/evaluate_faces.py --data faces64.zip --model latentjac/models/builtin/faces
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from data import load_faces
from measures import draw_samples, fill_card, frechet_distance, sheet, shuffled_tiles

import latentjac
from latentjac.files import read_json
from latentjac.report import write_json, write_png
from latentjac.strict_json import to_json

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


def card_lines(quality: dict[str, object], training: dict[str, object]) -> list[str]:
    """The table of the model card."""
    return [
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
    size = model.codec.size[0]
    real, fitted = (load_faces(args.data, split, size).permute(0, 2, 3, 1).numpy() for split in ("held-out", "train"))
    samples = draw_samples(model, args.samples, args.steps, args.seed)
    quality = evaluate(model, samples, real, fitted)
    print(to_json(quality, indent=2))
    write_json(args.model / "quality.json", quality)
    training = read_json("evaluate_faces", args.model / "training.json")
    if (args.model / "README.md").exists():
        fill_card(args.model / "README.md", card_lines(quality, training))
    if args.sheet:
        write_png(args.sheet, sheet(samples[:40], 10))


if __name__ == "__main__":
    main()
