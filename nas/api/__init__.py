"""The Python API: what the commands do, as a handful of calls, in scripts and notebooks alike.

    import nas

    study = nas.search("studies/digits.yaml")        # or nas.open("studies/digits"), of one that was searched before
    for trial in study.front():
        print(trial.number, trial.value("accuracy"))
    picked = study.pick(min_accuracy=0.97)
    print(picked.why)
    deployment = picked.deploy("deploy")             # or nas.load("deploy"), of one that was written before
    print(deployment.predict(images).labels)

What can go wrong raises a ``nas.errors.NasError``, whose text says what is wrong and how to mend it.
"""

from nas.api.calls import load, open, search
from nas.api.deployment import Deployment, Predictions
from nas.api.study import Picked, Study

__all__ = ["Deployment", "Picked", "Predictions", "Study", "load", "open", "search"]
