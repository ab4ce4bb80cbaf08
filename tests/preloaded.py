"""What a stage imports, imported once for all that are forked (tests/forked.py). It computes nothing: each of them pins
its own numerics."""

# ruff: noqa: E402, F401 - in the order of a stage
from upaya.startup import start

start()
import mlflow
import mlflow.store.tracking.sqlalchemy_store

import tasks.evaluate
import tasks.grpo
import tasks.pretrain
import tasks.warmup
