# %% [markdown]
# # A network for the digits, searched and used from Python
#
# The budget here is so small that it ends within seconds; a real one takes minutes. Import `nas` before torch.

# %%
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import nas

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Search
#
# A recipe is a file, `nas.search("studies/digits.yaml")`, or what would stand in one. Run again, the cell goes on where
# it was.

# %%
recipe = {
    "data": {"source": "digits", "train_limit": 200, "validation_limit": 100},
    "space": "mlp",
    "budget": {"trials": 3, "epochs": 1, "finetune_epochs": 1},
    "training": {"threads": 1, "precision": "float32"},
}
study = nas.search(recipe, folder / "digits")
study.ended

# %% [markdown]
# ## Look
#
# The front: trials that no other is better than in everything.

# %%
study

# %%
[(trial.number, trial.value("accuracy"), trial.value("latency_ms@onnxruntime-cpu-1t-b1")) for trial in study.front()]

# %%
study.rows()[0]["words"]

# %% [markdown]
# ## Choose and deploy
#
# The fastest that is accurate enough; `max_latency_ms=…` instead gives the most accurate that is fast enough.

# %%
picked = study.pick(min_accuracy=0.01)
print(picked.why)
deployment = picked.deploy(folder / "deploy")
deployment

# %% [markdown]
# ## Use
#
# The model takes the data as it is: here images of 8×8 numbers of 8 bits, which run from 0 to 16.

# %%
images = load_digits().images.astype(np.uint8)
predictions = deployment.predict(images[:5])
predictions.labels

# %% [markdown]
# Another day, in another process:

# %%
again = nas.load(folder / "deploy").predict(images[:5])
assert again.labels == predictions.labels
assert [trial.number for trial in nas.open(folder / "digits").front()] == [trial.number for trial in study.front()]
