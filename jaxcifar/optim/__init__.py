"""Optimisers and learning-rate schedules, by name."""

from jaxcifar.optim.optimizers import adam, adamw, muon, sgd
from jaxcifar.optim.schedules import constant, cosine, linear, step_decay

OPTIMIZERS = {"adam": adam, "adamw": adamw, "sgd": sgd, "muon": muon}
"""`OPTIMIZERS[name](schedule, **options)`."""

SCHEDULES = {"cosine": cosine, "linear": linear, "step": step_decay, "constant": constant}
"""`SCHEDULES[name](peak, steps, **options)`, `steps` counted from the end of the warm-up."""
