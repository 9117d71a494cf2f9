"""The maintenance job: refresh in SQL, train a new model version when it is time, and publish it."""

from recdb.job.maintenance import Outcome, run
from recdb.job.versions import activate

__all__ = ["Outcome", "activate", "run"]
