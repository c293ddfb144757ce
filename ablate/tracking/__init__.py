"""Trackers beside a run: W&B, TensorBoard and MLflow.

A run never imports a tracker, never waits for one and never sees its errors. For each tracker that is asked for it starts
one process, `follow`, which reads what the run leaves on disk (`tail`), makes rows of it (`rows`, under the names in
`names`) and hands them to the tracker. A tracker is one module, `to_wandb`, `to_tensorboard` or `to_mlflow`, with the
interface in `trackers`; what a study found goes the same way (`contrasts`), and `sync` sends what is finished.
"""

from ablate.tracking.follower import LOG as LOG
from ablate.tracking.follower import Follower as Follower
from ablate.tracking.follower import logged_in as logged_in
from ablate.tracking.follower import notice as notice
from ablate.tracking.follower import start as start
from ablate.tracking.follower import start_study as start_study
from ablate.tracking.follower import wandb_mode as wandb_mode
