# /// script
# requires-python = ">=3.11"
# dependencies = ["marimo"]
# ///
"""The notebook `caching`, for marimo: ``marimo edit notebooks/caching_marimo.py``."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Caching

    A posterior is kept under a key made of the model graph, its data and every argument that the draws depend on. The same
    request is never sampled twice, and one that differs in anything that counts is sampled anew.

    ## Two caching modes

    | `cache=` | where | how long |
    | --- | --- | --- |
    | `"memory"` (the default) | this process | until it ends |
    | `"disk"` | netCDF files in `.cloudposterior/` in the working directory | until you remove them |

    `cache="some/dir"` is a directory of your own, `cache="s3://bucket/prefix"` one that a team shares, and `cache=False`
    keeps nothing.

    marimo runs a cell again when something that it uses has changed. With a cache that costs nothing as long as the request
    is the same: the cells below may be run again and again.
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Start fresh

    Nothing is ever removed unless you ask. `clear` removes all entries of a directory, and returns them; in a terminal that
    is `cloudposterior cache clear`.
    """)
    return


@app.cell
def _():
    import time
    from pathlib import Path

    import arviz as az
    import marimo as mo
    import numpy as np
    import pymc as pm

    import cloudposterior as cp
    from cloudposterior.demo import radon

    return Path, az, cp, mo, np, pm, radon, time


@app.cell
def _(cp):
    disk = cp.DiskCache(".cloudposterior")
    disk.clear()
    return (disk,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Setup with the radon model

    Log radon in 919 houses of 85 counties in Minnesota (Gelman and Hill, 2006), with an intercept for each county and one
    slope for the floor of the measurement. The name of the model is the name of its directory in the cache.
    """)
    return


@app.cell
def _(np, radon):
    data = radon()
    county = data["county_code"].to_numpy()
    floor = data["floor"].to_numpy()
    log_radon = data["log_radon"].to_numpy()
    counties = data.groupby("county_code")["county"].first().to_list()
    coords = {"county": counties, "house": np.arange(len(data))}
    return coords, county, floor, log_radon


@app.cell
def _(coords, county, floor, log_radon, pm):
    def build_intercepts():
        with pm.Model(coords=coords, name="radon_intercepts") as model:
            mu_a = pm.Normal("mu_a", 0, 3)
            sigma_a = pm.HalfNormal("sigma_a", 1)
            z_a = pm.Normal("z_a", dims="county")
            a = pm.Deterministic("a", mu_a + sigma_a * z_a, dims="county")
            b = pm.Normal("b", 0, 1)
            sigma = pm.HalfNormal("sigma", 1)
            pm.Normal("y", a[county] + b * floor, sigma, observed=log_radon, dims="house")
        return model

    radon_intercepts = build_intercepts()
    settings = {
        "draws": 500,
        "tune": 500,
        "chains": 4,
        "cores": 1,
        "random_seed": 1,
        "nuts_sampler": "pymc",  # PyMC's own NUTS, whatever else is installed
        "progressbar": False,
    }
    return radon_intercepts, settings


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Local caching: no cluster needed

    Without `cluster=` the block changes one thing: `pm.sample` looks into the cache first. On a miss PyMC samples here, as it
    always does.
    """)
    return


@app.cell
def _(cp, pm, radon_intercepts, settings, time):
    _began = time.perf_counter()
    with cp.cloud(radon_intercepts):
        first = pm.sample(**settings)
    print(f"sampled in {time.perf_counter() - _began:.1f} s")
    return (first,)


@app.cell
def _(cp, first, np, pm, radon_intercepts, settings, time):
    _began = time.perf_counter()
    with cp.cloud(radon_intercepts):
        second = pm.sample(**settings)
    print(f"answered in {time.perf_counter() - _began:.2f} s")

    np.array_equal(first.posterior["radon_intercepts::a"], second.posterior["radon_intercepts::a"])
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    What a hit returns is your own copy: changing it does not change the cache.

    ## Disk caching

    The memory of a process ends with it. With `cache="disk"` the result is a file, and the next kernel finds it.
    """)
    return


@app.cell
def _(cp, disk, pm, radon_intercepts, settings):
    with cp.cloud(radon_intercepts, cache="disk"):
        pm.sample(**settings)
    (before,) = disk.entries()
    return (before,)


@app.cell
def _(before, cp, pm, radon_intercepts, settings, time):
    assert before.path is not None
    _began = time.perf_counter()
    with cp.cloud(radon_intercepts, cache="disk"):
        pm.sample(**settings)
    print(f"read in {time.perf_counter() - _began:.2f} s")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Forcing a re-run with `overwrite`

    `overwrite=True` ignores the entry, samples, and replaces it. With the same seed the draws are the same; the time at which
    they were sampled is not.
    """)
    return


