"""Choosing a network of a study's front, and writing it as a folder that serves without this package.

Nothing here needs torch; importing it imports neither ONNX Runtime nor Pillow.
"""

from nas.deploy.choose import Choice, Limits, choose
from nas.deploy.deployment import Deployment, load_deployment
from nas.deploy.place import check_output
from nas.deploy.predict import Prediction, predict
from nas.deploy.render import render_choice
from nas.deploy.verify import Verification, scores_on_test, verify_deployment
from nas.deploy.write import Deployed, deploy, write_deployment

__all__ = [
    "Choice",
    "Deployed",
    "Deployment",
    "Limits",
    "Prediction",
    "Verification",
    "check_output",
    "choose",
    "deploy",
    "load_deployment",
    "predict",
    "render_choice",
    "scores_on_test",
    "verify_deployment",
    "write_deployment",
]
