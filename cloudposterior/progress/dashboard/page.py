"""The page: for each browser that has it open, a document that follows the runs.

Names of models, variables, users and workers are never part of HTML: a `Div` shows them with
``render_as_text``, tables and pickers by themselves.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bokeh.layouts import column, row
from bokeh.models import CustomJS
from bokeh.models.widgets import Button, Div, Select
from distributed.dashboard.components import add_periodic_callback
from distributed.dashboard.components.scheduler import BOKEH_THEME, env

from cloudposterior.progress.dashboard.diagnostics import (
    ESS_LIMIT,
    R_HAT_LIMIT,
    Diagnostics,
    Element,
)
from cloudposterior.progress.dashboard.figures import RanksFigure, TraceFigure
from cloudposterior.progress.dashboard.runs import Sight
from cloudposterior.progress.dashboard.tables import ALARM, ChainsTable, ElementsTable

if TYPE_CHECKING:
    from bokeh.document import Document

    from cloudposterior.progress.dashboard.plugin import PosteriorPlugin

__all__ = ["show_page"]

_EVERY_MS = 500
_CLOCK_S = 1.0
_MOST_LETTERS = 120

_NO_RUN = "No run yet. It appears here as soon as pm.sample draws on this cluster."
_NO_DIAGNOSTICS = "R-hat and effective sample sizes appear with the first draws after tuning."
_NO_SECRET = "Only who has the link that the run has told its owner can stop it."
_ASKED = "Asked to stop; the chains hand over what they drew."

_TEXT = {"font-family": "Helvetica, Arial, sans-serif", "white-space": "pre-wrap"}
_LONG = {"overflow-wrap": "anywhere", "max-height": "4.5em", "overflow": "hidden"}

# the address names the run that is shown, so that a reload shows it again
_KEEP_IN_ADDRESS = """
const address = new URL(window.location)
address.searchParams.set("run", cb_obj.value)
window.history.replaceState(null, "", address)
"""


def show_page(
    doc: Document, plugin: PosteriorPlugin | None, variables: dict[str, Any] | None
) -> None:
    """Fill a document.

    Parameters
    ----------
    doc : bokeh.document.Document
        Of one browser.
    plugin : PosteriorPlugin or None
        What knows the runs; None if it was unregistered.
    variables : dict or None
        What Dask's template asks for; None for a page without its navigation bar.
    """
    doc.title = "Dask: Posterior"
    doc.theme = BOKEH_THEME
    if variables is not None:
        doc.template = env.get_template("simple.html")
        doc.template_variables.update(variables)
    if plugin is None:
        doc.add_root(_text("This page was taken off the scheduler."))
        return
    page = Page(plugin, wanted=_argument(doc, "run"), secret=_argument(doc, "secret"))
    page.update()
    add_periodic_callback(doc, page, _EVERY_MS)
    doc.add_root(page.root)


def _argument(doc: Document, name: str) -> str:
    context: Any = doc.session_context
    given = context.request.arguments.get(name, []) if context and context.request else []
    return given[0].decode(errors="replace") if given else ""


def _text(text: str = "", **styles: str) -> Div:
    return Div(
        text=text,
        render_as_text=True,
        disable_math=True,
        styles={**_TEXT, **styles},
        sizing_mode="stretch_width",
    )


class Page:
    """What one browser sees.

    Parameters
    ----------
    plugin : PosteriorPlugin
        What knows the runs.
    wanted : str
        The run that its address names; empty for the latest.
    secret : str
        What its address carries, to stop the run.
    """

    def __init__(self, plugin: PosteriorPlugin, *, wanted: str, secret: str) -> None:
        self._plugin = plugin
        self._wanted = wanted
        self._secret = secret
        self._shown = ""
        self._seen: tuple[str, int] = ("", -1)
        self._drawn_at = 0.0
        self._diagnostics: Diagnostics | None = None
        self._element: str | None = None
        self._chains_shown = 0

        self._picker = Select(options=[], sizing_mode="stretch_width", height=32)
        self._picker.on_change("value", self._pick)
        self._picker.js_on_change("value", CustomJS(code=_KEEP_IN_ADDRESS))
        self._stop = Button(label="Stop", button_type="danger", width=90, height=32, disabled=True)
        self._stop.on_click(self._ask_to_stop)
        self._title = _text(**_LONG, **{"font-size": "17px", "font-weight": "bold"})
        self._lines = _text(_NO_RUN)
        self._said = _text(color=ALARM)
        self._said.visible = False
        self._verdict = _text(_NO_DIAGNOSTICS)
        self._name = _text(**_LONG, **{"font-weight": "bold"})
        self._chains = ChainsTable(height=260, sizing_mode="stretch_width")
        self._elements = ElementsTable(height=260, sizing_mode="stretch_width")
        self._elements.source.selected.on_change("indices", self._choose)
        self._trace = TraceFigure(height=300, sizing_mode="stretch_width")
        self._ranks = RanksFigure(height=300, sizing_mode="stretch_width")
        self._figures = column(
            self._name,
            row(self._trace.root, self._ranks.root, sizing_mode="stretch_width", spacing=20),
            sizing_mode="stretch_width",
            visible=False,
        )
        self.root = column(
            row(self._picker, self._stop, sizing_mode="stretch_width"),
            self._title,
            self._said,
            row(
                column(self._lines, self._chains.root, sizing_mode="stretch_width"),
                column(self._verdict, self._elements.root, sizing_mode="stretch_width"),
                sizing_mode="stretch_width",
                spacing=20,
            ),
            self._figures,
            sizing_mode="stretch_width",
        )

    def update(self) -> None:
        """Draw what has changed since it was drawn last."""
        runs = self._plugin.runs
        listed = runs.listed()
        if not listed:
            return
        self._list(listed)
        seen = (self._shown, runs.version(self._shown))
        # the clock of a run goes on between two reports
        if seen == self._seen and time.monotonic() - self._drawn_at < _CLOCK_S:
            return
        sight = runs.look(self._shown)
        if sight is None:
            return
        news, self._seen, self._drawn_at = seen != self._seen, seen, time.monotonic()
        self._draw_text(sight)
        if news:
            self._chains.update(sight.table.rows)
            self._draw_diagnostics(sight)

    def _list(self, listed: list[tuple[str, str]]) -> None:
        names = [run for run, _ in listed]
        # the latest, until somebody chooses
        shown = self._wanted if self._wanted in names else names[0]
        options: list[Any] = [(run, words[:_MOST_LETTERS]) for run, words in listed]
        if options != self._picker.options:
            self._picker.options = options
        if shown != self._shown:
            self._shown = shown
            self._element = self._diagnostics = None
            self._say("")
            self._picker.value = shown

    def _draw_text(self, sight: Sight) -> None:
        title, counts, now = sight.table.lines()
        rates = [line.draws_per_s for line in sight.table.rows if line.active and line.draws_per_s]
        divergences = sum(line.divergences for line in sight.table.rows)
        counts += f"   Divergences: {divergences}"
        if rates and not sight.table.ended:
            counts += f"   Draws/s: {sum(rates):.0f}"
        self._title.text = f"{title} · {sight.owner}" if sight.owner else title
        self._lines.text = f"{counts}\n{now}"
        self._stop.disabled = sight.table.ended or sight.stop_asked
        if sight.stop_asked:
            self._say("" if sight.table.ended else _ASKED)

    def _draw_diagnostics(self, sight: Sight) -> None:
        diagnostics, chains = sight.diagnostics, len(sight.table.rows)
        if diagnostics is self._diagnostics and diagnostics is not None:
            return
        self._diagnostics, self._chains_shown = diagnostics, chains
        self._verdict.text = _NO_DIAGNOSTICS if diagnostics is None else _judge(diagnostics)
        element = self._find_element()
        self._element = element.name if element is not None else None
        self._elements.update(diagnostics, self._element)
        self._draw_element(element)

    def _draw_element(self, element: Element | None) -> None:
        self._figures.visible = element is not None
        if self._diagnostics is not None and element is not None:
            self._name.text = element.name
            self._trace.update(self._diagnostics, element, self._chains_shown)
            self._ranks.update(self._diagnostics, element, self._chains_shown)

    def _find_element(self) -> Element | None:
        """Find the element that was chosen; the worst if it is not among them."""
        elements = self._diagnostics.elements if self._diagnostics is not None else ()
        chosen = (element for element in elements if element.name == self._element)
        return next(chosen, elements[0] if elements else None)

    def _pick(self, _: str, __: str, value: str) -> None:
        if value != self._shown:
            self._wanted = value
            self.update()

    def _choose(self, _: str, __: list[int], chosen: list[int]) -> None:
        elements = self._diagnostics.elements if self._diagnostics is not None else ()
        if not chosen or not 0 <= chosen[0] < len(elements):
            return
        element = elements[chosen[0]]
        if element.name != self._element:
            self._element = element.name
            self._draw_element(element)

    def _ask_to_stop(self) -> None:
        asked = self._plugin.ask_to_stop(self._shown, self._secret)
        self._say(_ASKED if asked else _NO_SECRET)

    def _say(self, text: str) -> None:
        self._said.text = text
        self._said.visible = bool(text)


def _judge(diagnostics: Diagnostics) -> str:
    elements = diagnostics.elements
    high = sum(element.r_hat > R_HAT_LIMIT for element in elements)
    few = sum(min(element.ess) < ESS_LIMIT for element in elements)
    of = f"{diagnostics.examined}"
    if len(elements) < diagnostics.examined:
        of = f"the {len(elements)} that look worst, of {diagnostics.examined}"
    good = "" if high or few else "Within the usual limits: "
    return (
        f"{good}R-hat above {R_HAT_LIMIT}: {high}   ESS below {ESS_LIMIT:.0f}: {few}   (of {of})\n"
        f"From {len(diagnostics.chains)} chains with {diagnostics.draws} draws each"
    )
