"""How the chains of a run are drawn, and how that is shown, kept and looked at meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from cloudposterior.cluster.aiming import Aiming, aim_of
from cloudposterior.cluster.drive import Drive
from cloudposterior.cluster.prepared import Prepared
from cloudposterior.cluster.workers import Absence
from cloudposterior.events import Event, TaskBegun, WorkerLost
from cloudposterior.operations.sample import SampleCall
from cloudposterior.progress.diagnosis import Looking
from cloudposterior.progress.view import RunView
from cloudposterior.samplers.drawn import label_of
from cloudposterior.samplers.protocol import Segment, State
from cloudposterior.shipping import pack_model

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Drawing", "Hearing"]

_log = logging.getLogger("pymc")


class Drawing:
    """Draws the chains of a prepared run.

    Parameters
    ----------
    call : SampleCall
        The call.
    client : distributed.Client
        Connected.
    view : RunView
        Shows the run, and says whether somebody has stopped it.
    prepared : Prepared
        The run.
    hears : bool
        Whether the scheduler tells of workers that are lost.

    Raises
    ------
    ValueError
        If the call has a target, and nobody can look at its draws while they are made.
    """

    def __init__(
        self, call: SampleCall, client: Client, view: RunView, prepared: Prepared, *, hears: bool
    ) -> None:
        self._call = call
        self._view = view
        self._prepared = prepared
        self._absence = Absence(client, view.phase)
        self._aim = aim_of(
            call,
            prepared.resolved,
            prepared.join,
            client=client,
            run=prepared.run.key,
            status=view.status,
        )
        self.reached = ""
        """What was reached, once it was."""
        self.drive = Drive(
            client,
            prepared.sampler,
            pack_model(call.model),
            prepared.run,
            name=prepared.name,
            told=view.tell,
            look=self._absence.look,
            hears=hears,
        )

    def draw(self, keep: Callable[[], None], *, go_on: bool) -> dict[tuple[int, ...], Exception]:
        """Draw the chains, and show how that goes.

        Parameters
        ----------
        keep : callable
            Called now and then: keeps what came in.
        go_on : bool
            Whether the other chains go on when one fails.

        Returns
        -------
        dict
            The error of each group of chains that failed.
        """
        view, prepared = self._view, self._prepared
        join = prepared.join
        so_far = join.so_far if view.watched else _nothing
        looking = Looking(so_far, partial(label_of, self._call.model), view.tell)

        def take(segment: Segment, state: State) -> None:
            join.add(segment, state)
            view.take(join.report(segment.chain, state))
            view.watch()

        def watch() -> bool:
            looking.look()
            self._absence.look()
            keep()
            return self._is_near() or self._is_stopped()

        # as PyMC does when it is interrupted: what was drawn is the result
        try:
            self.drive.draw(
                prepared.missing,
                take,
                watch=watch,
                # a slow chain that is left out would make the result another
                patient=lambda: self._aim.reached,
                go_on=go_on,
                states=prepared.states,
            )
        except KeyboardInterrupt:
            view.stop()
        if view.stopped and not join.has_draws():
            raise KeyboardInterrupt("stopped before the first draw after tuning")
        # an interrupt by now is one too many, and would cost the draws
        with suppress(KeyboardInterrupt):
            looking.look(last=True)
            self._is_near()
        self._tell_of_target()
        return self.drive.failed

    def _is_near(self) -> bool:
        """Look whether the run is good enough: all of its chains, since none is left out."""
        return self._aim.reached or (not self.drive.failed and self._aim.look())

    def _is_stopped(self) -> bool:
        view = self._view
        # a chain may be one segment, which arrives at its end
        if view.table.phase.name == "compiling" and view.status().drawing:
            view.phase("sampling")
        if view.watch():
            view.phase("stopping")
        return view.stopped

    def _tell_of_target(self) -> None:
        aim = self._aim
        if not isinstance(aim, Aiming):
            return
        if aim.reached and aim.has_all:
            self.reached = aim.cut()
            self._view.cut(aim.draws, f"until={self.reached}")
            if not self._call.quiet:
                _log.info("until=%s", self.reached)
        elif not self._call.quiet:
            end = "before the run was stopped" if self._view.stopped else f"within draws={aim.most}"
            _log.warning("until=%s was not reached %s", aim.target, end)


class Hearing:
    """Hands events on: those of tasks to who drives them, all others to who shows them.

    Parameters
    ----------
    show : callable
        Shows one.
    """

    def __init__(self, show: Callable[[Event], None]) -> None:
        self._show = show
        self.drive: Drive | None = None

    def __call__(self, event: Event) -> None:
        """Hand one on."""
        if not isinstance(event, TaskBegun | WorkerLost):
            self._show(event)
        elif self.drive is not None:
            self.drive.hear(event)


def _nothing() -> None:
    """Give no draws to look at, where nobody could see what they are worth."""
