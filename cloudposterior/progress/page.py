"""The page "Posterior" of the Dask dashboard; it is built in the scheduler, with Bokeh.

All text that users chose, such as names, is shown as text: it is escaped, or goes where Bokeh
escapes it. A page is made anew for each browser, and shows the whole state of the board at once.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    ColumnDataSource,
    CustomJS,
    DataTable,
    Div,
    HTMLTemplateFormatter,
    NumberFormatter,
    Select,
    StringFormatter,
    TableColumn,
)
from bokeh.palettes import Category10_10, Viridis256
from bokeh.plotting import figure
from bokeh.server.tornado import BokehTornado
from distributed.dashboard.components.scheduler import BOKEH_THEME, env
from distributed.dashboard.core import BokehApplication
from distributed.dashboard.scheduler import template_variables
from distributed.http.scheduler.info import IndividualPlots
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from cloudposterior.events import Diagnosis
from cloudposterior.progress.board import Board, PostedRun
from cloudposterior.progress.table import ESS_LIMIT, R_HAT_LIMIT, Row

if TYPE_CHECKING:
    from bokeh.document import Document
    from distributed import Scheduler

__all__ = ["open_page"]

_EVERY_MS = 500
_BINS = 20
_MOST_LINES = 20
"""As many chains are plotted: nobody tells more apart, and the scheduler has other things to do."""
_ROW_PX = 25
_RED, _GREEN, _BLUE = "#d62728", "#2ca02c", "#1f77b4"

Stop = Callable[[str, str], bool]


def open_page(scheduler: Scheduler, board: Board, stop: Stop) -> bool:
    """Add the page to the dashboard of a running scheduler.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        The scheduler. One without a dashboard gets no page.
    board : Board
        What is shown.
    stop : callable
        Takes a run and the secret that its client gave out; says whether it is being stopped.

    Returns
    -------
    bool
        Whether there is a page.
    """
    web = scheduler.http_application
    dashboard = next((app for app in web.applications if isinstance(app, BokehTornado)), None)
    if dashboard is None:
        return False
    prefix = f"/{dashboard.prefix.strip('/')}/".replace("//", "/")
    variables = template_variables(scheduler)

    def whole(_: Scheduler, extra: dict[str, Any], doc: Document) -> None:
        _Page(board, stop, doc)
        doc.title = "Dask: Posterior"
        doc.template = env.get_template("simple.html")
        doc.template_variables.update(extra)

    def alone(_: Scheduler, extra: dict[str, Any], doc: Document) -> None:
        _Page(board, stop, doc)
        doc.title = "Dask: Posterior"

    pages = {"/posterior": whole, "/individual-posterior": alone}
    added = BokehApplication(pages, scheduler, prefix=prefix, template_variables=variables)
    web.add_application(added)
    added.initialize(IOLoop.current())
    added.add_handlers(r".*", [(f"{prefix}posterior/stop", _StopHandler, {"stop": stop})])
    added.start()
    # Dask looks for such pages in its own application only
    listing = (f"{prefix}individual-plots.json", _Plots, {"dask_server": scheduler})
    web.add_handlers(".*$", [listing])
    # one list for all pages of a scheduler
    if "posterior" not in variables["pages"]:
        variables["pages"].append("posterior")
        variables["plots"].append({"url": "individual-posterior", "name": "Posterior"})
    return True


class _Plots(IndividualPlots):  # type: ignore[misc]
    """What the JupyterLab extension lists."""

    def write(self, chunk: Any) -> None:
        super().write({**chunk, "Individual Posterior": "/individual-posterior"})


class _StopHandler(RequestHandler):  # type: ignore[misc]
    """Stops a run for who has its secret, as the button in a notebook does."""

    def initialize(self, stop: Stop) -> None:
        self._stop = stop

    def post(self) -> None:
        key, secret = (self.get_body_argument(name, "") for name in ("run", "token"))
        self.set_status(204 if self._stop(key, secret) else 403)


class _Page:
    """One browser's page.

    Parameters
    ----------
    board : Board
        What is shown.
    stop : callable
        As `open_page` takes it.
    doc : bokeh.document.Document
        The page is put in there.
    """

    def __init__(self, board: Board, stop: Stop, doc: Document) -> None:
        self._board = board
        self._stop = stop
        asked = doc.session_context.request.arguments if doc.session_context else {}
        self._secret, wanted = (_argument(asked, name) for name in ("token", "run"))
        self._shown: tuple[Any, ...] = ()
        self._listed: tuple[Any, ...] = ()
        self._chosen_parameter = ""
        self.runs = Select(title="Run", value=wanted, sizing_mode="stretch_width", max_width=520)
        self.stop = Button(label="Stop", button_type="danger", width=90, disabled=True, align="end")
        self.summary = _text()
        self.chains = ColumnDataSource({name: [] for name in _CHAIN_COLUMNS})
        self.parameters = ColumnDataSource({name: [] for name in _PARAMETER_COLUMNS})
        self.parameter = _text()
        self.tables = [
            _table(self.chains, _CHAIN_COLUMNS),
            _table(self.parameters, _PARAMETER_COLUMNS),
        ]
        self.lines = {name: ColumnDataSource({"x": [], "y": [], "c": []}) for name in _PLOTS}
        self.runs.on_change("value", lambda attr, old, new: self.update())
        self.stop.on_click(self._ask)
        self.parameters.selected.on_change("indices", lambda attr, old, new: self._choose())
        doc.theme = BOKEH_THEME
        doc.add_root(self._layout())
        self.update()
        doc.add_periodic_callback(self.update, _EVERY_MS)

    def _layout(self) -> Any:
        plots = {name: _plot(name, source) for name, source in self.lines.items()}
        return column(
            row(self.runs, self.stop, sizing_mode="stretch_width"),
            self.summary,
            _beside(*map(_scrolled, self.tables)),
            self.parameter,
            plots["Trace"],
            _beside(plots["Rank"], plots["Density"]),
            sizing_mode="stretch_width",
        )

    def update(self) -> None:
        """Show what is new."""
        options = [(run.key, _label(run)) for run in tuple(self._board)]
        if self.runs.options != options:
            self.runs.options = options
        if options and self._board.get(self.runs.value) is None:
            self.runs.value = options[0][0]
        run = self._board.get(self.runs.value)
        if run is None:
            self.summary.text = "Nothing has been sampled on this cluster yet."
            return
        self.summary.text = _summary(run)
        self._offer_stop(run)
        if self._shown != (run.key, run.since, run.version):
            self._shown = (run.key, run.since, run.version)
            self.chains.data = _chain_data(run.table.snapshot().rows)
        found = run.table.diagnosis
        if self._listed != (run.key, found):
            self._listed = (run.key, found)
            self._show_parameters(found)
        for table in self.tables:
            table.height = _height(table.source)

    def _offer_stop(self, run: PostedRun) -> None:
        may = run.stop_digest(self._secret) is not None
        self.stop.disabled = not may
        if not may:
            self.stop.label = "Stop"

    def _ask(self) -> None:
        if self._stop(self.runs.value, self._secret):
            self.stop.label = "Stopping..."

    def _show_parameters(self, found: Diagnosis | None) -> None:
        names = found.names if found is not None else ()
        self.parameters.data = _parameter_data(found)
        # who is worst changes, and the one that was chosen stays chosen
        place = names.index(self._chosen_parameter) if self._chosen_parameter in names else None
        self.parameters.selected.indices = [] if place is None else [place]
        self._plot(found, place or 0)

    def _choose(self) -> None:
        run = self._board.get(self.runs.value)
        found = run.table.diagnosis if run is not None else None
        chosen = self.parameters.selected.indices
        if found is not None and chosen and chosen[0] < len(found.names):
            self._chosen_parameter = found.names[chosen[0]]
            self._plot(found, chosen[0])

    def _plot(self, found: Diagnosis | None, place: int) -> None:
        if found is None or place >= len(found.names):
            text, data = "", _NO_LINES
        elif place >= found.traced:
            text = f"{found.names[place]} (of the worst {found.traced} parameters there are plots)"
            data = _NO_LINES
        else:
            text, data = found.names[place], _lines(found, place)
        judged = f"judged by {found.draws} draws of each chain" if text and found else ""
        if judged and found and len(found.chains) > _MOST_LINES:
            judged += f"; {_MOST_LINES} of {len(found.chains)} chains are plotted"
        self.parameter.text = f"<h3>{html.escape(text)}</h3>{html.escape(judged)}"
        for name, source in self.lines.items():
            source.data = data[name]


def _argument(arguments: Any, name: str) -> str:
    values = arguments.get(name, [b""])
    return bytes(values[0]).decode("utf-8", "replace")


def _label(run: PostedRun) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(run.since))
    state = run.table.phase.name
    return f"{when} {run.started.title}, {run.started.owner}: {state}"[:160]


def _summary(run: PostedRun) -> str:
    lines = [run.started.title, *run.table.snapshot().lines()[1:], f"Run by {run.started.owner}"]
    first, *others = map(html.escape, lines)
    return f'<h2>{first}</h2><div style="white-space:pre-wrap">{"<br>".join(others)}</div>'


# a page has models of its own, so these make them
def _limited(condition: str, digits: int) -> Callable[[], Any]:
    template = (
        f'<span style="color:<%- {condition} ? "{_RED}" : "inherit" %>">'
        f"<%- value.toFixed({digits}) %></span>"
    )
    return partial(HTMLTemplateFormatter, template=template)


def _number(digits: str = "") -> Callable[[], Any]:
    return partial(NumberFormatter, format=f"0{digits}", nan_format="")


_BAR = partial(
    HTMLTemplateFormatter,
    template='<div style="background:<%- colour %>;width:<%- value %>%;height:1em"></div>',
)
_CHAIN_COLUMNS: dict[str, tuple[str, int, Any]] = {
    "percent": ("Progress", 100, _BAR),
    "chain": ("Chain", 45, _number()),
    "drawn": ("Draws", 65, _number()),
    "divergences": ("Divergences", 85, _limited("value > 0", 0)),
    "step_size": ("Step Size", 70, _number(".[000]")),
    "gradients": ("Gradients/Draw", 105, _number(".[0]")),
    "pace": ("Draws/s", 60, _number(".[0]")),
    "phase": ("State", 80, StringFormatter),
    "worker": ("Worker", 170, StringFormatter),
    "colour": ("", 0, None),
}
_PARAMETER_COLUMNS: dict[str, tuple[str, int, Any]] = {
    "name": ("Parameter", 200, StringFormatter),
    "mean": ("Mean", 80, _number(".[000]")),
    "sd": ("SD", 80, _number(".[000]")),
    "r_hat": ("R-hat", 70, _limited(f"value > {R_HAT_LIMIT}", 3)),
    "ess_bulk": ("ESS Bulk", 70, _limited("value < enough", 0)),
    "ess_tail": ("ESS Tail", 70, _limited("value < enough", 0)),
    "enough": ("", 0, None),
}


def _text() -> Div:
    return Div(disable_math=True, sizing_mode="stretch_width", styles={"overflow-wrap": "anywhere"})


def _beside(*models: Any) -> Any:
    """Put models beside each other, or one below the other where the window is narrow."""
    return row(*models, sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})


def _scrolled(table: DataTable) -> Any:
    """Let a table be wider than the window of a phone."""
    styles = {"overflow-x": "auto", "min-width": f"min(100%, {table.min_width}px)"}
    return column(table, sizing_mode="stretch_width", styles=styles)


def _table(source: ColumnDataSource, columns: Any) -> DataTable:
    table = DataTable(
        source=source,
        columns=[
            TableColumn(field=name, title=title, width=width, formatter=make())
            for name, (title, width, make) in columns.items()
            if title
        ],
        index_position=None,
        height=_height(source),
        min_width=sum(width for _, width, _ in columns.values()),
        sizing_mode="stretch_width",
        sortable=False,
    )
    # Bokeh 3.9 does not draw new values by itself where there are as many rows as before
    source.js_on_change("data", CustomJS(args={"view": table.view}, code="view.change.emit()"))
    return table


def _height(source: ColumnDataSource) -> int:
    rows = len(next(iter(source.data.values())))
    return min(300, _ROW_PX * (rows + 2))


def _chain_data(rows: tuple[Row, ...]) -> dict[str, list[Any]]:
    def number(value: float | None) -> float:
        return float("nan") if value is None else value

    return {
        "percent": [100 * of.fraction for of in rows],
        "chain": [of.chain for of in rows],
        "drawn": [of.drawn for of in rows],
        "divergences": [of.divergences for of in rows],
        "step_size": [number(of.step_size) for of in rows],
        "gradients": [number(of.gradients) for of in rows],
        "pace": [number(of.draws_per_s) for of in rows],
        "phase": [of.phase for of in rows],
        "worker": [of.worker for of in rows],
        "colour": [
            _RED if of.divergences else _GREEN if of.phase == "finished" else _BLUE for of in rows
        ],
    }


def _parameter_data(found: Diagnosis | None) -> dict[str, list[Any]]:
    if found is None:
        return {name: [] for name in _PARAMETER_COLUMNS}
    names = [name for name in _PARAMETER_COLUMNS if name not in ("name", "enough")]
    return {
        "name": list(found.names),
        **{name: list(getattr(found, name)) for name in names},
        "enough": [ESS_LIMIT * len(found.chains)] * len(found.names),
    }


_PLOTS = {
    "Trace": ("draw after tuning", "value", 220),
    "Rank": ("rank over all chains", "draws of a chain", 220),
    "Density": ("value", "density", 220),
}
_NO_LINES: dict[str, dict[str, list[Any]]] = {n: {"x": [], "y": [], "c": []} for n in _PLOTS}


def _plot(name: str, source: ColumnDataSource) -> Any:
    x, y, height = _PLOTS[name]
    plot = figure(
        title=name,
        x_axis_label=x,
        y_axis_label=y,
        height=height,
        min_width=300,
        sizing_mode="stretch_width",
        tools="pan,wheel_zoom,reset",
    )
    plot.multi_line("x", "y", color="c", line_alpha=0.8, source=source)
    return plot


def _lines(found: Diagnosis, place: int) -> dict[str, dict[str, list[Any]]]:
    """Make what is plotted of one parameter: a line for each chain."""
    shape = (found.traced, len(found.chains), found.points)
    values = np.frombuffer(found.trace, "<f4").reshape(shape)[place]
    draws = np.linspace(0, found.draws - 1, found.points).astype(int)
    if not np.isfinite(values).all():
        return {**_NO_LINES, "Trace": _chains([(draws, chain) for chain in values])}
    ranks = values.ravel().argsort(kind="stable").argsort().reshape(values.shape)
    low, high = values.min(), values.max()
    limits = (low, high) if low < high else (low - 0.5, high + 0.5)
    return {
        "Trace": _chains([(draws, chain) for chain in values]),
        "Rank": _chains(_steps(ranks, (0, ranks.size))),
        "Density": _chains(_steps(values, limits, density=True)),
    }


def _steps(
    values: Any, limits: tuple[float, float], *, density: bool = False
) -> list[tuple[Any, Any]]:
    """Count the values of each chain, ``(chain, point)``, in bins; at once, for the loop's sake."""
    chains, points = values.shape
    low, high = limits
    places = ((values - low) * (_BINS / (high - low))).astype(int).clip(0, _BINS - 1)
    flat = (places + _BINS * np.arange(chains)[:, None]).ravel()
    counts = np.bincount(flat, minlength=chains * _BINS).reshape(chains, _BINS)
    heights = counts * (_BINS / (points * (high - low))) if density else counts
    edges = np.repeat(np.linspace(low, high, _BINS + 1), 2)[1:-1]
    return [(edges, chain) for chain in np.repeat(heights, 2, axis=1)]


def _chains(lines: list[tuple[Any, Any]]) -> dict[str, list[Any]]:
    shown = np.linspace(0, len(lines) - 1, min(len(lines), _MOST_LINES)).astype(int)
    many = len(shown)
    colours = (
        Category10_10[:many]
        if many <= 10
        else [Viridis256[255 * i // (many - 1)] for i in range(many)]
    )
    return {
        "x": [np.asarray(lines[i][0], float) for i in shown],
        "y": [np.asarray(lines[i][1], float) for i in shown],
        "c": list(colours),
    }
