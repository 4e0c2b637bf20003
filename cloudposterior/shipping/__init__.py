"""How a model and the arguments of a call travel to a worker, and arrive there in working order.

What travels is a pickle: whoever can send one can run code. It goes from a cluster's own client
to the cluster's workers and nowhere else; cache files never hold one.
"""

from __future__ import annotations

from cloudposterior.shipping.packing import (
    pack_arguments,
    pack_model,
    unpack_arguments,
    unpack_model,
)

__all__ = ["pack_arguments", "pack_model", "unpack_arguments", "unpack_model"]
