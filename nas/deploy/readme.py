"""The README of a deployment: what lies there, its numbers, and a script that needs neither this package nor torch."""

from __future__ import annotations

import re

from nas.artifact import INPUT_NAME, OUTPUT_NAME, InputSpec
from nas.deploy.deployment import DEPLOYMENT_FILE, MODEL_FILE, Deployment, image_mode
from nas.gains import gain_words
from nas.outcome import Quantity
from nas.wording import (
    LABEL_WORDS,
    UNCOMPRESSED,
    choice_words,
    display,
    frames_per_second,
    interval,
    plain_name,
    plural,
    significant,
    target_words,
)

_IMAGE_OPENING = """\
import json, sys
import numpy, onnxruntime
from PIL import Image

image = Image.open(sys.argv[1])
if image.mode.startswith(("I", "F")):
    sys.exit("convert the image to 8 bits for each value first")
"""

_ARRAY_OPENING = """\
import json, sys
import numpy, onnxruntime

array = numpy.load(sys.argv[1], allow_pickle=False)
"""

_CLASSIFY = """\
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
session = onnxruntime.InferenceSession("{model}", options, providers=["CPUExecutionProvider"])
probabilities = session.run(["{output}"], {{"{input}": batch}})[0]
names = json.load(open("{description}", encoding="utf-8"))["output"]["class_names"]
for row in probabilities:
    print(names[row.argmax()], row.max())
"""


def snippet(deployment: Deployment) -> str:
    """A script that classifies a file given on its command line, run in the deployment's folder.

    It needs numpy, pillow and onnxruntime alone, and reads an image pixel for pixel as ``nas.data.images.read_image``.
    """
    input = deployment.input
    mode = image_mode(input)
    opening = _ARRAY_OPENING + _array_line(input) if mode is None else _IMAGE_OPENING + _image_lines(input, mode)
    return opening + _CLASSIFY.format(
        threads=deployment.serving.threads,
        model=MODEL_FILE,
        output=OUTPUT_NAME,
        input=INPUT_NAME,
        description=DEPLOYMENT_FILE,
    )


def _image_lines(input: InputSpec, mode: str) -> str:
    """Conversion, resizing and the axes that the model takes."""
    resize = ""
    if input.resize is not None:
        size = f"({input.resize.width}, {input.resize.height})"  # Pillow counts width first
        resize = f".resize({size}, Image.Resampling.{input.resize.filter.upper()})"
    axes = {
        ("L", "NHWC"): "[None, :, :, None]",
        ("L", "NCHW"): "[None, None]",
        ("RGB", "NHWC"): "[None]",
        ("RGB", "NCHW"): ".transpose(2, 0, 1)[None]",
    }[mode, input.layout]
    return f'image = image.convert("{mode}"){resize}\nbatch = numpy.array(image, dtype=numpy.uint8){axes}\n'


def _array_line(input: InputSpec) -> str:
    """One array becomes a batch of one."""
    cast = ".astype(numpy.float32)" if input.dtype == "float32" else ""
    return f"batch = (array[None] if array.ndim == 3 else array){cast}\n"


def readme(deployment: Deployment) -> str:
    """The README, in Markdown."""
    mode = image_mode(deployment.input)
    what, packages = ("IMAGE", "numpy pillow onnxruntime") if mode else ("ARRAY.npy", "numpy onnxruntime")
    serving = deployment.serving
    threads = plural(serving.threads, "thread")
    return f"""\
# {escape(deployment.study)}, trial {deployment.trial}

`{MODEL_FILE}` classifies {_takes(deployment.input)}
into {len(deployment.class_names)} classes. It takes the data as it is, with normalisation inside, and gives class
probabilities. Accuracy, latency and size below are those of this very file. `{DEPLOYMENT_FILE}` holds all of this for
programs.

- Design: {escape(deployment.design_words)}
- Why this one: {escape(deployment.chosen.why)}
{_gains(deployment)}\
- Serve it with {serving.runtime} ({serving.runtime_version} when measured) on {serving.device}, {threads}.
- SHA-256 of `{MODEL_FILE}`: `{deployment.sha256}`

| what | value (95 % interval) | how |
|---|---|---|
{_table(deployment)}

{_compression(deployment)}
## Use it

`pip install {packages}`, save this as `classify.py` in this folder, and run `python classify.py {what}` there.

```python
{snippet(deployment)}```

{_preparation(deployment.input, mode)}
"""


def escape(text: str) -> str:
    """Text from outside on one line, with nothing in it that Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*_|\[\]<>&#])", r"\\\1", " ".join(text.split()))


def _takes(input: InputSpec) -> str:
    shape = "×".join(str(size) for size in input.shape)
    axes = "height × width × channels" if input.layout == "NHWC" else "channels × height × width"
    kind = "images" if input.dtype == "uint8" else "arrays"
    return f"{kind} ({input.dtype}, {shape}, {axes}, batch first)"


def _gains(deployment: Deployment) -> str:
    """Lines on what it gains over the study's baseline, and over the network that it was pruned from."""
    lines = []
    if (baseline := deployment.baseline) is not None:
        lines.append(f"- Against trial {baseline.trial}: {escape(baseline.words)}")
    if gains := gain_words(deployment, deployment.serving.target):
        lines.append(
            f"- Pruning: {escape(gains)}, which is the float network that it was made from, timed in the same way"
        )
    return "".join(f"{line}\n" for line in lines)


def _table(deployment: Deployment) -> str:
    """This file's own numbers; those of the network that it was pruned from are no part of it."""
    rows = []
    own = (quantity for quantity in deployment.quantities if not quantity.name.startswith(UNCOMPRESSED))
    for quantity in (*deployment.test_scores, *own):
        where = f" ({target_words(quantity.target)})" if quantity.target else ""
        rows.append(f"| {plain_name(quantity.key)}{where} | {interval(quantity)} | {_how(quantity)} |")
    return "\n".join(rows)


def _how(quantity: Quantity) -> str:
    """How a number was had, and what belongs to a latency: ``measured, 95 % of calls within 0.03 ms, 41200 fps``."""
    parts = [str(quantity.how)]
    if quantity.name == "latency_ms" and quantity.target is not None:
        if "p95" in quantity.detail:
            parts.append(f"95 % of calls within {display(quantity.name, float(quantity.detail['p95']))}")
        parts.append(f"{significant(frames_per_second(quantity))} fps")
    if quantity.detail.get("unstable"):
        parts.append("unstable: the machine was disturbed")
    return ", ".join(parts)


def _compression(deployment: Deployment) -> str:
    """Whether the runtime realises each compression choice, and what else there is to know; empty without either."""
    lines = [f"- {escape(choice_words(name))}: {LABEL_WORDS[label]}" for name, label in deployment.labels.items()]
    lines += [f"- {escape(note)}" for note in deployment.notes]
    return "\n".join(["## Compression", "", *lines, ""]) if lines else ""


def _preparation(input: InputSpec, mode: str | None) -> str:
    if mode is None:
        return "A single array has no batch axis; a batch has it first. Values are taken as they are, without scaling."
    size = f"{input.channels_first[1]}×{input.channels_first[2]} (height × width)"
    if input.resize is None:
        return f"Images must be {size}; they are converted to Pillow's mode {mode}, and values are taken as they are."
    return (
        f"Images are converted to Pillow's mode {mode}, then resized to {size} with its {input.resize.filter} filter, "
        "as the training data was: another library's resizing gives other pixels."
    )
