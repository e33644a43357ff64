"""Running cells: worker processes on this machine, jobs of a cluster, W&B agents."""
