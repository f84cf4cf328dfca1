"""A Ray cluster of two workers on this machine: prints its address, and ends when its standard input does."""

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    cluster = Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()
