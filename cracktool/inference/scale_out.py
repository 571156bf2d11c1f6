"""Many machines: the same work by the actors of a Ray cluster. The only home of Ray.

Ray Data hands out the photos and starts again what is lost with an actor; each actor is a `Predictor` that reads, runs
and writes as a plain run does, so its masks are the same. All machines must see the same files.
"""

from __future__ import annotations

import logging
import math
import pickle
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from cracktool.errors import UsageError
from cracktool.inference.engine import Predictor
from cracktool.inference.folder import FolderOptions, Result, noted, open_journal, plan_work, run_tasks
from cracktool.inference.inputs import Task, make_folder
from cracktool.inference.journal import FailureList
from cracktool.inference.loading import load_predictor
from cracktool.inference.writing import Done

_CPU_SHARE = 0.5  # of the processors that actors reserve: Ray Data starts nothing where they take all
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
        predictor: Says what is finished already; runs nothing.
        load: Keyword arguments with which `load_predictor` makes the same, for each actor to load its own.
        inputs: As in `infer_folder`.
        out: Folder of the results, the same on all machines.
        options: As in `infer_folder`; not for a dry run.
        workers: Actors. Each has an equal share of the processors, or a GPU of its own.
        stop: Once it is set, no further result is waited for.

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
    share = {"num_gpus": 1.0} if str(predictor.network.device).startswith("cuda") else {}
    work = _Work(dict(load), out.absolute(), options)
    results = chain(known, _results(ray, tasks, work, workers, share, stop or threading.Event()))
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

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do the pickled tasks of a batch; return the pickled results beside their numbers."""
        tasks = [pickle.loads(task) for task in batch["task"]]
        results = run_tasks(self._predictor, tasks, self._journal, self._work.options)
        return {"number": batch["number"], "result": [pickle.dumps(result) for result in results]}


def _results(
    ray: Any, tasks: Sequence[Task], work: _Work, workers: int, share: dict[str, float], stop: threading.Event
) -> Iterator[Result]:
    if not tasks:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    share = share or {"num_cpus": _CPU_SHARE * ray.cluster_resources().get("CPU", 1) / workers}
    here = Path.cwd()
    rows = [{"number": number, "task": pickle.dumps(_absolute(task, here))} for number, task in enumerate(tasks)]
    dataset = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / _BATCH))
    pool = ray.data.ActorPoolStrategy(size=workers)
    done = dataset.map_batches(Actor, fn_constructor_args=(work,), batch_size=_BATCH, compute=pool, **share)
    for row in done.iter_rows():
        task, result = tasks[int(row["number"])], pickle.loads(row["result"])
        given = {"path": task.photo} | ({"outputs": task.outputs} if isinstance(result, Done) else {})
        yield replace(result, **given)
        if stop.is_set():
            return


def _absolute(task: Task, here: Path) -> Task:
    paths: dict[str, Any] = {name: here / value for name, value in vars(task).items() if isinstance(value, Path)}
    return replace(task, **paths)


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError("Ray is not installed", remedy="pip install 'cracktool[ray]'") from error
    return ray
