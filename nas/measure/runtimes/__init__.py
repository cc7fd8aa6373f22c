"""The runtimes that serve models, one file each, behind the interface of ``nas.measure.runtimes.base``.

A runtime is loaded in the process that measures (``nas.measure.server``) and nowhere else, so that none disturbs
another, and none needs a package that only another one uses. Those whose names end in ``_torch`` need torch; the others
do not.
"""
