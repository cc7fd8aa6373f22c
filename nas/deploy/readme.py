"""The README of a deployment: what lies there, its numbers, and a script that runs it without this package."""

from __future__ import annotations

import re

from nas.artifact import InputSpec
from nas.deploy.deployment import DEPLOYMENT_FILE, Deployment, image_mode
from nas.deploy.further import OPENVINO, PROGRAM
from nas.deploy.snippet import packages, remark, snippet
from nas.gains import gain_words
from nas.outcome import How, Quantity
from nas.target import Place
from nas.wording import (
    LABEL_WORDS,
    UNCOMPRESSED,
    choice_words,
    display,
    frames_per_second,
    interval,
    plain_name,
    significant,
    target_words,
)

OPENED = {
    OPENVINO: '`openvino.compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})` opens it (without the '
    "hint OpenVINO may compute in fewer bits)",
    PROGRAM: '`torch.export.load("model.pt2").module()` opens it',
}


def readme(deployment: Deployment) -> str:
    """The README, in Markdown."""
    mode = image_mode(deployment.input)
    what, file = "IMAGE" if mode else "ARRAY.npy", deployment.serving.model_file
    return f"""\
# {escape(deployment.study)}, trial {deployment.trial}

`{file}` classifies {_takes(deployment.input)}
into {len(deployment.class_names)} classes. It takes the data as it is, with normalisation inside, and gives class
probabilities. Accuracy, latency and size below are those of this very file. `{DEPLOYMENT_FILE}` holds all of this for
programs.

- Design: {escape(deployment.design_words)}
- Why this one: {escape(deployment.chosen.why)}
{_gains(deployment)}\
- Serve it with {_serving(deployment)}.
- SHA-256 of `{file}`: `{deployment.sha256}`

| what | value (95 % interval) | how |
|---|---|---|
{_table(deployment)}

{_compression(deployment)}
{_further(deployment)}\
## Use it

`pip install {packages(deployment)}`, save this as `classify.py` in this folder,
and run `python classify.py {what}` there.

```python
{snippet(deployment)}```

{_preparation(deployment.input, mode)}
{_paragraph(remark(deployment))}"""


def escape(text: str) -> str:
    """Text from outside on one line, with nothing in it that Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*_|\[\]<>&#])", r"\\\1", " ".join(text.split()))


def _takes(input: InputSpec) -> str:
    shape = "×".join(str(size) for size in input.shape)
    axes = "height × width × channels" if input.layout == "NHWC" else "channels × height × width"
    kind = "images" if input.dtype == "uint8" else "arrays"
    return f"{kind} ({input.dtype}, {shape}, {axes}, batch first)"


def _serving(deployment: Deployment) -> str:
    """``OpenVINO (2026.4.1 when measured): CPU, 2 threads, batch 1``, and whether others were slower."""
    serving = deployment.serving
    title, _, rest = serving.words.partition(", ")
    place = ", where it was the fastest that was tried" if serving.place is not None else ""
    return f"{title} ({serving.runtime_version} when measured): {rest}{place}"


def _paragraph(text: str) -> str:
    return f"\n{text}\n" if text else ""


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
    """This file's own numbers, those on the target that serves it first.

    Those of the network that it was pruned from are no part of it, nor are a place's, which are one of its targets',
    nor estimates, of which the clock says more.
    """
    rows, target = [], deployment.serving.target
    own = [
        quantity
        for quantity in deployment.quantities
        if not quantity.name.startswith(UNCOMPRESSED)
        and not _is_at_place(quantity)
        and quantity.how is not How.ESTIMATED
    ]
    own.sort(key=lambda quantity: quantity.target not in (None, target))
    several = len({quantity.target for quantity in own if quantity.name == "latency_ms"}) > 1
    for quantity in (*deployment.test_scores, *own):
        mark = ", as it is served" if several and quantity.target == target else ""
        where = f" ({target_words(quantity.target)}{mark})" if quantity.target else ""
        rows.append(f"| {plain_name(quantity.key)}{where} | {interval(quantity)} | {_how(quantity)} |")
    return "\n".join(rows)


def _is_at_place(quantity: Quantity) -> bool:
    return quantity.target is not None and Place.parse(quantity.target) is not None


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


def _further(deployment: Deployment) -> str:
    """The further forms, and how each is opened; empty without any."""
    if not deployment.further:
        return ""
    lines = [
        f"- {item.words}. {OPENED[item.form]}; made and checked with {escape(item.maker)}."
        for item in deployment.further
    ]
    note = f"All numbers above are of `{deployment.serving.model_file}`."
    return "\n".join(["## The same network in further forms", "", *lines, "", note, "", ""])


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
