"""A collection of several indexes: shards that share one codec, and one manifest that names a generation of each.

A cluster is a folder:

```
codec/                  an index without documents: its codec is every shard's, and its lock is the cluster's
shards/0000/ ...        ordinary indexes, which this package alone may change
cluster-0000000007.json the newest manifest: generation, routing, and each shard's folder, generation and checksum
```

An id belongs to the shard whose range of slots holds the id's slot (`routing.py`). Readers open every shard at the
generation that one manifest names, so that a commit becomes visible in all shards at once. Each shard keeps the
generation before its newest: the one that the newest manifest names is always there.

Every document has a place in one order of the whole cluster (`order.py`): the number under the key `ORDER` of its
stored metadata, which readers use to break ties as a single index does, and then take away.
"""

from latewood.cluster.building import build
from latewood.cluster.creating import create
from latewood.cluster.growing import grow
from latewood.cluster.locked import recover
from latewood.cluster.manifest import ClusterManifest, Shard
from latewood.cluster.publishing import publish
from latewood.cluster.sharded import ShardedIndex
from latewood.cluster.writing import ClusterWriter

__all__ = [
    "ClusterManifest",
    "ClusterWriter",
    "Shard",
    "ShardedIndex",
    "build",
    "create",
    "grow",
    "publish",
    "recover",
]
