"""What Sphinx builds the documentation with; `.ci/docs` calls it."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "cloudposterior"
version = release = version_of("cloudposterior")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

# `model` in a docstring is a name, and a link where there is something of that name
default_role = "py:obj"
autosummary_generate = True
# beside `sbc` and `sensitivity`, where file names have no case
autosummary_filename_map = {
    "cloudposterior.SBC": "cloudposterior.SBC_class",
    "cloudposterior.Sensitivity": "cloudposterior.Sensitivity_class",
}
autodoc_typehints = "none"  # numpydoc's sections say more
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_validation_checks = {"all", "ES01", "EX01", "SA01", "GL08"}
"""All but these: an extended summary, an example and "see also" are not for every docstring; that
each public name has an example, a test tells."""
# what this package makes, and nobody else: their docstrings have attributes
numpydoc_validation_exclude = {
    rf"\.{name}$"
    for name in (
        "Cache",
        "Callback",
        "ChainError",
        "ClusterOptions",
        "Entry",
        "Explanation",
        "Record",
        "Row",
        "Run",
        "RunInfo",
        "RunSummary",
        "SBC",
        "Sensitivity",
        "SubmittedRun",
        "Table",
    )
}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# what is no Python says so by saying nothing
highlight_language = "none"

html_theme = "pydata_sphinx_theme"
html_title = "cloudposterior"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
# pages that are alone in their section
html_sidebars = {name: [] for name in ("index", "getting_started", "architecture", "migration")}
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
