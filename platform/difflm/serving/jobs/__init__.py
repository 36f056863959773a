"""Jobs of the endpoint: requests for more rows than one answer holds, and how long their rows are kept."""

from difflm.serving.jobs.folder import JobSpec
from difflm.serving.jobs.jobs import Jobs

__all__ = ["JobSpec", "Jobs"]
