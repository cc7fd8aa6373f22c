"""A trial's network as a torch program, made again from the study's cache where the search did not make it."""

from __future__ import annotations

from nas.compress.program import unrealised
from nas.data.dataset import Dataset
from nas.errors import StudyError, UnsupportedError
from nas.lineage import start_of
from nas.measure.environment import has_fast_bfloat16, has_vnni
from nas.own_module import FAMILY as OWN_MODULE
from nas.pipeline import AnyTeacher, Pipeline, Teacher, normalisation_for, own_network
from nas.record import TrialRecord
from nas.space import load_space
from nas.stages import Trace
from nas.store import sha256_bytes
from nas.study import Study
from nas.target import TORCH_PROGRAM, usable_cores
from nas.teacher.given import load_teacher
from nas.train import numerics_for
from nas.wording import listing


def program_of(study: Study, record: TrialRecord, dataset: Dataset) -> bytes:
    """The trial's network as a ``.pt2`` file: the one of the search, or exported now.

    What the cache lost is trained again, and taken only if it comes out as the same network.

    Args:
        study: Whose trial.
        record: A measured trial.
        dataset: The study's data.

    Raises:
        UnsupportedError: The program would be another network, or torch cannot export it.
        StudyError: The data changed, or this machine makes another network of the design.
    """
    if left_out := unrealised(record.design):
        raise UnsupportedError(f"a torch program of trial {record.number} would be without {listing(list(left_out))}")
    if (kept := record.forms.get(TORCH_PROGRAM)) and (content := study.store.read_blob(kept)) is not None:
        return content
    pipeline, teacher = _pipeline(study, record, dataset)
    trace = Trace()
    product = pipeline.run(record.design, record.seed, teacher, trace, start_of(record, study.records, None))
    if sha256_bytes(product.artifact) != record.artifact_sha256:
        raise StudyError(
            f"the network of trial {record.number} is gone from the cache, and this machine makes another one",
            "leave out --also program, or search again with a torch target in the recipe",
        )
    return pipeline.in_form(TORCH_PROGRAM, product, record.design, record.seed, teacher, trace).content


def _pipeline(study: Study, record: TrialRecord, dataset: Dataset) -> tuple[Pipeline, AnyTeacher | None]:
    """What made the trial, and whom it learned from."""
    recipe = study.recipe
    own = own_network(load_space(recipe.space).module if record.design.family == OWN_MODULE else None, dataset)
    now = {"data": dataset.digest} | ({"module": own.digest} if own else {})
    for name, digest in study.folder.read_inputs().items():
        if now.get(name, digest) != digest:
            raise StudyError(f"the {name} of {study.folder.path} changed since the study began", "put it back")
    numerics = numerics_for(recipe.training, has_fast_bfloat16(), usable_cores())
    teacher: AnyTeacher | None = None
    if record.teacher_trial is not None:
        taught_by = study.record(record.teacher_trial)
        teacher = Teacher(taught_by.number, taught_by.design, start_of(taught_by, study.records, None))
    elif record.teacher is not None and recipe.teacher is not None:
        teacher = load_teacher(recipe.teacher, dataset, normalisation_for(own, dataset), numerics)
    pipeline = Pipeline(recipe, dataset, study.store, numerics, reduce_range=not has_vnni(), own=own)
    return pipeline, teacher
