"""Many machines: the same work by the actors of a Ray cluster. The only home of Ray.

Ray starts an actor that died again, and does what was lost with it once more; each actor is a `Predictor` that reads,
runs and writes as a plain run does, so its masks are the same. All machines must see the same files. Ray's own actors
and not Ray Data: nothing but paths goes through the cluster, and an unreadable file must not end the run.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from cracktool.errors import UsageError
from cracktool.files import make_folder
from cracktool.inference.engine import Predictor
from cracktool.inference.folder import FolderOptions, Result, noted, open_journal, plan_work, run_tasks
from cracktool.inference.inputs import Task
from cracktool.inference.journal import FailureList
from cracktool.inference.loading import load_predictor
from cracktool.inference.writing import Done, Failed

_BATCH = 8  # photos that an actor takes at once, and that are lost with it


def infer_ray(
    predictor: Predictor,
    load: Mapping[str, Any],
    inputs: Sequence[str | Path],
    out: Path,
    options: FolderOptions,
    *,
    workers: int,
    stop: threading.Event | None = None,
) -> Iterator[Result]:
    """Run photos as `infer_folder` does, by several processes, on one machine or on the cluster that Ray is told of.

    An actor that dies is replaced and its photos are done again; its files never had a part of them visible. A run that
    is stopped can be continued by a plain one, and the other way round.

    Args:
        predictor: Says what is finished already, and what its like on other machines warn of; runs nothing.
        load: Keyword arguments with which `load_predictor` makes the same, for each actor to load its own.
        inputs: As in `infer_folder`.
        out: Folder of the results, the same on all machines.
        options: As in `infer_folder`; not for a dry run.
        workers: Actors. Each has an equal share of the processors, or a GPU of its own.
        stop: Once it is set, no further photo is begun; those under way are finished.

    Returns:
        The results: first what needs no work, then the others as they come.

    Raises:
        UsageError: Ray is not installed, or an option does not fit; and as in `infer_folder`.

    Example:
        >>> for result in infer_ray(load_predictor(), {}, ["photos"], Path("masks"), FolderOptions(), workers=2):
        ...     print(result.path)
    """
    if workers < 1 or options.dry_run:
        raise UsageError("a run on Ray needs one worker at least, and cannot be a dry one", remedy="leave --ray out")
    ray = _ray()
    verdicts, _ = plan_work(predictor, inputs, out, options)
    make_folder(out)
    tasks = [task for task, verdict in verdicts if verdict is None and isinstance(task, Task)]
    known = [verdict for _, verdict in verdicts if verdict is not None]
    work = _Work(dict(load), out.absolute(), options)
    results = chain(known, _results(ray, tasks, work, workers, predictor, stop or threading.Event()))
    return noted(results, FailureList(out, options.part))


class _Work:
    """What every actor is told."""

    def __init__(self, load: dict[str, Any], out: Path, options: FolderOptions) -> None:
        self.load, self.out, self.options = load, out, options


class Actor:
    """A process with a network of its own, which does batches of photos.

    Args:
        work: What to load, and where to write.
    """

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._predictor: Predictor = load_predictor(**work.load)
        self._journal = open_journal(self._predictor, work.out, work.options, f"ray-{secrets.token_hex(4)}")

    def run(self, tasks: Sequence[tuple[int, Task]]) -> tuple[list[tuple[int, Done | Failed]], list[str]]:
        """Do tasks; return their results beside their numbers, and what the user should know of the work."""
        self._predictor.warnings.clear()
        results = run_tasks(self._predictor, (task for _, task in tasks), self._journal, self._work.options)
        done = [(number, result) for (number, _), result in zip(tasks, results, strict=True)]
        return done, self._predictor.warnings


def _results(
    ray: Any, tasks: Sequence[Task], work: _Work, workers: int, predictor: Predictor, stop: threading.Event
) -> Iterator[Result]:
    if not tasks:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    on_gpu = str(predictor.network.device).startswith("cuda")
    share = {"num_gpus": 1.0} if on_gpu else {"num_cpus": ray.cluster_resources().get("CPU", 1) / workers}
    here = Path.cwd()
    numbered = [(number, _absolute(task, here)) for number, task in enumerate(tasks)]
    batches = iter([numbered[start : start + _BATCH] for start in range(0, len(numbered), _BATCH)])
    remote = ray.remote(max_restarts=-1, max_task_retries=-1, **share)(Actor)
    actors = [remote.remote(work) for _ in range(min(workers, -(-len(numbered) // _BATCH)))]
    running = {actor.run.remote(batch): actor for actor, batch in zip(actors, batches, strict=False)}
    while running:
        (ready, *_), _ = ray.wait(list(running))
        actor = running.pop(ready)
        batch = None if stop.is_set() else next(batches, None)
        if batch is not None:
            running[actor.run.remote(batch)] = actor
        results, warnings = ray.get(ready)
        predictor.warnings += warnings
        for number, result in results:
            task = tasks[number]
            given = {"path": task.photo} | ({"outputs": task.outputs} if isinstance(result, Done) else {})
            yield replace(result, **given)


def _absolute(task: Task, here: Path) -> Task:
    paths: dict[str, Any] = {name: here / value for name, value in vars(task).items() if isinstance(value, Path)}
    return replace(task, **paths, kept=frozenset(here / path for path in task.kept))


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("Ray is not installed", remedy="pip install 'cracktool[ray]'") from error
    return ray
