"""Reads images with an exported ONNX file, without TensorFlow: python onnx_reader.py model.onnx IMAGE..."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def prepare(image, canvas_width, channels, background):
    """Scales a PIL image to height 32: float32 [32, width, channels] in [-1, 1)."""
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        raise ValueError("more than 8 bits a channel; convert the image")
    width = min(max((64 * image.width + image.height) // (2 * image.height), 1), canvas_width)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB").convert("RGBA")
    *colors, alpha = np.asarray(image, np.float32).transpose(2, 0, 1)
    colors = [alpha / 255 * own + (1 - alpha / 255) * int(background[k:k + 2], 16)
              for own, k in zip(colors, (1, 3, 5))]
    if channels == 1:
        colors = [0.299 * colors[0] + 0.587 * colors[1] + 0.114 * colors[2]]
    # As floats: Pillow rounds bytes between its two passes, the training did not.
    scaled = [np.asarray(Image.fromarray(own).resize((width, 32), Image.Resampling.BICUBIC)) for own in colors]
    return (np.clip(np.stack(scaled, 2), 0, 255) - 128) / 128


class Reader:
    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.about = json.loads(self.session.get_modelmeta().custom_metadata_map["aocr"])

    def __call__(self, image):
        """Reads a PIL image: (text, probability)."""
        sizes, model = self.about["preprocessing"], self.about["model"]
        pixels = prepare(image, sizes["canvas_width"], sizes["channels"], model["background"])
        first, second = self.session.run(None, {"pixels": pixels[np.newaxis], "widths": [pixels.shape[1]]})
        if self.about["decoding"]["method"] == "ctc":
            places, log_probability = best_by_ctc(first[0])  # lengths, in second, matter in a batch only
            places, probability = places[:model["max_prediction"]], np.exp(min(log_probability, 0))
        else:
            places, probability = [k - 3 for k in first[0] if k >= 3], np.prod(second[0], dtype=float)
        probability **= 1 / self.about.get("temperature", 1)  # of calibration
        return "".join(self.about["charset"][k] for k in places), probability


def best_by_ctc(steps, beam=8):
    """Searches the likeliest text in log probabilities [S, K], as TensorFlow does: (its classes, log probability).

    `found` maps a text to the log probabilities of its alignments, (those that end in blank, in its last character).
    """
    found = {(): (0.0, -np.inf)}
    for step in steps - steps.max(1, keepdims=True):
        before, totals = found, {text: np.logaddexp(*ends) for text, ends in found.items()}

        def grown(text, before=before, totals=totals, step=step):  # from the text without its last character
            if not text or text[:-1] not in before:
                return -np.inf
            return (before[text[:-1]][0] if text[-2:-1] == text[-1:] else totals[text[:-1]]) + step[text[-1]]

        found = {text: (totals[text] + step[-1], np.logaddexp(last + step[text[-1]], grown(text)) if text else -np.inf)
                 for text, (_, last) in before.items()}
        scores = {text: np.logaddexp(*ends) for text, ends in found.items()}
        likely = sorted({*np.argsort(step[:-1])[-beam - 1:].tolist(), *(text[-1] for text in before if text)})
        for text in sorted(before, key=totals.get, reverse=True):
            for new in ((*text, k) for k in likely):
                if new in scores or totals[text] == -np.inf:
                    continue
                score = grown(new)
                if len(scores) < beam or score > min(scores.values()):
                    if len(scores) == beam:
                        worst = min(scores, key=scores.get)
                        del scores[worst], found[worst]
                    scores[new], found[new] = score, (-np.inf, score)
                elif new in totals:  # TensorFlow forgets a text that has just left the beam; nothing grows from it
                    totals[new], before[new] = -np.inf, (-np.inf, -np.inf)
    best = max(scores, key=scores.get)
    return best, scores[best] + steps.max(1).sum()


if __name__ == "__main__":
    read = Reader(sys.argv[1])
    for path in sys.argv[2:]:
        with Image.open(path) as image:
            print(path, *read(image), sep="\t")
