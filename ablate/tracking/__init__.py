"""Trackers: W&B, TensorBoard and MLflow.

A run never imports a tracker, never waits for one and never sees its errors. `start` starts a process for each tracker of a
run (`follower`), which reads the run's record from disk, turns it into rows (`rows`) and sends them.
A tracker is one module with the interface in `backends`. `start_study` sends the conclusions of a study (`describe`), and
`sync` sends finished runs.
"""

from ablate.tracking.backends import notice as notice
from ablate.tracking.follower import LOG as LOG
from ablate.tracking.follower import Follower as Follower
from ablate.tracking.follower import start as start
from ablate.tracking.follower import start_study as start_study
