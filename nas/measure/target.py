from nas.target import Target, usable_cores  # noqa: F401