@app.cell
def _(before, cp, disk, pm, radon_intercepts, settings):
    with cp.cloud(radon_intercepts, cache="disk", overwrite=True):
        pm.sample(**settings)

    (after,) = disk.entries()
    before.path == after.path, before.record.created < after.record.created
    return (after,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Cache layout

    A directory for each model, a file for each request. The file's name has the main parameters and the first digits of the
    token; the whole token is in the file. A file is plain netCDF4: `xarray.open_datatree` and `arviz.from_netcdf` open it
    without this package.
    """)
    return


@app.cell
def _(Path, after, mo):
    def tree(directory, indent=""):
        lines = [f"{indent}{directory.name}/"]
        for path in sorted(directory.iterdir()):
            if path.is_dir():
                lines += tree(path, indent + "    ")
            else:
                lines.append(f"{indent}    {path.name}  ({path.stat().st_size / 1e6:.1f} MB)")
        return lines

    assert after.path is not None
    mo.plain_text("\n".join(tree(Path(".cloudposterior"))))
    return (tree,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## Model iteration: `radon_slopes`

    Does the difference between basement and first floor vary by county, too? The second model has a slope for each county. It
    is another model, so it gets a directory of its own, and the first model's result stays.
    """)
    return


@app.cell
def _(coords, county, floor, log_radon, pm):
    def build_slopes():
        with pm.Model(coords=coords, name="radon_slopes") as model:
            mu_a = pm.Normal("mu_a", 0, 3)
            sigma_a = pm.HalfNormal("sigma_a", 1)
            z_a = pm.Normal("z_a", dims="county")
            a = pm.Deterministic("a", mu_a + sigma_a * z_a, dims="county")
            mu_b = pm.Normal("mu_b", 0, 1)
            sigma_b = pm.HalfNormal("sigma_b", 0.5)
            z_b = pm.Normal("z_b", dims="county")
            b = pm.Deterministic("b", mu_b + sigma_b * z_b, dims="county")
            sigma = pm.HalfNormal("sigma", 1)
            pm.Normal("y", a[county] + b[county] * floor, sigma, observed=log_radon, dims="house")
        return model

    radon_slopes = build_slopes()
    return (radon_slopes,)


@app.cell
def _(Path, cp, mo, pm, radon_slopes, settings, tree):
    with cp.cloud(radon_slopes, cache="disk"):
        slopes = pm.sample(**settings)

    mo.plain_text("\n".join(tree(Path(".cloudposterior"))))
    return (slopes,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    Going back to the first model costs nothing. `cp.explain` says what would happen, and what has changed, without sampling
    anything.
    """)
    return


@app.cell
def _(cp, mo, pm, radon_intercepts, radon_slopes, settings, slopes):
    assert slopes is not None
    with cp.cloud(radon_intercepts, cache="disk"):
        pm.sample(**settings)

    same = cp.explain(radon_slopes, cache="disk", **settings)
    other = cp.explain(radon_slopes, cache="disk", **{**settings, "target_accept": 0.95})
    mo.plain_text(f"{same}\n{other}")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## `az.summary` of `radon_slopes`

    The summary of the parameters that are common to all counties. The slopes vary less between counties (`sigma_b`) than the
    intercepts do (`sigma_a`).
    """)
    return


@app.cell
def _(az, mo, slopes):
    names = [f"radon_slopes::{name}" for name in ("mu_a", "sigma_a", "mu_b", "sigma_b", "sigma")]
    mo.Html(az.summary(slopes, var_names=names).to_html())
    return


if __name__ == "__main__":
    app.run()
