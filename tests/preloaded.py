"""What a stage imports, imported once for all that are forked (tests/forked.py). It computes nothing: each of them pins
its own numerics."""

# ruff: noqa: E402, F401 - in the order of a stage
from upaya.startup import start

start()
import alembic.command
import matplotlib.backends.backend_agg
import matplotlib.figure
import mlflow
import mlflow.store.tracking.sqlalchemy_store
import plotly.graph_objects
import transformers.models.llama.modeling_llama

import tasks.arm
import tasks.compare
import tasks.comparison_page
import tasks.convert
import tasks.evaluate
import tasks.grpo
import tasks.page
import tasks.pretrain
import tasks.probe
import tasks.warmup
