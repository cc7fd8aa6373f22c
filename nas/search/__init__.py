"""The search: asks a sampler for designs, has them evaluated, keeps their records, tells the sampler."""
