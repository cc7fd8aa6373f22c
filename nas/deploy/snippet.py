"""The script in a deployment's README: it reads a file, runs the model by the runtime that serves it, and prints.

It needs neither this package nor, but for torch programs, torch.
"""

from __future__ import annotations

from nas.artifact import INPUT_NAME, OUTPUT_NAME, InputSpec
from nas.deploy.deployment import DEPLOYMENT_FILE, Deployment, image_mode
from nas.deploy.serving import Serving

_IMAGE_OPENING = """\
import json, sys
import numpy, {module}
from PIL import Image

image = Image.open(sys.argv[1])
if image.mode.startswith(("I", "F")):
    sys.exit("convert the image to 8 bits for each value first")
"""

_ARRAY_OPENING = """\
import json, sys
import numpy, {module}

array = numpy.load(sys.argv[1], allow_pickle=False)
"""

_ENDING = """\
names = json.load(open("{description}", encoding="utf-8"))["output"]["class_names"]
for row in probabilities:
    print(names[row.argmax()], row.max())
"""

_ONNX_RUNTIME = """\
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
session = onnxruntime.InferenceSession("{file}", options, providers=["CPUExecutionProvider"])
probabilities = session.run(["{output}"], {{"{input}": batch}})[0]
"""

_ONNX_RUNTIME_GPU = """\
session = onnxruntime.InferenceSession("{file}", providers=[{providers}])
probabilities = session.run(["{output}"], {{"{input}": batch}})[0]
"""

_OPENVINO = """\
core = openvino.Core()
model = core.read_model("{file}")
model.reshape(list(batch.shape))
options = {{"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": {threads}}}
# Else OpenVINO would compute floats in fewer bits than the accuracy above was measured with.
options |= {{"INFERENCE_PRECISION_HINT": "{precision}", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}}
compiled = core.compile_model(model, "CPU", options)
probabilities = compiled(batch)[0]
"""

_LOAD_PROGRAM = """\
layout = {{"layout": ""}}
program = torch.export.load("{file}", extra_files=layout)
"""

_TORCH_NETWORK = """\
network = program.module()
if layout["layout"] == "channels_last":
    network.to(memory_format=torch.channels_last)
"""

_COMPILE = """\
torch._inductor.config.freezing = True
network = torch.compile(network, dynamic=False)
"""

_AUTOCAST = {"fp16": "torch.float16", "bf16": "torch.bfloat16"}

_MODULES = {"tensorrt": "onnxruntime", "inductor": "torch"}
_PACKAGES = {
    ("onnxruntime", "cuda"): "'onnxruntime-gpu[cuda,cudnn]'",
    ("tensorrt", "cuda"): "'onnxruntime-gpu[cuda,cudnn]' tensorrt",
    ("inductor", "cpu"): "torch",
    ("inductor", "cuda"): "torch",
}


def snippet(deployment: Deployment) -> str:
    """A script that classifies a file given on its command line, run in the deployment's folder.

    It reads an image pixel for pixel as ``nas.data.images.read_image``.
    """
    input, mode = deployment.input, image_mode(deployment.input)
    runtime = deployment.serving.runtime
    module = _MODULES.get(runtime, runtime)
    if mode is None:
        opening = _ARRAY_OPENING.format(module=module) + _array_line(input)
    else:
        opening = _IMAGE_OPENING.format(module=module) + _image_lines(input, mode)
    return opening + _running(deployment) + _ENDING.format(description=DEPLOYMENT_FILE)


def packages(deployment: Deployment) -> str:
    """What the script needs, as ``pip install`` takes it."""
    serving = deployment.serving
    runtime = _PACKAGES.get((serving.runtime, serving.device), serving.runtime)
    return " ".join(["numpy", *(["pillow"] if image_mode(deployment.input) else []), runtime])


def remark(deployment: Deployment) -> str:
    """What else there is to know of running it in that way, as a paragraph of Markdown; empty where nothing is."""
    serving = deployment.serving
    if serving.runs_here:
        return ""
    if serving.runtime in ("openvino", "onnxruntime", "tensorrt"):
        remarks = [
            f"`{serving.model_file}` is ONNX, which ONNX Runtime (`pip install onnxruntime`) runs on any CPU too; the "
            f"numbers above are {serving.as_target.kind.title}'s."
        ]
    else:
        remarks = [f"`{serving.model_file}` is a torch program: `torch.export.load` reads it, no other runtime does."]
    if serving.precision is not None and serving.form == "torch":
        remarks.append(
            "The script converts weights as it runs; what was measured had them converted once, which is faster."
        )
    if serving.device == "cuda":
        remarks.append("What was measured replays a CUDA graph, which saves launching every kernel.")
    return " ".join(remarks)


def _running(deployment: Deployment) -> str:
    """From ``batch`` to ``probabilities``."""
    serving = deployment.serving
    names = {"file": serving.model_file, "input": INPUT_NAME, "output": OUTPUT_NAME, "threads": serving.threads}
    if serving.runs_here:
        return _ONNX_RUNTIME.format(**names)
    if serving.runtime == "openvino":
        return _OPENVINO.format(**names, precision=serving.precision or "f32")
    if serving.runtime in ("onnxruntime", "tensorrt"):
        return _ONNX_RUNTIME_GPU.format(**names, providers=_providers(deployment))
    return _torch_lines(serving)


def _providers(deployment: Deployment) -> str:
    """ONNX Runtime's providers on a GPU, with TensorRT's options as they were measured."""
    if deployment.serving.runtime == "onnxruntime":
        return '"CUDAExecutionProvider"'
    is_half = deployment.serving.precision == "fp16"
    is_int8 = 8 in deployment.design.everywhere("activation_bits")
    return f'\n    ("TensorrtExecutionProvider", {{"trt_fp16_enable": {is_half}, "trt_int8_enable": {is_int8}}}),\n'


def _torch_lines(serving: Serving) -> str:
    on_gpu, lines = serving.device == "cuda", [_LOAD_PROGRAM.format(file=serving.model_file)]
    if on_gpu:
        lines = [
            "from torch.export.passes import move_to_device_pass\n",
            *lines,
            'program = move_to_device_pass(program, "cuda")\n',
        ]
    else:
        lines = [f"torch.set_num_threads({serving.threads})\n", *lines]
    lines.append(_TORCH_NETWORK)
    if serving.runtime == "inductor":
        lines.append(_COMPILE)
    contexts = ["torch.inference_mode()"]
    if serving.precision is not None:
        contexts.append(f'torch.autocast("{serving.device}", {_AUTOCAST[serving.precision]})')
    moved, back = (".cuda()", ".cpu()") if on_gpu else ("", "")
    lines += [
        f"with {', '.join(contexts)}:\n",
        f"    probabilities = network(torch.from_numpy(batch){moved}).float(){back}.numpy()\n",
    ]
    return "".join(lines)


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
