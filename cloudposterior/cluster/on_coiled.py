"""A cluster in the cloud by Coiled, of the size that a model needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudposterior.cluster.sizing import ClusterOptions
from cloudposterior.errors import ClusterError

if TYPE_CHECKING:
    from distributed.deploy import Cluster

__all__ = ["coiled_cluster"]


def coiled_cluster(options: ClusterOptions, *, name: str | None = None, **kwargs: Any) -> Cluster:
    """Start a cluster on Coiled.

    Parameters
    ----------
    options : ClusterOptions
        The size, as `cluster_options` gives it.
    name : str, optional
        Name of the cluster; if one of that name runs, Coiled connects to it. None (the default)
        lets Coiled choose.
    **kwargs : Any
        Any other argument of `coiled.Cluster`, over those of `options`. Without ``software`` and
        ``container``, Coiled gives the workers the packages of this environment.

    Returns
    -------
    coiled.Cluster
        Running, its workers perhaps still on their way. The caller closes it.

    Raises
    ------
    ClusterError
        If Coiled is not installed.

    Examples
    --------
    >>> options = cp.cluster_options(model, draws=2000, chains=4)
    >>> options.coiled()["n_workers"]
    4
    >>> cluster = cp.coiled_cluster(options, name="radon")  # doctest: +SKIP
    """
    try:
        import coiled
    except ImportError as error:
        raise ClusterError(
            "Coiled is not installed: `pip install coiled`, then `coiled login`; or pass another "
            "Dask cluster"
        ) from error
    arguments: dict[str, Any] = {"name": name, **options.coiled(), **kwargs}
    return coiled.Cluster(**arguments)
