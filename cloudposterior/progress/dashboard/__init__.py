"""The page "Posterior" of Dask's dashboard.

On the scheduler, `plugin` hears what is told of runs, `runs` keeps it, and `page`, `tables` and
`figures` draw it; only these three need Bokeh. On the client, `register` puts the page there,
`diagnostics` computes from the draws how good a posterior is yet, and `send` sends that.
"""
