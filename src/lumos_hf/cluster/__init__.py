# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Work on many machines by Ray, of the extra `cluster`; imported by the commands that are given `--ray`."""

from .ray_actors import RayCluster
from .shared_work import make_samples_on_ray, write_shards_on_ray


__all__ = ["RayCluster", "make_samples_on_ray", "write_shards_on_ray"]
