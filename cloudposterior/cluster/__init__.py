"""How a Dask cluster is reached: from a ``cluster=`` argument to a client whose workers fit."""
